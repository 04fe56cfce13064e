"""Statistics of accuracies: confidence intervals, paired comparison, Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
"""The standard normal distribution lies within plus or minus this with probability 0.95."""


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson, JASA 22, 1927).

    Unlike the usual normal approximation it stays within 0..1 and holds near the ends.
    """
    if not 0 <= correct <= total or total == 0:
        raise ValueError(f"{correct} of {total} is not a proportion")
    share, z2 = correct / total, Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class PairedComparison:
    """Two classifiers on the same images.

    Attributes:
        only_first, only_second: images that only the one of them gets right.
        difference: accuracy of the second minus that of the first, and its 95 %
            confidence interval.
        p_value: of the exact McNemar test that both are equally accurate.
    """

    only_first: int
    only_second: int
    difference: float
    interval: tuple[float, float]
    p_value: float


def compare_paired(first: np.ndarray, second: np.ndarray) -> PairedComparison:
    """Compares bool arrays ``[N]``: whether each image was classified correctly.

    Images on which both agree say nothing about the difference, which is why this
    resolves far smaller gaps than two separate intervals do (McNemar,
    Psychometrika 12, 1947).
    """
    total = len(first)
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    difference = (only_second - only_first) / total
    half = Z95 * math.sqrt(only_first + only_second - total * difference**2) / total
    return PairedComparison(
        only_first,
        only_second,
        difference,
        (difference - half, difference + half),
        _mcnemar_exact(only_first, only_second),
    )


def _mcnemar_exact(only_first: int, only_second: int) -> float:
    """Twice the lower tail of Binomial(n, 1/2), summed in whole numbers."""
    n, k = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other dominates, cheapest first.

    A point is dominated when another costs no more and gains no less, and is better
    in one of the two. Of identical points the first stays.
    """
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i)):
        if not front or gains[index] > gains[front[-1]]:
            front.append(index)
    return front
