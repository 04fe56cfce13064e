"""The manifest: what the schema takes, and what it refuses."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from adaptive_depth import manifest
from adaptive_depth.manifest import ManifestError


def example() -> dict[str, Any]:
    return {
        "schemaVersion": 1,
        "name": "cifar10-small-resnet",
        "version": "1.0.0",
        "file": "model.onnx",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
        "bytes": 7,
        "input": {"name": "image", "height": 32, "width": 32, "resize": "cover"},
        "flags": ["skip_1"],
        "labels": ["cat", "dog"],
        "subNetworks": [
            {
                "skip": skip,
                "top1": 0.92,
                "top1CI": [0.914, 0.925],
                "macs": 35_000_000,
                "params": 2_790_000,
                "source": "measured",
            }
            for skip in ("F", "T")
        ],
        "dataset": {"name": "cifar10_jpeg", "split": "test", "images": 10_000},
        "training": {"command": "adaptive-depth train --data x --out y", "epochs": 24},
        "created": "2026-11-22",
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example with the field at `path` (``a.0.b``) replaced."""
    document = copy.deepcopy(example())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target: Any = document
    for key in parents:
        target = target[key]
    target[last] = value
    return document


def test_the_example_is_valid():
    manifest.validate(example())


def test_the_schema_is_the_servers():
    assert manifest.SCHEMA.resolve() == Path(__file__).parents[2] / "models" / "model.schema.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schemaVersion", 2),
        ("name", "CIFAR 10"),
        ("version", "1.0"),
        ("file", "../model.onnx"),
        ("sha256", "ABC"),
        ("bytes", 0),
        ("input.resize", "squeeze"),
        ("input.centre", 0),
        ("input.centre", 1.1),
        ("input.interpolation", "lanczos"),
        ("input.mean", [124, 116]),
        ("input.std", [58, 57, 256]),
        ("labels", ["cat"]),
        ("extra", 1),
        ("input.extra", 1),
        ("subNetworks.0.extra", 1),
        ("subNetworks.0.top1", 92.0),
        ("subNetworks.0.top1", None),
        ("subNetworks.0.top1CI", None),
        ("subNetworks.0.source", "guessed"),
        ("subNetworks.0.source", "unmeasured"),
        ("subNetworks.0.source", "published"),
        ("created", "22.11.2026"),
    ],
)
def test_the_schema_refuses(path: str, value: Any):
    with pytest.raises(ManifestError, match=r"model\.json: \$"):
        manifest.validate(changed(path, value))


@pytest.mark.parametrize("field", sorted(example()))
def test_every_field_is_needed(field: str):
    document = example()
    del document[field]
    with pytest.raises(ManifestError, match=field):
        manifest.validate(document)


def test_an_unmeasured_sub_network_has_no_accuracy():
    document = example()
    document["subNetworks"][0] |= {"top1": None, "top1CI": None, "source": "unmeasured"}
    manifest.validate(document)


def test_a_published_accuracy_names_its_reference_and_may_lack_an_interval():
    document = example()
    document["subNetworks"][0] |= {
        "source": "published",
        "top1CI": None,
        "reference": "Kang & Lee, NeurIPS 2024, table 1",
    }
    document["training"] = {"command": None, "epochs": None}
    manifest.validate(document)


@pytest.mark.parametrize("names", [["F", "F"], ["F", "FT"], ["F", "T", "T"]])
def test_each_sub_network_occurs_exactly_once(names: list[str]):
    entry = example()["subNetworks"][0]
    document = example() | {"subNetworks": [entry | {"skip": name} for name in names]}
    with pytest.raises(ManifestError, match="not each of F, T once"):
        manifest.validate(document)


def test_a_model_folder_is_read_back(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    manifest.write(example(), tmp_path)
    assert manifest.read_model_folder(tmp_path) == (example(), tmp_path / "model.onnx")


def test_another_file_than_the_manifests_is_noticed(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    manifest.write(example(), tmp_path)
    with pytest.raises(ManifestError, match="the manifest says"):
        manifest.read_model_folder(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"model\.json"):
        manifest.read_model_folder(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(example()))
    with pytest.raises(ManifestError, match=r"model\.onnx"):
        manifest.read_model_folder(tmp_path)


@pytest.mark.parametrize("model", ["cifar10", "grocery"])
def test_a_shipped_manifest_states_the_mean_and_deviation_that_its_graph_has(model: str):
    described, path = manifest.read_model_folder(Path(__file__).parents[2] / "models" / model)
    graph = onnx.load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scale, shift = (
        next(node for node in graph.node if node.op_type == kind).input[1]
        for kind in ("Mul", "Add")
    )
    std = 1 / constants[scale].astype(float).ravel()
    np.testing.assert_allclose(std, described["input"]["std"], rtol=1e-5)
    np.testing.assert_allclose(
        -constants[shift].ravel() * std, described["input"]["mean"], rtol=1e-5
    )
