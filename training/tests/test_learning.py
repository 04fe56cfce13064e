"""Every family learns: a few steps on coloured noise, then all its sub-networks answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import REDUCED

from adaptive_depth import curves
from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.data import Dataset, Split
from adaptive_depth.distill import DistillConfig
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.trainer import TrainConfig, Trainer


def coloured_noise(count: int, size: int) -> Split:
    """Three classes, told apart by their strongest channel."""
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 3
    images = rng.integers(0, 120, (count, size, size, 3), np.uint8)
    images[np.arange(count), :, :, labels] += 100
    return Split(images, labels)


def config_for(family: str) -> TrainConfig:
    arch, options, _ = REDUCED[family]
    transformer = family in {"vit_b_16", "swin_t"}
    return TrainConfig(
        arch=arch,
        options=options,
        epochs=8,
        batch_size=24,
        lr=3e-3 if transformer else 0.2,
        warmup_epochs=0.5,
        ema=0.0,
        crop_padding=2,
        optimiser=OptimiserConfig(kind="adamw", clip_norm=1.0)
        if transformer
        else OptimiserConfig(),
        distill=DistillConfig(feature=0.1, label_smoothing=0.0),
    )


@pytest.mark.parametrize("family", REDUCED)
def test_the_loss_falls_and_every_sub_network_is_finite(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "write", lambda history, folder: None)  # slower than learning
    size = REDUCED[family][2]
    train, val = coloured_noise(96, size), coloured_noise(6, size)
    dataset = Dataset("noise", list("rgb"), train, val, val, [60.0] * 3, [60.0] * 3)
    trainer = Trainer(config_for(family), dataset, tmp_path)
    trainer.run("train")
    first, last = trainer.history[0], trainer.history[-1]
    assert last["super_loss"] < 0.8 * first["super_loss"]
    x = normalise(torch.from_numpy(val.images), trainer.mean, trainer.std)
    network = trainer.deployed().eval()
    with torch.inference_mode():
        for skip in skip_flags.all_sub_networks(network.flags):
            assert network(x, skip).isfinite().all()
