"""Accuracy of every sub-network on the held-out split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from adaptive_depth import skip as skip_flags
from adaptive_depth.data import Split
from adaptive_depth.skip import SkipFlags

Classifier = Callable[[np.ndarray, SkipFlags], np.ndarray]
"""Logits ``[N,classes]`` of images uint8 ``[N,H,W,3]``, by one sub-network."""


def correct_answers(
    logits: Classifier, flags: int, split: Split, batch_size: int = 250
) -> np.ndarray:
    """Whether each sub-network gets each image right: bool ``[2^flags,N]``."""
    sub_networks = skip_flags.all_sub_networks(flags)
    correct = np.empty((len(sub_networks), len(split)), bool)
    with tqdm(total=correct.size, unit="image", desc="evaluating") as bar:
        for row, skip in enumerate(sub_networks):
            bar.set_postfix_str(skip_flags.name_of(skip))
            for start in range(0, len(split), batch_size):
                part = slice(start, start + batch_size)
                images = np.ascontiguousarray(split.images[part])
                correct[row, part] = logits(images, skip).argmax(1) == split.labels[part]
                bar.update(len(images))
    return correct
