"""Finds the residual stages of any network by what its modules do, not by their names.

A module is a residual block when it becomes the identity, on the very input that the
network gives it, once all its parameters are zero: only the shortcut is left. That holds
for pre- and post-activation, squeeze-excite and layer scale alike (a ReLU after the
addition does no harm: the shortcut's values have passed one before).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_depth.errors import ToolkitError
from adaptive_depth.networks.base import second_sub_path_starts_at


class SplitError(ToolkitError):
    """The network cannot be made adaptive; the message says why."""


@dataclass(frozen=True)
class Stage:
    """Residual blocks that follow one another; the first `keep` of them always run.

    Attributes:
        blocks: names of modules within the network, in the order of their calls.
    """

    blocks: tuple[str, ...]
    keep: int

    @property
    def kept(self) -> tuple[str, ...]:
        return self.blocks[: self.keep]

    @property
    def skippable(self) -> tuple[str, ...]:
        return self.blocks[self.keep :]


@dataclass(frozen=True)
class _Call:
    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    same_shape: bool


def find_stages(
    network: nn.Module, image: Tensor, groups: int | None = None, keep: Sequence[int] | None = None
) -> list[Stage]:
    """The skippable stages of `network`, first one first.

    Siblings of one class that are called one after the other are a stage, with the one
    before them that changes the shape. A network of one long stage, as plain vision
    transformers are, is cut into `groups` of equal length.

    Args:
        image: one normalised image ``[1,3,H,W]`` of the size that the network takes.
        groups: stages to cut a single long stage into; default 4.
        keep: blocks that always run, of each stage; default: half, rounded up, never all.
    Raises:
        SplitError: when no stage has a block that could be skipped, or `groups` or `keep`
            do not fit.
    """
    calls = _calls(network, image)
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.name] = counts.get(call.name, 0) + 1
    candidates = [c for c in calls if counts[c.name] == 1 and c.same_shape and _has_matrix(c)]
    # From the inside out: a module that holds a block is a stage or more, not a block.
    residual: set[str] = set()
    for call in sorted(candidates, key=lambda c: -c.name.count(".")):
        inside = f"{call.name}."
        if not any(name.startswith(inside) for name in residual) and _is_residual(call):
            residual.add(call.name)
    runs = [run for run in _runs(calls, residual) if len(run) >= 2]
    if not runs:
        raise SplitError(
            f"{type(network).__name__}: no two residual blocks follow one another, so none can be"
            " skipped"
        )
    if len(runs) == 1:
        runs = _cut(runs[0], 4 if groups is None else groups)
    elif groups is not None:
        raise SplitError(f"--groups is for networks of one stage; this one has {len(runs)}")
    wanted = [second_sub_path_starts_at(len(run)) for run in runs] if keep is None else list(keep)
    if len(wanted) != len(runs) or not all(
        0 < k < len(run) for k, run in zip(wanted, runs, strict=False)
    ):
        lengths = ", ".join(str(len(run)) for run in runs)
        raise SplitError(
            f"--keep {','.join(map(str, wanted))}: the stages have {lengths} blocks, of each at"
            " least one is kept and one can be skipped"
        )
    return [Stage(tuple(run), k) for run, k in zip(runs, wanted, strict=True)]


def _calls(network: nn.Module, image: Tensor) -> list[_Call]:
    """Every call of a module inside `network` in evaluation, in the order of their starts."""
    calls: list[_Call] = []
    names = {module: name for name, module in network.named_modules() if name}
    open_calls: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A copy of the input: what follows may work in place.
        kept = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
        open_calls.append((len(calls), kept, kwargs))
        calls.append(_Call(names[module], module, kept, kwargs, same_shape=False))

    def after(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        place, kept, kwargs = open_calls.pop()
        first = kept[0] if kept else None
        same = isinstance(first, Tensor) and isinstance(out, Tensor) and first.shape == out.shape
        calls[place] = _Call(names[module], module, kept, kwargs, same)

    hooks = []
    for module in names:
        hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
        hooks.append(module.register_forward_hook(after, with_kwargs=True))
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return calls


def _has_matrix(call: _Call) -> bool:
    """Norms with a shortcut of their own (global response normalisation) are no blocks."""
    return any(parameter.dim() > 1 for parameter in call.module.parameters())


def _is_residual(call: _Call) -> bool:
    x = call.args[0]
    modes = {module: module.training for module in call.module.modules()}
    with torch.no_grad(), _all_zero(call.module.eval()):
        try:
            return torch.equal(call.module(x.clone(), *call.args[1:], **call.kwargs), x)
        finally:
            for module, training in modes.items():
                module.training = training


@contextmanager
def _all_zero(module: nn.Module) -> Iterator[None]:
    values = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for parameter, value in values:
            parameter.data = torch.zeros_like(value)
        yield
    finally:
        for parameter, value in values:
            parameter.data = value


def _runs(calls: Sequence[_Call], residual: set[str]) -> Iterator[list[str]]:
    """Runs of residual siblings of one class, each with the sibling that opens it."""
    run: list[_Call] = []

    def belongs(call: _Call) -> bool:
        return bool(run) and type(call.module) is type(run[-1].module) and _parent(call) == parent

    parent = ""
    block_classes = {(_parent(c), type(c.module)) for c in calls if c.name in residual}
    for call in calls:
        if (_parent(call), type(call.module)) not in block_classes:
            continue
        if not belongs(call) or call.name not in residual:
            if run:
                yield [c.name for c in run]
            run, parent = [], _parent(call)
        run.append(call)
    if run:
        yield [c.name for c in run]


def _parent(call: _Call) -> str:
    return call.name.rpartition(".")[0]


def _cut(run: list[str], groups: int) -> list[list[str]]:
    if groups < 1 or len(run) < 2 * groups:
        raise SplitError(f"--groups {groups}: {len(run)} blocks, at least 2 in each group needed")
    ends = [round(len(run) * index / groups) for index in range(groups + 1)]
    return [run[start:end] for start, end in pairwise(ends)]
