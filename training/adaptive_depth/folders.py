"""A folder of photos as three splits: sorted into ``train/``, ``val/`` and ``test/``, or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adaptive_depth.images import IMAGE_SUFFIXES, DataError

SPLITS = ("train", "val", "test")

TEST_SHARE, VAL_SHARE = 0.2, 0.1

BY_HASH = (
    f"of each class {TEST_SHARE:.0%} for test and {VAL_SHARE:.0%} for val, by a hash of file names"
)


@dataclass(frozen=True)
class FolderTree:
    """Files of each class of each split.

    Attributes:
        rule: how the splits came about: "as given", or `BY_HASH`.
        folders: of each split, for messages.
    """

    rule: str
    folders: dict[str, Path]
    files: dict[str, dict[str, list[Path]]]

    def classes(self, split: str) -> list[str]:
        """In the order of labels."""
        return sorted(self.files[split])

    def split(self, name: str) -> dict[str, list[Path]]:
        """Raises DataError when there is no such split."""
        if name not in self.files:
            root = self.folders["root"]
            raise DataError(f"{root}: folder {name}/ missing; expected {name}/<class>/*.jpg")
        return self.files[name]

    @property
    def held_out(self) -> str:
        """The split that evaluation reads."""
        return "test" if "test" in self.files else "val"


def read_tree(root: Path) -> FolderTree:
    """Lists ``<split>/<class>/*.jpg``, or splits ``<class>/*.jpg``.

    The photos of a class are split by a hash of their names, so that every command that reads
    the folder, on whatever machine, trains and judges on the same ones.

    Raises:
        DataError: for a class with fewer than three photos, where they have to be split.
    """
    given = [name for name in SPLITS if (root / name).is_dir()]
    if given:
        files = {name: _by_class(root / name) for name in given}
        return FolderTree("as given", {"root": root, **{n: root / n for n in given}}, files)
    files = {name: {} for name in SPLITS}
    found = {name: inside for name, inside in _by_class(root).items() if inside}
    if not found:
        raise DataError(f"{root}: expected <class>/*.jpg, or train/<class>/*.jpg and val/")
    for name, photos in found.items():
        if len(photos) < 3:
            raise DataError(f"{root / name}: {len(photos)} photos cannot be split, 3 needed")
        for split, chosen in zip(SPLITS, _by_hash(name, photos), strict=True):
            files[split][name] = sorted(chosen)
    return FolderTree(BY_HASH, dict.fromkeys(("root", *SPLITS), root), files)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    return {
        entry.name: sorted(f for f in entry.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        for entry in folder.iterdir()
        if entry.is_dir()
    }


def _by_hash(name: str, photos: Iterable[Path]) -> tuple[list[Path], list[Path], list[Path]]:
    """For train, val and test; at least one for each of the last two."""

    def place(photo: Path) -> bytes:
        return hashlib.sha256(f"{name}/{photo.name}".encode()).digest()

    order = sorted(photos, key=place)
    test = max(1, round(TEST_SHARE * len(order)))
    val = max(1, round(VAL_SHARE * len(order)))
    return order[test + val :], order[test : test + val], order[:test]
