"""Augmentation of whole uint8 batches, on whatever device they are."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 ``[N,H,W,3]`` to float32 ``[N,3,H,W]``, channels-last in memory.

    `mean` and `std` are per channel in 0..255. The exported graph does the same.
    """
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


def mix(
    x: Tensor, labels: Tensor, classes: int, mixup: float, cutmix: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixes each image with its neighbour in the batch, by mixup or by CutMix.

    Where both are wanted, each batch gets one of them, chosen at random.

    Args:
        x: images ``[N,3,H,W]``; labels int64 ``[N]``.
        mixup, cutmix: parameter of the symmetric Beta distribution of the shares; 0: never.
    Returns:
        Images and targets, float ``[N,classes]``.

    Sources: Zhang et al., ICLR 2018; Yun et al., ICCV 2019.
    """
    kinds = [(kind, alpha) for kind, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha]
    kind, alpha = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    seed = int(torch.randint(2**31, (), generator=generator))
    rng = np.random.default_rng(seed)
    share = float(rng.beta(alpha, alpha))
    targets = F.one_hot(labels, classes).float()
    if kind == "mixup":
        x = share * x + (1 - share) * x.roll(1, 0)
    else:
        height, width = x.shape[2:]
        h, w = (round(side * math.sqrt(1 - share)) for side in (height, width))
        y0, x0 = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = max(0, y0 - h // 2), min(height, y0 + (h + 1) // 2)
        left, right = max(0, x0 - w // 2), min(width, x0 + (w + 1) // 2)
        neighbour = x.roll(1, 0)
        x = x.clone()
        x[:, :, top:bottom, left:right] = neighbour[:, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    return x, share * targets + (1 - share) * targets.roll(1, 0)


def augment(x: Tensor, generator: torch.Generator, crop_padding: int, erase: float) -> Tensor:
    """Random crop after reflection padding, horizontal flip and random erasing.

    Args:
        x: normalised images ``[N,3,H,W]``.
        generator: a CPU generator; the same seed gives the same augmentation.
        crop_padding: pixels padded on each side before cropping back to H x W.
        erase: probability that a square of a quarter of the side is set to zero,
            the mean colour.
    """
    count, _, height, width = x.shape
    device = x.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count, 1), generator=generator).to(device)

    rows = torch.arange(height, device=device) + draw(2 * crop_padding + 1)
    columns = torch.arange(width, device=device) + draw(2 * crop_padding + 1)
    columns = torch.where(draw(2).bool(), columns.flip(1), columns)
    padded = F.pad(x, [crop_padding] * 4, mode="reflect").permute(0, 2, 3, 1)
    image = torch.arange(count, device=device)[:, None, None]
    x = padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    if erase > 0:
        side = max(1, height // 4)
        top, left = draw(height - side + 1), draw(width - side + 1)
        chosen = torch.rand((count, 1), generator=generator).to(device) < erase
        line, column = torch.arange(height, device=device), torch.arange(width, device=device)
        in_rows = (line >= top) & (line < top + side) & chosen
        in_columns = (column >= left) & (column < left + side)
        x = x.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)
    return x
