"""Optimisers and learning-rate schedules of the published recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adaptive_depth.options import setting

EMBEDDINGS = (
    *("class_token", "cls_token", "pos_embedding", "pos_embed"),
    "relative_position_bias_table",
)
"""Ends of their names in torchvision and timm."""


@dataclass(frozen=True)
class OptimiserConfig:
    """What differs between recipes beyond the peak rate, momentum and weight decay."""

    kind: str = setting("sgd", "its algorithm", choices=("sgd", "adamw"), called="optimiser")
    nesterov: bool = setting(True, "Nesterov's momentum, of SGD")
    schedule: str = setting(
        "cosine", "of the learning rate, or steps at --milestones", choices=("cosine", "steps")
    )
    milestones: list[int] = setting([], "epochs at which a step falls")
    step_factor: float = setting(0.1, "of the learning rate at each milestone")
    warmup_start: float = setting(0.0, "share of the peak rate with which the warm-up starts")
    rate_end: float = setting(0.0, "share of the peak rate with which the cosine ends")
    clip_norm: float = setting(0.0, "largest norm of all gradients together; 0: unlimited")
    decay_vectors: bool = setting(False, "weight decay of norms and biases, too")
    decay_embeddings: bool = setting(True, "weight decay of class tokens and embeddings, too")


def learning_rate(
    step: int,
    total: int,
    warmup: int,
    peak: float,
    config: OptimiserConfig | None = None,
    steps_per_epoch: int = 1,
) -> float:
    """Linear warm-up, then by default a cosine to zero."""
    config = config or OptimiserConfig()
    if step < warmup:
        share = (step + 1) / warmup
        return peak * (config.warmup_start + (1 - config.warmup_start) * share)
    if config.schedule == "steps":
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
        return peak * config.step_factor**passed
    cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    return peak * (config.rate_end + (1 - config.rate_end) * cosine)


def weight_decay_groups(
    network: nn.Module, decay: float, config: OptimiserConfig | None = None
) -> list[dict[str, Any]]:
    """By default, norm scales and biases (tensors of one dimension) are not decayed."""
    config = config or OptimiserConfig()
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.dim() <= 1:
            wanted = config.decay_vectors
        elif name.endswith(EMBEDDINGS):
            wanted = config.decay_embeddings
        else:
            wanted = True
        (decayed if wanted else free).append(parameter)
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": free, "weight_decay": 0.0},
    ]


def build_optimiser(
    network: nn.Module, rate: float, momentum: float, decay: float, config: OptimiserConfig
) -> torch.optim.Optimizer:
    """AdamW has its usual betas; `momentum` is SGD's. Raises ValueError for an unknown kind."""
    groups = weight_decay_groups(network, decay, config)
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=rate)
    if config.kind == "sgd":
        nesterov = config.nesterov and momentum > 0
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov)
    raise ValueError(f"unknown optimiser {config.kind!r}: sgd or adamw")
