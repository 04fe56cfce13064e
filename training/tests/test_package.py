"""The wheel, built from the sdist, works where there is no repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import write_folder_tree

TRAINING = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made of what is in it."""
    folder = tmp_path_factory.mktemp("built")
    call(sys.executable, "-m", "build", "--outdir", str(folder), str(TRAINING), cwd=folder)
    return folder


def call(*command: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_both_hold_what_the_repository_links_to(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    (wheel,) = built.glob("*.whl")
    schema = (TRAINING / "adaptive_depth" / "model.schema.json").read_bytes()
    with tarfile.open(sdist) as archive:
        root = archive.getnames()[0]
        for name in ("adaptive_depth/model.schema.json", "LICENSE"):
            member = archive.extractfile(f"{root}/{name}")
            assert member is not None, name
            assert member.read() == (TRAINING / name).read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("adaptive_depth/model.schema.json") == schema
        names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "adaptive_depth/recipes/swin_t.toml" in names
    assert not [name for name in names if name.startswith("tests")]


def test_installed_it_trains_and_exports_from_an_empty_folder(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    # The dependencies are those of this environment; the package is the wheel's.
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    call(*pip, "--target", str(site), str(wheel), cwd=empty)

    def adaptive_depth(*arguments: str) -> str:
        command = str(site / "bin" / "adaptive-depth")
        return call(sys.executable, command, *arguments, cwd=empty, PYTHONPATH=str(site))

    where = "import adaptive_depth; print(adaptive_depth.__file__)"
    imported = call(sys.executable, "-c", where, cwd=empty, PYTHONPATH=str(site))
    assert Path(imported.strip()).is_relative_to(site)

    write_folder_tree(empty / "data", {"train": 12, "val": 4, "test": 4})
    small = "--blocks 2,2 --widths 8,16 --size 16 --epochs 1 --batch-size 12"
    adaptive_depth("train", "--data", "data", "--out", "run", *small.split())
    name = ("--name", "toy", "--version", "1.0.0", "--threads", "1")
    # Holds the manifest to the schema that the wheel brings, and the file to PyTorch's logits.
    adaptive_depth("export", "--run", "run", "--out", "model", *name)
    assert (empty / "model" / "model.onnx").stat().st_size > 0
    assert json.loads((empty / "model" / "model.json").read_text())["name"] == "toy"
