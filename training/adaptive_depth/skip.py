"""Skip flags: which sub-network of an adaptive depth network runs.

A network with k skippable stages has 2^k sub-networks. One is named by its
flags, first stage first, ``T`` = the stage's second sub-path is skipped:
``FFFF`` is the super-net (nothing skipped), ``TTTT`` the base-net.
"""

from __future__ import annotations

from itertools import product

SkipFlags = tuple[bool, ...]


def super_net(flags: int) -> SkipFlags:
    """The flags that skip nothing, for a network with `flags` skippable stages."""
    return (False,) * flags


def base_net(flags: int) -> SkipFlags:
    """The flags that skip everything skippable."""
    return (True,) * flags


def all_sub_networks(flags: int) -> list[SkipFlags]:
    """All 2^flags sub-networks, the super-net first and the base-net last."""
    return list(product((False, True), repeat=flags))


def name_of(skip: SkipFlags) -> str:
    """``(True, False)`` -> ``"TF"``."""
    return "".join("T" if flag else "F" for flag in skip)


def parse(name: str, flags: int) -> SkipFlags:
    """``"TF"`` -> ``(True, False)``. Raises ValueError when it is not `flags` letters T or F."""
    if len(name) != flags or set(name) - {"T", "F"}:
        raise ValueError(f"sub-network {name!r}: expected {flags} letters, each T (skipped) or F")
    return tuple(letter == "T" for letter in name)
