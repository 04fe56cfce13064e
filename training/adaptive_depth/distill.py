"""One step of self-distillation (Kang & Lee, NeurIPS 2024, section 3.2 and Algorithm 1).

Two forward and two backward passes share one optimiser step: the super-net
learns from the labels, the base-net from the detached super-net. The base-net
sees no label, and no other sub-network is trained, unless `between` asks for
our extension (below).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adaptive_depth import skip as skip_flags
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.options import setting
from adaptive_depth.skip import SkipFlags


@dataclass(frozen=True)
class DistillConfig:
    """Weights of the losses."""

    alpha: float = setting(
        0.5, "share of the super-net's cross-entropy in the loss; the rest goes to the student"
    )
    temperature: float = setting(1.0, "of the softmax in the student's loss")
    feature: float = setting(
        0.0,
        "weight of the KL divergence between channel-softmaxed, globally averaged stage outputs"
        " of super-net and student",
    )
    top_classes: int = setting(
        500, "the student learns the super-net's likeliest classes only (500 as published)"
    )
    label_smoothing: float = setting(0.1, "of the super-net's cross-entropy")
    between: float = setting(
        0.0,
        "probability that a step's student is a random in-between sub-network instead of the"
        " base-net: for short runs, in which untrained mixtures fall below the base-net; 0: the"
        " paper's method",
    )
    alone: str = setting(
        "",
        "name of the one sub-network that is trained, from labels, without any distillation; for"
        " comparison",
    )


def choose_student(flags: int, between: float, generator: torch.Generator) -> SkipFlags:
    """The sub-network that learns from the super-net in this step."""
    in_between = skip_flags.all_sub_networks(flags)[1:-1]  # none if there is but one flag
    if torch.rand((), generator=generator).item() >= between or not in_between:
        return skip_flags.base_net(flags)
    return in_between[int(torch.randint(len(in_between), (), generator=generator))]


def logit_kl(student: Tensor, teacher: Tensor, temperature: float, top_classes: int) -> Tensor:
    """``T^2 KL(softmax(teacher/T) || softmax(student/T))``, mean over the batch, of
    logits ``[N,classes]``, restricted to the teacher's `top_classes` largest."""
    if top_classes < teacher.shape[1]:
        chosen = teacher.topk(top_classes, dim=1).indices
        teacher, student = teacher.gather(1, chosen), student.gather(1, chosen)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    log_student = F.log_softmax(student / temperature, dim=1)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * kl


def feature_kl(
    student: Sequence[Tensor], teacher: Sequence[Tensor], channel_axis: int = 1
) -> Tensor:
    """Mean over stages of the KL between softmaxes over channels of pooled features."""

    def pooled(feature: Tensor) -> Tensor:
        channels_last = feature.float().movedim(channel_axis, -1)
        return F.log_softmax(channels_last.flatten(1, -2).mean(dim=1), dim=1)

    terms = [
        F.kl_div(pooled(s), pooled(t), reduction="batchmean", log_target=True)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(terms).mean()


@dataclass(frozen=True)
class StepResult:
    """Losses before weighting, and the super-net's training accuracy on the batch."""

    super_loss: float
    student_loss: float
    correct: int


def backward_both(
    network: AdaptiveNetwork,
    x: Tensor,
    labels: Tensor,
    student: SkipFlags,
    config: DistillConfig,
    autocast: torch.autocast,
) -> StepResult:
    """Accumulates the gradients of one step; the caller steps the optimiser.

    Args:
        x: augmented images ``[N,3,H,W]``; labels int64 ``[N]``, or shares of the classes,
            float ``[N,classes]``.
    """
    # The paper's teacher and student see the same images; each gets its own graph, so
    # peak memory is that of one network.
    with autocast:
        alone = skip_flags.parse(config.alone, network.flags) if config.alone else None
        logits, features = network.forward_features(x, alone)
    logits = logits.float()
    super_loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    ((1.0 if alone else config.alpha) * super_loss).backward()

    teacher = logits.detach()
    teacher_features = [feature.detach() for feature in features] if config.feature else []
    likeliest = labels if labels.dim() == 1 else labels.argmax(1)
    correct = int((teacher.argmax(1) == likeliest).sum())
    super_loss_value = super_loss.item()
    del logits, features, super_loss
    if alone:
        return StepResult(super_loss_value, 0.0, correct)

    with autocast:
        student_logits, student_features = network.forward_features(x, student)
    student_loss = logit_kl(student_logits.float(), teacher, config.temperature, config.top_classes)
    if config.feature:
        student_loss = student_loss + config.feature * feature_kl(
            student_features, teacher_features, network.channel_axis
        )
    ((1 - config.alpha) * student_loss).backward()
    return StepResult(super_loss_value, student_loss.item(), correct)
