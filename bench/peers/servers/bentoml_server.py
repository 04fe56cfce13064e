"""bentoml serve bentoml_server:Classify. Not batchable: clients send one image each, and the
wrapper service that batching would then need costs more here than a batch gains."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from classifier import BUDGET_MS, WORKERS, Classifier


@bentoml.service(
    workers=WORKERS,
    threads=1,
    traffic={"timeout": BUDGET_MS / 1000, "max_concurrency": 32},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Classify:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(route="/classify")
    def classify(self, image: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, int]:
        return {"class": self.classifier.classify_files([image.read_bytes()])[0]}
