"""Names of tensors in published checkpoints that are not those of torchvision.

ResNets and ViT have torchvision's names, the second copies of norms as ``*_skip``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import nn

from adaptive_depth.networks.blocks import Stage

Renaming = Callable[[nn.Module, Sequence[Stage]], Callable[[str], str]]
"""Made for a network and its stages; gives the published name of a tensor."""


def swin(net: nn.Module, stages: Sequence[Stage]) -> Callable[[str], str]:
    """The patch embedding is ``pre``, and no feature."""

    def name_of(own: str) -> str:
        if own.startswith("features.0."):
            return own.replace("features.0.", "pre.", 1)
        return re.sub(r"^features\.(\d+)", lambda m: f"features.{int(m[1]) - 1}", own)

    return name_of


def mobilenet(net: nn.Module, stages: Sequence[Stage]) -> Callable[[str], str]:
    """Blocks are counted within their stage, and a convolution and its norm are called
    ``conv_layer`` and ``norm``, wherever they lie."""
    place = {block: index for stage in stages for index, block in enumerate(stage.blocks)}
    names: dict[str, str] = {}
    group = -1
    for feature, module in net.get_submodule("features").named_children():
        index = place.get(f"features.{feature}")
        if not index:  # not one of a stage that has begun
            group += 1
        block = f"features.{group}" if index is None else f"features.{group}.{index}"
        inside = hasattr(module, "conv")
        layers = -1
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Conv2d):
                layers += 1
            leads = f"{block}.conv.{layers}" if inside else block
            if isinstance(layer, nn.Conv2d):
                names[f"features.{feature}.{name}"] = f"{leads}.conv_layer"
            elif isinstance(layer, nn.BatchNorm2d) and not name.endswith("norm_skip"):
                name = name.removesuffix(".norm")
                names[f"features.{feature}.{name}"] = f"{leads}.norm"
                names[f"features.{feature}.{name}_skip"] = f"{leads}.norm_skip"

    def name_of(own: str) -> str:
        module, _, tensor = own.rpartition(".")
        return f"{names.get(module, module)}.{tensor}"

    return name_of
