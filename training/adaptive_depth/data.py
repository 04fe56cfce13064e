"""Image data: the CIFAR-10 archive of JPEG bytes, or any folder of photos.

Both become the same thing, a `Dataset` of three splits held in memory as uint8
arrays. ``train`` is trained on, ``val`` draws the learning curves, ``test`` is
only ever read by the evaluation command.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptive_depth.folders import FolderTree, read_tree
from adaptive_depth.images import IMAGE_SUFFIXES, DataError, Frame, LazyImages, decode_all

LAZY_ABOVE = 2**31
"""Bytes of decoded pixels above which a split of a folder tree is not held in memory."""


@dataclass(frozen=True)
class Split:
    """Images uint8 ``[N,H,W,3]`` (RGB) and labels int64 ``[N]``."""

    images: np.ndarray | LazyImages
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Split:
        if isinstance(self.images, LazyImages):
            return Split(self.images.subset(rows), self.labels[rows])
        return Split(self.images[rows], self.labels[rows])

    @property
    def batch_size(self) -> int:
        """How many to classify at once: photos in small batches, for their maps take 50 times the
        memory of thumbnails."""
        return max(8, min(500, 2**20 // self.images.shape[1] ** 2))


@dataclass(frozen=True)
class Dataset:
    """Three splits with the same classes.

    Attributes:
        mean, std: per channel over the training split, in 0..255.
        split_rule: how the images came to be split.
    """

    name: str
    classes: list[str]
    train: Split
    val: Split
    test: Split
    mean: list[float]
    std: list[float]
    split_rule: str = "as given"

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return self.train.images.shape[1]

    def counts(self) -> dict[str, int]:
        """Images in each split."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


@dataclass(frozen=True)
class HeldOut:
    """The split that evaluation reads: ``test``, or ``val`` of a folder tree without one.

    Photos that lie in class folders only are split as `folders.read_tree` does it.
    """

    name: str
    split_name: str
    split: Split


def load(
    source: Path, frame: Frame | int, val_per_class: int, seed: int = 0, lazy: bool = False
) -> Dataset:
    """Reads `source`: an ``.npz`` archive of JPEG bytes, or a folder tree, packed or not.

    Args:
        frame: what images are brought to; a number is a size, by the usual rule.
        val_per_class: images of each class moved from train to val where the source
            has no val split of its own (the archive).
        lazy: leave the training split of a folder tree as files.
    Raises:
        DataError: naming the file or class at fault.
    """
    name, source = _name_of(source), _unpacked(source)
    if source.is_dir():
        return _load_folder(source, Frame.of(frame), name, lazy)
    if lazy:
        raise DataError(f"{source}: only a folder tree can be decoded as it is read")
    return _load_archive(source, Frame.of(frame), val_per_class, seed)


def load_held_out(
    source: Path, frame: Frame | int, classes: Sequence[str], limit: int | None = None
) -> HeldOut:
    """Reads only the held-out split of `source`, for a network trained on `classes`.

    Args:
        limit: at most so many images, spread evenly over the split, for a quick look.
    """
    name, source = _name_of(source), _unpacked(source)
    if source.is_dir():
        tree = read_tree(source)
        split_name = tree.held_out
        split = _folder_split(tree, split_name, classes, Frame.of(frame))
    else:
        split_name, arrays = "test", _read_archive(source)
        _require_classes(source, [str(c) for c in arrays["classes"]], classes)
        split = _archive_split(source, arrays, split_name, Frame.of(frame))
    if limit is not None and limit < len(split):
        split = split.take(np.arange(limit) * len(split) // limit)
    return HeldOut(name, split_name, split)


def load_val(
    source: Path, frame: Frame | int, classes: Sequence[str], val_per_class: int, seed: int = 0
) -> Split:
    """The training images that were set aside, of a network trained on `classes`: as `load` does,
    without reading the others where they are files of their own."""
    unpacked = _unpacked(source)
    if not unpacked.is_dir():
        dataset = _load_archive(unpacked, Frame.of(frame), val_per_class, seed)
        _require_classes(source, dataset.classes, classes)
        return dataset.val
    tree = read_tree(unpacked)
    tree.split("train")
    _require_classes(source, tree.classes("train"), classes)
    return _folder_split(tree, "val", classes, Frame.of(frame))


def _require_classes(source: Path, own: list[str], classes: Sequence[str]) -> None:
    """Labels are places in that order."""
    if own != list(classes):
        raise DataError(f"{source}: its classes are not the network's")


def class_folders(source: Path) -> list[str]:
    """Names of the classes in the held-out split of a folder tree, in the order of labels."""
    tree = read_tree(source)
    tree.split(tree.held_out)
    return tree.classes(tree.held_out)


def _name_of(source: Path) -> str:
    return source.absolute().name.removesuffix(".tar").removesuffix(".npz")


def _unpacked(source: Path) -> Path:
    """`source`, or the folder tree in the user's cache that the ``.tar`` `source` holds."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.suffix != ".tar":
        return source
    folder = _cache_file(source, "unpacked").with_suffix("")
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        try:
            with tarfile.open(source) as archive:
                # This filter refuses links and paths that lead out of the folder.
                archive.extractall(partial, filter="data")
            partial.replace(folder)
        except (tarfile.TarError, OSError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not folder.exists():  # else another process was quicker
                raise DataError(f"{source}: cannot be unpacked ({error})") from error
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder


def _statistics(images: np.ndarray | LazyImages) -> tuple[list[float], list[float]]:
    wanted = 1000 if isinstance(images, LazyImages) else 10_000
    sample = images[:: max(1, len(images) // wanted)].astype(np.float64)
    return (
        [round(float(v), 3) for v in sample.mean(axis=(0, 1, 2))],
        [round(float(v), 3) for v in sample.std(axis=(0, 1, 2))],
    )


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not an .npz archive ({error})") from error
    wanted = {
        "classes",
        *(f"{s}_{a}" for s in ("train", "test") for a in ("jpeg", "offsets", "labels")),
    }
    if missing := wanted - arrays.keys():
        raise DataError(f"{path}: arrays missing: {', '.join(sorted(missing))}")
    return arrays


def _load_archive(path: Path, frame: Frame, val_per_class: int, seed: int) -> Dataset:
    arrays = _read_archive(path)
    classes = [str(c) for c in arrays["classes"]]
    train = _archive_split(path, arrays, "train", frame)
    test = _archive_split(path, arrays, "test", frame)
    train, val = _hold_out(train, val_per_class, classes, seed)
    mean, std = _statistics(train.images)
    return Dataset(_name_of(path), classes, train, val, test, mean, std)


def _archive_split(path: Path, arrays: dict[str, np.ndarray], split: str, frame: Frame) -> Split:
    jpeg, offsets = arrays[f"{split}_jpeg"], arrays[f"{split}_offsets"]
    labels = arrays[f"{split}_labels"].astype(np.int64)
    cache = _cache_file(
        path, f"{split}-{frame.size}" if frame == Frame(frame.size) else f"{split}-{frame}"
    )
    if cache.exists():
        return Split(np.load(cache), labels)
    encoded = (
        (io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()), f"{path}: {split} image {i}")
        for i in range(len(labels))
    )
    images = decode_all(encoded, len(labels), frame, split)
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


def _hold_out(split: Split, per_class: int, classes: list[str], seed: int) -> tuple[Split, Split]:
    rng = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for label, name in enumerate(classes):
        rows = np.flatnonzero(split.labels == label)
        if len(rows) <= per_class:
            raise DataError(
                f"class {name!r} has {len(rows)} images, too few to set {per_class} aside for val"
            )
        held.append(rng.choice(rows, per_class, replace=False))
    val_rows = np.sort(np.concatenate(held))
    return split.take(np.setdiff1d(np.arange(len(split)), val_rows)), split.take(val_rows)


def _load_folder(root: Path, frame: Frame, name: str, lazy: bool) -> Dataset:
    """Without a ``test`` folder the held-out split that gets evaluated is ``val``."""
    tree = read_tree(root)
    tree.split("train"), tree.split("val")
    classes = tree.classes("train")
    if len(classes) < 2:
        raise DataError(f"{tree.folders['train']}: {len(classes)} class folders, at least 2 needed")
    train = _folder_split(tree, "train", classes, frame, every_class=True, lazy=lazy)
    val = _folder_split(tree, "val", classes, frame)
    test = _folder_split(tree, "test", classes, frame) if "test" in tree.files else val
    mean, std = _statistics(train.images)
    return Dataset(name, classes, train, val, test, mean, std, tree.rule)


def _folder_split(
    tree: FolderTree,
    name: str,
    classes: Sequence[str],
    frame: Frame,
    every_class: bool = False,
    lazy: bool = False,
) -> Split:
    present, folder = tree.split(name), tree.folders[name]
    if unknown := sorted(present.keys() - set(classes)):
        raise DataError(f"{folder / unknown[0]}: class {unknown[0]!r} does not occur in train/")
    suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
    files: list[Path] = []
    labels: list[int] = []
    for label, own in enumerate(classes):
        found = present.get(own, [])
        if not found and (every_class or own in present):
            raise DataError(f"{folder / own}: class {own!r} has no images ({suffixes})")
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder}: no images")
    labels_array = np.asarray(labels, np.int64)
    if lazy or len(files) * frame.size**2 * 3 > LAZY_ABOVE:
        return Split(LazyImages(files, frame), labels_array)
    named = ((file, str(file)) for file in files)
    return Split(decode_all(named, len(files), frame, name), labels_array)
