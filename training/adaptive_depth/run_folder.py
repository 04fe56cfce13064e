"""A run folder read back: the trained network and what its training was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from adaptive_depth import networks
from adaptive_depth.trainer import TrainError, read_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """The network that gets evaluated and exported, with the averaged weights if there are any.

    Attributes:
        size: height and width of the images in pixels.
        mean, std: per channel in 0..255.
        command: the command line that trained it; None for weights trained elsewhere.
        epochs: epochs trained so far; None where unknown.
    """

    network: networks.AdaptiveNetwork
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]
    command: str | None
    epochs: int | None


def read_run(folder: Path) -> TrainedRun:
    """Raises TrainError when `folder` holds no readable run."""
    state = read_checkpoint(folder / "checkpoint.pt")
    config = state["config"]
    network = networks.build(config["arch"], len(state["classes"]), config["options"])
    weights = state["network"]
    if config["ema"]:
        prefix = "module."
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in state["average"].items()
            if name.startswith(prefix)
        }
    network.load_state_dict(weights)
    try:
        command = json.loads((folder / "run.json").read_text())["command"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainError(f"{folder / 'run.json'}: unreadable ({error})") from error
    return TrainedRun(
        network.eval(),
        state["classes"],
        state["size"],
        state["mean"],
        state["std"],
        command,
        state["epoch"],
    )
