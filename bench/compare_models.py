"""Exports of one network against each other: accuracy, speed, memory and file size.

    python bench/compare_models.py MODEL_FOLDER ... [--rounds N] [--json FILE]

Each sub-network is timed in all files in turn, one image, one thread. Accuracies are
those of the manifests. Memory is that of a process that has run every sub-network.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cost_of_adaptivity import bound_call, pictures, resident_mib, session_of


def compare(folders: list[Path], rounds: int) -> list[dict[str, Any]]:
    manifests = [json.loads((folder / "model.json").read_text()) for folder in folders]
    sessions = [session_of(folder / "model.onnx") for folder in folders]
    names = [entry["skip"] for entry in manifests[0]["subNetworks"]]
    images = pictures(sessions[0], 1)
    seconds = np.empty((rounds + 1, len(names), len(sessions)))
    for column, name in enumerate(names):
        calls = [bound_call(session, images, name) for session in sessions]
        for index in range(rounds + 1):
            for turn in range(len(calls)):
                which = (index + turn) % len(calls)
                started = time.thread_time()
                calls[which]()
                seconds[index, column, which] = time.thread_time() - started
    medians = 1000 * np.median(seconds[1:], axis=0)
    return [
        {
            "model": manifest["name"],
            "images": (manifest["dataset"] or {}).get("images"),
            "top1": {entry["skip"]: entry["top1"] for entry in manifest["subNetworks"]},
            "ms": dict(zip(names, medians[:, which].round(3).tolist(), strict=True)),
            "timeRatio": round(float(np.exp(np.log(medians[:, which] / medians[:, 0]).mean())), 3),
            "residentMiB": round(resident_mib(folder / "model.onnx", names, 1)),
            "fileMB": round(manifest["bytes"] / 1e6, 2),
        }
        for which, (folder, manifest) in enumerate(zip(folders, manifests, strict=True))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="MODEL_FOLDER")
    parser.add_argument("--rounds", type=int, default=100, help="timings of each sub-network")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    results = compare(args.folders, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    print("| sub-network | " + " | ".join(f"{r['model']}: top-1 %, ms" for r in results) + " |")
    print("| --- |" + " --- |" * len(results))
    for name in results[0]["top1"]:
        cells = (f"{100 * r['top1'][name]:.2f}, {r['ms'][name]:.2f}" for r in results)
        print(f"| {name} | " + " | ".join(cells) + " |")
    for what in ("timeRatio", "residentMiB", "fileMB"):
        print(f"| {what} | " + " | ".join(str(r[what]) for r in results) + " |")


if __name__ == "__main__":
    main()
