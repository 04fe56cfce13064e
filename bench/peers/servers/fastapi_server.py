"""uvicorn fastapi_server:app --workers 2. Blocking work goes to the thread pool, as the docs ask;
one thread of it, since each process has one core."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from classifier import Classifier
from fastapi import FastAPI, Request

app = FastAPI()
classifier = Classifier()
pool = ThreadPoolExecutor(max_workers=1)


def classify(file: bytes) -> int:
    return classifier.classify_files([file])[0]


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/classify")
async def post(request: Request) -> dict[str, int]:
    file = await request.body()
    return {"class": await asyncio.get_running_loop().run_in_executor(pool, classify, file)}
