"""The ``adaptive-depth`` command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from adaptive_depth import __version__, data, manifest, networks, published, report
from adaptive_depth import skip as skip_flags
from adaptive_depth.adapt import add_adapt
from adaptive_depth.augment import normalise
from adaptive_depth.calibrate import add_calibrate, summary
from adaptive_depth.confidence import CalibrationError, require_enough
from adaptive_depth.errors import ToolkitError
from adaptive_depth.evaluate import evaluate_checkpoint, evaluate_exported
from adaptive_depth.export import export_model
from adaptive_depth.images import Frame
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.options import positive
from adaptive_depth.output import note, tell, tell_failure
from adaptive_depth.published_checkpoint import read_published
from adaptive_depth.restate import restate
from adaptive_depth.run_folder import TrainedRun, at_size, read_run, typed_option
from adaptive_depth.train import add_train
from adaptive_depth.trainer import resolve_device


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
        source = args.data or typed_option(described["training"]["command"], "--data")
        frame = Frame.from_manifest(described)
        held_out = data.load_held_out(_named(source), frame, described["labels"], args.limit)
        model = OnnxModel(path, args.threads)
        evaluation = evaluate_exported(described, model, held_out, args.latency_rounds)
    else:
        if args.threads:
            torch.set_num_threads(args.threads)
        run = read_run(args.run_folder)
        held_out = data.load_held_out(_source(run, args), run.frame, run.classes, args.limit)
        evaluation = evaluate_checkpoint(run, held_out, resolve_device(args.device))
    folder = args.out or (args.model or args.run_folder) / "evaluation"
    files = report.write(evaluation, folder)
    text = f"{report.table(evaluation)}\n\nWritten: {', '.join(map(str, files))}"
    tell(args, text, report.as_json(evaluation))


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
        "--size",
        type=positive,
        help="height and width in pixels of the images served; None: those of the run. Larger ones"
        " cost more and are often named better",
    )
    p.add_argument(
        "--restate",
        metavar="NAMES",
        help="sub-networks such as TFF,TTF, or 'all', for which normalisation statistics are"
        " estimated anew",
    )
    p.add_argument(
        "--restate-images", type=positive, default=2560, help="training images to estimate from"
    )
    _add_held_out(
        p, ". Confidence and --restate take the data that the run was trained on, if still there"
    )


def _export(args: argparse.Namespace) -> None:
    run = read_run(args.run_folder)
    if run.alone:
        raise ValueError(
            f"{args.run_folder} trained one depth alone ({skip_flags.name_of(run.alone)}), for"
            " comparison: evaluate it, and export a run of all"
        )
    if args.size is not None:
        run = at_size(run, args.size)
    held_out = data.load_held_out(_source(run, args), run.frame, run.classes, args.limit)
    if args.restate is not None:
        flags = run.network.flags
        names = args.restate.split(",")
        chosen = [skip_flags.parse(name, flags) for name in names if name != "all"]
        combinations = chosen or skip_flags.all_sub_networks(flags)
        images = _training_images(run, _trained_on(run, args), args.restate_images)
        run = replace(run, network=restate(run.network, combinations, images))
    val = _calibration_images(run, args)
    written = export_model(run, held_out, args.out, args.name, args.version, args.threads, val=val)
    text = _file_line(args.out, written)
    if val is not None:
        text += f"\n{summary(written)}"
    tell(args, text, written)


def _calibration_images(run: TrainedRun, args: argparse.Namespace) -> data.Split | None:
    """Images that were held out of training, those of the learning curves; None where there are
    none or too few, which is said."""
    assert run.data is not None
    how = {name: run.data[name] for name in ("val_per_class", "seed")}
    try:
        val = data.load_val(_trained_on(run, args), run.frame, run.classes, **how)
        require_enough(val)
        return val
    except (CalibrationError, data.DataError) as error:
        note(args, f"Confidence is not calibrated: {error}")
        return None


def _file_line(folder: Path, written: dict[str, Any]) -> str:
    return f"{folder / written['file']}: {written['bytes']} bytes, sha256 {written['sha256']}"


def _training_images(run: TrainedRun, source: Path, count: int) -> Iterator[torch.Tensor]:
    """Batches of a random choice of the images that the run was trained on, unaugmented."""
    assert run.data is not None
    how = {name: run.data[name] for name in ("val_per_class", "seed", "lazy")}
    split = data.load(source, run.frame, **how).train
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
    p.add_argument("--size", type=positive, default=224, help="height and width in pixels")
    p.add_argument("--labels", type=Path, help="text file, one class name per line")
    p.add_argument(
        "--accuracies",
        choices=list(published.ACCURACIES),
        help="the published checkpoint that the file is: nothing in the file tells",
    )
    p.add_argument("--data", type=Path, help="folder with val/<class>/*.jpg to measure on")
    p.add_argument("--limit", type=positive, metavar="IMAGES", help="read so many, evenly spread")
    p.add_argument("--threads", type=int, default=0, help="0: one per core")


def _import(args: argparse.Namespace) -> None:
    if args.accuracies and published.ARCHITECTURE[args.accuracies] != args.arch:
        raise ValueError(f"--accuracies {args.accuracies} are not of --arch {args.arch}")
    labels = None if args.labels is None else args.labels.read_text().splitlines()
    run = read_published(args.arch, args.checkpoint, args.size, labels, args.accuracies)
    held_out = None
    if args.data is not None:
        folders = data.class_folders(args.data)
        if len(folders) != len(run.classes):
            raise data.DataError(
                f"{args.data}: {len(folders)} classes, the checkpoint has {len(run.classes)}"
            )
        if labels is None:
            run = replace(run, classes=folders)
        held_out = data.load_held_out(args.data, run.frame, folders, args.limit)
    written = export_model(
        run,
        held_out,
        args.out,
        args.name or args.arch,
        args.version,
        args.threads,
        published=args.accuracies,
    )
    tell(args, _file_line(args.out, written), written)


def _add_held_out(p: argparse.ArgumentParser, more: str = "") -> None:
    p.add_argument(
        "--data",
        type=Path,
        help=f"whose held-out split is read; None: that of the training command{more}",
    )
    p.add_argument("--limit", type=positive, metavar="IMAGES", help="read so many, evenly spread")
    p.add_argument("--threads", type=int, default=0, help="0: one per core")


def _source(run: TrainedRun, args: argparse.Namespace) -> Path:
    """The data given, or else those that the run was trained on."""
    return _named(args.data or (run.data or {}).get("source"))


def _trained_on(run: TrainedRun, args: argparse.Namespace) -> Path:
    """The data that the run was trained on, or, where they are gone, those given."""
    source = (run.data or {}).get("source")
    return Path(source) if source and Path(source).exists() else _source(run, args)


def _named(source: Path | str | None) -> Path:
    if source is None:
        raise data.DataError("nothing says which data the network was trained on: give --data")
    return Path(source)


class _UsageError(Exception):
    """A command line that makes no sense."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(self, message)


class _Completion(argparse.Action):
    """Prints the shell's completion script."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        import shtab

        print(shtab.complete(parser, values))
        parser.exit()


EXAMPLES = """\
examples:
  adaptive-depth adapt --model timm:tf_efficientnet_lite0 --list
  adaptive-depth adapt --model timm:tf_efficientnet_lite0 --weights pretrained \\
    --data photos --out runs/mine
  adaptive-depth evaluate --run runs/mine
  adaptive-depth export --run runs/mine --out models/mine --name mine --version 1.0.0
  adaptive-depth --print-completion bash >> ~/.bashrc

exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="adaptive-depth",
        description="Makes networks of adaptive depth: trains, judges and exports them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=["bash", "zsh", "tcsh"],
        help="print a script that completes commands and options",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_adapt(commands)
    add_train(commands)
    _add_evaluate(commands)
    _add_export(commands)
    add_calibrate(commands)
    _add_import(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--json", action="store_true", help="for programs: the result as JSON; errors, too"
        )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 with one line on standard error when input is at fault, 2 for bad usage."""
    argv = sys.argv[1:] if argv is None else argv
    as_json = "--json" in argv
    try:
        args = _parser().parse_args(argv, argparse.Namespace(argv=argv))
        args.run(args)
    except _UsageError as error:
        if not as_json:
            error.parser.print_usage(sys.stderr)
        raise SystemExit(_failed(str(error), 2, as_json)) from None
    except (ToolkitError, ValueError, OSError) as error:
        return _failed(str(error), 1, as_json)
    except KeyboardInterrupt:
        return _failed("interrupted", 130, as_json)
    return 0


def _failed(message: str, exit_code: int, as_json: bool) -> int:
    tell_failure(message, exit_code, as_json)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
