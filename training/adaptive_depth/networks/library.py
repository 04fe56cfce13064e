"""Any network of timm or torchvision as an adaptive one, without code for its family.

The network is built by its library, its residual stages are found (`blocks`), and its
graph is cut at them (`cut`). Blocks that always run get a second copy of each norm, for
when the rest of their stage is skipped (`switch`). Nothing else changes: with the copies
equal, the super-net is the original network to the bit.

Parameters keep the library's names; the second copies of norms are called as in the
published checkpoints (``layer1.0.bn1_skip.weight``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.networks.blocks import Stage, find_stages
from adaptive_depth.networks.cut import borrow_again, cut
from adaptive_depth.networks.originals import build_original, classifier_of
from adaptive_depth.networks.published_names import Renaming
from adaptive_depth.networks.switch import (
    BothSubPaths,
    Extra,
    FirstSubPath,
    SecondSubPath,
    Switch,
    SwitchedLink,
    SwitchedNorm,
    drop_rate,
    is_norm,
    keeps_statistics,
    never_drop,
    set_drop_rate,
    switch_link,
    switch_norms,
)

DECIDED_AT_ONCE = 3
FEW_WEIGHTS = 0.1
"""The first stages have large maps. As long as they hold at most this share of all
weights, the exporter decides so many flags at once, see `Segment.joins_previous`."""


class LibraryNetwork(AdaptiveNetwork):
    """An adaptive depth network out of a library's.

    Args:
        classes: number of classes.
        model: ``timm:NAME``, ``torchvision:NAME``, or a network.
        size: height and width in pixels of the images that it is cut with. Transformers
            with a position embedding take no other size.
        groups, keep: see `blocks.find_stages`.
        switched_links: whose norms have a copy besides those of blocks: "none", "between"
            (of what lies between stages) or "all" (also of what lies before and after). They
            follow the flag of the stage after them, or of the last one.
        drop_path: largest probability of stochastic depth; None: as the library has it.
        renaming: names of tensors in the state dict, where they are not the library's.
    Raises:
        SplitError: when the library has no such network, or it cannot be made adaptive.
    """

    def __init__(
        self,
        classes: int,
        model: str | nn.Module,
        size: int = 224,
        groups: int | None = None,
        keep: Sequence[int] | None = None,
        switched_links: str = "none",
        drop_path: float | None = None,
        renaming: Renaming | None = None,
    ) -> None:
        super().__init__()
        self.model, self.size = model, size
        net = build_original(model, classes, size) if isinstance(model, str) else model
        self.net = net.eval()
        _wake_norms(net)
        if drop_path is not None:
            _limit_drop_path(net, drop_path)
        image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        self.stages = find_stages(net, image, groups, keep)
        self.flags = len(self.stages)
        switches = [Switch() for _ in self.stages]
        parts = cut(net, self.stages, head_apart=switched_links == "all")
        self._links: list[nn.Module | None] = []
        for index, link in enumerate(parts.links):
            between = 0 < index < self.flags
            switched = switched_links == "all" or (between and switched_links == "between")
            if link is None or not switched:
                self._links.append(link)
                continue
            switch = switches[min(index, self.flags - 1)]
            switch_link(net, link, switch)
            self._links.append(SwitchedLink(link, switch))
        if parts.head is not None:
            self._links.append(parts.head)
        self._sub_paths = [
            self._stage(stage, extra, switch)
            for stage, extra, switch in zip(self.stages, parts.extra, switches, strict=True)
        ]
        self._names = self._state_names(renaming)
        with torch.no_grad():
            out = self.eval().forward_features(image)[1][-1]
        self.channel_axis = _channel_axis(out)
        self.logits_layer = classifier_of(net, classes)
        self.register_load_state_dict_pre_hook(_from_published_names)

    def _stage(
        self, stage: Stage, extra: list[Extra], switch: Switch
    ) -> tuple[FirstSubPath, SecondSubPath]:
        for name in stage.kept:
            switch_norms(self.net, name, switch)
            never_drop(self.net.get_submodule(name))
        blocks = [self.net.get_submodule(name) for name in stage.blocks]
        return (
            FirstSubPath(blocks[: stage.keep], extra[: stage.keep], switch),
            SecondSubPath(blocks[stage.keep :], extra[stage.keep :]),
        )

    def segments(self) -> list[Segment]:
        chain: list[Segment] = []
        total = sum(p.numel() for p in self.net.parameters())
        weights = 0
        for index, link in enumerate(self._links):
            flag = min(index, self.flags - 1)
            if isinstance(link, SwitchedLink):
                as_tensor = not keeps_statistics(link)
                chain.append(Segment(f"link{index}", self._as_is(link), flag, False, as_tensor))
            elif link is not None:
                chain.append(Segment(f"link{index}", self._as_is(link)))
            if index >= self.flags:
                continue
            first, second = self._sub_paths[index]
            name = f"stage{index + 1}"
            weights += sum(p.numel() for path in (first, second) for p in path.parameters())
            if not keeps_statistics(first):
                chain += [
                    Segment(name, self._as_is(first), index, tensor_flag=True),
                    Segment(f"{name}_second", self._as_is(second), index, is_stage=True),
                ]
                continue
            at_once = 0 < index < DECIDED_AT_ONCE and weights <= FEW_WEIGHTS * total
            both = self._as_is(BothSubPaths(first, second))
            # A link without a flag between two stages ends what is decided at once.
            joins = at_once and link is None
            chain.append(Segment(name, both, index, is_stage=True, joins_previous=joins))
        return chain

    def _as_is(self, link: nn.Module) -> nn.Module:
        """A link of the chain borrows its modules: it is in the network's mode, and not
        registered, so that parameters keep the library's names."""
        link.training = self.training
        for child in link.children():
            if isinstance(link, BothSubPaths | SwitchedLink):
                child.training = self.training
        return link

    def _apply(self, *args: Any, **kwargs: Any) -> LibraryNetwork:
        """Also when tensors are replaced, as by `to`, links go on borrowing the network's."""
        super()._apply(*args, **kwargs)
        for link in self._links:
            for module in [] if link is None else link.modules():
                if isinstance(module, fx.GraphModule):
                    borrow_again(self.net, module)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Parameters under the library's or the published names; norms' copies as ``*_skip``."""
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        state = super().state_dict(*args, **kwargs)
        _rename(state, {prefix + own: prefix + name for own, name in self._names.items()})
        return state

    def _state_names(self, renaming: Renaming | None) -> dict[str, str]:
        """The names of tensors in the state dict, by those of their places in the network."""
        self._copies = [
            name.removeprefix("net.")
            for name, module in self.named_modules()
            if isinstance(module, SwitchedNorm)
        ]
        self._published = renaming(self.net, self.stages) if renaming else str

        def library_name(own: str) -> str:
            name = own.removeprefix("net.")
            for norm in self._copies:
                if name.startswith(f"{norm}.norm"):
                    return norm + name.removeprefix(f"{norm}.norm")
            return name

        return {own: self._published(library_name(own)) for own in super().state_dict()}

    def from_original(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The library's own weights as a state dict of this network: the norms' copies start
        equal to the norms. One that holds copies already is given back as it is."""
        if any(self._published(f"{norm}_skip.weight") in weights for norm in self._copies):
            return weights
        copies = {
            self._published(f"{norm}_skip.{name.removeprefix(f'{norm}.')}"): tensor
            for norm in self._copies
            for name, tensor in weights.items()
            if name.startswith(f"{norm}.")
        }
        return {self._published(name): tensor for name, tensor in weights.items()} | copies


def _wake_norms(net: nn.Module) -> None:
    """Norms that start at zero, as some libraries have them at the end of residual blocks,
    start at one: zero would leave the second sub-paths nearly unused."""
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if is_norm(module) and isinstance(weight, Tensor) and not weight.any():
            nn.init.ones_(weight)


def _limit_drop_path(net: nn.Module, largest: float) -> None:
    rates = {module: drop_rate(module) or 0.0 for module in net.modules()}
    scale = largest / (max(rates.values()) or 1.0)
    for module, rate in rates.items():
        set_drop_rate(module, rate * scale)


def _channel_axis(feature: Tensor) -> int:
    """Maps ``[N,C,H,W]`` of convolutions, or ``[N,T,C]`` and ``[N,H,W,C]``."""
    if feature.dim() != 4:
        return -1
    return 1 if feature.shape[1] != feature.shape[2] else -1


def _from_published_names(
    network: LibraryNetwork, state: dict[str, Any], prefix: str, *unused: Any
) -> None:
    _rename(state, {prefix + name: prefix + own for own, name in network._names.items()})


def _rename(state: dict[str, Any], names: dict[str, str]) -> None:
    """All at once: a new name may be the old one of another tensor."""
    values = {new: state.pop(old) for old, new in names.items() if old in state}
    state.update(values)
