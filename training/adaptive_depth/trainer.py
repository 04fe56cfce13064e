"""The training loop: schedule, EMA, checkpoints with exact resume, learning curves.

A run lives in one folder: ``checkpoint.pt`` (everything that resuming needs),
``curves.csv``, ``curves.png`` and ``run.json`` (command, configuration and data).
"""

from __future__ import annotations

import json
import math
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adaptive_depth import curves, networks
from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import mix, normalise
from adaptive_depth.batches import Batches, MemoryBatches, PhotoBatches
from adaptive_depth.data import Dataset, Split
from adaptive_depth.distill import backward_both, choose_student
from adaptive_depth.distributed import Group
from adaptive_depth.errors import ToolkitError
from adaptive_depth.optimisation import build_optimiser, learning_rate
from adaptive_depth.photo_augment import PhotoConfig
from adaptive_depth.skip import SkipFlags
from adaptive_depth.train_config import PLACE, TrainConfig, completed
from adaptive_depth.weights import load_for_fine_tuning, start_weights


class TrainError(ToolkitError):
    """The run cannot start or go on; the message says why."""


Tensors = tuple[Tensor, ...] | list[Tensor]
AverageUpdate = Callable[[Tensors, Tensors, Tensor | int], None]


def moving_average(decay: float) -> AverageUpdate:
    """The exponential moving average of weights and statistics, for `AveragedModel`.

    The average starts from the first weights; a decay that grows with the number of
    updates keeps that start from lingering in short runs. Counters of the norms
    (``num_batches_tracked``) are whole numbers and are taken over as they are.
    """

    def update(average: Tensors, current: Tensors, updates: Tensor | int) -> None:
        if average[0].is_floating_point():
            count = int(updates)
            now = min(decay, (count + 1) / (count + 10))
            torch.optim.swa_utils.get_ema_multi_avg_fn(now)(average, current, updates)
        else:
            for old, new in zip(average, current, strict=True):
                old.copy_(new)

    return update


def resolve_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def autocast_for(precision: str, device: torch.device) -> torch.autocast:
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def freeze_statistics(network: torch.nn.Module) -> None:
    """Batch norms normalise by their running statistics, as in evaluation, and keep them."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()


class Trainer:
    """Trains one network on one data set into one run folder.

    Every random draw of an epoch comes from a generator seeded by (seed, epoch), and
    the checkpoint holds weights, averages and optimiser state, so an interrupted run
    resumes to the same weights, bit for bit, on the same machine.
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, folder: Path, group: Group | None = None
    ) -> None:
        if config.frozen_norms and config.start is None:
            raise TrainError("--frozen-norms needs the statistics of a --start checkpoint")
        self.config, self.dataset, self.folder = config, dataset, folder
        self.group = group or Group()
        self.device = resolve_device(config.device)
        self.autocast = autocast_for(config.precision, self.device)
        torch.manual_seed(config.seed)
        network = networks.build(config.arch, len(dataset.classes), config.options)
        if config.start is not None:
            load_for_fine_tuning(network, start_weights(network, config.start), config.start)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=moving_average(config.ema),
            use_buffers=True,  # the norms' statistics, as well as weights
        )
        self.optimizer = build_optimiser(
            self.network, config.lr, config.momentum, config.weight_decay, config.optimiser
        )
        self.mean = torch.tensor(dataset.mean, device=self.device)
        self.std = torch.tensor(dataset.std, device=self.device)
        if config.batch_size % self.group.size:
            raise TrainError(
                f"--batch-size {config.batch_size} cannot be shared by {self.group.size} processes"
            )
        self.batches = self._batches()
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def _batches(self) -> Batches:
        """Raises DataError when "resized" crops are wanted of images that are no files."""
        config, split = self.config, self.dataset.train
        if self.group.size > 1 and len(split) < config.batch_size:
            raise TrainError(f"{len(split)} training images are less than one batch")
        common = (split, config.batch_size, self.group, self.mean, self.std)
        if config.crop == "padded":
            return MemoryBatches(*common, config.crop_padding, config.erase)
        size = config.train_size or self.dataset.size
        photo = PhotoConfig(size, config.policy, config.erase, config.bicubic, config.crop_area)
        return PhotoBatches(*common, photo, config.repeats, config.workers)

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps

    def run(self, command: str, data: dict[str, Any] | None = None) -> None:
        """Trains until the last epoch; checkpoint and curves are written after each.

        Args:
            data: where the images came from, see `run_folder.TrainedRun`.
        """
        first = self.group.is_first
        if first:
            self.folder.mkdir(parents=True, exist_ok=True)
            about = {"command": command, "config": asdict(self.config), "data": data}
            (self.folder / "run.json").write_text(json.dumps(about, indent=2) + "\n")
        total, done = (n * self.steps_per_epoch for n in (self.config.epochs, self.epoch))
        with tqdm(total=total, initial=done, unit="step", disable=not first) as bar:
            while self.epoch < self.config.epochs:
                row = self._epoch(bar)
                if first:
                    row |= self._validate()
                    said = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
                    bar.write(said, file=sys.stderr)
                self.history.append(row)
                self.epoch += 1
                if first:
                    self.save()
                    curves.write(self.history, self.folder)
                self.group.wait()

    def _epoch(self, bar: tqdm) -> dict[str, float]:
        config, steps = self.config, self.steps_per_epoch
        seed = config.seed * 100_003 + self.epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # for what networks draw themselves, such as dropped paths
        batches = self.batches.epoch(seed, generator)
        self.network.train()
        if config.frozen_norms:
            freeze_statistics(self.network)
        started = time.monotonic()
        super_loss = student_loss = correct = 0.0
        bar.set_description(f"epoch {self.epoch + 1}/{config.epochs}")
        for step, (x, labels) in enumerate(batches):
            rate = learning_rate(
                self.epoch * steps + step,
                config.epochs * steps,
                round(config.warmup_epochs * steps),
                config.lr,
                config.optimiser,
                steps,
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            count = len(labels)
            if config.mixup or config.cutmix:
                classes = len(self.dataset.classes)
                x, labels = mix(x, labels, classes, config.mixup, config.cutmix, generator)
            student = choose_student(self.network.flags, config.distill.between, generator)
            self.optimizer.zero_grad(set_to_none=True)
            result = backward_both(
                self.network,
                x.contiguous(memory_format=torch.channels_last),
                labels,
                student,
                config.distill,
                self.autocast,
            )
            if not math.isfinite(result.super_loss + result.student_loss):
                raise TrainError(f"loss is not finite in epoch {self.epoch + 1}: lower --lr")
            self.group.average_gradients(self.network.parameters())
            if config.optimiser.clip_norm:
                torch.nn.utils.clip_grad_norm_(
                    self.network.parameters(), config.optimiser.clip_norm
                )
            self.optimizer.step()
            if config.ema:
                self.average.update_parameters(self.network)
            super_loss += result.super_loss / steps
            student_loss += result.student_loss / steps
            correct += result.correct / (steps * count)
            bar.update()
            bar.set_postfix(loss=f"{result.super_loss:.3f}", kl=f"{result.student_loss:.3f}")
        return {
            "epoch": self.epoch + 1,
            "lr": rate,
            "super_loss": super_loss,
            "student_loss": student_loss,
            "train_top1": correct,
            "seconds": time.monotonic() - started,
        }

    def _validate(self) -> dict[str, float]:
        flags = self.network.flags
        row = {}
        for name, skip in (
            ("val_super", skip_flags.super_net(flags)),
            ("val_base", skip_flags.base_net(flags)),
        ):
            row[name] = float(
                predictions(self.deployed(), self.dataset.val, skip, self.mean, self.std)
                .eq(torch.from_numpy(self.dataset.val.labels))
                .float()
                .mean()
            )
        return row

    def deployed(self) -> networks.AdaptiveNetwork:
        """The network that gets evaluated and exported: the average where there is one."""
        if not self.config.ema:
            return self.network
        return cast(networks.AdaptiveNetwork, self.average.module)

    def save(self) -> None:
        """Writes ``checkpoint.pt`` beside and renames it, so that a kill leaves the old one."""
        state = {
            "config": asdict(self.config),
            "classes": self.dataset.classes,
            "dataset": self.dataset.name,
            "size": self.dataset.size,
            "mean": self.dataset.mean,
            "std": self.dataset.std,
            "epoch": self.epoch,
            "history": self.history,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.folder / "checkpoint.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def resume(self) -> None:
        """Goes on from ``checkpoint.pt``. Raises TrainError when it is another run's."""
        state = read_checkpoint(self.folder / "checkpoint.pt")
        # Where it runs may differ between the two halves; what is learnt may not.
        here, stored = asdict(self.config), completed(state["config"])
        if different := [k for k, v in here.items() if stored[k] != v and k not in PLACE]:
            raise TrainError(f"{self.folder} holds a run with another {', '.join(different)}")
        if state["classes"] != self.dataset.classes or state["dataset"] != self.dataset.name:
            raise TrainError(f"{self.folder} holds a run on other data ({state['dataset']})")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.history = state["epoch"], state["history"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this toolkit, without running any code stored in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainError(f"{path}: not a readable checkpoint") from error


@torch.inference_mode()
def predictions(
    network: networks.AdaptiveNetwork,
    split: Split,
    skip: SkipFlags,
    mean: Tensor,
    std: Tensor,
    batch_size: int | None = None,
) -> Tensor:
    """Predicted class of every image of `split` by one sub-network, int64 ``[N]``."""
    network.eval()
    batch_size = batch_size or split.batch_size
    device = next(network.parameters()).device
    chunks = []
    for start in range(0, len(split), batch_size):
        images = torch.from_numpy(np.ascontiguousarray(split.images[start : start + batch_size]))
        x = normalise(images.to(device), mean.to(device), std.to(device))
        x = x.contiguous(memory_format=torch.channels_last)
        chunks.append(network(x, skip).argmax(1).cpu())
    return torch.cat(chunks)
