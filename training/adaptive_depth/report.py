"""An evaluation as a printed table, a JSON file and plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from adaptive_depth.evaluate import Evaluation, Rung, SubNetwork

AXES = {
    "macs": "multiply-accumulates per image (million)",
    "latency": "median latency of one image, one CPU thread (ms)",
}


def write(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes ``evaluation.json`` and one plot per axis; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(as_json(evaluation), indent=2) + "\n")
    files = [path]
    for axis in _axes(evaluation):
        files.append(folder / f"accuracy-{axis}.png")
        _plot(evaluation, axis, files[-1])
    return files


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracies and differences are shares of one, latencies milliseconds."""
    split = evaluation.held_out
    return {
        "schemaVersion": 1,
        "subject": evaluation.subject,
        "dataset": {"name": split.name, "split": split.split_name, "images": len(split.split)},
        "subNetworks": [_entry(evaluation, s) for s in evaluation.sub_networks],
        "paretoFront": {
            axis: [s.name for s in evaluation.front(axis)] for axis in _axes(evaluation)
        },
        "ladder": {
            axis: [_rung(rung) for rung in evaluation.ladder(axis)] for axis in _axes(evaluation)
        },
        "secondLooks": {
            axis: [vars(c) | {"cost": round(cost, 4)} for c, cost in evaluation.cascade_front(axis)]
            for axis in _axes(evaluation)
            if evaluation.cascades
        },
    }


def table(evaluation: Evaluation) -> str:
    """One line per sub-network, cheapest first, then the ladders and the manifest check."""
    fronts = {axis: evaluation.front(axis) for axis in _axes(evaluation)}
    split = evaluation.held_out
    lines = [
        f"{len(split.split)} images of {split.name}, split {split.split_name}; "
        "* on the Pareto front of accuracy against that cost",
        "",
    ]
    header = f"{'skip':>8}  {'top-1 %':>7}  {'95 % interval':>14}  {'params':>10}  {'MMACs':>9} "
    if evaluation.has_latency:
        header += f"  {'ms':>8} "
    if evaluation.comparable:
        header += "  manifest's top-1"
    lines.append(header.rstrip())
    for s in sorted(evaluation.sub_networks, key=lambda s: (s.macs, -s.top1)):
        low, high = s.interval
        line = (
            f"{s.name:>8}  {100 * s.top1:7.2f}  {100 * low:5.2f} to {100 * high:5.2f}"
            f"  {s.params:10,}  {s.macs / 1e6:9.2f}{_star(s in fronts['macs'])}"
        )
        if s.latency_ms is not None:
            line += f"  {s.latency_ms:8.3f}{_star(s in fronts['latency'])}"
        if evaluation.comparable and s.claimed is not None:
            line += "  equal" if s.claimed == s.top1 else f"  differs: {100 * s.claimed:.2f}"
        lines.append(line.rstrip())
    for axis in fronts:
        lines += ["", *_ladder_lines(evaluation, axis)]
    if evaluation.cascades:
        lines += ["", *_cascade_lines(evaluation)]
    if "manifestImages" in evaluation.subject:
        lines += ["", manifest_verdict(evaluation)]
    return "\n".join(lines)


def _cascade_lines(evaluation: Evaluation) -> list[str]:
    full = max(evaluation.costs("macs"))
    lines = ["Second looks on the front against MACs (cost: of the super-net's, both looks):"]
    lines += [
        f"  {c.first} then {c.second} for the {100 * c.share:4.1f} % least sure:"
        f" {100 * c.top1:.2f} % at {cost / full:.2f}"
        for c, cost in evaluation.cascade_front("macs")
    ]
    errors = evaluation.subject["calibrationError"].values()
    return [*lines, f"Calibration error here: {min(errors):.3f} to {max(errors):.3f}."]


def manifest_verdict(evaluation: Evaluation) -> str:
    """One sentence: do the accuracies measured here equal those that the manifest states?"""
    if not evaluation.comparable:
        return (
            f"The accuracies can't be compared with the manifest's, which are of "
            f"{evaluation.subject['manifestImages']} images or not all measured."
        )
    equal = sum(s.claimed == s.top1 for s in evaluation.sub_networks)
    return f"{equal} of {len(evaluation.sub_networks)} accuracies equal the manifest's."


def _axes(evaluation: Evaluation) -> list[str]:
    return ["macs", "latency"] if evaluation.has_latency else ["macs"]


def _star(marked: bool) -> str:
    return "*" if marked else " "


def _entry(evaluation: Evaluation, s: SubNetwork) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "skip": s.name,
        "correct": int(s.correct.sum()),
        "top1": s.top1,
        "top1CI": list(s.interval),
        "macs": s.macs,
        "params": s.params,
    }
    if s.latency_ms is not None:
        entry["latencyMs"] = s.latency_ms
    if evaluation.comparable:
        entry |= {"manifestTop1": s.claimed, "equalsManifest": s.claimed == s.top1}
    return entry


def _rung(rung: Rung) -> dict[str, Any]:
    c = rung.comparison
    return {
        "from": rung.lower.name,
        "to": rung.upper.name,
        "difference": round(c.difference, 6),
        "differenceCI": [round(bound, 6) for bound in c.interval],
        "onlyFromCorrect": c.only_first,
        "onlyToCorrect": c.only_second,
        "pMcNemar": float(f"{c.p_value:.4g}"),
    }


def _ladder_lines(evaluation: Evaluation, axis: str) -> list[str]:
    rungs = evaluation.ladder(axis)
    if not rungs:
        only = evaluation.front(axis)[0].name
        return [f"Pareto front against {axis}: {only} alone, there is no ladder."]
    lines = [f"Neighbours on the Pareto front against {axis}, compared image by image:"]
    for rung in rungs:
        c = rung.comparison
        low, high = c.interval
        verdict = "beyond noise" if c.p_value < 0.05 else "within noise"
        lines.append(
            f"  {rung.lower.name} -> {rung.upper.name}: {100 * c.difference:+.2f} points"
            f" (95 %: {100 * low:+.2f} to {100 * high:+.2f}), McNemar p {c.p_value:.2g}: {verdict}"
        )
    return lines


def _plot(evaluation: Evaluation, axis: str, path: Path) -> None:
    scale = 1e6 if axis == "macs" else 1.0
    front = evaluation.front(axis)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    positions = {}
    for s, cost in zip(evaluation.sub_networks, evaluation.costs(axis), strict=True):
        low, high = s.interval
        x, y = cost / scale, 100 * s.top1
        positions[s.name] = (x, y)
        on_front = s in front
        axes.errorbar(
            x,
            y,
            yerr=[[max(0.0, y - 100 * low)], [max(0.0, 100 * high - y)]],
            fmt="o" if on_front else ".",
            color="tab:blue" if on_front else "0.6",
            elinewidth=0.8,
            zorder=3 if on_front else 2,
        )
        if not on_front:
            continue  # a mixture's name is in the table; here names would overlap
        axes.annotate(
            s.name,
            (x, y),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
        )
    xs, ys = zip(*(positions[s.name] for s in front), strict=True)
    axes.step(xs, ys, where="post", color="tab:blue", label="Pareto front")
    second = evaluation.cascade_front(axis)
    if second:
        # From the cheapest on the front to the dearest point worth looking again for.
        line = [(xs[0], ys[0]), *((cost / scale, 100 * c.top1) for c, cost in second)]
        axes.plot(*zip(*line, strict=True), ".-", color="tab:orange", label="with second looks")
    axes.margins(x=0.08)
    axes.set(
        xlabel=AXES[axis],
        ylabel="top-1 (%), 95 % interval",
        title=f"{evaluation.held_out.name}, {len(evaluation.held_out.split)} held-out images",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)
