"""``adaptive-depth calibrate``: adds ``confidence`` to the manifest of an exported model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from adaptive_depth import data, manifest
from adaptive_depth.confidence import CalibrationError, measure
from adaptive_depth.data import Split
from adaptive_depth.images import Frame
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.output import tell
from adaptive_depth.run_folder import typed_option
from adaptive_depth.train import shipped_recipes


def measured_confidence(
    model: OnnxModel, val: Split, sub_networks: list[dict[str, Any]]
) -> dict[str, Any]:
    """``confidence`` of the manifest.

    Args:
        sub_networks: those of the manifest.
    Raises:
        CalibrationError: see `measure`.
    """
    return measure(model.logits, model.flags, val, "val", most_accurate(sub_networks))


def most_accurate(sub_networks: list[dict[str, Any]]) -> str | None:
    """Of those of a manifest, the cheapest where several are; None: no accuracy is known."""
    known = [entry for entry in sub_networks if entry["top1"] is not None]
    best = max(known, key=lambda entry: (entry["top1"], -entry["macs"]), default=None)
    return None if best is None else str(best["skip"])


def add_calibrate(commands: Any) -> None:
    p = commands.add_parser(
        "calibrate",
        help="measure how sure answers may be taken to be, and what second looks gain",
        description="Adds temperatures and second looks to the manifest of an exported model, from"
        " training images that were held out (val), as export does where it finds them. A server"
        " of the folder takes them while it runs only with another --version.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_calibrate)
    p.add_argument("--model", type=Path, required=True, help="folder with model.onnx, model.json")
    p.add_argument("--data", type=Path, required=True, help="what the model was trained on")
    as_trained = "as in training (archives); None: what the training command says"
    p.add_argument("--val-per-class", type=int, help=as_trained)
    p.add_argument("--seed", type=int, help=as_trained)
    p.add_argument("--version", help="new one of the manifest; None: as it is")
    p.add_argument("--threads", type=int, default=0, help="0: one per core")


def _calibrate(args: argparse.Namespace) -> None:
    described, path = manifest.read_model_folder(args.model)
    before = described["version"]
    described["version"] = args.version or before
    manifest.check_field("version", described["version"])
    command = described["training"]["command"]
    recipe = typed_option(command, "--recipe")
    # Options that were typed after it hold, whatever it says.
    after = (command or "").rpartition(f"{recipe}")[2]
    is_told = recipe in (None, *shipped_recipes()) or all(
        given is not None or typed_option(after, option) is not None
        for given, option in ((args.val_per_class, "--val-per-class"), (args.seed, "--seed"))
    )
    if args.data.suffix == ".npz" and not is_told:
        raise CalibrationError(
            f"{recipe} may say which images were held out: give --val-per-class and --seed"
        )
    val = data.load_val(
        args.data,
        Frame.from_manifest(described),
        described["labels"],
        _as_trained(args.val_per_class, command, "--val-per-class", default=100),
        _as_trained(args.seed, command, "--seed", default=0),
    )
    described["confidence"] = measured_confidence(
        OnnxModel(path, args.threads), val, described["subNetworks"]
    )
    manifest.write(described, args.model)
    text = summary(described)
    if described["version"] == before:
        text += f"\n\nStill version {before}: a server that serves it takes this at its next start,"
        text += " with another --version at once"
    tell(args, text, described["confidence"])


def _as_trained(given: int | None, command: str | None, option: str, default: int) -> int:
    """With other numbers than training's, images that were trained on would be among those read."""
    return int(typed_option(command, option) or default) if given is None else given


def summary(described: dict[str, Any]) -> str:
    """One line per sub-network: temperature, calibration error, and what a second look gains."""
    found = described["confidence"]
    looks = {look["first"]: look for look in found["secondLooks"]}
    lines = [f"{found['images']} images of {found['split']}", ""]
    lines.append(
        "    skip  temperature  ECE before  after  gain of a second look, least sure first"
    )
    for name, temperature in found["temperatures"].items():
        error = found["calibrationError"][name]
        gains = ", ".join(
            f"{100 * (b['second'] - b['first']):+.0f} of {100 * b['share']:.0f} %"
            for b in (looks[name]["bins"] if name in looks else [])
        )
        lines.append(
            f"{name:>8}  {temperature:11.2f}  {error['before']:10.3f}  {error['after']:5.3f}"
            f"  {gains}"
        )
    return "\n".join(lines)
