"""``model.json``, the manifest beside an exported network.

The format is ``models/model.schema.json``, which the server validates with, too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema

from adaptive_depth import skip as skip_flags
from adaptive_depth.errors import ToolkitError

MANIFEST = "model.json"
SCHEMA = Path(__file__).with_name("model.schema.json")


class ManifestError(ToolkitError):
    """A manifest, or the model that it describes, is not what it should be."""


def validate(manifest: Any, source: str = MANIFEST) -> None:
    """Checks against the schema, and that each sub-network occurs exactly once.

    Args:
        source: named in the message.
    Raises:
        ManifestError: naming the field at fault.
    """
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    if error := jsonschema.exceptions.best_match(validator.iter_errors(manifest)):
        raise ManifestError(f"{source}: {error.json_path}: {error.message}")
    expected = sorted(map(skip_flags.name_of, skip_flags.all_sub_networks(len(manifest["flags"]))))
    if sorted(entry["skip"] for entry in manifest["subNetworks"]) != expected:
        raise ManifestError(f"{source}: $.subNetworks: not each of {', '.join(expected)} once")


def check_field(field: str, value: Any) -> None:
    """Checks one field, so that a bad name need not wait for a long evaluation to be told."""
    schema = json.loads(SCHEMA.read_text())["properties"][field]
    errors = jsonschema.Draft7Validator(schema).iter_errors(value)
    if error := jsonschema.exceptions.best_match(errors):
        raise ManifestError(f"{field}: {error.message}. {schema['description']}")


def read_model_folder(folder: Path) -> tuple[dict[str, Any], Path]:
    """The manifest in `folder` and the path of the ONNX file, whose checksum is verified."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: unreadable ({error})") from error
    validate(manifest, str(path))
    model = folder / manifest["file"]
    try:
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
    except OSError as error:
        raise ManifestError(f"{model}: unreadable ({error})") from error
    if digest != manifest["sha256"]:
        raise ManifestError(f"{model}: sha256 {digest}, the manifest says {manifest['sha256']}")
    return manifest, model


def write(manifest: dict[str, Any], folder: Path) -> None:
    """Validates, then writes beside and renames, so that a reader never sees half a file."""
    validate(manifest)
    partial = folder / (MANIFEST + ".partial")
    partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    partial.replace(folder / MANIFEST)
