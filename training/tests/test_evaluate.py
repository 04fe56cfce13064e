"""Sub-networks judged on a split."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_depth.data import Split
from adaptive_depth.evaluate import answers


@pytest.mark.parametrize(("size", "expected"), [(8, [40]), (256, [16, 16, 8]), (512, [8] * 5)])
def test_photos_are_classified_in_smaller_batches_than_thumbnails(size: int, expected: list[int]):
    images = np.zeros((40, size, size, 3), np.uint8)
    batches = []

    def logits(batch: np.ndarray, skip: tuple[bool, ...]) -> np.ndarray:
        batches.append(len(batch))
        return np.zeros((len(batch), 2), np.float32)

    correct, _, _ = answers(logits, [(False,)], Split(images, np.zeros(40, np.int64)), {})
    assert batches == expected and correct.all()
