"""What the tests of both Triton clients share."""

import json
import unittest
import urllib.request
from types import ModuleType
from typing import ClassVar

import numpy as np
from tritonclient.utils import InferenceServerException

SECOND = 1_000_000  # the clients' `timeout` is in microseconds


class TritonCase(unittest.TestCase):
    triton: ModuleType  # tritonclient.http or tritonclient.grpc
    address: str
    http_address: str
    photo_file: str
    client_options: ClassVar[dict] = {}

    @classmethod
    def setUpClass(cls):
        cls.client = cls.triton.InferenceServerClient(cls.address, **cls.client_options)
        with urllib.request.urlopen(f"http://{cls.http_address}/model") as answer:
            cls.info = json.load(answer)
        cls.model = cls.info["manifest"]["name"]
        cls.labels = cls.info["manifest"]["labels"]
        size = cls.info["manifest"]["input"]
        cls.shape = (size["height"], size["width"], 3)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()

    def random(self, count: int) -> np.ndarray:
        return np.random.default_rng(7).integers(
            0, 256, (count, *self.shape), dtype=np.uint8
        )

    def tensor(self, values: np.ndarray, **options):
        tensor = self.triton.InferInput("image", values.shape, "UINT8")
        tensor.set_data_from_numpy(values, **options)
        return tensor

    def pixels(self, count: int):
        return self.tensor(self.random(count))

    def photo(self):
        with open(self.photo_file, "rb") as file:
            values = np.array([file.read()], dtype=np.object_)
        tensor = self.triton.InferInput("image", values.shape, "BYTES")
        tensor.set_data_from_numpy(values)
        return tensor

    def infer(self, tensor, timeout=60 * SECOND, **options):
        return self.client.infer(self.model, [tensor], timeout=timeout, **options)

    def calibrated(self, logits: np.ndarray, sub_networks: str) -> np.ndarray:
        """Softmax at the manifest's temperatures of the answer's `sub_network`."""
        temperatures = self.info["manifest"]["confidence"]["temperatures"]
        by_image = [temperatures[skip] for skip in sub_networks.split(",")]
        scaled = logits / np.reshape(by_image, (-1, 1))
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def refusal(self, tensor, **options) -> InferenceServerException:
        with self.assertRaises(InferenceServerException) as caught:
            self.infer(tensor, **options)
        return caught.exception
