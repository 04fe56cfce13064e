"""Networks of timm and torchvision as these libraries build them, by ``LIBRARY:NAME``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from adaptive_depth.networks.blocks import SplitError
from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Pretraining:
    """What a library's weights expect. `mean` and `std` are per channel in 0..255."""

    mean: list[float]
    std: list[float]
    size: int


def build_original(
    model: str, classes: int | None, size: int, pretrained: bool = False
) -> nn.Module:
    """The library's network, with random weights unless `pretrained`, which may download.

    Args:
        model: ``timm:NAME`` or ``torchvision:NAME``.
        classes: None: as many as the weights know.
    Raises:
        SplitError: for an unknown name.
    """
    library, _, name = model.partition(":")
    if library == "timm":
        import timm

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name}*")[:5]) or "see timm.list_models()"
            raise SplitError(f"timm has no network {name!r}: {near}")
        try:
            return timm.create_model(name, pretrained, num_classes=classes, img_size=size)
        except TypeError:  # networks that take any size have no such argument
            return timm.create_model(name, pretrained, num_classes=classes)
    if library == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if name not in known:
            near = ", ".join(m for m in known if name in m)[:200] or "see list_models()"
            raise SplitError(f"torchvision has no network {name!r}: {near}")
        options: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
        if classes is not None:
            options["num_classes"] = classes
        return models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    raise SplitError(f"--model {model}: expected timm:NAME or torchvision:NAME")


def classifier_of(net: nn.Module, classes: int) -> str:
    """Name of the linear layer that gives the logits; empty where there is none."""
    names = [
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return names[-1] if names else ""


def pretraining(model: str) -> Pretraining:
    """How the library's weights for `model` want their images."""
    library, _, name = model.partition(":")
    config = None
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
    if config is None:  # torchvision's are all like this
        return Pretraining(list(IMAGENET_MEAN), list(IMAGENET_STD), 224)
    size = config.input_size[-1]
    return Pretraining([255 * v for v in config.mean], [255 * v for v in config.std], size)
