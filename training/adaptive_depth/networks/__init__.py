"""The families of adaptive depth networks, built by name.

A checkpoint stores ``{"arch", "classes", "options"}``, and `build` turns them
back into the same network. `ARCHITECTURES` names the published networks, the small one
for thumbnails, and "library" for any other network of timm or torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from adaptive_depth.networks.base import AdaptiveNetwork
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.originals import build_original, classifier_of
from adaptive_depth.networks.published_names import mobilenet, swin
from adaptive_depth.networks.resnet import SmallResNet

_PUBLISHED: dict[str, dict[str, Any]] = {
    "resnet50": {"model": "torchvision:resnet50"},
    "resnet101": {"model": "torchvision:resnet101"},
    "resnet50vd": {"model": "timm:resnet50d"},
    "mobilenet_v2": {
        "model": "torchvision:mobilenet_v2",
        "switched_links": "all",
        "renaming": mobilenet,
    },
    "vit_b_16": {"model": "torchvision:vit_b_16"},
    "swin_t": {
        "model": "torchvision:swin_t",
        "switched_links": "between",
        "drop_path": 0.1,
        "renaming": swin,
    },
}

# Called with the number of classes and options.
ARCHITECTURES: dict[str, Callable[..., AdaptiveNetwork]] = {
    "small_resnet": SmallResNet,
    **{arch: partial(LibraryNetwork, **options) for arch, options in _PUBLISHED.items()},
    "library": LibraryNetwork,
}


def size_options(arch: str, size: int) -> dict[str, int]:
    """The options that `arch` needs for images of `size` pixels."""
    return {} if arch == "small_resnet" else {"size": size}


def logits_layer_of(arch: str) -> str:
    """Name of the linear layer that gives the logits of a published network."""
    with torch.device("meta"):
        return classifier_of(build_original(_PUBLISHED[arch]["model"], 2, 224), 2)


def build(arch: str, classes: int, options: dict[str, Any] | None = None) -> AdaptiveNetwork:
    """A freshly initialised network. Raises ValueError for an unknown `arch` or bad options."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}: one of {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[arch](classes, **(options or {}))
    except TypeError as error:
        raise ValueError(f"architecture {arch}: {error}") from error


__all__ = ["ARCHITECTURES", "AdaptiveNetwork", "build", "logits_layer_of", "size_options"]
