"""Adaptive depth MobileNetV2.

Parameter names are those of the published checkpoint
(``features.2.0.conv.0.conv_layer.weight``, ``features.2.0.conv.0.norm_skip.weight``).

Source: Sandler et al., "MobileNetV2", CVPR 2018, table 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from adaptive_depth.networks.base import (
    AdaptiveNetwork,
    GlobalMean,
    Segment,
    SkippableStage,
    kaiming_init,
    second_sub_path_starts_at,
)

# Expansion, channels, blocks and stride of each group of inverted residuals.
PAPER_SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# The first stages have the large maps and 7 % of the weights: the exporter decides their
# flags at once, see `Segment.joins_previous`.
STAGES_DECIDED_AT_ONCE = 3


def divisible_by_8(width: float) -> int:
    """The nearest multiple of 8, at least 8 and never below 90 % of `width`."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


class ConvNorm(nn.Module):
    """Convolution, norm and, unless `linear`, ReLU6; two norms where `mandatory`."""

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: int,
        mandatory: bool,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(
            in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(width)
        self.norm_skip = nn.BatchNorm2d(width) if mandatory else None
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        norm = self.norm_skip if skip and self.norm_skip is not None else self.norm
        return self.activation(norm(self.conv_layer(x)))


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depth-wise convolution, linear 1x1 projection."""

    def __init__(
        self, in_width: int, width: int, stride: int, expansion: int, mandatory: bool
    ) -> None:
        super().__init__()
        hidden = in_width * expansion
        layers = [
            ConvNorm(hidden, hidden, 3, mandatory, stride, groups=hidden),
            ConvNorm(hidden, width, 1, mandatory, linear=True),
        ]
        if expansion != 1:
            layers.insert(0, ConvNorm(in_width, hidden, 1, mandatory))
        self.conv = nn.ModuleList(layers)
        self.residual = stride == 1 and in_width == width

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        out = x
        for layer in self.conv:
            out = layer(out, skip)
        return x + out if self.residual else out


class MobileNetV2(AdaptiveNetwork):
    """Every group of two or more inverted residuals is a skippable stage: 5 flags.

    What comes before the first stage chooses its norms by the first flag, what comes
    after the last stage by the last one, so no norm is shared.

    Args:
        classes: number of classes.
        width: multiplier of all channels.
        settings: (expansion, channels, blocks, stride) of each group.
        last_width: channels of the last convolution, multiplied by `width` above 1.
        dropout: probability, before the classifier.
    """

    logits_layer = "classifier.1"

    def __init__(
        self,
        classes: int,
        width: float = 1.0,
        settings: Sequence[Sequence[int]] = PAPER_SETTINGS,
        last_width: int = 1280,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.flags = sum(blocks >= 2 for _, _, blocks, _ in settings)
        if not self.flags:
            raise ValueError("no group has 2 blocks or more: nothing is skippable")
        in_width = divisible_by_8(32 * width)
        features: list[nn.Module] = [ConvNorm(3, in_width, 3, mandatory=True, stride=2)]
        for expansion, channels, blocks, stride in settings:
            out_width = divisible_by_8(channels * width)
            mandatory = second_sub_path_starts_at(blocks) if blocks >= 2 else 1
            group = []
            for index in range(blocks):
                group.append(
                    InvertedResidual(
                        in_width,
                        out_width,
                        stride if index == 0 else 1,
                        expansion,
                        index < mandatory,
                    )
                )
                in_width = out_width
            features.append(SkippableStage(group, mandatory) if blocks >= 2 else group[0])
        last = divisible_by_8(last_width * max(1.0, width))
        features.append(ConvNorm(in_width, last, 1, mandatory=True))
        self.features = nn.ModuleList(features)
        self.pool = GlobalMean()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        kaiming_init(self)

    def segments(self) -> list[Segment]:
        chain = []
        flag = 0
        for index, module in enumerate(self.features):
            is_stage = isinstance(module, SkippableStage)
            chain.append(
                Segment(
                    f"features{index}",
                    module,
                    min(flag, self.flags - 1),
                    is_stage,
                    joins_previous=0 < flag < min(STAGES_DECIDED_AT_ONCE, self.flags),
                )
            )
            flag += is_stage
        return [*chain, Segment("head", self._join(self.pool, self.classifier))]
