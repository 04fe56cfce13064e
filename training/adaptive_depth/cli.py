"""The ``adaptive-depth`` command line."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive_depth import data, distributed, manifest, networks, published, report
from adaptive_depth import skip as skip_flags
from adaptive_depth.adapt import add_adapt
from adaptive_depth.augment import normalise
from adaptive_depth.calibrate import (
    CalibrationError,
    add_calibrate,
    calibrate_folder,
    summary,
)
from adaptive_depth.distill import DistillConfig
from adaptive_depth.errors import ToolkitError
from adaptive_depth.evaluate import evaluate_checkpoint, evaluate_exported
from adaptive_depth.export import export_model
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.published_checkpoint import read_published
from adaptive_depth.restate import restate
from adaptive_depth.run_folder import TrainedRun, read_run
from adaptive_depth.trainer import TrainConfig, Trainer, TrainError, resolve_device
from adaptive_depth.weights import statistics_of


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
    p.add_argument(
        "--recipe",
        type=Path,
        action=_Recipe,
        default=argparse.SUPPRESS,
        help="TOML file with values for the options below; options that follow it win",
    )
    p.add_argument(
        "--start",
        type=Path,
        help="fine-tune from this checkpoint, published or of this toolkit; its classifier is"
        " replaced when the classes differ in number",
    )
    p.add_argument(
        "--frozen-norms",
        action="store_true",
        help="train with the normalisation statistics of --start, unchanged: a last, short"
        " phase after --between, which makes sub-networks fit the statistics they share",
    )
    p.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoint")
    p.add_argument("--arch", default=defaults.arch, choices=list(networks.ARCHITECTURES))
    p.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="of the architecture, such as width=0.5 for mobilenet_v2",
    )
    small = p.add_argument_group("small_resnet")
    small.add_argument("--blocks", type=_numbers, default=[2, 2, 2, 2], help="of each stage")
    small.add_argument(
        "--widths", type=_numbers, default=[32, 64, 128, 256], help="channels of each stage"
    )
    small.add_argument("--block", default="basic", choices=["basic", "bottleneck"])
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
    _add_recipe_options(p)
    p.add_argument("--seed", type=int, default=defaults.seed)
    p.add_argument("--precision", default=defaults.precision, choices=["auto", "fp32", "bf16"])
    p.add_argument("--device", default=defaults.device, help="auto, cpu, cuda or cuda:N")


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


class _Recipe(argparse.Action):
    """Takes the file's values as if they had been given on the command line here."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        try:
            recipe = tomllib.loads(values.read_text())
        except (OSError, ValueError) as error:
            raise argparse.ArgumentError(self, f"{values}: {error}") from error
        for name, value in recipe.items():
            if not hasattr(namespace, name):
                raise argparse.ArgumentError(self, f"{values}: unknown option {name!r}")
            setattr(namespace, name, value)


def _add_recipe_options(p: argparse.ArgumentParser) -> None:
    """Settings that the published recipes need beyond those of small images."""
    defaults, optimiser = TrainConfig(), OptimiserConfig()
    g = p.add_argument_group("recipes for photos")
    g.add_argument("--crop", default=defaults.crop, choices=["padded", "resized"])
    g.add_argument("--train-size", type=int, default=0, help="of resized crops; 0: as --size")
    g.add_argument("--policy", default=defaults.policy, choices=["none", "trivial", "rand"])
    g.add_argument("--bicubic", action="store_true", help="resize crops with bicubic interpolation")
    g.add_argument("--repeats", type=_positive, default=1, help="repeated augmentation")
    g.add_argument("--mixup", type=float, default=0.0, help="parameter of its Beta distribution")
    g.add_argument("--cutmix", type=float, default=0.0, help="parameter of its Beta distribution")
    g.add_argument("--workers", type=int, default=0, help="processes that decode photos")
    g.add_argument("--optimiser", default=optimiser.kind, choices=["sgd", "adamw"])
    g.add_argument("--plain-momentum", action="store_true", help="SGD without Nesterov's")
    g.add_argument("--schedule", default=optimiser.schedule, choices=["cosine", "steps"])
    g.add_argument("--milestones", type=_numbers, default=[], help="epochs at which a step falls")
    g.add_argument("--step-factor", type=float, default=optimiser.step_factor)
    g.add_argument("--warmup-start", type=float, default=0.0, help="share of the peak rate")
    g.add_argument("--rate-end", type=float, default=0.0, help="share of the peak rate")
    g.add_argument("--clip-norm", type=float, default=0.0, help="of all gradients; 0: unlimited")
    g.add_argument("--decay-vectors", action="store_true", help="decay norms and biases too")
    g.add_argument("--keep-embeddings", action="store_true", help="don't decay embeddings")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = dict(networks.size_options(args.arch, args.size))
    if args.arch == "small_resnet":
        options = {"blocks": args.blocks, "widths": args.widths, "block": args.block}
    return options | dict(args.option)


def _train(args: argparse.Namespace) -> None:
    config = TrainConfig(
        arch=args.arch,
        options=_options(args),
        crop=args.crop,
        train_size=args.train_size,
        policy=args.policy,
        bicubic=args.bicubic,
        repeats=args.repeats,
        mixup=args.mixup,
        cutmix=args.cutmix,
        workers=args.workers,
        start=None if args.start is None else str(args.start),
        frozen_norms=args.frozen_norms,
        optimiser=OptimiserConfig(
            kind=args.optimiser,
            nesterov=not args.plain_momentum,
            schedule=args.schedule,
            milestones=args.milestones,
            step_factor=args.step_factor,
            warmup_start=args.warmup_start,
            rate_end=args.rate_end,
            clip_norm=args.clip_norm,
            decay_vectors=args.decay_vectors,
            decay_embeddings=not args.keep_embeddings,
        ),
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
    lazy = args.crop == "resized"
    dataset = data.load(args.data, args.size, args.val_per_class, args.seed, lazy)
    if config.start is not None:
        # The weights expect the statistics that they were trained with.
        mean, std = statistics_of(Path(config.start))
        dataset = replace(dataset, mean=mean, std=std)
    group = distributed.join()
    trainer = Trainer(config, dataset, args.out, group)
    if args.resume:
        trainer.resume()
    elif (args.out / "checkpoint.pt").exists():
        raise TrainError(f"{args.out} already holds a run: --resume it, or name another folder")
    # Resuming is no part of what it takes to train the network again.
    typed = [argument for argument in args.argv if argument != "--resume"]
    trainer.run(shlex.join(["adaptive-depth", *typed]))
    if group.is_first:
        print(json.dumps(trainer.history[-1]))
    group.leave()


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
    p.add_argument(
        "--restate",
        metavar="NAMES",
        help="sub-networks such as TFF,TTF, or 'all', for which normalisation statistics are"
        " estimated anew",
    )
    p.add_argument(
        "--restate-images", type=_positive, default=2560, help="training images to estimate from"
    )
    _add_held_out(p)


def _export(args: argparse.Namespace) -> None:
    run = read_run(args.run_folder)
    source = _data_of(run.command, args.data)
    held_out = data.load_held_out(source, run.size, run.classes, args.limit)
    if args.restate is not None:
        flags = run.network.flags
        names = args.restate.split(",")
        chosen = [skip_flags.parse(name, flags) for name in names if name != "all"]
        combinations = chosen or skip_flags.all_sub_networks(flags)
        images = _training_images(run, source, args.restate_images)
        run = replace(run, network=restate(run.network, combinations, images))
    written = export_model(run, held_out, args.out, args.name, args.version, args.threads)
    print(f"{args.out / written['file']}: {written['bytes']} bytes, sha256 {written['sha256']}")
    _calibrate_exported(run, source, args)


def _calibrate_exported(run: TrainedRun, source: Path, args: argparse.Namespace) -> None:
    """Where images were held out of training that nothing else was measured on."""
    assert run.command is not None
    trained = _parser().parse_args(shlex.split(run.command)[1:])
    per_class = getattr(trained, "val_per_class", 0)
    try:
        val = data.load_val(source, run.size, per_class, trained.seed)
        print(summary(calibrate_folder(args.out, val, "val", args.threads)))
    except CalibrationError as error:
        print(f"Confidence is not calibrated: {error}")


def _training_images(run: TrainedRun, source: Path, count: int) -> Iterator[torch.Tensor]:
    """Batches of a random choice of the images that the run was trained on, unaugmented."""
    assert run.command is not None
    trained = _parser().parse_args(shlex.split(run.command)[1:])
    lazy = trained.crop == "resized"
    split = data.load(source, run.size, trained.val_per_class, trained.seed, lazy).train
    rows = np.random.default_rng(0).permutation(len(split))[:count]
    for start in range(0, len(rows), 256):
        images = torch.from_numpy(split.take(rows[start : start + 256]).images[:])
        yield normalise(images, torch.tensor(run.mean), torch.tensor(run.std))


def _add_import(commands: Any) -> None:
    p = commands.add_parser(
        "import",
        help="make a model folder of a published checkpoint",
        description="Reads a checkpoint of the published code, preferring averaged weights,"
        " checks the name and shape of every tensor, and writes model.onnx and model.json."
        " Accuracies are measured where --data is given; otherwise they are those published"
        " for the checkpoint that --accuracies names, marked as such, or unmeasured.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_import)
    p.add_argument(
        "--arch", required=True, choices=[a for a in networks.ARCHITECTURES if a != "small_resnet"]
    )
    p.add_argument("--checkpoint", type=Path, required=True, help="PyTorch file")
    p.add_argument("--out", type=Path, required=True, help="model folder to write")
    p.add_argument("--name", help="name to serve it under; None: that of the architecture")
    p.add_argument("--version", default="1.0.0", help="MAJOR.MINOR.PATCH")
    p.add_argument("--size", type=_positive, default=224, help="height and width in pixels")
    p.add_argument("--labels", type=Path, help="text file, one class name per line")
    p.add_argument(
        "--accuracies",
        choices=list(published.ACCURACIES),
        help="the published checkpoint that the file is: nothing in the file tells",
    )
    p.add_argument("--data", type=Path, help="folder with val/<class>/*.jpg to measure on")
    p.add_argument("--limit", type=_positive, metavar="IMAGES", help="read so many, evenly spread")
    p.add_argument("--threads", type=int, default=0, help="0: one per core")


def _import(args: argparse.Namespace) -> None:
    if args.accuracies and published.ARCHITECTURE[args.accuracies] != args.arch:
        raise ValueError(f"--accuracies {args.accuracies} are not of --arch {args.arch}")
    labels = None if args.labels is None else args.labels.read_text().splitlines()
    run = read_published(args.arch, args.checkpoint, args.size, labels)
    held_out = None
    if args.data is not None:
        folders = data.class_folders(args.data)
        if len(folders) != len(run.classes):
            raise data.DataError(
                f"{args.data}: {len(folders)} classes, the checkpoint has {len(run.classes)}"
            )
        if labels is None:
            run = replace(run, classes=folders)
        held_out = data.load_held_out(args.data, run.size, folders, args.limit)
    written = export_model(
        run,
        held_out,
        args.out,
        args.name or args.arch,
        args.version,
        args.threads,
        published=args.accuracies,
    )
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
    add_adapt(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_export(commands)
    add_calibrate(commands)
    _add_import(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 with one line on standard error when input is at fault, 2 for bad usage."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv, argparse.Namespace(argv=argv))
    try:
        args.run(args)
    except (ToolkitError, ValueError, OSError) as error:
        print(f"adaptive-depth: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("adaptive-depth: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
