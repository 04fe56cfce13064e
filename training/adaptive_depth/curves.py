"""Learning curves of a run as CSV and PNG."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def write(history: list[dict[str, float]], folder: Path) -> None:
    """Writes ``curves.csv`` and ``curves.png``: one row, one point per epoch."""
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in history)

    epochs = [row["epoch"] for row in history]
    figure, (losses, accuracy) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    losses.plot(epochs, [row["super_loss"] for row in history], label="super-net, cross-entropy")
    losses.plot(epochs, [row["student_loss"] for row in history], label="student, KL")
    losses.set(xlabel="epoch", ylabel="training loss", yscale="log")
    accuracy.plot(epochs, [100 * row["val_super"] for row in history], label="super-net, val")
    accuracy.plot(epochs, [100 * row["val_base"] for row in history], label="base-net, val")
    accuracy.plot(
        epochs,
        [100 * row["train_top1"] for row in history],
        label="super-net, train (augmented)",
        linestyle=":",
    )
    accuracy.set(xlabel="epoch", ylabel="top-1 (%)")
    for axes in (losses, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(folder / "curves.png", dpi=110)
    plt.close(figure)
