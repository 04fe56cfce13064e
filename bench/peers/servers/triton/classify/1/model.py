"""Triton's Python backend: each instance is a process with a session of its own."""

import sys
from os import environ

import numpy as np

sys.path.insert(0, environ["PEERS_SERVERS"])

import triton_python_backend_utils as pb_utils
from classifier import Classifier


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.classifier = Classifier()

    def execute(self, requests: list) -> list:
        """Requests are those of one dynamic batch, with one image or more each."""
        files = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1)
            for request in requests
        ]
        classes = iter(self.classifier.classify_files([file for some in files for file in some]))
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "class", np.array([[next(classes)] for _ in some], dtype=np.int64)
                    )
                ]
            )
            for some in files
        ]
