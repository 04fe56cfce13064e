"""Every family in a size for tests, with weights that tell its sub-networks apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import onnx
import torch
from timm.models import register_model
from timm.models import resnet as timm_resnet
from timm.models import swin_transformer as timm_swin
from timm.models.resnet import Bottleneck
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

from adaptive_depth import networks
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.networks.switch import is_norm


def register(builder: Callable[..., nn.Module]) -> None:
    """Makes a reduced network one of timm's, under ``timm:NAME``."""

    def build(pretrained: bool = False, num_classes: int = 10, **options: Any) -> nn.Module:
        sized = {"size": options["img_size"]} if "size" in signature(builder).parameters else {}
        if not sized and "img_size" in options:
            raise TypeError("takes images of any size")
        return builder(num_classes, **sized)

    build.__name__, build.__module__ = builder.__name__, __name__
    register_model(build)


# Widths are multiples of 8: PyTorch's gradients of convolutions crash with 4 channels on some
# CPUs, see README.md.


@register
def reduced_resnet50(classes: int) -> nn.Module:
    return timm_resnet.ResNet(Bottleneck, (2, 3, 2, 2), classes, channels=(8, 8, 16, 16))


@register
def reduced_resnet50vd(classes: int) -> nn.Module:
    return timm_resnet.ResNet(
        Bottleneck, (2, 2, 2, 2), classes, channels=(8, 8, 16, 16), avg_down=True
    )


@register
def reduced_mobilenet_v2(classes: int) -> nn.Module:
    counts = (1, 2, 3, 2, 2, 3, 1)
    widths = (16, 24, 32, 64, 96, 160, 320)
    strides = (1, 2, 2, 2, 1, 2, 1)
    settings = [
        [1 if index == 0 else 2, width, count, stride]
        for index, (width, count, stride) in enumerate(zip(widths, counts, strides, strict=True))
    ]
    return models.MobileNetV2(classes, width_mult=0.25, inverted_residual_setting=settings)


@register
def reduced_vit(classes: int, size: int = 32) -> nn.Module:
    return models.VisionTransformer(size, 8, 12, 3, 24, 48, num_classes=classes)


@register
def reduced_swin(classes: int) -> nn.Module:
    return models.SwinTransformer(
        [4, 4], 8, [2, 2, 4, 2], [1, 2, 2, 4], [7, 7], num_classes=classes
    )


@register
def reduced_timm_swin(classes: int, size: int = 64) -> nn.Module:
    return timm_swin.SwinTransformer(
        size,
        num_classes=classes,
        embed_dim=16,
        depths=(2, 2, 3, 2),
        num_heads=(1, 2, 2, 4),
        window_size=4,
    )


@register
def reduced_convnext(classes: int) -> nn.Module:
    """torchvision's."""
    widths = [(16, 24, 2), (24, 32, 3), (32, None, 2)]
    return models.ConvNeXt([CNBlockConfig(*width) for width in widths], num_classes=classes)


# Architecture and options of the reduced network, and the size of its images.
REDUCED: dict[str, tuple[str, dict[str, Any], int]] = {
    "small_resnet": ("small_resnet", {"blocks": [2, 2, 2, 2], "widths": [8, 8, 16, 16]}, 32),
    "resnet50": ("resnet50", {"model": "timm:reduced_resnet50", "size": 64}, 64),
    "resnet50vd": ("resnet50vd", {"model": "timm:reduced_resnet50vd", "size": 72}, 72),
    "mobilenet_v2": ("mobilenet_v2", {"model": "timm:reduced_mobilenet_v2", "size": 64}, 64),
    "vit_b_16": ("vit_b_16", {"model": "timm:reduced_vit", "size": 32}, 32),
    # 72 pixels: maps of 18, 9, 5 and 3, so that windows are shifted, padded and single,
    # and patch merging meets odd sizes.
    "swin_t": ("swin_t", {"model": "timm:reduced_swin", "size": 72}, 72),
}


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Fresh networks have equal norms everywhere; here none equals another."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if is_norm(module):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d):
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 1.5)
        for parameter in network.parameters():
            # Layer scales start near zero and some classifiers at zero.
            if parameter.abs().max() < 1e-3:
                uniform(parameter, -0.1, 0.1)


def reduced(family: str, classes: int = 10) -> tuple[AdaptiveNetwork, int]:
    """The reduced network in evaluation mode, and the size of its images."""
    arch, options, size = REDUCED[family]
    torch.manual_seed(0)
    network = networks.build(arch, classes, options)
    randomise(network)
    return network.eval(), size


def branches(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Those of `If`s within branches, too."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from branches(attribute.g)
