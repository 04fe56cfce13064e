"""What is known of the published networks: ImageNet-1k accuracies and pixel statistics.

Source: table 1 of Kang & Lee, NeurIPS 2024 (arXiv 2312.16392v3), and the README of the
published code for ResNet-50 "v2". Measured by the authors on the ILSVRC-2012 validation
set, images resized to 256 (ViT, ResNets, MobileNetV2), 232 (v2) or 224 pixels (Swin-T)
and cropped to 224.
"""

from __future__ import annotations

REFERENCE = "Kang & Lee, Adaptive Depth Networks with Skippable Sub-Paths, NeurIPS 2024"

# Per channel, in 0..255.
IMAGENET_MEAN = [123.675, 116.28, 103.53]
IMAGENET_STD = [58.395, 57.12, 57.375]

DATASET = {"name": "ImageNet-1k", "split": "val", "images": 50_000}

ACCURACIES: dict[str, dict[str, float]] = {
    "resnet50": {"FFFF": 0.776, "TFFF": 0.771, "TTFF": 0.765, "TTTT": 0.761},
    "resnet50-v2": {
        "FFFF": 0.805,
        "TFFF": 0.804,
        "TTFF": 0.799,
        "TTTF": 0.787,
        "TTTT": 0.784,
    },
    "mobilenet_v2": {"FFFFF": 0.725, "TTTTT": 0.706},
    "vit_b_16": {"FFFF": 0.814, "FFFT": 0.812, "TTFF": 0.809, "TTFT": 0.807, "TTTT": 0.806},
    "swin_t": {"FFFF": 0.816, "TFFF": 0.808, "TTFF": 0.800, "TTTT": 0.780},
}
"""Top-1 accuracy, 0 to 1, of the sub-networks named, by published checkpoint."""

ARCHITECTURE = {name: name.removesuffix("-v2") for name in ACCURACIES}
"""The architecture of each published checkpoint."""

CENTRE = {
    **dict.fromkeys(("resnet50", "resnet101", "resnet50vd", "mobilenet_v2", "vit_b_16"), 224 / 256),
    "resnet50-v2": 224 / 232,
}
"""Share of each photo's height and width that the authors evaluated on; of others: all."""
