"""Latency of every sub-network on this machine's CPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from adaptive_depth import skip as skip_flags
from adaptive_depth.onnx_model import OnnxModel


def median_latencies(path: Path, image: np.ndarray, rounds: int) -> list[float]:
    """Median milliseconds of one call per sub-network, in `skip.all_sub_networks` order.

    Each round times every sub-network once, so that a slow spell of the machine hits
    all of them alike. Two rounds before the first warm caches and memory pools.

    The session has one thread: latencies then compare between machines with
    different numbers of cores, and a server runs one such session per core.

    Args:
        image: uint8 ``[1,H,W,3]``.
    """
    model = OnnxModel(path, threads=1)
    sub_networks = skip_flags.all_sub_networks(model.flags)
    warm_up = 2
    seconds = np.empty((rounds + warm_up, len(sub_networks)))
    for row in seconds:
        for column, skip in enumerate(sub_networks):
            started = time.perf_counter()
            model.logits(image, skip)
            row[column] = time.perf_counter() - started
    return [round(float(ms), 4) for ms in np.median(seconds[warm_up:], axis=0) * 1000]
