"""Asks a service with the client that openapi-python-client makes of docs/openapi.json.

generated_client.py FOLDER URL PHOTO, where FOLDER holds the package ``depthserve_client``.
"""

import sys

folder, url, photo = sys.argv[1:]
sys.path.insert(0, folder)

from depthserve_client import Client
from depthserve_client.api.default import (
    classify,
    get_model,
    v_2_get_model_ready,
)
from depthserve_client.types import File

client = Client(base_url=url)
model = get_model.sync(client=client).manifest
assert v_2_get_model_ready.sync(model.name, client=client).ready

with open(photo, "rb") as file:
    answer = classify.sync(
        client=client, body=File(payload=file), x_latency_budget_ms=60_000
    )
assert answer.budget.met
assert answer.predictions[0].label in model.labels

with open(photo, "rb") as file:
    problem = classify.sync(
        client=client, body=File(payload=file), x_latency_budget_ms=0.01
    )
assert problem.code == "budget-too-small", problem
print(answer.predictions[0].label)
