"""Image files brought to the size that a network takes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from adaptive_depth.errors import ToolkitError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class DataError(ToolkitError):
    """The data cannot be used; the message names the file or class."""


class LazyImages:
    """Image files that are decoded when they are read, in place of an array ``[N,S,S,3]``.

    For splits that would not fit into memory. Slices and arrays of row numbers give
    uint8 arrays; decoding runs in threads.
    """

    def __init__(self, files: Sequence[Path], size: int, threads: int | None = None) -> None:
        self.files, self.size = list(files), size
        self.threads = threads or os.cpu_count() or 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files), self.size, self.size, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        files = self.subset(rows).files
        with ThreadPoolExecutor(self.threads) as pool:
            decoded = list(pool.map(lambda file: decode(file, self.size, str(file)), files))
        return np.stack(decoded) if decoded else np.empty((0, *self.shape[1:]), np.uint8)

    def subset(self, rows: slice | np.ndarray) -> LazyImages:
        """The same for some of the files, not yet decoded."""
        files = self.files[rows] if isinstance(rows, slice) else [self.files[row] for row in rows]
        return LazyImages(files, self.size, self.threads)


def resize_and_crop(image: Image.Image, size: int) -> np.ndarray:
    """The manifest's resize rule ``cover``: turned as its EXIF data say, shorter side to
    `size`, centre crop, RGB uint8."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height = image.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image)


def decode(source: Path | io.BytesIO, size: int, label: str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            return resize_and_crop(image, size)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{label}: not a readable image ({error})") from error


def decode_all(
    sources: Iterable[tuple[Path | io.BytesIO, str]], total: int, size: int, what: str
) -> np.ndarray:
    """Decodes `total` images to uint8 ``[total,size,size,3]``.

    Args:
        sources: each with the name to call it by when it is not readable.
        what: named by the progress bar.
    Raises:
        DataError: for the first image that is cut short or otherwise unreadable.
    """
    images = np.empty((total, size, size, 3), np.uint8)
    progress = tqdm(sources, total=total, desc=f"decoding {what}", unit="image", leave=False)
    for row, (source, label) in enumerate(progress):
        images[row] = decode(source, size, label)
    return images
