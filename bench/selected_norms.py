"""What re-estimated statistics would cost with every convolution in the graph once.

    python bench/selected_norms.py [FAMILY ...] [--rounds N]

`adaptive-depth export --restate` gives each combination of flags a branch of its own, for
which onnxruntime makes its own fused weights. The other form keeps one node per convolution
and selects the norm's folded scale and shift at run time, a row of a small table. Such a
norm cannot be fused into its convolution. Here the norms of the static super-net and
base-net are replaced so, and timed against the static networks: what the form costs at
least, without any `If`. Memory is that of a process that has run the super-net.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD
from cost_of_adaptivity import bound_call, pictures, resident_mib, session_of
from families import StaticNetwork, image_size, random_network

ROWS = 8  # combinations that reach the last of four stages


def with_selected_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Norms as a scale and a shift, picked by the input ``skip_1`` from tables of `ROWS`.

    Which row is picked makes no difference to the time, so one flag stands for all.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    graph.input.append(helper.make_tensor_value_info("skip_1", onnx.TensorProto.BOOL, []))
    nodes = [helper.make_node("Cast", ["skip_1"], ["row"], to=onnx.TensorProto.INT64)]
    for node in model.graph.node:
        if node.op_type != "BatchNormalization":
            nodes.append(node)
            continue
        x, out = node.input[0], node.output[0]
        gamma, beta, mean, variance = (weights[name] for name in node.input[1:])
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        scale = gamma / np.sqrt(variance + epsilon)
        for name, row in (("scale", scale), ("shift", beta - mean * scale)):
            table = np.tile(row.astype(np.float32).reshape(1, -1, 1, 1), (ROWS, 1, 1, 1))
            graph.initializer.append(numpy_helper.from_array(table, f"{out}/{name}s"))
            nodes.append(helper.make_node("Gather", [f"{out}/{name}s", "row"], [f"{out}/{name}"]))
        nodes.append(helper.make_node("Mul", [x, f"{out}/scale"], [f"{out}/scaled"]))
        nodes.append(helper.make_node("Add", [f"{out}/scaled", f"{out}/shift"], [out]))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(changed)
    return changed


def measure(family: str, rounds: int, folder: Path) -> str:
    network, size = random_network(family), image_size(family)
    cells = []
    memory = ""
    for skipped in (False, True):
        static = StaticNetwork(network, (skipped,) * network.flags)
        model = build_graph(static, size, IMAGENET_MEAN, IMAGENET_STD)
        paths = folder / "static.onnx", folder / "selected.onnx"
        onnx.save(model, paths[0])
        onnx.save(with_selected_norms(model), paths[1])
        sessions = [session_of(path) for path in paths]
        images = pictures(sessions[0], 1)
        feed = {"image": images}
        expected = sessions[0].run(None, feed)[0]
        given = sessions[1].run(None, feed | {"skip_1": np.asarray(True)})[0]
        assert np.abs(given - expected).max() <= 1e-4 * np.ptp(expected)
        calls = [bound_call(s, images, f) for s, f in zip(sessions, ("", "T"), strict=True)]
        seconds = np.empty((rounds + 1, 2))
        for index, row in enumerate(seconds):
            for which in (0, 1) if index % 2 else (1, 0):
                started = time.thread_time()
                calls[which]()
                row[which] = time.thread_time() - started
        static_ms, selected_ms = 1000 * np.median(seconds[1:], axis=0)
        cells.append(f"{selected_ms:.2f}/{static_ms:.2f} = {selected_ms / static_ms:.2f}")
        if not skipped:
            alone, selected = (
                resident_mib(path, [f], 1) for path, f in zip(paths, ("", "T"), strict=True)
            )
            memory = f"{selected:.0f}/{alone:.0f} = {selected / alone:.2f}"
    return f"| {family} | {cells[0]} | {cells[1]} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=["small_resnet", "resnet50"])
    parser.add_argument("--rounds", type=int, default=50, help="timings of each file")
    args = parser.parse_args()
    print("| network | super-net, CPU ms | base-net, CPU ms | resident MiB |")
    print("| --- | --- | --- | --- |")
    for family in args.families:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(family, args.rounds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
