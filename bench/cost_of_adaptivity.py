"""What it costs to have every sub-network in one file.

    python bench/cost_of_adaptivity.py [FAMILY ...] [--rounds N] [--batch N] [--exports FOLDER]

Full-size networks with random weights. Each sub-network of the ladder is timed in the
one file and as a static export of its own, in turn, one thread each. What is measured
is the thread's CPU time, so that other load on the machine disturbs little. Memory is
that of a process that holds one session and has run every sub-network of the ladder,
against one that has run the static super-net.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from adaptive_depth.skip import SkipFlags, name_of

TARGETS = {"time": 1.05, "memory": 1.6, "file": 1.05}


def export(family: str, folder: Path) -> tuple[Path, dict[SkipFlags, Path]]:
    """The one file, and the static file of each sub-network of the ladder."""
    import onnx

    from adaptive_depth.onnx_graph import build_graph
    from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD
    from families import StaticNetwork, image_size, ladder, random_network

    network, size = random_network(family), image_size(family)
    one = folder / "one.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    if not one.exists():
        onnx.save(build_graph(network, size, IMAGENET_MEAN, IMAGENET_STD), one)
    static = {}
    for skip in ladder(family, network.flags):
        static[skip] = folder / f"{name_of(skip)}.onnx"
        if static[skip].exists():
            continue
        graph = build_graph(StaticNetwork(network, skip), size, IMAGENET_MEAN, IMAGENET_STD)
        onnx.save(graph, static[skip])
    return one, static


def session_of(path: Path | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def bound_call(
    session: onnxruntime.InferenceSession, images: np.ndarray, flags: str
) -> Callable[[], None]:
    """Runs the session on inputs handed over beforehand: the graph is timed, not Python."""
    binding = session.io_binding()
    binding.bind_cpu_input("image", images)
    for index, letter in enumerate(flags):
        binding.bind_cpu_input(f"skip_{index + 1}", np.asarray(letter == "T"))
    binding.bind_output("logits", "cpu")
    return lambda: session.run_with_iobinding(binding)


def pictures(session: onnxruntime.InferenceSession, batch: int) -> np.ndarray:
    """Random ones of the size that the session takes."""
    (image,) = (value for value in session.get_inputs() if value.name == "image")
    return np.random.default_rng(0).integers(0, 256, (batch, *image.shape[1:]), np.uint8)


def median_times(
    one: Path, static: dict[SkipFlags, Path], rounds: int, batch: int
) -> dict[SkipFlags, tuple[float, float]]:
    """CPU milliseconds of each sub-network: in the one file, and static.

    Each timed call follows an untimed one of the same session: the two take turns, and
    find the caches full of the other's weights, as no server does that runs one file.
    """
    adaptive = session_of(one)
    images = pictures(adaptive, batch)
    medians = {}
    for skip, path in static.items():
        calls = [
            bound_call(adaptive, images, name_of(skip)),
            bound_call(session_of(path), images, ""),
        ]
        seconds = np.empty((rounds + 1, 2))
        for index, row in enumerate(seconds):
            for which in (0, 1) if index % 2 else (1, 0):
                calls[which]()
                started = time.thread_time()
                calls[which]()
                row[which] = time.thread_time() - started
        one_ms, static_ms = 1000 * np.median(seconds[1:], axis=0)
        medians[skip] = (float(one_ms), float(static_ms))
    return medians


def resident_mib(path: Path, skips: list[str], batch: int) -> float:
    """Of a fresh process with one session, after running `skips` twice."""
    command = [sys.executable, __file__, "--resident", str(path), str(batch), *skips]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_resident(path: str, batch: str, *skips: str) -> None:
    session = session_of(path)
    images = pictures(session, int(batch))
    for name in 2 * skips:
        bound_call(session, images, name)()
    status = Path("/proc/self/status").read_text().split()
    print(int(status[status.index("VmRSS:") + 1]) / 1024)


def measure(family: str, rounds: int, batch: int, exports: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if exports is None else exports
        one, static = export(family, folder / family.replace(":", "-"))
        times = median_times(one, static, rounds, batch)
        super_net = next(iter(static.values()))
        ladder = [name_of(skip) for skip in static]
        memory = (
            resident_mib(one, ladder, batch),
            resident_mib(super_net, [""], batch),
        )
        sizes = (one.stat().st_size / 1e6, super_net.stat().st_size / 1e6)
    ratios = [first / second for first, second in times.values()]
    return {
        "family": family,
        "ms": {name_of(skip): [round(t, 2) for t in pair] for skip, pair in times.items()},
        "residentMiB": [round(m) for m in memory],
        "fileMB": [round(s, 1) for s in sizes],
        "ratios": {
            "time": round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 3),
            "memory": round(memory[0] / memory[1], 3),
            "file": round(sizes[0] / sizes[1], 3),
        },
    }


def row(result: dict[str, Any]) -> str:
    times = ", ".join(
        f"{name} {one:.0f}/{alone:.0f}" if alone >= 100 else f"{name} {one:.1f}/{alone:.1f}"
        for name, (one, alone) in result["ms"].items()
    )
    memory = "/".join(map(str, result["residentMiB"]))
    sizes = "/".join(map(str, result["fileMB"]))
    time_ratio, memory_ratio, size_ratio = (f"{value:.2f}" for value in result["ratios"].values())
    return (
        f"| {result['family']} | {times} | {time_ratio} | {memory} | {memory_ratio} "
        f"| {sizes} | {size_ratio} |"
    )


def main() -> int:
    if sys.argv[1:2] == ["--resident"]:
        print_resident(*sys.argv[2:])
        return 0
    from families import FAMILIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY")
    parser.add_argument("--rounds", type=int, default=15, help="timings of each sub-network")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--exports", type=Path, help="folder where exports are kept, and taken from again"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    print(
        f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, batch {args.batch}, ",
        end="",
    )
    print(f"{args.rounds} rounds; one file/static\n")
    print("| network | CPU ms | ratio | resident MiB | ratio | file MB | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    results = []
    for family in args.families:
        results.append(measure(family, args.rounds, args.batch, args.exports))
        print(row(results[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    missed = [
        f"{r['family']}: {what} {r['ratios'][what]} above {limit}"
        for r in results
        for what, limit in TARGETS.items()
        if r["ratios"][what] > limit
    ]
    print("\n" + ("\n".join(missed) or "all within the targets"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
