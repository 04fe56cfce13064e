"""Structure of the families: the published checkpoints' names, and the switching rules."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from families import REDUCED, reduced
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import StochasticDepth

from adaptive_depth import networks
from adaptive_depth import skip as skip_flags
from adaptive_depth.networks.base import count_parameters

PUBLISHED = {
    "resnet50": 25_583_144,
    "mobilenet_v2": 3_527_544,
    "vit_b_16": 86_592_232,
    "swin_t": 28_302_562,
}


def published_tensors(arch: str) -> dict[str, tuple[tuple[int, ...], str]]:
    lines = (Path(__file__).parent / "checkpoints" / f"{arch}.keys.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return {
        name: (() if shape == "scalar" else tuple(map(int, shape.split("x"))), kind)
        for name, shape, kind in rows
    }


@functools.cache
def full_size(arch: str) -> networks.AdaptiveNetwork:
    """Cut with small images, but for ViT, whose position embedding belongs to a size."""
    network = networks.build(arch, 1000, {"size": 224 if arch == "vit_b_16" else 64})
    return network.to("meta")


@pytest.mark.parametrize("arch", PUBLISHED)
def test_tensors_are_those_of_the_published_checkpoint(arch: str) -> None:
    network = full_size(arch)
    tensors = {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in network.state_dict().items()
    }
    assert tensors == published_tensors(arch)
    assert count_parameters(network) == PUBLISHED[arch]
    assert networks.logits_layer_of(arch) == network.logits_layer


# Billions of multiply-accumulates at 224 pixels, as published.
GIGA_MACS = {
    "resnet50": {"FFFF": 4.11, "TFFF": 3.90, "TTFF": 3.46, "TTTF": 2.80, "TTTT": 2.58},
    "mobilenet_v2": {"FFFFF": 0.32, "TTTTT": 0.22},
    "vit_b_16": {"FFFF": 17.58, "FFFT": 16.20, "TTFF": 14.67, "TTFT": 13.21, "TTTT": 11.76},
    "swin_t": {"FFFF": 4.49, "TFFF": 4.11, "TTFF": 3.75, "TTTT": 2.34},
}


@pytest.mark.parametrize("arch", GIGA_MACS)
def test_costs_are_the_published_ones(arch: str) -> None:
    network = full_size(arch)
    for name, published in GIGA_MACS[arch].items():
        flags = skip_flags.parse(name, network.flags)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, counted_elements(network) as elements:
            network(torch.zeros(1, 3, 224, 224, device="meta"), flags)
        macs = counter.get_total_flops() / 2e9
        if arch == "mobilenet_v2":
            # The published figures are matched by counting what is done to each element
            # besides: two operations of a norm, one of an activation.
            macs += (2 * elements[nn.BatchNorm2d] + elements[nn.ReLU6]) / 1e9
        assert macs == pytest.approx(published, rel=0.01), name


@contextlib.contextmanager
def counted_elements(network: nn.Module) -> Iterator[Counter[type]]:
    """Counts the elements that each kind of layer gives."""
    elements: Counter[type] = Counter()

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        elements[type(layer)] += output.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if not [*m.children()]]
    yield elements
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", REDUCED)
def test_every_sub_network_differs(family: str) -> None:
    network, size = reduced(family)
    x = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        outputs = [network(x, skip) for skip in skip_flags.all_sub_networks(network.flags)]
    assert outputs[0].shape == (2, 10)
    assert all(output.isfinite().all() for output in outputs)
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == len(outputs)


@pytest.mark.parametrize("family", REDUCED)
def test_stages_have_one_feature_each(family: str) -> None:
    network, size = reduced(family)
    with torch.inference_mode():
        _, features = network.forward_features(torch.randn(2, 3, size, size))
    assert len(features) == network.flags
    assert len({segment.name for segment in network.segments()}) == len(network.segments())


@pytest.mark.parametrize("family", ["vit_b_16", "swin_t"])
def test_a_tensor_flag_chooses_as_a_bool_does(family: str) -> None:
    network, size = reduced(family)
    x = torch.randn(1, 3, size, size)
    skip = tuple(index % 2 == 0 for index in range(network.flags))
    with torch.inference_mode():
        expected = network(x, skip)
        for segment in network.segments():
            flags = torch.tensor(skip) if segment.tensor_flag else skip
            x = segment.run(x, flags)
    torch.testing.assert_close(x, expected)


def norms_used(network: networks.AdaptiveNetwork, size: int, skip: tuple[bool, ...]) -> set[str]:
    """Their names in the state dict."""
    used: set[str] = set()
    names = {
        own.rpartition(".")[0]: name.rpartition(".")[0] for own, name in network._names.items()
    }
    hooks = [
        module.register_forward_hook(lambda *_, name=name: used.add(names[name]))
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
    ]
    network(torch.randn(1, 3, size, size), skip)
    for hook in hooks:
        hook.remove()
    return used


def test_mobilenet_stem_and_head_follow_the_first_and_last_flag() -> None:
    network, size = reduced("mobilenet_v2")
    used = norms_used(network, size, (True, False, False, False, False))
    assert {"features.0.norm_skip", "features.1.conv.0.norm_skip"} <= used
    assert {"features.7.conv.2.norm", "features.8.norm"} <= used
    # The projection of a mandatory block is switched too, skippable blocks are left out.
    assert "features.2.0.conv.2.norm_skip" in used
    assert not any(name.startswith("features.2.1.") for name in used)
    used = norms_used(network, size, (False, False, False, False, True))
    assert {"features.0.norm", "features.1.conv.1.norm"} <= used
    assert {"features.7.conv.0.norm_skip", "features.8.norm_skip"} <= used


def test_mobilenet_classifier_follows_no_flag() -> None:
    """Its matrix would be packed once per branch."""
    assert reduced("mobilenet_v2")[0].segments()[-1].flag is None


def test_swin_patch_merging_follows_the_next_stage() -> None:
    network, size = reduced("swin_t")
    used = norms_used(network, size, (False, True, False, False))
    assert {"features.1.norm_skip", "features.2.0.norm1_skip"} <= used
    assert {"features.0.0.norm1", "features.3.norm", "features.4.0.norm1", "norm"} <= used
    assert "features.2.1.norm1" not in used


def test_resnet_stem_and_short_cuts_are_shared() -> None:
    network, size = reduced("resnet50")
    used = norms_used(network, size, (True, True, True, True))
    assert {"bn1", "layer1.0.downsample.1", "layer1.0.bn3_skip"} <= used
    assert "layer1.0.bn1" not in used and "layer1.1.bn1" not in used


def test_vit_groups_end_with_the_skippable_block() -> None:
    network, size = reduced("vit_b_16")
    used = norms_used(network, size, (True, False, False, False))
    layer = "encoder.layers.encoder_layer_"
    assert {f"{layer}0.ln_1_skip", f"{layer}1.ln_2_skip", f"{layer}3.ln_1"} <= used
    assert f"{layer}5.ln_1" in used and f"{layer}2.ln_1" not in used


def test_swin_stochastic_depth_spares_the_first_sub_paths() -> None:
    network, size = reduced("swin_t")
    rates = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert max(rates) == pytest.approx(0.1), "as published"
    network.train()
    for module in network.modules():
        if isinstance(module, StochasticDepth) and module.p:
            module.p = 0.5
    x = torch.randn(4, 3, size, size)
    base = skip_flags.base_net(4)
    torch.testing.assert_close(network(x, base), network(x, base))
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("small_resnet", {"blocks": [1, 2, 2, 2]}, "at least 2 blocks"),
        ("resnet50", {"colour": "red"}, "colour"),
        ("resnet18", {}, "unknown architecture"),
    ],
)
def test_bad_options_are_named(arch: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        networks.build(arch, 10, options)
