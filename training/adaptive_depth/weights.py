"""Weights from a checkpoint file, published or our own, into a network."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adaptive_depth.errors import ToolkitError
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.originals import build_original, pretraining

AVERAGED = "module."
"""Prefix of the weights in an `AveragedModel`'s state."""

LISTED = 20
"""Differences that an error message lists."""


class WeightsError(ToolkitError):
    """The file holds no weights, or those of another network; the message lists what differs."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in `path`, the averaged ones where there are any.

    Reads published checkpoints (``model``, and ``model_ema`` with weights under
    ``module.``), those of this toolkit (``network`` and ``average``), and files with nothing
    but weights, ``.safetensors`` too. Runs no code stored in the file.

    Raises:
        WeightsError: when the file is unreadable or holds no weights.
    """
    state = _read(path)
    if "config" in state and "network" in state:
        current, average = state["network"], state["average"] if state["config"]["ema"] else None
    else:
        current, average = state.get("model", state.get("state_dict")), state.get("model_ema")
        if state and all(isinstance(value, Tensor) for value in state.values()):
            current = state  # nothing but weights, as timm and torchvision store them
    if average:
        return {
            name.removeprefix(AVERAGED): tensor
            for name, tensor in average.items()
            if name.startswith(AVERAGED)
        }
    if not isinstance(current, dict):
        raise WeightsError(f"{path}: no weights under 'model', 'model_ema' or 'network'")
    return current


def statistics_of(start: str, model: str | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, in 0..255, that the weights of `start` expect.

    Args:
        start: a file, or "pretrained".
        model: what weights that state none were trained as; None: a published checkpoint.
    """
    usual = pretraining(model or "")  # ImageNet's where the library names none
    state = {} if start == "pretrained" else _read(Path(start))
    return state.get("mean", usual.mean), state.get("std", usual.std)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Training scripts of the field store their parsed arguments too; those are data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except (
        *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError),
        SafetensorError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: not a checkpoint, but a {type(state).__name__}")
    return state


def start_weights(network: AdaptiveNetwork, start: str) -> dict[str, Tensor]:
    """The weights that fine-tuning starts from: of a file, or "pretrained".

    A library's own weights lack the second copies of norms, which then start equal to the
    first. Files of other projects that hold the same network under other names are read in
    the order of their tensors, if the shapes agree one by one.

    Raises:
        WeightsError: when the file is unreadable, or `network` is of no library.
    """
    if not isinstance(network, LibraryNetwork) or not isinstance(network.model, str):
        return read_weights(Path(start))
    original = build_original(network.model, 2, network.size).state_dict()
    if start == "pretrained":
        weights = build_original(network.model, None, network.size, pretrained=True).state_dict()
    else:
        weights = read_weights(Path(start))
    if not (original.keys() | network.state_dict().keys()) & weights.keys():
        weights = _in_order(original, weights, start)
    return network.from_original(weights)


def _in_order(
    original: dict[str, Tensor], weights: dict[str, Tensor], source: str
) -> dict[str, Tensor]:
    same = len(original) == len(weights) and all(
        # The classifier's first axis, the classes, may differ.
        ours.shape == theirs.shape or ours.shape[1:] == theirs.shape[1:]
        for ours, theirs in zip(original.values(), weights.values(), strict=False)
    )
    if not same:
        raise WeightsError(f"{source}: neither names nor shapes are those of the network")
    return dict(zip(original, weights.values(), strict=True))


def differences(network: AdaptiveNetwork, weights: dict[str, Tensor]) -> list[str]:
    """One line per tensor that is missing, has another shape or is unknown to `network`."""
    expected = network.state_dict()
    lines = [f"missing: {name}" for name in expected if name not in weights]
    lines += [
        f"{name}: shape {_shape(weights[name])}, expected {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return lines + [f"unknown: {name}" for name in weights if name not in expected]


def load_exactly(network: AdaptiveNetwork, weights: dict[str, Tensor], source: str) -> None:
    """Raises WeightsError, listing what differs, unless names and shapes are the network's."""
    _require_none(differences(network, weights), source)
    network.load_state_dict(weights)


def load_for_fine_tuning(network: AdaptiveNetwork, weights: dict[str, Tensor], source: str) -> None:
    """As `load_exactly`, but a classifier for another number of classes starts from zero, and a
    position embedding for another image size is interpolated.

    Libraries draw a classifier's weights from a wider range the fewer classes it has: with three,
    EfficientNet's first loss was 14 to 58, and what it taught the rest undid the weights.
    """
    fitting = dict(weights)
    own = network.state_dict()
    for embedding in {"encoder.pos_embedding", "pos_embed"} & own.keys() & fitting.keys():
        fitting[embedding] = resize_position_embedding(fitting[embedding], own[embedding].shape[1])
    for name in (f"{network.logits_layer}.weight", f"{network.logits_layer}.bias"):
        # Only the number of classes, the first axis, may differ.
        if name in fitting and fitting[name].shape[1:] == own[name].shape[1:]:
            same = len(fitting[name]) == len(own[name])
            fitting[name] = fitting[name] if same else torch.zeros_like(own[name])
    load_exactly(network, fitting, source)


def resize_position_embedding(embedding: Tensor, tokens: int) -> Tensor:
    """``[1,1+side^2,width]`` to ``[1,tokens,width]``, bicubic; the class token's stays."""
    old, new = round((embedding.shape[1] - 1) ** 0.5), round((tokens - 1) ** 0.5)
    if old == new:
        return embedding
    token, grid = embedding[:, :1], embedding[:, 1:]
    grid = grid.transpose(1, 2).reshape(1, -1, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([token, grid.flatten(2).transpose(1, 2)], dim=1)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _require_none(lines: list[str], source: str) -> None:
    if lines:
        more = [f"... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        listed = "\n  ".join(lines[:LISTED] + more)
        raise WeightsError(f"{source}: {len(lines)} tensors differ from the network's:\n  {listed}")
