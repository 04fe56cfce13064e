"""Normalisation statistics re-estimated for in-between sub-networks, after training.

Training gives statistics to the super-net and to the base-net. A mixture uses them too,
although the maps that reach a stage have another distribution when an earlier stage
decided otherwise. After long training that costs little; after a short one it can cost
the mixtures their place between the two. Here a few thousand images are run through
chosen mixtures, and every stage gets statistics of its own for those combinations of
the flags so far that training has not seen. Convolutions, scales and shifts stay shared.

Transformers have nothing to re-estimate: layer norms keep no statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from adaptive_depth import skip as skip_flags
from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.skip import SkipFlags


class RestatedLink(nn.Module):
    """A link that has statistics of its own after some combinations of flags.

    Attributes:
        own: the link with those statistics, by the flags up to its own one, such as
            ``TF``. Any other combination uses `module`.
    """

    def __init__(self, module: nn.Module, own: dict[str, nn.Module]) -> None:
        super().__init__()
        self.module, self.own = module, nn.ModuleDict(own)

    def forward(self, x: Tensor, flags_so_far: SkipFlags) -> Tensor:
        name = skip_flags.name_of(flags_so_far)
        if name in self.own:
            return self.own[name](x, flags_so_far[-1])
        return self.module(x, flags_so_far[-1])


class RestatedNetwork(AdaptiveNetwork):
    """A trained network, with statistics of their own for `combinations`.

    Raises:
        ValueError: when the network has no batch norms.
    """

    def __init__(self, network: AdaptiveNetwork, combinations: Sequence[SkipFlags]) -> None:
        super().__init__()
        if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            raise ValueError("this network's norms keep no statistics: nothing to re-estimate")
        self.network = network
        self.flags, self.channel_axis = network.flags, network.channel_axis
        self.logits_layer = f"network.{network.logits_layer}"
        self.combinations = tuple(combinations)
        self.links = nn.ModuleDict(
            {
                segment.name: RestatedLink(segment.module, self._own(segment))
                for segment in network.segments()
                if segment.flag is not None
            }
        )

    def _own(self, segment: Segment) -> dict[str, nn.Module]:
        assert segment.flag is not None
        beginnings = {combination[: segment.flag + 1] for combination in self.combinations}
        # What starts as super-net or base-net has statistics from training.
        mixed = sorted(flags for flags in beginnings if len(set(flags)) > 1)
        return {skip_flags.name_of(flags): _with_own_statistics(segment.module) for flags in mixed}

    def segments(self) -> list[Segment]:
        return [
            segment
            if segment.flag is None
            else replace(segment, module=self.links[segment.name], takes_flags_so_far=True)
            for segment in self.network.segments()
        ]


def _with_own_statistics(module: nn.Module) -> nn.Module:
    """A copy that shares all parameters, but has buffers of its own."""
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


@torch.no_grad()
def restate(
    network: AdaptiveNetwork, combinations: Sequence[SkipFlags], batches: Iterable[Tensor]
) -> RestatedNetwork:
    """Estimates statistics for `combinations`.

    Args:
        batches: normalised training images ``[N,3,H,W]``, a few thousand in all, in
            batches of some hundreds.
    Raises:
        ValueError: when the network has no batch norms.
    """
    restated = RestatedNetwork(network, combinations).eval()
    norms = [
        module
        for link in restated.links.values()
        if isinstance(link, RestatedLink)
        for module in link.own.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    for x in batches:
        for combination in restated.combinations:
            restated(x, combination)
    return restated.eval()
