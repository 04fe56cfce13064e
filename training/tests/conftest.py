"""Tiny networks and pictures made on the spot, shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from adaptive_depth import networks
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel

torch.set_num_threads(1)

SIZE = 16
MEAN, STD = [120.0, 118.0, 110.0], [60.0, 61.0, 62.0]
SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def randomise_norms(network: nn.Module) -> None:
    """Gives every norm scales and statistics of its own, as training would, so that a
    branch that uses the wrong one is noticed."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "bn" in name or "norm" in name or "downsample.1" in name:
            if name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.2, generator=generator)


@pytest.fixture(scope="session")
def network() -> networks.AdaptiveNetwork:
    """Four flags, wide enough that the graph is small beside the weights. Don't change it."""
    torch.manual_seed(0)
    options = {"blocks": [2, 2, 2, 2], "widths": [16, 32, 64, 128]}
    network = networks.build("small_resnet", 10, options)
    randomise_norms(network)
    return network.eval()


@pytest.fixture(scope="session")
def graph(network: networks.AdaptiveNetwork) -> onnx.ModelProto:
    return build_graph(network, SIZE, MEAN, STD)


@pytest.fixture(scope="session")
def onnx_file(graph: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


@pytest.fixture(scope="session")
def onnx_model(onnx_file: Path) -> OnnxModel:
    return OnnxModel(onnx_file, threads=1)


@pytest.fixture
def pictures() -> Callable[..., np.ndarray]:
    """``pictures(count)``: random images uint8 ``[count,SIZE,SIZE,3]``."""

    def make(count: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)

    return make


def write_folder_tree(root: Path, splits: dict[str, int], size: int = 20) -> Path:
    """``<split>/<class>/*.png`` of three colours that are easy to tell apart."""
    rng = np.random.default_rng(0)
    for split, count in splits.items():
        for channel, name in enumerate(("blue shirt", "green hat", "red sock")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (size, size + 4, 3), np.uint8)
                pixels[..., 2 - channel] += 120
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture
def folder_tree(tmp_path: Path) -> Path:
    return write_folder_tree(tmp_path / "garments", {"train": 12, "val": 4, "test": 5})


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests leave the user's cache alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


SLOW = {"resnet50", "resnet101", "resnet50vd"}
"""Families whose tests take minutes together, and whose code is that of the other ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ADAPT_SLOW_TESTS"):
        return
    skip = pytest.mark.skip(reason="slow: set ADAPT_SLOW_TESTS=1")
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and "onnx" in item.nodeid and callspec.params.get("family") in SLOW:
            item.add_marker(skip)
