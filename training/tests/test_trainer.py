"""The training loop: exact resume, averages, schedule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_depth import trainer as trainer_module
from adaptive_depth.data import Dataset, Split
from adaptive_depth.optimisation import learning_rate, weight_decay_groups
from adaptive_depth.run_folder import read_run
from adaptive_depth.trainer import (
    TrainConfig,
    Trainer,
    TrainError,
    moving_average,
    read_checkpoint,
)

CONFIG = TrainConfig(
    options={"blocks": [2, 2], "widths": [8, 8]},
    epochs=3,
    batch_size=8,
    lr=0.05,
    warmup_epochs=1,
    device="cpu",
    distill=replace(TrainConfig().distill, between=0.5),
)


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = np.arange(count) % 3
        images = rng.integers(0, 100, (count, 8, 8, 3), np.uint8)
        images[np.arange(count), :, :, labels] += 100
        return Split(images, labels.astype(np.int64))

    names = ["r", "g", "b"]
    return Dataset("toy", names, split(36), split(9), split(9), [83.0] * 3, [55.0] * 3)


def same(a: Any, b: Any) -> bool:
    """Whether two parts of a checkpoint are equal bit for bit; durations may differ."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def interrupt_in_step(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets training be interrupted in the middle of an epoch, as by a signal."""
    calls = iter(range(number + 1))
    original = trainer_module.backward_both

    def backward_both(*args: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(trainer_module, "backward_both", backward_both)


def test_an_interrupted_run_resumes_to_the_same_bits(dataset, tmp_path: Path, monkeypatch):
    unbroken = Trainer(CONFIG, dataset, tmp_path / "unbroken")
    unbroken.run("train")

    with monkeypatch.context() as patch:
        interrupt_in_step(6, patch)  # of 4 steps an epoch: the second epoch's third
        with pytest.raises(KeyboardInterrupt):
            Trainer(CONFIG, dataset, tmp_path / "broken").run("train")
    torch.manual_seed(123)  # another process would have another random state
    resumed = Trainer(CONFIG, dataset, tmp_path / "broken")
    resumed.resume()
    assert resumed.epoch == 1
    resumed.run("train")

    assert same(
        read_checkpoint(tmp_path / "broken" / "checkpoint.pt"),
        read_checkpoint(tmp_path / "unbroken" / "checkpoint.pt"),
    )


def test_the_seed_decides_the_result(dataset, tmp_path: Path):
    networks = []
    for run, seed in enumerate((0, 0, 1)):
        trainer = Trainer(replace(CONFIG, epochs=1, seed=seed), dataset, tmp_path / str(run))
        trainer.run("train")
        networks.append(trainer.network.state_dict())
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])


def test_training_learns_and_draws_its_curves(dataset, tmp_path: Path):
    trainer = Trainer(replace(CONFIG, epochs=8), dataset, tmp_path)
    trainer.run("adaptive-depth train")
    assert trainer.history[-1]["super_loss"] < trainer.history[0]["super_loss"]
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 1 + 8
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "adaptive-depth train"


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"seed": 5}, {"epochs": 9}])
def test_another_configuration_does_not_resume(dataset, tmp_path: Path, change):
    Trainer(CONFIG, dataset, tmp_path).run("train")
    with pytest.raises(TrainError, match=f"another {next(iter(change))}"):
        Trainer(replace(CONFIG, **change), dataset, tmp_path).resume()


def test_other_data_do_not_resume(dataset, tmp_path: Path):
    Trainer(replace(CONFIG, epochs=1), dataset, tmp_path).run("train")
    with pytest.raises(TrainError, match="other data"):
        Trainer(replace(CONFIG, epochs=1), replace(dataset, name="x"), tmp_path).resume()


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_a_missing_or_damaged_checkpoint_is_named(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(TrainError, match=r"checkpoint\.pt"):
        read_run(tmp_path)


def test_what_is_deployed_is_the_average(dataset, tmp_path: Path):
    trainer = Trainer(CONFIG, dataset, tmp_path)
    trainer.run("train")
    deployed = read_run(tmp_path).network.state_dict()
    assert same(dict(deployed), dict(trainer.average.module.state_dict()))
    assert not same(dict(deployed), dict(trainer.network.state_dict()))


def test_without_averaging_the_weights_themselves_are_deployed(dataset, tmp_path: Path):
    trainer = Trainer(replace(CONFIG, epochs=1, ema=0), dataset, tmp_path)
    trainer.run("train")
    assert same(dict(read_run(tmp_path).network.state_dict()), dict(trainer.network.state_dict()))


def test_the_moving_average_worked_by_hand():
    old, new = [torch.tensor([1.0])], [torch.tensor([2.0])]
    moving_average(0.9)(old, new, torch.tensor(1))  # early on: decay 2/11
    assert old[0].item() == pytest.approx(1 + 9 / 11)
    old = [torch.tensor([1.0])]
    moving_average(0.9)(old, new, torch.tensor(1000))
    assert old[0].item() == pytest.approx(1.1)


def test_the_average_takes_over_statistics_and_counts(dataset, tmp_path: Path):
    trainer = Trainer(replace(CONFIG, epochs=1), dataset, tmp_path)
    trainer.run("train")
    average, network = trainer.average.module.state_dict(), trainer.network.state_dict()
    for name, tensor in network.items():
        if name.endswith("num_batches_tracked"):
            assert torch.equal(average[name], tensor), name
    assert not torch.equal(average["stem.bn1.running_mean"], torch.zeros(8))


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate(step, 100, 10, 0.4) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[10] == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2)
    assert rates[100] == pytest.approx(0.0)
    assert learning_rate(0, 100, 0, 0.4) == pytest.approx(0.4)


def test_norms_and_biases_are_not_decayed(network):
    decayed, free = weight_decay_groups(network, 5e-4)
    assert (decayed["weight_decay"], free["weight_decay"]) == (5e-4, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2, 4}
    assert {p.dim() for p in free["params"]} == {1}


def statistics(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: b.clone() for n, b in network.named_buffers() if "running" in n}


def test_frozen_norms_keep_the_statistics_they_start_with_while_weights_learn(
    dataset, tmp_path: Path
):
    first = Trainer(CONFIG, dataset, tmp_path / "first")
    first.run("train")
    start = str(tmp_path / "first" / "checkpoint.pt")
    second = Trainer(replace(CONFIG, start=start, frozen_norms=True), dataset, tmp_path / "second")
    before = {n: p.clone() for n, p in second.network.named_parameters()}
    second.run("train")
    assert same(statistics(second.deployed()), statistics(first.deployed()))
    assert all(not torch.equal(p, before[n]) for n, p in second.network.named_parameters())


def test_frozen_norms_need_statistics_to_start_with(dataset, tmp_path: Path):
    with pytest.raises(TrainError, match="--start"):
        Trainer(replace(CONFIG, frozen_norms=True), dataset, tmp_path)
