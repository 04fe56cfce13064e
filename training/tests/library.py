"""The networks of timm and torchvision that `adapt` is tested with, as small as they come."""

from __future__ import annotations

import copy
import functools
import os

import torch
from families import randomise
from torch import Tensor, nn

from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.originals import build_original

CLASSES = 5

# The height and width of the images. Where a library's smallest network of a family takes
# seconds for each test, a reduced one of the same class stands for it, see families.py.
QUICK = {
    "timm:resnet18": 32,
    "timm:regnety_004": 32,
    "timm:mobilenetv3_large_100": 32,
    "timm:tf_efficientnet_lite0": 32,
    "timm:tf_efficientnetv2_b0": 32,
    "timm:convnextv2_atto": 32,
    "timm:vit_tiny_patch16_224": 32,
    "timm:reduced_timm_swin": 64,
    "timm:reduced_resnet50": 32,
    "timm:reduced_vit": 32,
    "timm:reduced_swin": 64,
    "timm:reduced_convnext": 32,
    "torchvision:mobilenet_v3_small": 32,
}
SLOW = {
    "timm:resnet50": 64,
    "timm:mobilenetv2_100": 64,
    "timm:efficientnet_b0": 64,
    "timm:convnext_atto": 64,
    "timm:deit_tiny_patch16_224": 32,
    "timm:swin_tiny_patch4_window7_224": 64,
    "torchvision:resnet50": 64,
    "torchvision:regnet_y_400mf": 64,
    "torchvision:mobilenet_v2": 64,
    "torchvision:mobilenet_v3_large": 64,
    "torchvision:efficientnet_b0": 64,
    "torchvision:efficientnet_v2_s": 64,
    "torchvision:convnext_tiny": 64,
    "torchvision:vit_b_16": 32,
    "torchvision:swin_t": 64,
}

_EVERYTHING = bool(os.environ.get("ADAPT_SLOW_TESTS"))

ALL = QUICK | SLOW if _EVERYTHING else QUICK
"""The slow ones when the environment variable ADAPT_SLOW_TESTS is set."""

# Those that are exported quickly; test_onnx_families.py exports the reduced published ones.
_SMALL = ("torchvision:mobilenet_v3_small", "timm:reduced_timm_swin", "timm:reduced_convnext")
EXPORTED = ALL if _EVERYTHING else {model: ALL[model] for model in _SMALL}

# One of each structure: norms with and without statistics, tensors named by links.
COPIED = ("timm:reduced_resnet50", "timm:reduced_vit", "timm:reduced_timm_swin")


@functools.cache
def original_and_adaptive(model: str, size: int) -> tuple[nn.Module, LibraryNetwork]:
    """Both with the same random weights, none zero, in evaluation mode. Don't change them."""
    torch.manual_seed(0)
    original = build_original(model, CLASSES, size)
    randomise(original)
    network = LibraryNetwork(CLASSES, model, size)
    network.load_state_dict(network.from_original(original.state_dict()))
    return original.eval(), network.eval()


@functools.cache
def randomised(model: str, size: int) -> LibraryNetwork:
    """The adaptive one; no norm equals another. Don't change it."""
    network = copy.deepcopy(original_and_adaptive(model, size)[1])
    randomise(network, seed=1)
    return network.eval()


def images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(3))
