"""python litserve_server.py PORT. Files come as base64 in JSON, as in the examples of its docs."""

import base64
import sys

import litserve
from classifier import BUDGET_MS, MAX_BATCH, WORKERS, Classifier


class Classify(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request):
        return self.classifier.decode(base64.b64decode(request["image"]))

    def batch(self, inputs):
        return inputs

    def predict(self, images):
        return self.classifier.classify(images)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"class": output}


if __name__ == "__main__":
    api = Classify(max_batch_size=MAX_BATCH, batch_timeout=0.001, api_path="/classify")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=WORKERS, timeout=BUDGET_MS / 1000
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
