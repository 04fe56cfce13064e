"""mlserver start bench/peers/servers/mlserver: a custom runtime with adaptive batching."""

import base64

from classifier import Classifier
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Classify(MLModel):
    async def load(self) -> bool:
        self.classifier = Classifier()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        data = payload.inputs[0].data
        files = [base64.b64decode(text) for text in getattr(data, "root", data)]
        classes = self.classifier.classify_files(files)
        output = ResponseOutput(
            name="class", shape=[len(classes), 1], datatype="INT64", data=classes
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
