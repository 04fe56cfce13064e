"""python mosec_server.py --port N. One stage, so that no pixels travel between processes."""

import json

from classifier import MAX_BATCH, WORKERS, Classifier
from mosec import Server, Worker


class Classify(Worker):
    def __init__(self) -> None:
        self.classifier = Classifier()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[int]:
        return self.classifier.classify_files(data)

    def serialize(self, data: int) -> bytes:
        return json.dumps({"class": data}).encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classify, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=1, route="/classify"
    )
    server.run()
