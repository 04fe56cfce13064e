"""What every adaptive depth network has in common, whatever its family.

A network is a chain of segments. A segment either follows one skip flag (a
skippable stage: it has a first sub-path that always runs and a second one that
its flag turns off) or follows none. Training, evaluation and export know a
network only through `segments`, so a new family needs neither a second
training loop nor a second exporter.

Source: Kang & Lee, "Adaptive Depth Networks with Skippable Sub-Paths",
NeurIPS 2024, arXiv 2312.16392.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Segment:
    """One link of the chain.

    Attributes:
        name: unique within the network; names the segment's nodes in the ONNX graph.
        module: called as ``module(x, skip)`` when `flag` is set, else ``module(x)``.
        flag: index of the skip flag that the segment follows, or None.
        is_stage: True when the output is a stage's feature map. Links that only
            choose between norms by a flag (stems, heads, patch merging) are none.
        tensor_flag: True when the module takes its flag as a scalar bool tensor too.
            Such a link is exported once, without an `If`.
        takes_flags_so_far: True when the module is called with the flags of all stages
            up to its own, ``skip[: flag + 1]``, instead of its own alone. It is a
            `restate.RestatedLink`.
        joins_previous: True when the exporter is to decide this segment's flag in one tree
            of `If`s with that of the segment before. It saves a passage from `If` to `If`,
            where maps leave onnxruntime's blocked layout, and doubles the copies of both
            segments' weights that onnxruntime makes: for stages of large maps and few weights.
    """

    name: str
    module: nn.Module
    flag: int | None = None
    is_stage: bool = False
    tensor_flag: bool = False
    takes_flags_so_far: bool = False
    joins_previous: bool = False

    def run(self, x: Tensor, skip: Sequence[bool]) -> Tensor:
        if self.flag is None:
            return self.module(x)
        if self.takes_flags_so_far:
            return self.module(x, tuple(skip[: self.flag + 1]))
        return self.module(x, skip[self.flag])


class AdaptiveNetwork(nn.Module):
    """Base class of all families. Sub-classes set `flags` and implement `segments`.

    Attributes:
        flags: number of skip flags k; the network holds 2^k sub-networks.
        channel_axis: of the stages' outputs: 1 after convolutions, -1 in transformers.
        logits_layer: name of the linear layer that gives the logits.
    """

    flags: int
    logits_layer: str
    channel_axis: int = 1

    def segments(self) -> list[Segment]:
        """The chain from the normalised image ``[N,3,H,W]`` to the logits ``[N,classes]``."""
        raise NotImplementedError

    def forward(self, x: Tensor, skip: Sequence[bool] | None = None) -> Tensor:
        """Logits ``[N,classes]`` of one sub-network (default: the super-net)."""
        return self.forward_features(x, skip)[0]

    def forward_features(
        self, x: Tensor, skip: Sequence[bool] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits and the output of every stage, first stage first."""
        skip = (False,) * self.flags if skip is None else tuple(skip)
        if len(skip) != self.flags:
            raise ValueError(f"{len(skip)} skip flags given, this network has {self.flags}")
        features = []
        for segment in self.segments():
            x = segment.run(x, skip)
            if segment.is_stage:
                features.append(x)
        return x, features


def second_sub_path_starts_at(blocks: int) -> int:
    """Length of a stage's mandatory sub-path: half of its blocks rounded up, but never all."""
    return min(blocks - 1, (blocks + 1) // 2)


class SkippableStage(nn.Sequential):
    """Residual blocks, the first `mandatory` of which always run.

    Blocks are called as ``block(x, skip)``: a mandatory one uses its ``*_skip``
    norms when the second sub-path is skipped, so that both feature
    distributions keep statistics of their own.
    """

    def __init__(self, blocks: Sequence[nn.Module], mandatory: int) -> None:
        super().__init__(*blocks)
        self.mandatory = mandatory

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        for index, block in enumerate(self):
            if index < self.mandatory:
                x = block(x, skip)
            elif not skip:
                x = block(x)
        return x


def require_skippable(blocks: Sequence[int]) -> None:
    """Raises ValueError unless every stage has a block to run and one to skip."""
    if min(blocks) < 2:
        raise ValueError(f"a skippable stage needs at least 2 blocks, got {list(blocks)}")


def kaiming_init(network: nn.Module) -> None:
    """He initialisation of convolutions. The last norm of a block keeps scale 1:
    zero would leave the second sub-path nearly unused."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in network.parameters())
