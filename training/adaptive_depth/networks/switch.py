"""Norms that exist twice, and the two sub-paths of a stage."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Extra = tuple[tuple[Any, ...], dict[str, Any]]
"""Constants that a network calls a block with, beside the tensor."""

SHORTCUTS = {"downsample", "shortcut", "proj"}
"""What libraries call the shortcut of a block that changes the shape."""


class Switch:
    """A stage's flag, as its norms see it: bool, or a scalar bool tensor in the exporter."""

    def __init__(self) -> None:
        self.skip: bool | Tensor = False

    @contextmanager
    def at(self, skip: bool | Tensor) -> Iterator[None]:
        before, self.skip = self.skip, skip
        try:
            yield
        finally:
            self.skip = before


class SwitchedNorm(nn.Module):
    """A norm and its copy for when the rest of the stage is skipped."""

    def __init__(self, norm: nn.Module, switch: Switch) -> None:
        super().__init__()
        self.norm, self.norm_skip = norm, copy.deepcopy(norm)
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        skip = self.switch.skip
        if not isinstance(skip, Tensor):
            return self.norm_skip(x) if skip else self.norm(x)
        # Norms without statistics: the choice is made on scale and shift alone, so that
        # the block is one piece of graph, its matrices packed once.
        chosen = {
            name: torch.where(skip, self.norm_skip.get_parameter(name), parameter)
            for name, parameter in self.norm.named_parameters()
        }
        return torch.func.functional_call(self.norm, chosen, (x,))


class FirstSubPath(nn.Sequential):
    """The blocks of a stage that always run, their norms switched by the stage's flag.

    Args:
        blocks: each with the constants that the network gives it beside the tensor.
    """

    def __init__(self, blocks: Sequence[nn.Module], extra: Sequence[Extra], switch: Switch):
        super().__init__(*blocks)
        self.extra, self.switch = list(extra), switch

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        with self.switch.at(skip):
            for block, (args, kwargs) in zip(self, self.extra, strict=True):
                x = block(x, *args, **kwargs)
        return x


class SecondSubPath(nn.Sequential):
    """The blocks of a stage that all run or, when skipped, none: the identity."""

    def __init__(self, blocks: Sequence[nn.Module], extra: Sequence[Extra]):
        super().__init__(*blocks)
        self.extra = list(extra)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        if not skip:
            for block, (args, kwargs) in zip(self, self.extra, strict=True):
                x = block(x, *args, **kwargs)
        return x


class BothSubPaths(nn.Module):
    """Both sub-paths of a stage as one link."""

    def __init__(self, first: FirstSubPath, second: SecondSubPath) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        return self.second(self.first(x, skip), skip)


class SwitchedLink(nn.Module):
    """What lies before, between or after stages, its norms switched by a stage's flag."""

    def __init__(self, link: nn.Module, switch: Switch) -> None:
        super().__init__()
        self.link, self.switch = link, switch

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        with self.switch.at(skip):
            return self.link(x)


def switch_norms(net: nn.Module, name: str, switch: Switch) -> None:
    """Gives every norm of the block `name` a copy. A shortcut's norm stays single, as in the
    published networks: what it reads does not depend on the flag."""
    for inside, module in _norms(net.get_submodule(name)):
        if not SHORTCUTS & set(inside.split(".")):
            _replace(net, f"{name}.{inside}", SwitchedNorm(module, switch))


def switch_link(net: nn.Module, link: nn.Module, switch: Switch) -> None:
    """Gives every norm of `link`, which borrows its modules from `net`, a copy."""
    for name, module in _norms(link):
        norm = SwitchedNorm(module, switch)
        _replace(net, name, norm)
        _replace(link, name, norm)


def _norms(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost ones, by their names."""
    found: list[tuple[str, nn.Module]] = []
    for name, inside in module.named_modules():
        if is_norm(inside) and not any(name.startswith(f"{norm}.") for norm, _ in found):
            found.append((name, inside))
    return found


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)


def is_norm(module: nn.Module) -> bool:
    """By name, and by holding vectors only: some libraries call a convolution with its
    norm "...NormAct", too."""
    parameters = list(module.parameters())
    named = "norm" in type(module).__name__.lower() and not isinstance(module, SwitchedNorm)
    return named and bool(parameters) and all(p.dim() == 1 for p in parameters)


def keeps_statistics(module: nn.Module) -> bool:
    """Whether a switched norm in `module` has buffers: then a flag chooses between modules."""
    return any(
        isinstance(inside, SwitchedNorm) and any(True for _ in inside.buffers())
        for inside in module.modules()
    )


def never_drop(block: nn.Module) -> None:
    """A block that always runs keeps its residual: stochastic depth is off in it, as in the
    published networks."""
    for module in block.modules():
        set_drop_rate(module, 0.0)


def drop_rate(module: nn.Module) -> float | None:
    """The probability of a stochastic-depth layer of timm or torchvision; None of others."""
    name = {"DropPath": "drop_prob", "StochasticDepth": "p"}.get(type(module).__name__)
    return None if name is None else float(getattr(module, name))


def set_drop_rate(module: nn.Module, rate: float) -> None:
    if drop_rate(module) is not None:
        setattr(module, "drop_prob" if type(module).__name__ == "DropPath" else "p", rate)
