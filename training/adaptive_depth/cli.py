"""The ``adaptive-depth`` command line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from adaptive_depth import networks
from adaptive_depth.data import DataError
from adaptive_depth.distill import DistillConfig
from adaptive_depth.trainer import TrainConfig, Trainer, TrainError


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _add_train(commands: Any) -> None:
    defaults, distill = TrainConfig(), DistillConfig()
    p = commands.add_parser(
        "train",
        help="train a network by self-distillation",
        description="Trains the super-net from labels and the base-net from the super-net.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_train)
    p.add_argument(
        "--data", type=Path, required=True, help=".npz archive, or folder with train/ and val/"
    )
    p.add_argument("--out", type=Path, required=True, help="run folder")
    p.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoint")
    p.add_argument("--arch", default=defaults.arch, choices=list(networks.ARCHITECTURES))
    p.add_argument("--blocks", type=_numbers, default=[2, 2, 2, 2], help="blocks of each stage")
    p.add_argument(
        "--widths", type=_numbers, default=[32, 64, 128, 256], help="channels of each stage"
    )
    p.add_argument("--block", default="basic", choices=["basic", "bottleneck"])
    p.add_argument("--size", type=int, default=32, help="height and width of the images in pixels")
    p.add_argument(
        "--val-per-class",
        type=int,
        default=100,
        help="of an archive's training images, held out for the curves",
    )
    p.add_argument("--epochs", type=int, default=defaults.epochs)
    p.add_argument("--batch-size", type=int, default=defaults.batch_size)
    p.add_argument("--lr", type=float, default=defaults.lr, help="peak learning rate")
    p.add_argument("--momentum", type=float, default=defaults.momentum)
    p.add_argument("--weight-decay", type=float, default=defaults.weight_decay)
    p.add_argument("--warmup-epochs", type=float, default=defaults.warmup_epochs)
    p.add_argument("--ema", type=float, default=defaults.ema, help="decay per step; 0: none")
    p.add_argument("--crop-padding", type=int, default=defaults.crop_padding)
    p.add_argument(
        "--erase", type=float, default=defaults.erase, help="probability of random erasing"
    )
    p.add_argument(
        "--alpha", type=float, default=distill.alpha, help="weight of the super-net's loss"
    )
    p.add_argument("--temperature", type=float, default=distill.temperature)
    p.add_argument(
        "--feature", type=float, default=distill.feature, help="weight of the feature term"
    )
    p.add_argument("--label-smoothing", type=float, default=distill.label_smoothing)
    p.add_argument(
        "--between",
        type=float,
        default=distill.between,
        help="probability that a step's student is a random in-between sub-network; 0: the paper's method",
    )
    p.add_argument("--seed", type=int, default=defaults.seed)
    p.add_argument("--precision", default=defaults.precision, choices=["auto", "fp32", "bf16"])
    p.add_argument("--device", default=defaults.device, help="auto, cpu, cuda or cuda:N")


def _train(args: argparse.Namespace) -> None:
    from adaptive_depth import data

    config = TrainConfig(
        arch=args.arch,
        options={"blocks": args.blocks, "widths": args.widths, "block": args.block},
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        warmup_epochs=args.warmup_epochs,
        ema=args.ema,
        crop_padding=args.crop_padding,
        erase=args.erase,
        seed=args.seed,
        precision=args.precision,
        device=args.device,
        distill=DistillConfig(
            alpha=args.alpha,
            temperature=args.temperature,
            feature=args.feature,
            label_smoothing=args.label_smoothing,
            between=args.between,
        ),
    )
    dataset = data.load(args.data, args.size, args.val_per_class, args.seed)
    trainer = Trainer(config, dataset, args.out)
    if args.resume:
        trainer.resume()
    elif (args.out / "checkpoint.pt").exists():
        raise TrainError(f"{args.out} already holds a run: --resume it, or name another folder")
    trainer.run("adaptive-depth " + shlex.join(sys.argv[1:]))
    print(json.dumps(trainer.history[-1]))


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on standard error when input is at fault."""
    parser = argparse.ArgumentParser(prog="adaptive-depth", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (DataError, TrainError, ValueError) as error:
        print(f"adaptive-depth: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
