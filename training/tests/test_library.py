"""Any network of timm or torchvision made adaptive: what it computes, learns and is called."""

from __future__ import annotations

import copy
import platform
from pathlib import Path

import library
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from families import branches
from library import ALL, CLASSES, COPIED, EXPORTED, images, original_and_adaptive, randomised
from torch import nn
from torch.optim.swa_utils import AveragedModel

from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.complexity import count_macs
from adaptive_depth.distill import DistillConfig, backward_both
from adaptive_depth.networks.blocks import SplitError
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.switch import drop_rate
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.trainer import autocast_for, moving_average

every_family = pytest.mark.parametrize(("model", "size"), ALL.items(), ids=lambda v: str(v))


@every_family
def test_the_super_net_is_the_original_to_the_bit(model: str, size: int) -> None:
    original, network = original_and_adaptive(model, size)
    x = images(size)
    with torch.inference_mode():
        assert torch.equal(network(x), original(x))
    state = network.state_dict()
    copies = {name for name in state if "_skip." in name}
    assert copies and state.keys() - copies == original.state_dict().keys()


@every_family
def test_every_sub_network_differs(model: str, size: int) -> None:
    network, x = randomised(model, size), images(size)
    with torch.inference_mode():
        outputs = [network(x, skip) for skip in skip_flags.all_sub_networks(network.flags)]
    assert all(output.isfinite().all() and output.shape == (2, CLASSES) for output in outputs)
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == 2**network.flags


@every_family
def test_a_step_teaches_every_part(model: str, size: int) -> None:
    # In evaluation mode: maps of one pixel have no statistics, and nothing is dropped.
    network = copy.deepcopy(randomised(model, size))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    x, labels = images(size), torch.tensor([0, 1])
    losses = []
    for _ in range(2):
        optimiser.zero_grad()
        result = backward_both(
            network,
            x,
            labels,
            skip_flags.base_net(network.flags),
            DistillConfig(),
            autocast_for("fp32", torch.device("cpu")),
        )
        optimiser.step()
        losses.append((result.super_loss, result.student_loss))
    assert np.isfinite(losses).all()
    assert losses[0][0] != losses[1][0] and losses[0][1] != losses[1][1]
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without, "both copies of norms and the second sub-paths, too"


@pytest.mark.parametrize(("model", "size"), [(model, ALL[model]) for model in COPIED])
def test_a_copy_and_its_average_compute_the_same(model: str, size: int) -> None:
    network = randomised(model, size)
    average = AveragedModel(network, multi_avg_fn=moving_average(0.5), use_buffers=True)
    average.update_parameters(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    x, skip = images(size, 1), skip_flags.base_net(network.flags)
    with torch.inference_mode():
        expected = network(x, skip)
        assert torch.equal(average.module.eval()(x, skip), expected)
        assert not torch.equal(other(x, skip), expected), "borrowed tensors are the copy's own"
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(x, skip), expected)
    other.load_state_dict(
        {name.removeprefix("module."): t for name, t in average.state_dict().items() if "." in name}
    )
    with torch.inference_mode():
        assert torch.equal(other(x, skip), expected)


@pytest.mark.parametrize(("model", "size"), EXPORTED.items(), ids=lambda v: str(v))
def test_the_export_equals_pytorch(model: str, size: int, tmp_path: Path) -> None:
    network = randomised(model, size)
    mean, std = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
    graph = build_graph(network, size, mean, std)
    onnx.save(graph, tmp_path / "model.onnx")
    exported = OnnxModel(tmp_path / "model.onnx", threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    x = normalise(torch.from_numpy(pixels), torch.tensor(mean), torch.tensor(std))
    for skip in skip_flags.all_sub_networks(network.flags):
        with torch.inference_mode():
            expected = network(x, skip).numpy()
        difference = np.abs(exported.logits(pixels, skip) - expected).max()
        assert difference <= 1e-4 * np.ptp(expected), skip_flags.name_of(skip)
    stored = [t.name for part in (graph.graph, *branches(graph.graph)) for t in part.initializer]
    assert all(stored.count(name) == 1 for name in names_of(network)), "weights lie once"


@pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="the blocked layout is of x86"
)
def test_convolutions_that_no_norm_follows_are_blocked_in_branches_too(tmp_path: Path) -> None:
    """ConvNeXt's: without that, its super-net took a fifth longer than a static export."""
    graph = build_graph(randomised("timm:reduced_convnext", 32), 32, [120.0] * 3, [60.0] * 3)
    onnx.save(graph, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    optimised = onnx.load(options.optimized_model_filepath).graph
    domains = [
        node.domain for part in branches(optimised) for node in part.node if node.op_type == "Conv"
    ]
    assert domains and set(domains) == {"com.microsoft.nchwc"}


def names_of(network: nn.Module) -> set[str]:
    return {name for name, _ in network.named_parameters()}


def test_a_network_is_still_whole_on_another_device() -> None:
    """Class token and position embedding, which a link names itself, move with the rest."""
    network = copy.deepcopy(randomised("timm:reduced_vit", 32)).to("meta")
    assert network(images(32).to("meta")).shape == (2, CLASSES)


def test_copies_of_norms_are_called_as_in_published_checkpoints() -> None:
    state = randomised("timm:reduced_resnet50", 32).state_dict()
    assert "layer1.0.bn1_skip.running_var" in state and "layer2.1.bn3_skip.weight" in state
    assert not [name for name in state if "layer1.1" in name and "_skip" in name], "skippable"
    assert not [name for name in state if "downsample" in name and "_skip" in name], "short cut"


def test_blocks_that_always_run_keep_their_residual() -> None:
    network = LibraryNetwork(CLASSES, "timm:reduced_swin", 64)
    dropping = [
        {
            bool(drop_rate(m))
            for m in network.net.get_submodule(block).modules()
            if drop_rate(m) is not None
        }
        for stage in network.stages
        for block in (stage.kept[-1], stage.skippable[-1])
    ]
    assert dropping == [{False}, {True}] * network.flags


def test_no_second_sub_path_starts_unused() -> None:
    """timm's ResNets start the last norm of a block at zero."""
    network = LibraryNetwork(CLASSES, "timm:resnet18", 64)
    with torch.no_grad():
        full, base = (network(images(64), (flag,) * 4) for flag in (False, True))
    assert not torch.allclose(full, base)


def test_a_transformer_is_cut_into_so_many_groups() -> None:
    network = LibraryNetwork(CLASSES, "timm:reduced_vit", 32, groups=3, keep=[1, 2, 3])
    assert [len(stage.blocks) for stage in network.stages] == [4, 4, 4]
    assert [len(stage.kept) for stage in network.stages] == [1, 2, 3]
    assert network(images(32), (True, True, True)).shape == (2, CLASSES)


class TwoTensors(nn.Module):
    """What leaves the first stage is also read after the second one."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [Residual() for _ in range(5)]
        self.one, self.two = nn.Sequential(*blocks[:2]), nn.Sequential(*blocks[2:4])
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.one(torch.cat([x, x, x], 1)[:, :8])
        return self.head((first + self.two(2 * first)).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.conv(x))


class Branching(TwoTensors):
    """What it computes depends on what it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.two(self.one(torch.cat([x, x, x], 1)[:, :8]))
        return self.head((x if x.mean() > 0 else 2 * x).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("torchvision:vgg11", {}, "no two residual blocks follow one another"),
        ("torchvision:densenet121", {}, "no two residual blocks follow one another"),
        ("torchvision:resnet19", {}, "torchvision has no network 'resnet19'"),
        ("timm:resnet1", {}, r"timm has no network 'resnet1': \w+, \w+"),
        ("resnet50", {}, "expected timm:NAME or torchvision:NAME"),
        ("timm:reduced_resnet50", {"groups": 2}, "--groups is for networks of one stage"),
        ("timm:reduced_vit", {"groups": 7}, "--groups 7: 12 blocks, at least 2 in each"),
        ("timm:reduced_resnet50", {"keep": [1, 3, 1, 1]}, "--keep 1,3,1,1: the stages have 2, 3"),
        ("timm:reduced_resnet50", {"keep": [1]}, "--keep 1: the stages have 2, 3, 2, 2 blocks"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_the_reason(
    model: str, options: dict, reason: str
) -> None:
    with pytest.raises(SplitError, match=reason):
        LibraryNetwork(CLASSES, model, 64 if "vit" not in model else 32, **options)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (TwoTensors(), "two tensors, .* pass from stage to stage"),
        (Branching(), "Branching cannot be cut by torch.fx: .*control flow"),
    ],
)
def test_a_network_that_cannot_be_cut_is_refused_with_the_reason(
    net: nn.Module, reason: str
) -> None:
    with pytest.raises(SplitError, match=reason):
        LibraryNetwork(CLASSES, net, 8)


def test_attention_counts_among_the_costs() -> None:
    """torchvision's ViT has a fused form of it, which PyTorch's counter does not see."""
    network = randomised("timm:reduced_vit", 32)
    tokens, width, hidden = 17, 24, 48
    block = 4 * width * width + 2 * width * hidden  # matrices, per token
    block = tokens * block + 2 * tokens * tokens * width
    embedding, head = 16 * 8 * 8 * 3 * width, width * CLASSES
    assert count_macs(network, 32, (False,) * 4) == 12 * block + embedding + head
    assert count_macs(network, 32, (True,) * 4) == 8 * block + embedding + head


def test_each_stage_and_link_has_a_name_and_a_feature() -> None:
    for model in ("timm:reduced_timm_swin", "timm:regnety_004"):
        network = randomised(model, ALL[model])
        _, features = network.forward_features(images(ALL[model]))
        assert len(features) == network.flags
        assert len({s.name for s in network.segments()}) == len(network.segments())


def test_the_list_of_families_is_complete() -> None:
    """Issue 14's, by the beginnings of their names."""
    names = " ".join(library.QUICK | library.SLOW)
    for family in (
        *("timm:resnet18", "timm:resnet50", "timm:regnet", "timm:mobilenetv2", "timm:mobilenetv3"),
        *("timm:efficientnet", "timm:tf_efficientnet_lite0", "timm:tf_efficientnetv2"),
        *("timm:convnext_", "timm:convnextv2", "timm:vit_", "timm:deit_", "timm:swin"),
        *("torchvision:resnet", "torchvision:regnet", "torchvision:mobilenet_v2"),
        *("torchvision:mobilenet_v3", "torchvision:efficientnet_b", "torchvision:efficientnet_v2"),
        *("torchvision:convnext", "torchvision:vit_b_16", "torchvision:swin_t"),
    ):
        assert family in names
