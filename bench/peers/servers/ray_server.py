"""python ray_server.py PORT. Replicas batch dynamically with serve.batch."""

import os
import signal
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from classifier import MAX_BATCH, WORKERS, Classifier
from ray import serve
from starlette.requests import Request


@serve.deployment(
    num_replicas=WORKERS,
    ray_actor_options={"num_cpus": 1},
    max_ongoing_requests=2 * MAX_BATCH,
    max_queued_requests=2 * MAX_BATCH,
)
class Classify:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.001)
    async def classify(self, files: list[bytes]) -> list[int]:
        return self.classifier.classify_files(files)

    async def __call__(self, request: Request) -> dict[str, int]:
        return {"class": await self.classify(await request.body())}


if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    serve.run(Classify.bind(), route_prefix="/classify")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
