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
from adaptive_depth.data import HeldOut
from adaptive_depth.errors import ToolkitError
from adaptive_depth.evaluate import evaluate_run
from adaptive_depth.onnx_graph import IMAGE, build_graph, flag_names
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.run_folder import TrainedRun

TOLERANCE = 1e-3
"""Largest difference of logits between PyTorch and the file, relative to the largest logit."""


class ExportError(ToolkitError):
    """The exported file does not compute what the network computes."""


def export_model(
    run: TrainedRun, held_out: HeldOut, folder: Path, name: str, version: str, threads: int = 0
) -> dict[str, Any]:
    """Writes the folder and returns the manifest.

    The accuracies in it are measured on the file written, not on the checkpoint.

    Args:
        threads: of onnxruntime; 0 means one per core.
    Raises:
        ExportError: when the file's logits differ from PyTorch's.
        ManifestError: when `name` or `version` is not in the manifest's format.
    """
    manifest.check_field("name", name)
    manifest.check_field("version", version)
    content = build_graph(run.network, run.size, run.mean, run.std).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.MANIFEST).unlink(missing_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(content)
    model = OnnxModel(path, threads)
    check_equal(run, model, held_out.split.images[:3])
    sub_networks = evaluate_run(run, model.logits, held_out.split)
    described = {
        "schemaVersion": 1,
        "name": name,
        "version": version,
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "input": {"name": IMAGE, "height": run.size, "width": run.size, "resize": "cover"},
        "flags": flag_names(model.flags),
        "labels": run.classes,
        "subNetworks": [
            {
                "skip": s.name,
                "top1": s.top1,
                "top1CI": list(s.interval),
                "macs": s.macs,
                "params": s.params,
                "source": "measured",
            }
            for s in sub_networks
        ],
        "dataset": {
            "name": held_out.name,
            "split": held_out.split_name,
            "images": len(held_out.split),
        },
        "training": {"command": run.command, "epochs": run.epochs},
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    manifest.write(described, folder)
    return described


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
