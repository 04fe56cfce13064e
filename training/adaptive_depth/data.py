"""Image data: the CIFAR-10 archive of JPEG bytes, or any folder tree.

Both become the same thing, a `Dataset` of three splits held in memory as uint8
arrays. ``train`` is trained on, ``val`` draws the learning curves, ``test`` is
only ever read by the evaluation command.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class DataError(Exception):
    """The data cannot be used; the message names the file or class."""


@dataclass(frozen=True)
class Split:
    """Images uint8 ``[N,H,W,3]`` (RGB) and labels int64 ``[N]``."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Split:
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Dataset:
    """Three splits with the same classes.

    Attributes:
        mean, std: per channel over the training split, in 0..255.
    """

    name: str
    classes: list[str]
    train: Split
    val: Split
    test: Split
    mean: list[float]
    std: list[float]

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.images.shape[1]


def load(source: Path, size: int, val_per_class: int, seed: int = 0) -> Dataset:
    """Reads `source`: an ``.npz`` archive of JPEG bytes, or a folder tree.

    Args:
        size: height and width in pixels that images are brought to.
        val_per_class: images of each class moved from train to val where the source
            has no val split of its own (the archive).
    Raises:
        DataError: naming the file or class at fault.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.is_dir():
        return _load_folder(source, size)
    return _load_archive(source, size, val_per_class, seed)


def resize_and_crop(image: Image.Image, size: int) -> np.ndarray:
    """The manifest's resize rule ``cover``: shorter side to `size`, centre crop, RGB uint8."""
    image = image.convert("RGB")
    width, height = image.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def _decode(source: Path | io.BytesIO, size: int, label: str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            return resize_and_crop(image, size)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{label}: not a readable image ({error})") from error


def _decode_all(sources: Iterable[tuple[Path | io.BytesIO, str]], total: int, size: int, what: str):
    images = np.empty((total, size, size, 3), np.uint8)
    progress = tqdm(sources, total=total, desc=f"decoding {what}", unit="image", leave=False)
    for row, (source, label) in enumerate(progress):
        images[row] = _decode(source, size, label)
    return images


def _statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    sample = images[:: max(1, len(images) // 10_000)].astype(np.float64)
    return (
        [round(float(v), 3) for v in sample.mean(axis=(0, 1, 2))],
        [round(float(v), 3) for v in sample.std(axis=(0, 1, 2))],
    )


def _load_archive(path: Path, size: int, val_per_class: int, seed: int) -> Dataset:
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not an .npz archive ({error})") from error
    wanted = {"classes", *(f"{s}_{a}" for s in ("train", "test") for a in ("jpeg", "offsets"))}
    if missing := wanted - arrays.keys():
        raise DataError(f"{path}: arrays missing: {', '.join(sorted(missing))}")
    classes = [str(c) for c in arrays["classes"]]
    train = _archive_split(path, arrays, "train", size)
    test = _archive_split(path, arrays, "test", size)
    train, val = _hold_out(train, val_per_class, len(classes), seed)
    mean, std = _statistics(train.images)
    return Dataset(path.stem, classes, train, val, test, mean, std)


def _archive_split(path: Path, arrays: dict[str, np.ndarray], split: str, size: int) -> Split:
    jpeg, offsets = arrays[f"{split}_jpeg"], arrays[f"{split}_offsets"]
    labels = arrays[f"{split}_labels"].astype(np.int64)
    cache = _cache_file(path, f"{split}-{size}")
    if cache.exists():
        return Split(np.load(cache), labels)
    encoded = (
        (io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()), f"{path}: {split} image {i}")
        for i in range(len(labels))
    )
    images = _decode_all(encoded, len(labels), size, split)
    # Written beside and renamed, so that an interrupted run leaves no half cache.
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, images)
    partial.replace(cache)
    return Split(images, labels)


def _cache_file(path: Path, what: str) -> Path:
    """Decoded pixels live in the user's cache, keyed by the archive's path, size and time."""
    stat = path.stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{what}"
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "adaptive-depth" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"


def _hold_out(split: Split, per_class: int, classes: int, seed: int) -> tuple[Split, Split]:
    rng = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        if len(rows) <= per_class:
            raise DataError(f"class {label} has {len(rows)} images, {per_class} wanted for val")
        held.append(rng.choice(rows, per_class, replace=False))
    val_rows = np.sort(np.concatenate(held))
    return split.take(np.setdiff1d(np.arange(len(split)), val_rows)), split.take(val_rows)


def _load_folder(root: Path, size: int) -> Dataset:
    """``train/<class>/*.jpg`` and ``val/<class>/*.jpg``; ``test/`` is optional.

    Without a ``test`` folder the held-out split that gets evaluated is ``val``.
    """
    for name in ("train", "val"):
        if not (root / name).is_dir():
            raise DataError(f"{root}: folder {name}/ missing; expected {name}/<class>/*.jpg")
    classes = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: {len(classes)} class folders, at least 2 needed")
    train = _folder_split(root / "train", classes, size, every_class=True)
    val = _folder_split(root / "val", classes, size)
    test = _folder_split(root / "test", classes, size) if (root / "test").is_dir() else val
    mean, std = _statistics(train.images)
    return Dataset(root.name, classes, train, val, test, mean, std)


def _folder_split(folder: Path, classes: list[str], size: int, every_class: bool = False) -> Split:
    present = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    if unknown := sorted(present - set(classes)):
        raise DataError(f"{folder / unknown[0]}: class {unknown[0]!r} does not occur in train/")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = (
            sorted(
                file for file in (folder / name).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES
            )
            if name in present
            else []
        )
        if not found and (every_class or name in present):
            raise DataError(f"{folder / name}: class {name!r} has no images")
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder}: no images")
    named = ((file, str(file)) for file in files)
    images = _decode_all(named, len(files), size, folder.name)
    return Split(images, np.asarray(labels, np.int64))
