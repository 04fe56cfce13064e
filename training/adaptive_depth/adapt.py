"""``adaptive-depth adapt``: a pre-trained network of timm or torchvision becomes adaptive.

Its super-net is the network as its library gives it. Fine-tuning by self-distillation
teaches the new classes to it, and to the sub-networks what it knows.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adaptive_depth import complexity, data
from adaptive_depth import skip as skip_flags
from adaptive_depth.distill import DistillConfig
from adaptive_depth.networks.library import LibraryNetwork, pretraining
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.trainer import TrainConfig, Trainer, TrainError


def add_adapt(commands: Any) -> None:
    p = commands.add_parser(
        "adapt",
        help="make a pre-trained network of timm or torchvision adaptive, on your photos",
        description="Finds the residual stages of the network, lets the second half of each be"
        " skipped, and fine-tunes all sub-networks on --data. With --list it only says which"
        " blocks are kept and skipped, and what each sub-network costs.",
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
        "--data", type=Path, help="folder with train/ and val/ (test/), each <class>/*.jpg"
    )
    p.add_argument("--out", type=Path, help="run folder")
    p.add_argument("--resume", action="store_true", help="go on from the run folder's checkpoint")
    p.add_argument(
        "--size",
        type=int,
        help="height and width in pixels of the images served; None: the library's for it",
    )
    p.add_argument(
        "--train-size",
        type=int,
        help="of training crops; None: as --size. Smaller ones are quicker, and objects in random"
        " crops look larger anyway (Touvron et al., NeurIPS 2019)",
    )
    p.add_argument("--groups", type=int, help="stages to cut a network of one stage into; None: 4")
    p.add_argument(
        "--keep",
        type=lambda text: [int(part) for part in text.split(",")],
        metavar="N,N,...",
        help="blocks that always run, of each stage; None: half of them, rounded up",
    )
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=6e-4, help="peak learning rate of AdamW")
    p.add_argument("--weight-decay", type=float, default=0.02)
    p.add_argument("--ema", type=float, default=0.99, help="decay per step; 0: none")
    p.add_argument("--alpha", type=float, default=0.5, help="weight of the super-net's loss")
    p.add_argument(
        "--between",
        type=float,
        default=0.5,
        help="probability that a step's student is a random in-between sub-network",
    )
    p.add_argument("--label-smoothing", type=float, default=0.1)
    p.add_argument(
        "--crop-area", type=float, default=0.3, help="smallest share of the photo in a random crop"
    )
    p.add_argument("--mixup", type=float, default=0.0, help="parameter of its Beta distribution")
    p.add_argument("--cutmix", type=float, default=0.0, help="parameter of its Beta distribution")
    p.add_argument("--erase", type=float, default=0.0, help="probability of random erasing")
    p.add_argument("--policy", default="none", choices=["none", "trivial", "rand"])
    p.add_argument(
        "--alone",
        default="",
        metavar="FLAGS",
        help="for comparison: train this sub-network alone, from labels",
    )
    p.add_argument(
        "--live-norms",
        action="store_true",
        help="batch norms follow the statistics of each batch, instead of those of --weights",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--workers", type=int, default=0, help="processes that decode photos")
    p.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: one per core")
    p.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    p.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def _adapt(args: argparse.Namespace) -> None:
    expected = pretraining(args.model)
    size = args.size or expected.size
    if args.threads:
        torch.set_num_threads(args.threads)
    options = {"model": args.model, "size": size, "groups": args.groups, "keep": args.keep}
    if args.list:
        print(describe(LibraryNetwork(1000, **options), size))
        return
    if args.data is None or args.out is None:
        raise TrainError("--data and --out are needed, or --list")
    config = TrainConfig(
        arch="library",
        options=options,
        crop="resized",
        train_size=args.train_size or 0,
        crop_area=args.crop_area,
        policy=args.policy,
        bicubic=False,
        mixup=args.mixup,
        cutmix=args.cutmix,
        erase=args.erase,
        workers=args.workers,
        start=args.weights,
        frozen_norms=args.weights is not None and not args.live_norms,
        optimiser=OptimiserConfig(kind="adamw"),
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        weight_decay=args.weight_decay,
        warmup_epochs=min(1.0, args.epochs / 10),
        ema=args.ema,
        seed=args.seed,
        precision=args.precision,
        device=args.device,
        distill=DistillConfig(
            alpha=args.alpha,
            label_smoothing=args.label_smoothing,
            between=args.between,
            alone=args.alone,
        ),
    )
    dataset = data.load(args.data, size, val_per_class=0, seed=args.seed, lazy=True)
    dataset = replace(dataset, mean=expected.mean, std=expected.std)
    trainer = Trainer(config, dataset, args.out)
    if args.resume:
        trainer.resume()
    elif (args.out / "checkpoint.pt").exists():
        raise TrainError(f"{args.out} already holds a run: --resume it, or name another folder")
    # Resuming is no part of what it takes to train the network again.
    typed = [argument for argument in args.argv if argument != "--resume"]
    trainer.run(shlex.join(["adaptive-depth", *typed]))
    print(json.dumps(trainer.history[-1]))


def describe(network: LibraryNetwork, size: int) -> str:
    """What `--list` prints: the stages, and the cost of each sub-network at `size` pixels."""
    lines = [f"{network.model} at {size} px: {network.flags} skippable stages", ""]
    for index, stage in enumerate(network.stages, start=1):
        lines.append(f"  stage {index}: keeps {', '.join(stage.kept)}")
        lines.append(f"           skips {', '.join(stage.skippable)}")
    lines += ["", "  sub-network  MMACs  of the super-net"]
    costs = {
        skip_flags.name_of(skip): complexity.count_macs(network, size, skip)
        for skip in skip_flags.all_sub_networks(network.flags)
    }
    full = max(costs.values())
    lines += [
        f"  {name:11}  {macs / 1e6:5.0f}  {macs / full:.2f}"
        for name, macs in sorted(costs.items(), key=lambda entry: -entry[1])
    ]
    return "\n".join(lines)
