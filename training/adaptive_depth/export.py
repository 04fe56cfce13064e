"""A trained network as a folder to serve: ``model.onnx`` and its manifest."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive_depth import manifest
from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.calibrate import measured_confidence
from adaptive_depth.complexity import count_macs, count_parameters_used
from adaptive_depth.data import HeldOut, Split
from adaptive_depth.errors import ToolkitError
from adaptive_depth.evaluate import evaluate_run
from adaptive_depth.onnx_graph import IMAGE, build_graph, flag_names
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.published import ACCURACIES, DATASET, REFERENCE
from adaptive_depth.run_folder import TrainedRun

TOLERANCE = 1e-3
"""Largest difference of logits between PyTorch and the file, relative to the largest logit."""


class ExportError(ToolkitError):
    """The exported file does not compute what the network computes."""


def export_model(
    run: TrainedRun,
    held_out: HeldOut | None,
    folder: Path,
    name: str,
    version: str,
    threads: int = 0,
    published: str | None = None,
    val: Split | None = None,
) -> dict[str, Any]:
    """Writes the folder and returns the manifest.

    The accuracies in it are measured on the file written, not on the checkpoint. A server may
    serve the folder meanwhile: what is there is replaced when all is measured.

    Args:
        held_out: what to measure on; None measures nothing, and then the manifest gives
            published accuracies as such, and marks all others as unmeasured.
        threads: of onnxruntime; 0 means one per core.
        published: the published checkpoint that the weights are, see `published.ACCURACIES`.
        val: images held out of training, to measure confidence on; None: the manifest gives none.
    Raises:
        ExportError: when the file's logits differ from PyTorch's.
        ManifestError: when `name` or `version` is not in the manifest's format.
    """
    manifest.check_field("name", name)
    manifest.check_field("version", version)
    content = build_graph(run.network, run.size, run.mean, run.std).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    partial = folder / f"{path.name}.partial"
    partial.write_bytes(content)
    model = OnnxModel(partial, threads)
    if held_out is not None:
        check_equal(run, model, held_out.split.images[:3])
        sub_networks = _measured(run, model, held_out)
        dataset: dict[str, Any] | None = {
            "name": held_out.name,
            "split": held_out.split_name,
            "images": len(held_out.split),
        }
    else:
        rng = np.random.default_rng(0)
        check_equal(run, model, rng.integers(0, 256, (2, run.size, run.size, 3), np.uint8))
        sub_networks = _not_measured(run, published)
        dataset = DATASET if published else None
    described = {
        "schemaVersion": 1,
        "name": name,
        "version": version,
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "input": {
            "name": IMAGE,
            "height": run.size,
            "width": run.size,
            "resize": run.frame.resize,
            "centre": run.frame.centre,
            "interpolation": run.frame.interpolation,
            "mean": run.mean,
            "std": run.std,
        },
        "flags": flag_names(model.flags),
        "labels": run.classes,
        "subNetworks": sub_networks,
        "dataset": dataset,
        "training": {"command": run.command, "epochs": run.epochs},
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    if val is not None:
        described["confidence"] = measured_confidence(model, val, sub_networks)
    manifest.validate(described)
    # The manifest last: a server that looks in between rejects the file for its checksum, and tries
    # again when the manifest has changed.
    partial.replace(path)
    manifest.write(described, folder)
    return described


def _measured(run: TrainedRun, model: OnnxModel, held_out: HeldOut) -> list[dict[str, Any]]:
    return [
        {
            "skip": s.name,
            "top1": s.top1,
            "top1CI": list(s.interval),
            "macs": s.macs,
            "params": s.params,
            "source": "measured",
        }
        for s in evaluate_run(run, model.logits, held_out.split)
    ]


def _not_measured(run: TrainedRun, published: str | None) -> list[dict[str, Any]]:
    known = ACCURACIES[published] if published else {}
    entries = []
    for skip in skip_flags.all_sub_networks(run.network.flags):
        name = skip_flags.name_of(skip)
        entry = {
            "skip": name,
            "top1": known.get(name),
            "top1CI": None,
            "macs": count_macs(run.network, run.size, skip),
            "params": count_parameters_used(run.network, run.size, skip),
            "source": "published" if name in known else "unmeasured",
        }
        entries.append(entry | ({"reference": REFERENCE} if name in known else {}))
    return entries


def check_equal(run: TrainedRun, model: OnnxModel, images: np.ndarray) -> None:
    """Raises ExportError unless every sub-network gives PyTorch's logits on `images`."""
    mean, std = torch.tensor(run.mean), torch.tensor(run.std)
    x = normalise(torch.from_numpy(np.ascontiguousarray(images)), mean, std)
    for skip in skip_flags.all_sub_networks(model.flags):
        with torch.inference_mode():
            expected = run.network(x, skip).numpy()
        worst = float(np.abs(model.logits(images, skip) - expected).max())
        if not worst <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ExportError(
                f"sub-network {skip_flags.name_of(skip)}: logits differ by {worst:.2g}"
            )
