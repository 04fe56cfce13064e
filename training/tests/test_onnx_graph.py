"""The exported graph: same answers as PyTorch, weights once, blocked layout in the branches."""

from __future__ import annotations

import platform
import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from conftest import MEAN, SIZE, STD
from onnx import numpy_helper
from torch import Tensor, nn

from adaptive_depth import skip
from adaptive_depth.augment import normalise
from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel

TOLERANCE = 1e-4


def torch_logits(network: AdaptiveNetwork, images: np.ndarray, flags: skip.SkipFlags):
    x = normalise(torch.from_numpy(images), torch.tensor(MEAN), torch.tensor(STD))
    with torch.inference_mode():
        return network.eval()(x, flags).numpy()


def branches(graph: onnx.GraphProto) -> dict[str, onnx.GraphProto]:
    return {
        f"{node.output[0]} {attribute.name}": attribute.g
        for node in graph.node
        if node.op_type == "If"
        for attribute in node.attribute
    }


@pytest.mark.parametrize("flags", skip.all_sub_networks(4), ids=skip.name_of)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_sub_network_equals_pytorch(network, onnx_model, pictures, flags, batch):
    images = pictures(batch)
    expected = torch_logits(network, images, flags)
    assert np.abs(onnx_model.logits(images, flags) - expected).max() < TOLERANCE


def test_sub_networks_differ(network, pictures):
    """Otherwise the comparison above would prove little."""
    logits = [torch_logits(network, pictures(1), flags) for flags in skip.all_sub_networks(4)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(logits) for b in logits[:i]]
    assert min(gaps) > 10 * TOLERANCE


def test_calls_with_other_flags_and_batches_leave_no_trace(onnx_model, pictures):
    calls = [(flags, batch) for flags in skip.all_sub_networks(4) for batch in (1, 5)]
    alone = {call: onnx_model.logits(pictures(call[1]), call[0]) for call in calls}
    random.Random(0).shuffle(calls)
    for flags, batch in calls:
        again = onnx_model.logits(pictures(batch), flags)
        np.testing.assert_array_equal(again, alone[flags, batch])


def test_inputs_and_output_are_what_the_server_feeds(onnx_file):
    session = onnxruntime.InferenceSession(str(onnx_file))
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["N", SIZE, SIZE, 3]),
        *((f"skip_{stage}", "tensor(bool)", []) for stage in (1, 2, 3, 4)),
    ]
    (output,) = session.get_outputs()
    assert (output.name, output.type, output.shape) == ("logits", "tensor(float)", ["N", 10])


def test_the_file_is_hardly_larger_than_the_super_nets_weights(network, onnx_file):
    weights = sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in network.state_dict().items()
        if "_skip" not in name
    )
    assert onnx_file.stat().st_size <= 1.05 * weights


def test_weights_lie_once_in_the_root_under_their_names(network, graph):
    in_root = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(in_root[name], tensor.numpy())
    in_branches = sum(len(branch.initializer) for branch in branches(graph.graph).values())
    assert in_branches == 0


def test_norms_stay_unfolded_in_the_branches(graph):
    for name, branch in branches(graph.graph).items():
        kinds = Counter(node.op_type for node in branch.node)
        assert kinds["BatchNormalization"] == kinds["Conv"] > 0, name


def test_the_file_tells_nothing_about_the_machine(graph):
    assert str(Path(__file__).parents[2]).encode() not in graph.SerializeToString()


@pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="the blocked layout is of x86"
)
def test_onnxruntime_blocks_and_fuses_every_convolution_of_every_branch(graph, onnx_file, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    optimised = branches(onnx.load(options.optimized_model_filepath).graph)
    exported = branches(graph.graph)
    assert len(exported) == 8
    for name, branch in exported.items():
        convolutions = sum(node.op_type == "Conv" for node in branch.node)
        kinds = Counter(f"{node.domain}:{node.op_type}" for node in optimised[name].node)
        # Norms, activations and additions are in the convolutions, as in a static export.
        # Only what passes between two stages changes its layout.
        reorders = {"com.microsoft.nchwc:ReorderOutput": 1}
        if not name.startswith("stem+layer1"):
            reorders["com.microsoft.nchwc:ReorderInput"] = 1
        assert kinds == {"com.microsoft.nchwc:Conv": convolutions, **reorders}, name


class TokenStage(nn.Module):
    """Attention whose norm is switched, then a skippable layer: features ``[N,tokens,dim]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.norm_skip = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.extra = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, skip: bool) -> Tensor:
        qkv = self.qkv((self.norm_skip if skip else self.norm)(x)).unsqueeze(1)  # one head
        x = x + F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1)).squeeze(1)
        return x if skip else x + F.gelu(self.extra(x))


class Tokens(nn.Module):
    """Patches as tokens, with a learnt position for each."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2) + self.position


class TokenHead(nn.Module):
    """A head that follows the last stage's flag."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.norm, self.norm_skip = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, classes)

    def forward(self, x: Tensor, skip: bool) -> Tensor:
        return self.fc((self.norm_skip if skip else self.norm)(x).mean(dim=1))


class TokenNetwork(AdaptiveNetwork):
    """A family with everything that small_resnet lacks: tokens instead of maps, a flag
    that two segments share, and another that comes back after a segment without any."""

    def __init__(self, dim: int = 32, classes: int = 7) -> None:
        super().__init__()
        self.flags = 2
        self.stem = Tokens(dim)
        self.first, self.second = TokenStage(dim), TokenStage(dim)
        self.between, self.third = nn.Linear(dim, dim), TokenStage(dim)
        self.head = TokenHead(dim, classes)

    def segments(self) -> list[Segment]:
        return [
            Segment("stem", self.stem),
            Segment("first", self.first, flag=0, is_stage=True),
            Segment("second", self.second, flag=1, is_stage=True),
            Segment("between", self.between),
            Segment("third", self.third, flag=1, is_stage=True),
            Segment("head", self.head, flag=1),
        ]


def test_any_chain_of_segments_can_be_exported(pictures, tmp_path):
    torch.manual_seed(0)
    network = TokenNetwork()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    graph = build_graph(network, SIZE, MEAN, STD)
    path = tmp_path / "tokens.onnx"
    path.write_bytes(graph.SerializeToString())

    conditions = [node.input[0] for node in graph.graph.node if node.op_type == "If"]
    assert conditions == ["skip_1", "skip_2", "skip_2"], "neighbours with one flag share an If"
    names = [tensor.name for tensor in graph.graph.initializer]
    assert all(names.count(name) == 1 for name, _ in network.named_parameters())
    model = OnnxModel(path, threads=1)
    for flags in skip.all_sub_networks(2):
        for batch in (1, 3, 8):
            images = pictures(batch)
            expected = torch_logits(network, images, flags)
            assert np.abs(model.logits(images, flags) - expected).max() < TOLERANCE
