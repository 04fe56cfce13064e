"""The ``adaptive-depth`` command line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from adaptive_depth import data, manifest, networks, report
from adaptive_depth.distill import DistillConfig
from adaptive_depth.errors import ToolkitError
from adaptive_depth.evaluate import evaluate_checkpoint, evaluate_exported
from adaptive_depth.export import export_model
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.run_folder import read_run
from adaptive_depth.trainer import TrainConfig, Trainer, TrainError, resolve_device


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1 expected")
    return number


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
        help="probability that a step's student is a random in-between sub-network instead of"
        " the base-net; 0: the paper's method",
    )
    p.add_argument("--seed", type=int, default=defaults.seed)
    p.add_argument("--precision", default=defaults.precision, choices=["auto", "fp32", "bf16"])
    p.add_argument("--device", default=defaults.device, help="auto, cpu, cuda or cuda:N")


def _train(args: argparse.Namespace) -> None:
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
    # Resuming is no part of what it takes to train the network again.
    typed = [argument for argument in args.argv if argument != "--resume"]
    trainer.run(shlex.join(["adaptive-depth", *typed]))
    print(json.dumps(trainer.history[-1]))


def _add_evaluate(commands: Any) -> None:
    p = commands.add_parser(
        "evaluate",
        help="judge every sub-network on the held-out split",
        description="Measures the accuracy of all 2^k sub-networks on the held-out split, prints a"
        " table and writes evaluation.json and plots with the Pareto front. Of an exported model"
        " it also measures the latency on this CPU, and says whether the accuracies equal those"
        " in its manifest.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_evaluate)
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", dest="run_folder", type=Path, help="run folder, run by PyTorch")
    what.add_argument(
        "--model", type=Path, help="folder with model.onnx and model.json, run by onnxruntime"
    )
    p.add_argument("--out", type=Path, help="report folder; None: evaluation/ in that folder")
    p.add_argument(
        "--latency-rounds", type=int, default=50, help="timings of each sub-network (--model)"
    )
    p.add_argument("--device", default="auto", help="for --run: auto, cpu, cuda or cuda:N")
    _add_held_out(p)


def _evaluate(args: argparse.Namespace) -> None:
    if args.model is not None:
        described, path = manifest.read_model_folder(args.model)
        source = _data_of(described["training"]["command"], args.data)
        size, labels = described["input"]["height"], described["labels"]
        held_out = data.load_held_out(source, size, labels, args.limit)
        model = OnnxModel(path, args.threads)
        evaluation = evaluate_exported(described, model, held_out, args.latency_rounds)
    else:
        if args.threads:
            torch.set_num_threads(args.threads)
        run = read_run(args.run_folder)
        source = _data_of(run.command, args.data)
        held_out = data.load_held_out(source, run.size, run.classes, args.limit)
        evaluation = evaluate_checkpoint(run, held_out, resolve_device(args.device))
    folder = args.out or (args.model or args.run_folder) / "evaluation"
    files = report.write(evaluation, folder)
    print(report.table(evaluation))
    print("\nWritten: " + ", ".join(map(str, files)))


def _add_export(commands: Any) -> None:
    p = commands.add_parser(
        "export",
        help="write one ONNX file with every sub-network, and its manifest",
        description="Writes model.onnx and model.json. The accuracies in the manifest are"
        " those of the file written, measured on the held-out split.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_export)
    p.add_argument("--run", dest="run_folder", type=Path, required=True, help="run folder")
    p.add_argument("--out", type=Path, required=True, help="model folder to write")
    p.add_argument("--name", required=True, help="name to serve it under: a-z, 0-9 and . _ -")
    p.add_argument("--version", required=True, help="MAJOR.MINOR.PATCH")
    _add_held_out(p)


def _export(args: argparse.Namespace) -> None:
    run = read_run(args.run_folder)
    source = _data_of(run.command, args.data)
    held_out = data.load_held_out(source, run.size, run.classes, args.limit)
    written = export_model(run, held_out, args.out, args.name, args.version, args.threads)
    print(f"{args.out / written['file']}: {written['bytes']} bytes, sha256 {written['sha256']}")


def _add_held_out(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--data", type=Path, help="whose held-out split is read; None: that of the training command"
    )
    p.add_argument("--limit", type=_positive, metavar="IMAGES", help="read so many, evenly spread")
    p.add_argument("--threads", type=int, default=0, help="0: one per core")


def _data_of(command: str | None, given: Path | None) -> Path:
    """The data given, or else those that the training command names."""
    if given is not None:
        return given
    if command is None:
        raise data.DataError("no training command is known that names the data: give --data")
    return _parser().parse_args(shlex.split(command)[1:]).data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adaptive-depth", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_export(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 with one line on standard error when input is at fault, 2 for bad usage."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv, argparse.Namespace(argv=argv))
    try:
        args.run(args)
    except (ToolkitError, ValueError) as error:
        print(f"adaptive-depth: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("adaptive-depth: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
