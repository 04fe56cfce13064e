"""Image files brought to the size that a network takes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps
from tqdm import tqdm

from adaptive_depth.errors import ToolkitError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

SRGB = ImageCms.createProfile("sRGB")


class DataError(ToolkitError):
    """The data cannot be used; the message names the file or class."""


@dataclass(frozen=True)
class Frame:
    """How a picture of any size becomes the network's input; in the manifest it is ``input``.

    Attributes:
        size: height and width in pixels.
        resize: "cover" keeps the proportions and cuts off what is too much; "stretch" shows
            all of it.
        centre: share of height and width that is kept, from the middle.
        interpolation: "bilinear" or "bicubic", widened when it shrinks.
    """

    size: int
    resize: str = "cover"
    centre: float = 1.0
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, frame: Frame | int) -> Frame:
        """A number is a size, by the usual rule."""
        return cls(frame) if isinstance(frame, int) else frame

    @classmethod
    def from_manifest(cls, described: dict[str, Any]) -> Frame:
        entry = described["input"]
        return cls(
            entry["height"],
            entry["resize"],
            entry.get("centre", 1.0),
            entry.get("interpolation", "bilinear"),
        )

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """The size that a picture is scaled to, before its middle is cut out."""
        edge = round(self.size / self.centre)
        if self.resize == "stretch":
            return edge, edge
        scale = edge / min(width, height)
        return max(edge, round(width * scale)), max(edge, round(height * scale))


class LazyImages:
    """Image files that are decoded when they are read, in place of an array ``[N,S,S,3]``.

    For splits that would not fit into memory. Slices and arrays of row numbers give
    uint8 arrays; decoding runs in threads.
    """

    def __init__(
        self, files: Sequence[Path], frame: Frame | int, threads: int | None = None
    ) -> None:
        self.files, self.frame = list(files), Frame.of(frame)
        self.threads = threads or os.cpu_count() or 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files), self.frame.size, self.frame.size, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        files = self.subset(rows).files
        with ThreadPoolExecutor(self.threads) as pool:
            decoded = list(pool.map(lambda file: decode(file, self.frame, str(file)), files))
        return np.stack(decoded) if decoded else np.empty((0, *self.shape[1:]), np.uint8)

    def subset(self, rows: slice | np.ndarray) -> LazyImages:
        """The same for some of the files, not yet decoded."""
        files = self.files[rows] if isinstance(rows, slice) else [self.files[row] for row in rows]
        return LazyImages(files, self.frame, self.threads)


def upright_rgb(image: Image.Image) -> Image.Image:
    """The picture as it is meant to be seen: turned as its EXIF data say, in sRGB as far as a
    colour profile tells, transparency on white, 8 bits. The server does the same."""
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    return _in_srgb(image, profile)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A profile that is broken or of other channels is passed over."""
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(image, own, SRGB, outputMode="RGB") or image
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def resize_and_crop(image: Image.Image, frame: Frame) -> np.ndarray:
    """The network's input, RGB uint8, by the manifest's rule."""
    image = upright_rgb(image)
    size = frame.size
    wanted = width, height = frame.scaled(*image.size)
    if image.size != wanted:
        image = image.resize(wanted, Image.Resampling[frame.interpolation.upper()])
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def decode(source: Path | io.BytesIO, frame: Frame, label: str) -> np.ndarray:
    with opened(source, label) as image:
        return resize_and_crop(image, frame)


@contextmanager
def opened(source: Path | io.BytesIO, label: str) -> Iterator[Image.Image]:
    """The image in a file.

    Args:
        label: the name to call it by when it is not readable.
    Raises:
        DataError: also for what only shows while the image is used.
    """
    try:
        with Image.open(source) as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{label}: not a readable image ({error})") from error


def decode_all(
    sources: Iterable[tuple[Path | io.BytesIO, str]], total: int, frame: Frame, what: str
) -> np.ndarray:
    """Decodes `total` images to uint8 ``[total,size,size,3]``.

    Args:
        sources: each with the name to call it by when it is not readable.
        what: named by the progress bar.
    Raises:
        DataError: for the first image that is cut short or otherwise unreadable.
    """
    images = np.empty((total, frame.size, frame.size, 3), np.uint8)
    progress = tqdm(sources, total=total, desc=f"decoding {what}", unit="image", leave=False)
    for row, (source, label) in enumerate(progress):
        images[row] = decode(source, frame, label)
    return images
