"""The families of adaptive depth networks, built by name.

A checkpoint stores ``{"arch", "classes", "options"}``, and `build` turns them
back into the same network.
"""

from __future__ import annotations

from typing import Any

from adaptive_depth.networks.base import AdaptiveNetwork
from adaptive_depth.networks.resnet import SmallResNet

ARCHITECTURES: dict[str, type[AdaptiveNetwork]] = {
    "small_resnet": SmallResNet,
}


def build(arch: str, classes: int, options: dict[str, Any] | None = None) -> AdaptiveNetwork:
    """A freshly initialised network. Raises ValueError for an unknown `arch` or bad options."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}: one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch](classes, **(options or {}))


__all__ = ["ARCHITECTURES", "AdaptiveNetwork", "build"]
