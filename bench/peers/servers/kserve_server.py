"""python kserve_server.py --http_port N: a custom model, called in the v1 protocol, whose JSON
takes images as base64 (the v2 one reads BYTES as text)."""

import argparse
import base64
import logging

import kserve
from classifier import Classifier
from kserve import Model, ModelServer


class Classify(Model):
    def __init__(self) -> None:
        super().__init__("classify")
        self.load()

    def load(self) -> bool:
        self.classifier = Classifier()
        self.ready = True
        return True

    async def predict(self, payload: dict, headers=None, response_headers=None) -> dict:
        files = [base64.b64decode(instance["image"]["b64"]) for instance in payload["instances"]]
        return {"predictions": [{"index": i} for i in self.classifier.classify_files(files)]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        parents=[kserve.model_server.parser], conflict_handler="resolve"
    )
    parser.parse_known_args()
    # A line for each request would be a load of its own.
    logging.disable(logging.INFO)
    ModelServer().start([Classify()])
