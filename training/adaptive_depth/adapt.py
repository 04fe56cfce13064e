"""``adaptive-depth adapt``: a pre-trained network of timm or torchvision becomes adaptive.

Its super-net is the network as its library gives it. Fine-tuning by self-distillation
teaches the new classes to it, and to the sub-networks what it knows.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adaptive_depth import complexity, data
from adaptive_depth import skip as skip_flags
from adaptive_depth.distill import DistillConfig
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.originals import pretraining
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.options import numbers, read_options
from adaptive_depth.output import tell
from adaptive_depth.train import add_run_options, start_run
from adaptive_depth.train_config import TrainConfig
from adaptive_depth.trainer import TrainError

DEFAULTS = {
    "epochs": 10,
    "batch_size": 32,
    "lr": 6e-4,
    "weight_decay": 0.02,
    "warmup_epochs": None,
    "ema": 0.99,
    "crop_area": 0.3,
    "erase": 0.0,
    "between": 0.5,
    "frozen_norms": None,
}
"""What suits a network with pre-trained weights and a few thousand photos."""

NO_OPTIONS = (
    *("start", "crop", "crop_padding", "repeats", "bicubic", "momentum", "kind", "nesterov"),
    *("schedule", "milestones", "step_factor"),
)
"""Settings that are not for fine-tuning, or have another name here."""


def add_adapt(commands: Any) -> None:
    p = commands.add_parser(
        "adapt",
        help="make a pre-trained network of timm or torchvision adaptive, on your photos",
        description="Finds the residual stages of the network, lets the second half of each be"
        " skipped, and fine-tunes all sub-networks on --data. With --list it only says which"
        " blocks are kept and skipped, and what each sub-network costs. None as the default of"
        " --warmup-epochs: a tenth of the epochs, at most one; of --frozen-norms: with weights.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    p.set_defaults(run=_adapt)
    p.add_argument(
        "--model", required=True, metavar="LIBRARY:NAME", help="timm:NAME or torchvision:NAME"
    )
    p.add_argument("--list", action="store_true", help="show stages and costs, train nothing")
    p.add_argument(
        "--weights",
        help="file with the network's weights, or 'pretrained': the library downloads them;"
        " None: random weights",
    )
    p.add_argument(
        "--data",
        type=Path,
        help="folder of photos, <class>/*.jpg or train/<class>/*.jpg, val/ and test/; or such a"
        " folder as .tar",
    )
    p.add_argument("--out", type=Path, help="run folder")
    p.add_argument(
        "--size",
        type=int,
        help="height and width in pixels of the images served; None: the library's for it",
    )
    p.add_argument("--groups", type=int, help="stages to cut a network of one stage into; None: 4")
    p.add_argument(
        "--keep",
        type=numbers,
        metavar="N,N,...",
        help="blocks that always run, of each stage; None: half of them, rounded up",
    )
    p.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: one per core")
    add_run_options(p, DEFAULTS, NO_OPTIONS)


def _adapt(args: argparse.Namespace) -> None:
    expected = pretraining(args.model)
    size = args.size or expected.size
    if args.threads:
        torch.set_num_threads(args.threads)
    options = {"model": args.model, "size": size, "groups": args.groups, "keep": args.keep}
    if args.list:
        network = LibraryNetwork(1000, **options)
        costs = costs_of(network, size)
        tell(args, describe(network, size, costs), as_json(network, size, costs))
        return
    if args.data is None or args.out is None:
        raise TrainError("--data and --out are needed, or --list")
    if args.warmup_epochs is None:
        args.warmup_epochs = min(1.0, args.epochs / 10)
    if args.frozen_norms is None:
        args.frozen_norms = args.weights is not None
    config = read_options(
        args,
        TrainConfig,
        arch="library",
        options=options,
        start=args.weights,
        crop="resized",
        distill=read_options(args, DistillConfig),
        optimiser=read_options(args, OptimiserConfig, kind="adamw"),
    )
    frame = config.frame(size)
    dataset = data.load(args.data, frame, val_per_class=0, seed=config.seed, lazy=True)
    start_run(args, config, replace(dataset, mean=expected.mean, std=expected.std), 0)


def costs_of(network: LibraryNetwork, size: int) -> dict[str, int]:
    """Multiply-accumulates of each sub-network at `size` pixels, the dearest first."""
    costs = {
        skip_flags.name_of(skip): complexity.count_macs(network, size, skip)
        for skip in skip_flags.all_sub_networks(network.flags)
    }
    return dict(sorted(costs.items(), key=lambda entry: -entry[1]))


def as_json(network: LibraryNetwork, size: int, costs: dict[str, int]) -> dict[str, Any]:
    """What `--list --json` prints."""
    stages = [
        {"keeps": list(stage.kept), "skips": list(stage.skippable)} for stage in network.stages
    ]
    sub_networks = [{"skip": name, "macs": macs} for name, macs in costs.items()]
    return {"model": network.model, "size": size, "stages": stages, "subNetworks": sub_networks}


def describe(network: LibraryNetwork, size: int, costs: dict[str, int]) -> str:
    """What `--list` prints: the stages, and the cost of each sub-network."""
    lines = [f"{network.model} at {size} px: {network.flags} skippable stages", ""]
    for index, stage in enumerate(network.stages, start=1):
        lines.append(f"  stage {index}: keeps {', '.join(stage.kept)}")
        lines.append(f"           skips {', '.join(stage.skippable)}")
    lines += ["", "  sub-network  MMACs  of the super-net"]
    full = max(costs.values())
    lines += [f"  {name:11}  {macs / 1e6:5.0f}  {macs / full:.2f}" for name, macs in costs.items()]
    return "\n".join(lines)
