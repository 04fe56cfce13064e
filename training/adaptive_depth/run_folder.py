"""A run folder read back: the trained network and what its training was."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from adaptive_depth import networks
from adaptive_depth import skip as skip_flags
from adaptive_depth.images import Frame
from adaptive_depth.skip import SkipFlags
from adaptive_depth.trainer import TrainError, read_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """The network that gets evaluated and exported, with the averaged weights if there are any.

    Attributes:
        frame: what images are brought to.
        mean, std: per channel in 0..255.
        command: the command line that trained it; None for weights trained elsewhere.
        epochs: epochs trained so far; None where unknown.
        data: what it was trained on: "source", "val_per_class", "seed" and "lazy", as
            `data.load` takes them; None where unknown.
        alone: the one sub-network that was trained, of a run for comparison; None: all.
    """

    network: networks.AdaptiveNetwork
    classes: list[str]
    frame: Frame
    mean: list[float]
    std: list[float]
    command: str | None
    epochs: int | None
    data: dict[str, Any] | None = None
    alone: SkipFlags | None = None

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.frame.size


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
    alone = config.get("distill", {}).get("alone")
    try:
        recorded = json.loads((folder / "run.json").read_text())
        command = recorded["command"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainError(f"{folder / 'run.json'}: unreadable ({error})") from error
    return TrainedRun(
        network.eval(),
        state["classes"],
        _frame_of(config, state["size"]),
        state["mean"],
        state["std"],
        command,
        state["epoch"],
        {
            **(recorded.get("data") or _data_of(command, config)),
            "lazy": config["crop"] == "resized",
        },
        skip_flags.parse(alone, network.flags) if alone else None,
    )


def at_size(run: TrainedRun, size: int) -> TrainedRun:
    """The run for images of another height and width in pixels.

    Raises:
        TrainError: for a network that takes one size only.
    """
    try:
        with torch.inference_mode():
            run.network(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainError(
            f"--size {size}: the network was trained for {run.size} pixels and takes no other"
            f" size ({reason})"
        ) from error
    return replace(run, frame=replace(run.frame, size=size))


def _frame_of(config: dict[str, Any], size: int) -> Frame:
    known = {name: config[name] for name in ("resize", "centre", "interpolation") if name in config}
    return Frame(size, **known)


def _data_of(command: str, config: dict[str, Any]) -> dict[str, Any]:
    """Of runs that say nothing of their data but in the command."""
    held_out = typed_option(command, "--val-per-class")
    return {
        "source": typed_option(command, "--data"),
        "val_per_class": 100 if held_out is None else int(held_out),
        "seed": config["seed"],
    }


def typed_option(command: str | None, option: str) -> str | None:
    """What follows `option` in a command line, if it is there; the last one counts."""
    words = shlex.split(command or "")
    found = None
    for word, following in zip_longest(words, words[1:]):
        if word == option:
            found = following
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found
