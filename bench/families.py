"""The published networks and the shipped one, with random weights, and their ladders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptive_depth import networks
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.networks.base import Segment
from adaptive_depth.skip import SkipFlags, parse

CLASSES = 1000  # of the published networks

# The network of models/cifar10.
SHIPPED = {"blocks": [2, 2, 2, 2], "widths": [32, 64, 128, 256]}

# Names of published networks, or of ones of a library.
FAMILIES = [
    "small_resnet",
    "resnet50",
    "resnet101",
    "resnet50vd",
    "mobilenet_v2",
    "vit_b_16",
    "swin_t",
    "timm:tf_efficientnet_lite0",
    "timm:mobilenetv3_large_100",
    "timm:regnety_004",
    "timm:convnext_tiny",
]


def ladder(family: str, flags: int) -> list[SkipFlags]:
    """From the super-net to the base-net, one stage more skipped at each step; for ViT the
    sub-networks whose accuracies are published."""
    if family == "vit_b_16":
        return [parse(name, flags) for name in ("FFFF", "FFFT", "TTFF", "TTFT", "TTTT")]
    return [parse("T" * count + "F" * (flags - count), flags) for count in range(flags + 1)]


def image_size(family: str) -> int:
    """Height and width in pixels."""
    return 32 if family == "small_resnet" else 224


def random_network(family: str) -> AdaptiveNetwork:
    """Seeded weights; norms differ from each other, so that mixed-up ones are noticed."""
    torch.manual_seed(0)
    if family == "small_resnet":
        network = networks.build(family, 10, SHIPPED)
    elif ":" in family:
        network = networks.build("library", CLASSES, {"model": family})
    else:
        network = networks.build(family, CLASSES)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.5, 1.0)
                module.bias.uniform_(-0.2, 0.2)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(1.0, 2.0)
    return network.eval()


class _Decided(nn.Module):
    def __init__(self, module: nn.Module, skip: bool) -> None:
        super().__init__()
        self.module, self.skip = module, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, self.skip)


class StaticNetwork(AdaptiveNetwork):
    """One sub-network as a network of its own, without flags: what adaptivity is compared with."""

    flags = 0

    def __init__(self, network: AdaptiveNetwork, skip: SkipFlags) -> None:
        super().__init__()
        self.network, self.skip = network, skip

    def segments(self) -> list[Segment]:
        return [
            segment
            if segment.flag is None
            else Segment(segment.name, _Decided(segment.module, self.skip[segment.flag]))
            for segment in self.network.segments()
        ]
