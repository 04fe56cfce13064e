"""Sends a form by requests or httpx: python form.py requests|httpx URL IMAGE"""

import importlib
import sys

client = importlib.import_module(sys.argv[1])
url, photo = sys.argv[2:4]
with open(photo, "rb") as file:
    image = file.read()
answer = client.post(
    f"{url}/classify",
    files=[
        ("image", ("bäume.jpg", image, "image/jpeg")),
        ("image", ('a"b.jpg', image)),
    ],
    data={"note": "from Python"},
    headers={"X-Latency-Budget-Ms": "60000"},
)
print(answer.status_code, answer.text)
