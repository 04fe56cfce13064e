"""The data that the shipped models were trained on, where they are there."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_DATA
from PIL import Image

from adaptive_depth import data
from adaptive_depth.images import Frame, resize_and_crop


def shared(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_the_clothing_photographs_are_read():
    with tarfile.open(shared("clothing14_128.tar")) as archive:
        names = {Path(name).parts[2] for name in archive.getnames() if "/test/" in name}
    held_out = data.load_held_out(shared("clothing14_128.tar"), 32, sorted(names))
    assert (held_out.split_name, len(held_out.split)) == ("test", 998)
    assert (np.bincount(held_out.split.labels) > 0).sum() == 14


def test_the_cifar_archive_is_read():
    arrays = data._read_archive(shared("cifar10_jpeg.npz"))
    assert [len(arrays[f"{split}_labels"]) for split in ("train", "test")] == [50_000, 10_000]
    first = arrays["test_jpeg"][: arrays["test_offsets"][1]].tobytes()
    assert resize_and_crop(Image.open(io.BytesIO(first)), Frame(32)).shape == (32, 32, 3)
