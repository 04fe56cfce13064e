"""python kserve_server.py --http_port N --workers 2: a custom model, called in the v2 protocol."""

import argparse

import kserve
import numpy as np
from classifier import Classifier
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer


class Classify(Model):
    def __init__(self) -> None:
        super().__init__("classify")
        self.load()

    def load(self) -> bool:
        self.classifier = Classifier()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None):
        image: InferInput = payload.inputs[0]
        classes = self.classifier.classify_files(list(image.as_numpy().reshape(-1)))
        output = InferOutput("class", [len(classes), 1], "INT64")
        output.set_data_from_numpy(np.array(classes).reshape(-1, 1), binary_data=False)
        return InferResponse(payload.id, self.name, [output])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        parents=[kserve.model_server.parser], conflict_handler="resolve"
    )
    parser.parse_known_args()
    ModelServer().start([Classify()])
