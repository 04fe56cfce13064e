"""What check.mjs and measure.mjs run: ResNet-50 with random weights, and static exports.

    python bench/gpu/export_models.py --out FOLDER [--model FOLDER ...] [--size 224]

Writes FOLDER/resnet50 (a model folder with one file for all sub-networks) and, for it and each
--model, FOLDER/static/<model>/<skip>.onnx for every rung of the ladder: the same sub-network
without flags. ResNet-50's are exported as networks of their own; the shipped models have no
checkpoint here, so there the flags become constants, which onnxruntime folds away at load.
Without a --model: only FOLDER/resnet50.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import torch

from adaptive_depth import manifest
from adaptive_depth.export import export_model
from adaptive_depth.images import Frame
from adaptive_depth.onnx_graph import build_graph, flag_names
from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD
from adaptive_depth.run_folder import TrainedRun
from adaptive_depth.skip import name_of, parse
from families import CLASSES, StaticNetwork, ladder, random_network

FAMILY = "resnet50"


def export_one_file(folder: Path, size: int) -> None:
    labels = [f"class {index}" for index in range(CLASSES)]
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    run = TrainedRun(random_network(FAMILY), labels, Frame(size), mean, std, None, None)
    export_model(run, None, folder, FAMILY, "0.0.0")


def export_static(path: Path, skip: tuple[bool, ...], size: int) -> None:
    network = StaticNetwork(random_network(FAMILY), skip)
    onnx.save(build_graph(network, size, IMAGENET_MEAN, IMAGENET_STD), path)


def pin(source: Path, path: Path, skip: tuple[bool, ...]) -> None:
    """Makes the flags constants."""
    model = onnx.load(source)
    graph = model.graph
    names = flag_names(len(skip))
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(flag), name)
        for name, flag in zip(names, skip, strict=True)
    )
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--size", type=int, default=224, help="of ResNet-50's images, in pixels")
    parser.add_argument("--processes", type=int, default=6)
    args = parser.parse_args()
    static = args.out / "static"

    for folder in args.model:
        described, file = manifest.read_model_folder(folder)
        (static / described["name"]).mkdir(parents=True, exist_ok=True)
        flags = len(described["flags"])
        for count in range(flags + 1):
            skip = parse("T" * count + "F" * (flags - count), flags)
            pin(file, static / described["name"] / f"{name_of(skip)}.onnx", skip)

    (static / FAMILY).mkdir(parents=True, exist_ok=True)
    # With more threads than cores, those that wait for each other keep others from running.
    threads = max(1, len(os.sched_getaffinity(0)) // args.processes)
    with ProcessPoolExecutor(
        args.processes, initializer=torch.set_num_threads, initargs=[threads]
    ) as pool:
        jobs = [pool.submit(export_one_file, args.out / FAMILY, args.size)]
        for skip in ladder(FAMILY, 4) if args.model else []:
            path = static / FAMILY / f"{name_of(skip)}.onnx"
            jobs.append(pool.submit(export_static, path, skip, args.size))
        for job in jobs:
            job.result()
    print(f"exported to {args.out}")


if __name__ == "__main__":
    main()
