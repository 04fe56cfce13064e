"""Every family in a size for tests, with weights that tell its sub-networks apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptive_depth import networks
from adaptive_depth.networks import AdaptiveNetwork

# Architecture and options of the reduced network, and the size of its images. Widths are
# multiples of 8: PyTorch's gradients of convolutions crash with 4 channels on some CPUs, see
# README.md.
REDUCED: dict[str, tuple[str, dict[str, Any], int]] = {
    "small_resnet": ("small_resnet", {"blocks": [2, 2, 2, 2], "widths": [8, 8, 16, 16]}, 32),
    "resnet50": ("resnet50", {"blocks": [2, 3, 2, 2], "widths": [8, 8, 16, 16]}, 64),
    "resnet101": ("resnet101", {"blocks": [2, 2, 5, 2], "widths": [8, 8, 8, 16]}, 64),
    "resnet50vd": ("resnet50vd", {"blocks": [2, 2, 2, 2], "widths": [8, 8, 16, 16]}, 72),
    "mobilenet_v2": (
        "mobilenet_v2",
        {
            "width": 0.25,
            "last_width": 32,
            "settings": [
                (1, 16, 1, 1),
                (2, 24, 2, 2),
                (2, 32, 3, 2),
                (2, 64, 2, 2),
                (2, 96, 2, 1),
                (2, 160, 3, 2),
                (2, 320, 1, 1),
            ],
        },
        64,
    ),
    "vit_b_16": (
        "vit_b_16",
        {"size": 32, "patch": 8, "width": 24, "heads": 3, "hidden": 48},
        32,
    ),
    # 72 pixels: maps of 18, 9, 5 and 3, so that windows are shifted, padded and single,
    # and patch merging meets odd sizes.
    "swin_t": ("swin_t", {"width": 8, "heads": [1, 2, 2, 4], "blocks": [2, 2, 4, 2]}, 72),
}


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Fresh networks have equal norms everywhere; here none equals another."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d):
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 1.5)


def reduced(family: str, classes: int = 10) -> tuple[AdaptiveNetwork, int]:
    """The reduced network in evaluation mode, and the size of its images."""
    arch, options, size = REDUCED[family]
    torch.manual_seed(0)
    network = networks.build(arch, classes, options)
    randomise(network)
    return network.eval(), size
