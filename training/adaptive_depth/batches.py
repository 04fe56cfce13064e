"""The training images of an epoch, augmented and normalised, batch by batch.

Either from memory, augmented as whole batches on the device (small images), or from
photo files, decoded and augmented one by one in worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from adaptive_depth.augment import augment, normalise
from adaptive_depth.data import Split
from adaptive_depth.distributed import Group
from adaptive_depth.images import DataError, LazyImages, opened, upright_rgb
from adaptive_depth.photo_augment import PhotoConfig, augment_photo


class Batches(Protocol):
    """A source of training batches.

    Attributes:
        steps: batches per epoch. The last, smaller one is left out: its statistics
            would be noisier.
    """

    steps: int

    def epoch(self, seed: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each batch: images ``[n,3,H,W]``, labels int64 ``[n]``.

        Args:
            seed: of the epoch.
            generator: drawn from equally in all processes.
        """
        ...


class MemoryBatches:
    """Images held in memory; random crops after padding, flips and erasing.

    Args:
        batch_size: images per step in all processes together.
        crop_padding, erase: see `augment.augment`.
        mean, std: per channel in 0..255, on the device that trains.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        group: Group,
        mean: Tensor,
        std: Tensor,
        crop_padding: int,
        erase: float,
    ) -> None:
        if isinstance(split.images, LazyImages):
            raise DataError("the training images do not fit into memory: use --crop resized")
        self.images = torch.from_numpy(split.images)
        self.labels = torch.from_numpy(split.labels)
        self.batch_size, self.group = batch_size, group
        self.mean, self.std = mean, std
        self.crop_padding, self.erase = crop_padding, erase
        self.steps = max(1, len(split) // batch_size)

    def epoch(self, seed: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=generator)
        device = self.mean.device
        for step in range(self.steps):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            rows = rows[self.group.rank :: self.group.size]
            x = normalise(self.images[rows].to(device), self.mean, self.std)
            x = augment(x, generator, self.crop_padding, self.erase)
            yield x, self.labels[rows].to(device)


class PhotoBatches:
    """Photo files; random resized crops, flips and the recipe's policy, in worker processes.

    Each photo's augmentation is seeded by the epoch and its place in it, so that it does
    not depend on the number of workers.

    Args:
        repeats: times that a photo occurs in an epoch, each time augmented differently
            (repeated augmentation, Hoffer et al., CVPR 2020). An epoch is as long as
            without, so it shows only one in so many photos.
        workers: processes that decode; 0 decodes in this one.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        group: Group,
        mean: Tensor,
        std: Tensor,
        photo: PhotoConfig,
        repeats: int,
        workers: int,
    ) -> None:
        if not isinstance(split.images, LazyImages):
            raise DataError("random resized crops need the photos themselves: a folder tree")
        self.photos = _Photos(split, photo, mean.tolist())
        self.batch_size, self.group = batch_size, group
        self.mean, self.std = mean, std
        self.repeats, self.workers = repeats, workers
        self.steps = max(1, len(split) // batch_size)

    def epoch(self, seed: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.photos)
        order = torch.randperm(count, generator=generator)
        order = order.repeat_interleave(self.repeats)[: max(count, 1)]
        keys = [(seed, place, int(row)) for place, row in enumerate(order)]
        batches = [
            keys[step * self.batch_size : (step + 1) * self.batch_size][
                self.group.rank :: self.group.size
            ]
            for step in range(self.steps)
        ]
        device = self.mean.device
        loader = DataLoader(
            self.photos,
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=device.type == "cuda",
        )
        for images, labels in loader:
            x = normalise(images.to(device, non_blocking=True), self.mean, self.std)
            yield x, labels.to(device, non_blocking=True)


class _Photos(TorchDataset):
    """Decodes and augments one photo, given (epoch's seed, place in the epoch, row)."""

    def __init__(self, split: Split, photo: PhotoConfig, fill: list[float]) -> None:
        assert isinstance(split.images, LazyImages)
        self.files, self.labels = split.images.files, split.labels
        self.photo, self.fill = photo, fill

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, int]:
        *seed, row = key
        with opened(self.files[row], str(self.files[row])) as image:
            photo = upright_rgb(image)
        rng = np.random.default_rng(seed)
        pixels = augment_photo(photo, self.photo, self.fill, rng)
        return torch.from_numpy(pixels), int(self.labels[row])
