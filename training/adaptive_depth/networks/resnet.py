"""An adaptive depth residual network for thumbnails, which the libraries do not have.

Parameter names are those of the published ResNet-50 checkpoint
(``layer1.0.conv1.weight``, ``layer1.0.bn1_skip.weight``, ...).

Source: He et al., CVPR 2016, with the stride on the 3x3 convolution (v1.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adaptive_depth.networks.base import (
    AdaptiveNetwork,
    Segment,
    SkippableStage,
    kaiming_init,
    require_skippable,
    second_sub_path_starts_at,
)


class _Block(nn.Module):
    """What basic and bottleneck blocks share: the switch between norms and the shortcut."""

    def __init__(self, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        # The shortcut's norm is shared by both sub-paths, as in the paper.
        self.downsample = None
        if stride != 1 or in_width != out_width:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride, bias=False), nn.BatchNorm2d(out_width)
            )

    def _add_norms(self, widths: Sequence[int], mandatory: bool) -> None:
        """Registers ``bn1..bnN`` and, in a mandatory block, ``bn1_skip..bnN_skip``."""
        for suffix in ("", "_skip") if mandatory else ("",):
            for index, width in enumerate(widths, start=1):
                self.add_module(f"bn{index}{suffix}", nn.BatchNorm2d(width))

    def _norm(self, index: int, skip: bool) -> nn.Module:
        return self.get_submodule(f"bn{index}_skip" if skip else f"bn{index}")

    def _shortcut(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)


class BasicBlock(_Block):
    """Two 3x3 convolutions; the first carries the stride."""

    expansion = 1

    def __init__(self, in_width: int, width: int, stride: int, mandatory: bool) -> None:
        super().__init__(in_width, width, stride)
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self._add_norms([width, width], mandatory)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        out = self.relu(self._norm(1, skip)(self.conv1(x)))
        out = self._norm(2, skip)(self.conv2(out))
        return self.relu(out + self._shortcut(x))


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride, as in ResNet v1.5) and 1x1 convolutions."""

    expansion = 4

    def __init__(self, in_width: int, width: int, stride: int, mandatory: bool) -> None:
        out_width = width * self.expansion
        super().__init__(in_width, out_width, stride)
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.conv3 = nn.Conv2d(width, out_width, 1, bias=False)
        self._add_norms([width, width, out_width], mandatory)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        out = self.relu(self._norm(1, skip)(self.conv1(x)))
        out = self.relu(self._norm(2, skip)(self.conv2(out)))
        out = self._norm(3, skip)(self.conv3(out))
        return self.relu(out + self._shortcut(x))


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


class Stem(nn.Module):
    """A 3x3 convolution, its norm and a ReLU."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn1(self.conv1(x)))


class Head(nn.Module):
    """Global average pooling and a linear classifier."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean(dim=(2, 3)))


def _stages(
    in_width: int, blocks: Sequence[int], widths: Sequence[int], block: str
) -> tuple[list[SkippableStage], int]:
    """The skippable stages and the channels of the last one's output."""
    if len(blocks) != len(widths):
        raise ValueError(f"{len(blocks)} block counts for {len(widths)} widths")
    require_skippable(blocks)
    make = BLOCKS[block]
    stages = []
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        mandatory = second_sub_path_starts_at(count)
        layers = []
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            layers.append(make(in_width, width, stride, index < mandatory))
            in_width = width * make.expansion
        stages.append(SkippableStage(layers, mandatory))
    return stages, in_width


class SmallResNet(AdaptiveNetwork):
    """Skippable stages for images of about 32x32 pixels.

    Args:
        classes: number of classes.
        blocks: residual blocks in each stage, each at least 2.
        widths: channels of each stage (before a bottleneck's expansion).
        block: "basic" or "bottleneck".
    """

    logits_layer = "head.fc"

    def __init__(
        self,
        classes: int,
        blocks: Sequence[int] = (4, 4, 4, 4),
        widths: Sequence[int] = (16, 32, 64, 128),
        block: str = "basic",
    ) -> None:
        super().__init__()
        self.stem = Stem(widths[0])
        stages, out_width = _stages(widths[0], blocks, widths, block)
        self.flags = len(stages)
        for index, stage in enumerate(stages, start=1):
            self.add_module(f"layer{index}", stage)
        self.head = Head(out_width, classes)
        kaiming_init(self)

    def segments(self) -> list[Segment]:
        names = [f"layer{index + 1}" for index in range(self.flags)]
        stages = [
            Segment(name, self.get_submodule(name), flag=flag, is_stage=True)
            for flag, name in enumerate(names)
        ]
        return [Segment("stem", self.stem), *stages, Segment("head", self.head)]
