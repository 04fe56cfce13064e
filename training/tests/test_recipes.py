"""Recipes and what they need: photos read lazily, policies, mixing, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_folder_tree
from families import reduced
from PIL import Image

from adaptive_depth import data, networks
from adaptive_depth.augment import mix
from adaptive_depth.batches import PhotoBatches
from adaptive_depth.cli import main
from adaptive_depth.distributed import Group
from adaptive_depth.images import DataError, LazyImages
from adaptive_depth.optimisation import OptimiserConfig, learning_rate, weight_decay_groups
from adaptive_depth.photo_augment import PhotoConfig, augment_photo
from adaptive_depth.train import RECIPES, shipped_recipes

FILL = [120.0, 110.0, 100.0]


@pytest.mark.parametrize("recipe", shipped_recipes())
def test_every_recipe_is_accepted_as_far_as_the_data(recipe: str, tmp_path: Path, capsys) -> None:
    arguments = ["train", "--recipe", recipe, "--data", str(tmp_path / "none"), "--out", "x"]
    assert main(arguments) == 1
    assert "none: no such file or folder" in capsys.readouterr().err
    values = tomllib.loads((RECIPES / f"{recipe}.toml").read_text())
    assert values.get("arch", "resnet50") in networks.ARCHITECTURES


def test_a_recipe_with_an_unknown_option_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "r.toml").write_text("learning_speed = 3\n")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--recipe", str(tmp_path / "r.toml"), "--data", "x", "--out", "y"])
    assert stop.value.code == 2
    assert "unknown option 'learning_speed'" in capsys.readouterr().err


def test_fine_tuning_on_photos_from_a_checkpoint(tmp_path: Path) -> None:
    """With a published network's names, options that follow the recipe, and lazy photos."""
    tree = write_folder_tree(tmp_path / "garments", {"train": 8, "val": 2}, size=40)
    (tmp_path / "o.toml").write_text('arch = "mobilenet_v2"\nepochs = 300\ncrop = "resized"\n')
    torch.save({"model": reduced("mobilenet_v2", 5)[0].state_dict()}, "w.pt")
    arguments = [
        *("train", "--recipe", str(tmp_path / "o.toml"), "--data", str(tree)),
        *("--out", str(tmp_path / "run"), "--start", "w.pt"),
        *("--option", 'model="timm:reduced_mobilenet_v2"'),
        *("--size", "32", "--epochs", "1", "--batch-size", "6", "--lr", "0.01"),
        *("--mixup", "0.2", "--cutmix", "1.0", "--policy", "trivial", "--repeats", "2"),
    ]
    assert main(arguments) == 0
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert config["epochs"] == 1 and config["crop"] == "resized"
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["network"]["classifier.1.bias"].shape == (3,)
    assert state["mean"] == [123.675, 116.28, 103.53], "those of the weights it starts from"
    assert main([*arguments, "--resume", "--workers", "1"]) == 0


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_lazy_images_equal_decoded_ones(folder_tree: Path) -> None:
    eager, lazy = (data.load(folder_tree, 16, 0, lazy=lazy) for lazy in (False, True))
    assert isinstance(lazy.train.images, LazyImages) and lazy.size == 16
    np.testing.assert_array_equal(lazy.train.images[3:7], eager.train.images[3:7])
    rows = np.array([5, 1])
    np.testing.assert_array_equal(lazy.train.take(rows).images[:], eager.train.take(rows).images[:])


def test_photo_batches_do_not_depend_on_the_number_of_workers(folder_tree: Path) -> None:
    train = data.load(folder_tree, 16, 0, lazy=True).train
    photo = PhotoConfig(16, "rand", erase=0.5)

    def epoch(workers: int, group: Group) -> tuple[torch.Tensor, torch.Tensor]:
        batches = PhotoBatches(
            train, 8, group, torch.tensor(FILL), torch.ones(3), photo, repeats=2, workers=workers
        )
        generator = torch.Generator().manual_seed(3)
        images, labels = zip(*batches.epoch(3, generator), strict=True)
        assert len(images) == batches.steps == 36 // 8
        return torch.stack(images), torch.stack(labels)

    images, labels = epoch(0, Group())
    assert images.shape[1:] == (8, 3, 16, 16)
    for again, same in zip(epoch(2, Group()), (images, labels), strict=True):
        torch.testing.assert_close(again, same)
    shares = [epoch(0, Group(rank, 2))[0] for rank in (0, 1)]
    torch.testing.assert_close(torch.stack(shares, dim=2).flatten(1, 2), images)


def test_photos_are_trained_on_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, 8:] = 255  # at the right; turned by a quarter, below
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    split = data.Split(LazyImages([tmp_path / "a.png"], 16), np.zeros(1, np.int64))
    photo = PhotoConfig(16, area=1.0)
    batches = PhotoBatches(split, 1, Group(), torch.zeros(3), torch.ones(3), photo, 1, 0)
    [(images, _)] = batches.epoch(0, torch.Generator())
    assert images[0, :, :5].mean() < 10 and images[0, :, 11:].mean() > 245


def test_resized_crops_need_files() -> None:
    split = data.Split(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64))
    with pytest.raises(DataError, match="a folder tree"):
        PhotoBatches(split, 2, Group(), torch.ones(3), torch.ones(3), PhotoConfig(8), 1, 0)


@pytest.mark.parametrize("policy", ["none", "trivial", "rand"])
def test_augmented_photos_have_their_size_and_differ(policy: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    image = Image.fromarray(pixels)
    config = PhotoConfig(24, policy, erase=0.3)
    outputs = {
        augment_photo(image, config, FILL, np.random.default_rng(seed)).tobytes()
        for seed in range(60)
    }
    assert len(outputs) > 55, "but for some that are black"
    assert all(len(output) == 24 * 24 * 3 for output in outputs)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_targets_are_mixed_as_the_pixels_are(mixup: float, cutmix: float) -> None:
    labels = torch.tensor([0, 1, 2, 3])
    x = labels.float()[:, None, None, None].expand(4, 3, 16, 16)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        mixed, targets = mix(x, labels, 4, mixup, cutmix, generator)
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        expected = (targets * torch.arange(4.0)).sum(1)
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), expected, atol=1e-5, rtol=1e-5)


def test_steps_and_partial_warm_up() -> None:
    config = OptimiserConfig(schedule="steps", milestones=[3, 6], warmup_start=0.1)
    rates = [learning_rate(step, 80, 10, 1.0, config, steps_per_epoch=10) for step in range(80)]
    assert rates[0] == pytest.approx(0.1 + 0.9 / 10) and rates[9] == pytest.approx(1)
    assert rates[29] == 1 and rates[30] == pytest.approx(0.1) and rates[60] == pytest.approx(0.01)
    floor = OptimiserConfig(rate_end=0.01)
    assert learning_rate(100, 100, 0, 1.0, floor) == pytest.approx(0.01)


def test_embeddings_and_vectors_are_decayed_as_asked() -> None:
    network, _ = reduced("swin_t")
    tables = sum(name.endswith("bias_table") for name, _ in network.named_parameters())
    usual, kept, all_of_them = (
        len(weight_decay_groups(network, 0.1, config)[0]["params"])
        for config in (
            OptimiserConfig(),
            OptimiserConfig(decay_embeddings=False),
            OptimiserConfig(decay_vectors=True),
        )
    )
    assert usual - kept == tables == 10
    assert all_of_them == len(list(network.parameters()))


def test_two_processes_train_one_network(folder_tree: Path, tmp_path: Path) -> None:
    """Started by torchrun; only the first one writes."""
    options = "--blocks 2,2 --widths 8,16 --size 16 --epochs 2 --batch-size 12 --lr 0.05"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--standalone", "-m", "adaptive_depth.cli", "train"),
        *("--data", str(folder_tree), "--out", str(tmp_path / "run"), "--device", "cpu"),
        *options.split(),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 2 and np.isfinite(state["history"][-1]["super_loss"])
    assert "val_super" in state["history"][-1]
