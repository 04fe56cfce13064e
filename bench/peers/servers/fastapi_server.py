"""uvicorn fastapi_server:app. Blocking work goes to the thread pool, as the docs ask; one thread of
it, since the server has one core. More than CAPACITY under way are refused: uvicorn's own
--limit-concurrency counts idle connections, too."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from classifier import CAPACITY, Classifier
from fastapi import FastAPI, HTTPException, Request

app = FastAPI()
classifier = Classifier()
pool = ThreadPoolExecutor(max_workers=1)
under_way = 0


def classify(file: bytes) -> int:
    return classifier.classify_files([file])[0]


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/classify")
async def post(request: Request) -> dict[str, int]:
    global under_way
    if under_way >= CAPACITY:
        raise HTTPException(503)
    under_way += 1
    try:
        file = await request.body()
        return {"class": await asyncio.get_running_loop().run_in_executor(pool, classify, file)}
    finally:
        under_way -= 1
