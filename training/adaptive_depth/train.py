"""``adaptive-depth train``, and what it shares with ``adapt``."""

from __future__ import annotations

import argparse
import json
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive_depth import data, distributed, networks
from adaptive_depth.data import Dataset
from adaptive_depth.distill import DistillConfig
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.options import add_options, numbers, read_options
from adaptive_depth.output import note, tell
from adaptive_depth.train_config import TrainConfig
from adaptive_depth.trainer import Trainer, TrainError
from adaptive_depth.weights import statistics_of

RECIPES = Path(__file__).with_name("recipes")


def add_train(commands: Any) -> None:
    p = commands.add_parser(
        "train",
        help="train a network by self-distillation",
        description="Trains the super-net from labels and the base-net from the super-net.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_train)
    p.add_argument(
        "--data", type=Path, required=True, help=".npz archive, or folder of photos, packed or not"
    )
    p.add_argument("--out", type=Path, required=True, help="run folder")
    p.add_argument(
        "--recipe",
        action=_Recipe,
        default=argparse.SUPPRESS,
        help=f"values for the options below: a TOML file, or one of {', '.join(shipped_recipes())};"
        " options that follow it win",
    )
    p.add_argument("--arch", default=TrainConfig().arch, choices=list(networks.ARCHITECTURES))
    p.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help='of the architecture, such as model="timm:resnet18" for library',
    )
    small = p.add_argument_group("small_resnet")
    small.add_argument("--blocks", type=numbers, default=[2, 2, 2, 2], help="of each stage")
    small.add_argument(
        "--widths", type=numbers, default=[32, 64, 128, 256], help="channels of each stage"
    )
    small.add_argument("--block", default="basic", choices=["basic", "bottleneck"])
    p.add_argument("--size", type=int, default=32, help="height and width of the images in pixels")
    p.add_argument(
        "--val-per-class",
        type=int,
        default=100,
        help="of an archive's training images, held out for the curves",
    )
    add_run_options(p)


def add_run_options(
    p: argparse.ArgumentParser,
    defaults: dict[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
) -> None:
    """Every setting of the configuration classes but `leave_out`."""
    p.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoint")
    add_options(p.add_argument_group("training"), TrainConfig, defaults, leave_out)
    group = p.add_argument_group("losses of super-net and student")
    add_options(group, DistillConfig, defaults, leave_out)
    add_options(p.add_argument_group("optimiser"), OptimiserConfig, defaults, leave_out)


def start_run(
    args: argparse.Namespace,
    config: TrainConfig,
    dataset: Dataset,
    val_per_class: int,
) -> None:
    """Trains into ``args.out``, or goes on there; the run folder says how and on what."""
    group = distributed.join()
    trainer = Trainer(config, dataset, args.out, group)
    if args.resume:
        trainer.resume()
    elif (args.out / "checkpoint.pt").exists():
        raise TrainError(f"{args.out} already holds a run: --resume it, or name another folder")
    # Neither is part of what it takes to train the network again.
    typed = [argument for argument in args.argv if argument not in ("--resume", "--json")]
    counts = dataset.counts()
    if group.is_first:
        shares = ", ".join(f"{count} for {name}" for name, count in counts.items())
        classes = f"{len(dataset.classes)} classes, {shares} ({dataset.split_rule})"
        note(args, f"{dataset.name}: {classes}")
    about = {
        "source": str(args.data),
        "val_per_class": val_per_class,
        "seed": config.seed,
        "split": dataset.split_rule,
        "images": counts,
    }
    trainer.run(shlex.join(["adaptive-depth", *typed]), about)
    if group.is_first:
        last = trainer.history[-1]
        tell(args, json.dumps(last), last)
    group.leave()


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


def shipped_recipes() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


class _Recipe(argparse.Action):
    """Takes the recipe's values as if they had been given on the command line here."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        file = RECIPES / f"{values}.toml" if values in shipped_recipes() else Path(values)
        try:
            recipe = tomllib.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise argparse.ArgumentError(self, f"{values}: {error}") from error
        for name, value in recipe.items():
            if not hasattr(namespace, name):
                raise argparse.ArgumentError(self, f"{values}: unknown option {name!r}")
            setattr(namespace, name, value)


def _train(args: argparse.Namespace) -> None:
    options: dict[str, Any] = dict(networks.size_options(args.arch, args.size))
    if args.arch == "small_resnet":
        options = {"blocks": args.blocks, "widths": args.widths, "block": args.block}
    config = read_options(
        args,
        TrainConfig,
        arch=args.arch,
        options=options | dict(args.option),
        distill=read_options(args, DistillConfig),
        optimiser=read_options(args, OptimiserConfig),
    )
    lazy = config.crop == "resized"
    dataset = data.load(args.data, config.frame(args.size), args.val_per_class, config.seed, lazy)
    if config.start is not None:
        # The weights expect the statistics that they were trained with.
        mean, std = statistics_of(config.start, config.options.get("model"))
        dataset = replace(dataset, mean=mean, std=std)
    start_run(args, config, dataset, args.val_per_class)
