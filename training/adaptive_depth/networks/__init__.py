"""The families of adaptive depth networks, built by name.

A checkpoint stores ``{"arch", "classes", "options"}``, and `build` turns them
back into the same network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from adaptive_depth.networks.base import AdaptiveNetwork
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.mobilenet import MobileNetV2
from adaptive_depth.networks.resnet import ResNet, SmallResNet
from adaptive_depth.networks.swin import SwinTransformer
from adaptive_depth.networks.vit import VisionTransformer

# Called with the number of classes and options; the defaults are the published networks.
ARCHITECTURES: dict[str, Callable[..., AdaptiveNetwork]] = {
    "small_resnet": SmallResNet,
    "resnet50": ResNet,
    "resnet101": partial(ResNet, blocks=(3, 4, 23, 3)),
    "resnet50vd": partial(ResNet, pool_shortcut=True),
    "mobilenet_v2": MobileNetV2,
    "vit_b_16": VisionTransformer,
    "swin_t": SwinTransformer,
    "library": LibraryNetwork,
}

# Those that are built for one image size, their option `size`.
SIZED = frozenset({"vit_b_16"})


def size_options(arch: str, size: int) -> dict[str, int]:
    """The options that `arch` needs for images of `size` pixels."""
    return {"size": size} if arch in SIZED else {}


def logits_layer_of(arch: str) -> str:
    """Name of the linear layer that gives the logits."""
    with torch.device("meta"):
        return build(arch, 2).logits_layer


def build(arch: str, classes: int, options: dict[str, Any] | None = None) -> AdaptiveNetwork:
    """A freshly initialised network. Raises ValueError for an unknown `arch` or bad options."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}: one of {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[arch](classes, **(options or {}))
    except TypeError as error:
        raise ValueError(f"architecture {arch}: {error}") from error


__all__ = ["ARCHITECTURES", "AdaptiveNetwork", "build", "logits_layer_of", "size_options"]
