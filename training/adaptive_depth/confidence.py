"""How sure a sub-network's answers may be taken to be, and what a second look is worth.

Both are measured on held-out training images, never on the test split:

- a temperature for each sub-network, which its logits are divided by before the softmax,
  so that of the answers given with confidence p a share p is right (temperature scaling,
  Guo et al., ICML 2017);
- for each sub-network as a first look and the most accurate as a second one: how often each is
  right, by the confidence of the first. A server that has an answer can tell from it what
  looking again would gain (a model cascade).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from adaptive_depth import skip as skip_flags
from adaptive_depth.data import Split
from adaptive_depth.errors import ToolkitError
from adaptive_depth.skip import SkipFlags

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6)
"""The bins of a second look end at these shares of the images, least confident first."""

ECE_BINS = 15

FEWEST_IMAGES = 100
"""With fewer, a bin would hold a handful, and tell nothing."""

Logits = Callable[[np.ndarray, SkipFlags], np.ndarray]


class CalibrationError(ToolkitError):
    """Nothing can be said of confidence; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """Of one sub-network. `before` and `after` are expected calibration errors, 0 to 1,
    without and with the temperature."""

    temperature: float
    before: float
    after: float


@dataclass(frozen=True)
class Bin:
    """Images whose first look is at most `below` sure, and surer than the bin before.

    Attributes:
        share: of all images, 0 to 1.
        first, second: shares of them that the first and the second look get right.
    """

    below: float
    share: float
    first: float
    second: float


@dataclass(frozen=True)
class SecondLook:
    """What a second look gains, by the calibrated confidence of the first one."""

    first: str
    second: str
    bins: tuple[Bin, ...]


def all_logits(logits: Logits, flags: int, split: Split) -> np.ndarray:
    """Logits of every sub-network: float32 ``[2^flags,N,classes]``."""
    combinations = skip_flags.all_sub_networks(flags)
    rows = []
    total = len(combinations) * len(split)
    with tqdm(total=total, unit="image", desc="calibrating", mininterval=0.5) as bar:
        for skip in combinations:
            parts = []
            for start in range(0, len(split), split.batch_size):
                images = np.ascontiguousarray(split.images[start : start + split.batch_size])
                parts.append(logits(images, skip))
                bar.update(len(images))
            rows.append(np.concatenate(parts))
    return np.stack(rows)


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """The temperature with the least negative log-likelihood, by golden-section search.

    Args:
        logits: ``[N,classes]``; labels: int64 ``[N]``.
    """
    low, high = -2.0, 2.0  # of the temperature's logarithm
    ratio = (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        left_loss = _loss(logits / np.exp(left), labels)
        if left_loss < _loss(logits / np.exp(right), labels):
            high = right
        else:
            low = left
    temperature = round(float(np.exp((low + high) / 2)), 4)
    right = logits.argmax(1) == labels
    before = calibration_error(confidence(logits), right)
    return Calibration(
        temperature, before, calibration_error(confidence(logits, temperature), right)
    )


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood."""
    top = logits.max(1, keepdims=True)
    normaliser = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((normaliser - logits[np.arange(len(labels)), labels]).mean())


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence ``[N]`` and accuracy over bins of equal width, weighted by
    their images (expected calibration error, Naeini et al., AAAI 2015)."""
    index = np.minimum((sure * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(sure[index == b].sum() - right[index == b].sum()) for b in range(ECE_BINS)]
    return round(float(sum(gaps)) / len(sure), 4)


def confidence(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The largest probability, ``[N]``, 0 to 1."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    return 1 / np.exp(scaled).sum(1)


def second_look(
    names: tuple[str, str], sure: np.ndarray, first: np.ndarray, second: np.ndarray
) -> SecondLook:
    """The table of one pair.

    A gain that grows with confidence is noise: neighbouring bins are pooled until it falls.

    Args:
        sure: calibrated confidence of the first look, ``[N]``.
        first, second: whether each look is right, bool ``[N]``.
    """
    order = np.argsort(sure, kind="stable")
    ends = [round(share * len(order)) for share in (*SHARES, 1.0)]
    groups: list[np.ndarray] = []
    start = 0
    for end in ends:
        if end > start:
            groups.append(order[start:end])
        start = max(start, end)

    def gain(rows: np.ndarray) -> float:
        return float(second[rows].mean() - first[rows].mean())

    pooled: list[np.ndarray] = []
    for group in groups:
        pooled.append(group)
        while len(pooled) > 1 and gain(pooled[-1]) >= gain(pooled[-2]):
            last = pooled.pop()
            pooled[-1] = np.concatenate([pooled[-1], last])
    return SecondLook(
        *names,
        tuple(
            Bin(
                1.0 if rows is pooled[-1] else round(float(sure[rows].max()), 4),
                round(len(rows) / len(order), 4),
                round(float(first[rows].mean()), 4),
                round(float(second[rows].mean()), 4),
            )
            for rows in pooled
        ),
    )


def require_enough(split: Split) -> None:
    """Raises CalibrationError when there are too few images."""
    if len(split) < FEWEST_IMAGES:
        raise CalibrationError(
            f"{len(split)} held-out training images: at least {FEWEST_IMAGES} are needed"
        )


def measure(
    logits: Logits, flags: int, split: Split, name: str, best: str | None = None
) -> dict[str, Any]:
    """What the manifest's member ``confidence`` holds.

    Args:
        split: images that were not trained on.
        name: of the split, for the manifest.
        best: the sub-network that looks again; default: the super-net.
    Raises:
        CalibrationError: when there are too few images.
    """
    require_enough(split)
    every = all_logits(logits, flags, split)
    names = [skip_flags.name_of(skip) for skip in skip_flags.all_sub_networks(flags)]
    found = [calibrate(rows, split.labels) for rows in every]
    right = every.argmax(2) == split.labels
    last = names.index(best or skip_flags.name_of((False,) * flags))
    looks = [
        second_look(
            (first, names[last]), confidence(every[i], found[i].temperature), right[i], right[last]
        )
        for i, first in enumerate(names)
        if i != last
    ]
    return {
        "split": name,
        "images": len(split),
        "temperatures": {name: c.temperature for name, c in zip(names, found, strict=True)},
        "calibrationError": {
            name: {"before": c.before, "after": c.after}
            for name, c in zip(names, found, strict=True)
        },
        "secondLooks": [
            {"first": look.first, "second": look.second, "bins": [vars(b) for b in look.bins]}
            for look in looks
            # Where no bin gains, nothing is worth looking at again.
            if look.bins[0].second > look.bins[0].first
        ],
    }


@dataclass(frozen=True)
class Cascade:
    """A first look, and a second one at the images of which it is least sure.

    Attributes:
        first, second: names of the sub-networks.
        share: of the images that are looked at again, 0 to 1.
        top1: accuracy, 0 to 1.
    """

    first: str
    second: str
    share: float
    top1: float


def cascades(
    look: dict[str, Any], sure: np.ndarray, first: np.ndarray, second: np.ndarray
) -> list[Cascade]:
    """A pair of the manifest on other images, looked at again up to each of its bins.

    Args:
        look: an entry of the manifest's ``secondLooks``.
        sure: calibrated confidence of the first look, ``[N]``.
        first, second: whether each look is right, bool ``[N]``.
    """
    points = []
    for threshold in [entry["below"] for entry in look["bins"][:-1]]:
        again = sure <= threshold
        top1 = float(np.where(again, second, first).mean())
        share = float(again.mean())
        points.append(Cascade(look["first"], look["second"], round(share, 4), round(top1, 6)))
    return points
