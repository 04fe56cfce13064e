"""Image files brought to the size that a network takes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from adaptive_depth.errors import ToolkitError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class DataError(ToolkitError):
    """The data cannot be used; the message names the file or class."""


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


def _decode(source: Path | io.BytesIO, size: int, label: str) -> np.ndarray:
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
        images[row] = _decode(source, size, label)
    return images
