"""Every sub-network judged on the held-out split, and their ladder of trade-offs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from adaptive_depth import complexity
from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.confidence import Cascade, calibration_error, cascades, confidence
from adaptive_depth.data import HeldOut, Split
from adaptive_depth.latency import median_latencies
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.run_folder import TrainedRun
from adaptive_depth.skip import SkipFlags
from adaptive_depth.stats import PairedComparison, compare_paired, pareto_front, wilson_interval

Classifier = Callable[[np.ndarray, SkipFlags], np.ndarray]
"""Logits ``[N,classes]`` of images uint8 ``[N,H,W,3]``, by one sub-network."""


@dataclass(frozen=True)
class SubNetwork:
    """One sub-network's answers and costs.

    Attributes:
        correct: whether each held-out image was classified correctly, bool ``[N]``.
        macs: multiply-accumulates per image.
        params: number of parameters used.
        latency_ms: median time of one image in milliseconds, where measured.
        claimed: accuracy that the manifest states, 0 to 1, where it states one.
    """

    skip: SkipFlags
    correct: np.ndarray
    macs: int
    params: int
    latency_ms: float | None = None
    claimed: float | None = None

    @property
    def name(self) -> str:
        return skip_flags.name_of(self.skip)

    @property
    def top1(self) -> float:
        """Accuracy, 0 to 1. Six digits tell any two counts of up to a million images apart."""
        return round(float(self.correct.mean()), 6)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of `top1`."""
        low, high = wilson_interval(int(self.correct.sum()), len(self.correct))
        return round(low, 4), round(high, 4)


@dataclass(frozen=True)
class Rung:
    """The step from one sub-network on a Pareto front to the next, dearer one."""

    lower: SubNetwork
    upper: SubNetwork
    comparison: PairedComparison


@dataclass(frozen=True)
class Evaluation:
    """All sub-networks of one network, the super-net first.

    Attributes:
        subject: what was evaluated, for the JSON report.
    """

    subject: dict[str, Any]
    held_out: HeldOut
    sub_networks: list[SubNetwork]
    cascades: list[Cascade] = field(default_factory=list)

    @property
    def has_latency(self) -> bool:
        return all(s.latency_ms is not None for s in self.sub_networks)

    @property
    def comparable(self) -> bool:
        """Whether the manifest's accuracies are of as many images as were evaluated here."""
        claimed_on = self.subject.get("manifestImages")
        return claimed_on == len(self.held_out.split) and all(
            s.claimed is not None for s in self.sub_networks
        )

    def costs(self, axis: str) -> list[float]:
        """Of each sub-network: ``"macs"``, or ``"latency"`` in milliseconds."""
        if axis == "macs":
            return [float(s.macs) for s in self.sub_networks]
        return [s.latency_ms for s in self.sub_networks if s.latency_ms is not None]

    def front(self, axis: str) -> list[SubNetwork]:
        """The Pareto front of accuracy against `axis`, cheapest first."""
        gains = [s.top1 for s in self.sub_networks]
        return [self.sub_networks[index] for index in pareto_front(self.costs(axis), gains)]

    def cascade_front(self, axis: str) -> list[tuple[Cascade, float]]:
        """Second looks that no sub-network and no other second look dominates, with their
        cost per image against `axis`, cheapest first."""
        alone = dict(zip((s.name for s in self.sub_networks), self.costs(axis), strict=True))
        costs = [alone[c.first] + c.share * alone[c.second] for c in self.cascades]
        single = list(zip(alone.values(), (s.top1 for s in self.sub_networks), strict=True))
        points = [*zip(costs, (c.top1 for c in self.cascades), strict=True), *single]
        front = pareto_front([cost for cost, _ in points], [top1 for _, top1 in points])
        return [(self.cascades[i], costs[i]) for i in front if i < len(costs)]

    def ladder(self, axis: str) -> list[Rung]:
        """Neighbours on the front, compared on the same images."""
        front = self.front(axis)
        return [
            Rung(lower, upper, compare_paired(lower.correct, upper.correct))
            for lower, upper in pairwise(front)
        ]


def evaluate_checkpoint(run: TrainedRun, held_out: HeldOut, device: torch.device) -> Evaluation:
    """Evaluates a run with PyTorch."""
    subject = {"command": run.command, "epochs": run.epochs}
    logits = torch_classifier(run, device)
    return Evaluation(subject, held_out, evaluate_run(run, logits, held_out.split))


def evaluate_exported(
    manifest: dict[str, Any], model: OnnxModel, held_out: HeldOut, latency_rounds: int
) -> Evaluation:
    """Evaluates an exported model, of which nothing but its folder is known.

    The latency is that of one image on one thread, whatever `model` uses, and is left
    out when `latency_rounds` is 0. Costs and claimed accuracies come from the manifest.
    """
    sub_networks = skip_flags.all_sub_networks(model.flags)
    entries = {entry["skip"]: entry for entry in manifest["subNetworks"]}
    latencies: list[float | None] = [None] * len(sub_networks)
    if latency_rounds:
        latencies[:] = median_latencies(model.path, held_out.split.images[:1], latency_rounds)
    found = manifest.get("confidence")
    temperatures = found["temperatures"] if found else {}
    correct, sure, errors = answers(model.logits, sub_networks, held_out.split, temperatures)
    subject = {
        "model": manifest["name"],
        "version": manifest["version"],
        "sha256": manifest["sha256"],
        "manifestImages": (manifest["dataset"] or {}).get("images"),
        "onnxruntime": onnxruntime.__version__,
    }
    if latency_rounds:
        subject["latency"] = {"batch": 1, "threads": 1, "rounds": latency_rounds}
    if errors:
        subject["calibrationError"] = errors
    results = []
    for skip, right, latency in zip(sub_networks, correct, latencies, strict=True):
        entry = entries[skip_flags.name_of(skip)]
        claimed = entry["top1"] if entry["source"] == "measured" else None
        results.append(SubNetwork(skip, right, entry["macs"], entry["params"], latency, claimed))
    order = {skip_flags.name_of(skip): row for row, skip in enumerate(sub_networks)}
    pairs = [
        point
        for look in (found["secondLooks"] if found else [])
        for point in cascades(
            look,
            sure[order[look["first"]]],
            correct[order[look["first"]]],
            correct[order[look["second"]]],
        )
    ]
    return Evaluation(subject, held_out, results, pairs)


def torch_classifier(run: TrainedRun, device: torch.device) -> Classifier:
    """The checkpoint's network as a classifier."""
    network = run.network.to(device).to(memory_format=torch.channels_last)
    mean = torch.tensor(run.mean, device=device)
    std = torch.tensor(run.std, device=device)

    @torch.inference_mode()
    def logits(images: np.ndarray, skip: SkipFlags) -> np.ndarray:
        x = normalise(torch.from_numpy(images).to(device), mean, std)
        return network(x.contiguous(memory_format=torch.channels_last), skip).cpu().numpy()

    return logits


def evaluate_run(run: TrainedRun, logits: Classifier, split: Split) -> list[SubNetwork]:
    """All sub-networks that were trained, as classified by `logits`: PyTorch, or the file
    exported."""
    trained = [run.alone] if run.alone else skip_flags.all_sub_networks(run.network.flags)
    correct, _, _ = answers(logits, trained, split, {})
    return [
        SubNetwork(
            skip,
            right,
            complexity.count_macs(run.network, run.size, skip),
            complexity.count_parameters_used(run.network, run.size, skip),
        )
        for skip, right in zip(trained, correct, strict=True)
    ]


def answers(
    logits: Classifier,
    sub_networks: list[SkipFlags],
    split: Split,
    temperatures: dict[str, float],
) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """These sub-networks on every image.

    Args:
        temperatures: by sub-network, see `calibrate`; absent: 1.
    Returns:
        Whether each is right, bool ``[sub-networks,N]``; how sure, 0 to 1, of the same shape; and
        the expected calibration error of each that has a temperature.
    """
    batch_size = split.batch_size
    correct = np.empty((len(sub_networks), len(split)), bool)
    sure = np.empty(correct.shape)
    errors = {}
    with tqdm(total=correct.size, unit="image", desc="evaluating", mininterval=0.5) as bar:
        for row, skip in enumerate(sub_networks):
            name = skip_flags.name_of(skip)
            for start in range(0, len(split), batch_size):
                part = slice(start, start + batch_size)
                images = np.ascontiguousarray(split.images[part])
                out = logits(images, skip)
                correct[row, part] = out.argmax(1) == split.labels[part]
                sure[row, part] = confidence(out, temperatures.get(name, 1.0))
                bar.update(len(images))
            if name in temperatures:
                errors[name] = calibration_error(sure[row], correct[row])
    return correct, sure, errors
