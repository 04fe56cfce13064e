"""Statistics re-estimated for mixtures: what changes, what stays, and the export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import MEAN, STD
from families import reduced
from torch import nn

from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.cli import main
from adaptive_depth.networks.base import count_parameters
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.restate import RestatedNetwork, restate

LADDER = [skip_flags.parse(name, 4) for name in ("FFFF", "TFFF", "TTFF", "TTTF", "TTTT")]


def batches(size: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(16, 3, size, size, generator=generator) for _ in range(2)]


@pytest.fixture(scope="module")
def restated() -> tuple[RestatedNetwork, int]:
    network, size = reduced("small_resnet")
    return restate(network, LADDER, batches(size)), size


def test_only_the_chosen_mixtures_change(restated: tuple[RestatedNetwork, int]) -> None:
    network, size = restated
    x = batches(size)[0]
    for skip in skip_flags.all_sub_networks(4):
        same = torch.equal(network(x, skip), network.network(x, skip))
        # FFFT and the like begin as the super-net and end in a stage nobody asked for.
        assert same == (not any(skip[:n] in beginnings() for n in (2, 3, 4)))


def beginnings() -> set[tuple[bool, ...]]:
    return {c[:n] for c in LADDER for n in (2, 3, 4) if len(set(c[:n])) > 1}


def test_their_norms_fit_what_reaches_them(restated: tuple[RestatedNetwork, int]) -> None:
    network, size = restated
    own = network.links["layer2"].own["TF"]
    seen: list[torch.Tensor] = []
    hook = own[0].bn1.register_forward_hook(lambda norm, inputs, output: seen.append(inputs[0]))
    for x in batches(size):
        network(x, LADDER[1])
    hook.remove()
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(0)
    torch.testing.assert_close(own[0].bn1.running_mean, means, atol=1e-4, rtol=1e-3)


def test_weights_are_shared(restated: tuple[RestatedNetwork, int]) -> None:
    network, _ = restated
    assert count_parameters(network) == count_parameters(network.network)
    assert isinstance(network.links["layer2"].own["TF"][0].bn1, nn.BatchNorm2d)
    assert sorted(network.links["layer4"].own) == ["TFFF", "TTFF", "TTTF"]


def test_the_export_equals_pytorch_and_stores_weights_once(
    restated: tuple[RestatedNetwork, int], tmp_path: Path
) -> None:
    network, size = restated
    graph = build_graph(network, size, MEAN, STD)
    onnx.save(graph, tmp_path / "model.onnx")
    model = OnnxModel(tmp_path / "model.onnx", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    x = normalise(torch.from_numpy(images), torch.tensor(MEAN), torch.tensor(STD))
    for skip in skip_flags.all_sub_networks(4):
        with torch.inference_mode():
            expected = network(x, skip).numpy()
        difference = np.abs(model.logits(images, skip) - expected).max()
        assert difference <= 1e-4 * np.ptp(expected), skip_flags.name_of(skip)
    weights = [t for t in graph.graph.initializer if not t.name.startswith("normalise/")]
    matrices = sum(len(tensor.dims) > 1 for tensor in weights)
    assert matrices == sum(p.dim() > 1 for p in network.parameters())


def test_layer_norms_have_nothing_to_re_estimate() -> None:
    with pytest.raises(ValueError, match="keep no statistics"):
        RestatedNetwork(reduced("vit_b_16")[0], LADDER)


def test_the_command(folder_tree: Path, tmp_path: Path) -> None:
    options = "--blocks 2,2 --widths 8,16 --size 16 --epochs 1 --batch-size 12 --lr 0.05"
    run, out = tmp_path / "run", tmp_path / "model"
    assert main(["train", "--data", str(folder_tree), "--out", str(run), *options.split()]) == 0
    export = ["export", "--run", str(run), "--out", str(out), "--name", "a", "--version", "1.0.0"]
    assert main([*export, "--restate", "TF", "--restate-images", "20", "--threads", "1"]) == 0
    graph = onnx.load(out / "model.onnx").graph
    assert any("own.TF" in tensor.name for tensor in graph.initializer)
