"""Every sub-network of every family: ONNX against PyTorch, at reduced size.

The published sizes go through the same comparison by ``bench/parity.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from families import REDUCED, branches, reduced

from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
TOLERANCE = 1e-4  # of the spread of the logits


def spread_error(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(logits - expected).max() / np.ptp(expected))


@pytest.mark.parametrize("family", REDUCED)
def test_every_sub_network_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    network, size = reduced(family)
    graph = build_graph(network, size, MEAN, STD)
    onnx.save(graph, tmp_path / "model.onnx")
    model = OnnxModel(tmp_path / "model.onnx", threads=1)
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        x = normalise(torch.from_numpy(images), torch.tensor(MEAN), torch.tensor(STD))
        for skip in skip_flags.all_sub_networks(network.flags):
            with torch.inference_mode():
                expected = network(x, skip).numpy()
            assert spread_error(model.logits(images, skip), expected) <= TOLERANCE
    check_weights_are_stored_once(network, graph)
    if family == "mobilenet_v2":  # Its graph takes half a minute to build.
        check_the_first_three_stages_share_one_tree_of_ifs(graph.graph)


def check_weights_are_stored_once(network: torch.nn.Module, graph: onnx.ModelProto) -> None:
    """In the root graph, under their own names; branches hold nothing of their size."""
    root = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    for name, parameter in network.named_parameters():
        assert root[name] == tuple(parameter.shape)
    matrices = {tuple(p.shape) for p in network.parameters() if p.dim() > 1}
    for branch in branches(graph.graph):
        assert not any(tuple(tensor.dims) in matrices for tensor in branch.initializer)


def check_the_first_three_stages_share_one_tree_of_ifs(graph: onnx.GraphProto) -> None:
    """Maps then pass from branch to branch twice, not four times."""
    trees = [node for node in graph.node if node.op_type == "If"]
    assert [tree.input[0] for tree in trees] == ["skip_3", "skip_4", "skip_5"]
    leaves = [
        branch
        for attribute in trees[0].attribute
        for branch in branches(attribute.g)
        if any(node.op_type == "Conv" for node in branch.node)
    ]
    assert len(leaves) == 2**3


@pytest.mark.parametrize("family", ["vit_b_16", "swin_t"])
def test_mandatory_transformer_blocks_lie_in_no_branch(family: str) -> None:
    """Their matrices would be packed once per branch, at twice the memory."""
    chain = reduced(family)[0].segments()
    assert {s.name for s in chain if s.flag is not None and not s.tensor_flag} == {
        s.name for s in chain if s.is_stage
    }
