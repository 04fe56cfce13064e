"""Augmentation of single photos on the CPU, for data sets that are decoded as they are read.

Sources: random resized crops, Szegedy et al., CVPR 2015; TrivialAugment, Müller &
Hutter, ICCV 2021 (wide space); RandAugment, Cubuk et al., NeurIPS 2020; random erasing,
Zhong et al., AAAI 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, float, tuple[int, ...]], Image.Image]
"""Of an image, a strength, and the colour of what geometry uncovers."""


@dataclass(frozen=True)
class PhotoConfig:
    """Attributes:
    size: height and width of the crops in pixels.
    policy: "none", "trivial" (TrivialAugment) or "rand" (RandAugment, 2 operations of
        magnitude 9 of 30).
    erase: probability that a random rectangle is filled with the mean colour.
    bicubic: resize with bicubic instead of bilinear interpolation.
    area: smallest share of the photo that a random crop shows.
    """

    size: int
    policy: str = "none"
    erase: float = 0.0
    bicubic: bool = False
    area: float = 0.08


def augment_photo(
    image: Image.Image, config: PhotoConfig, fill: list[float], rng: np.random.Generator
) -> np.ndarray:
    """An RGB photo of any size to uint8 ``[size,size,3]``.

    Args:
        fill: mean colour, 0..255, for erased rectangles and what geometry uncovers.
    """
    resample = Image.Resampling.BICUBIC if config.bicubic else Image.Resampling.BILINEAR
    image = random_resized_crop(image, config.size, resample, rng, config.area)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    colour = tuple(round(value) for value in fill)
    if config.policy == "trivial":
        image = _apply(image, _WIDE, rng.integers(31) / 30, colour, rng)
    elif config.policy == "rand":
        for _ in range(2):
            image = _apply(image, _NARROW, 9 / 30, colour, rng)
    pixels = np.array(image)
    if rng.random() < config.erase:
        erase_rectangle(pixels, colour, rng)
    return pixels


def random_resized_crop(
    image: Image.Image,
    size: int,
    resample: Image.Resampling,
    rng: np.random.Generator,
    smallest: float = 0.08,
) -> Image.Image:
    """From `smallest` to all of the area, with a ratio between 3:4 and 4:3, brought to `size`."""
    width, height = image.size
    for _ in range(10):
        area = rng.uniform(smallest, 1.0) * width * height
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return image.resize((size, size), resample, box=(left, top, left + w, top + h))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), resample, box=(left, top, left + side, top + side))


def erase_rectangle(pixels: np.ndarray, colour: tuple[int, ...], rng: np.random.Generator) -> None:
    """Fills 2 to 33 % of `pixels` ``[H,W,3]``, in place."""
    height, width = pixels.shape[:2]
    for _ in range(10):
        area = rng.uniform(0.02, 0.33) * height * width
        ratio = math.exp(rng.uniform(math.log(0.3), math.log(3.3)))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < h < height and 0 < w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            pixels[top : top + h, left : left + w] = colour
            return


def _affine(matrix: Callable[[float], tuple[float, ...]]) -> Operation:
    """`matrix` gives, for a strength, the first two rows of the map from output to input."""

    def apply(image: Image.Image, strength: float, colour: tuple[int, ...]) -> Image.Image:
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix(strength), fillcolor=colour
        )

    return apply


def _enhance(kind: type) -> Operation:
    return lambda image, strength, colour: kind(image).enhance(1 + strength)


# Each operation, whether its strength may be negative too, and its largest strength in
# the wide (TrivialAugment) and in the narrow (RandAugment) space.
_OPERATIONS: list[tuple[Operation, bool, float, float]] = [
    (lambda image, s, colour: image, False, 0, 0),
    (_affine(lambda s: (1, s, 0, 0, 1, 0)), True, 0.99, 0.3),
    (_affine(lambda s: (1, 0, 0, s, 1, 0)), True, 0.99, 0.3),
    (_affine(lambda s: (1, 0, s, 0, 1, 0)), True, 32, 33),
    (_affine(lambda s: (1, 0, 0, 0, 1, s)), True, 32, 33),
    (lambda image, s, colour: image.rotate(s, fillcolor=colour), True, 135, 30),
    (_enhance(ImageEnhance.Brightness), True, 0.99, 0.9),
    (_enhance(ImageEnhance.Color), True, 0.99, 0.9),
    (_enhance(ImageEnhance.Contrast), True, 0.99, 0.9),
    (_enhance(ImageEnhance.Sharpness), True, 0.99, 0.9),
    (lambda image, s, colour: ImageOps.posterize(image, 8 - round(s)), False, 6, 4),
    (lambda image, s, colour: ImageOps.solarize(image, round(256 - s)), False, 256, 256),
    (lambda image, s, colour: ImageOps.autocontrast(image), False, 0, 0),
    (lambda image, s, colour: ImageOps.equalize(image), False, 0, 0),
]
_WIDE = [(operation, signed, wide) for operation, signed, wide, _ in _OPERATIONS]
_NARROW = [(operation, signed, narrow) for operation, signed, _, narrow in _OPERATIONS]


def _apply(
    image: Image.Image,
    operations: list[tuple[Operation, bool, float]],
    share: float,
    colour: tuple[int, ...],
    rng: np.random.Generator,
) -> Image.Image:
    """A random operation with `share` of its largest strength."""
    operation, signed, largest = operations[rng.integers(len(operations))]
    strength = share * largest
    if signed and rng.random() < 0.5:
        strength = -strength
    return operation(image, strength, colour)
