"""Self-distillation: who learns from whom."""

from __future__ import annotations

import pytest
import torch
from conftest import SIZE

from adaptive_depth import networks, skip
from adaptive_depth.distill import (
    DistillConfig,
    backward_both,
    choose_student,
    feature_kl,
    logit_kl,
)
from adaptive_depth.trainer import autocast_for

BASE = skip.base_net(2)


def learners(student: skip.SkipFlags, **config: float) -> set[str]:
    """Names of the parameters that one training step would change."""
    torch.manual_seed(0)
    network = networks.build("small_resnet", 5, {"blocks": [2, 3], "widths": [8, 8]}).train()
    x, labels = torch.randn(8, 3, SIZE, SIZE), torch.arange(8) % 5
    autocast = autocast_for("fp32", torch.device("cpu"))
    backward_both(network, x, labels, student, DistillConfig(**config), autocast)
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def all_names() -> set[str]:
    network = networks.build("small_resnet", 5, {"blocks": [2, 3], "widths": [8, 8]})
    return {name for name, _ in network.named_parameters()}


def is_skippable(name: str) -> bool:
    """Whether the parameter lies in a second sub-path: the last block of either stage."""
    return name.startswith(("layer1.1.", "layer2.2."))


def is_super_only_norm(name: str) -> bool:
    in_mandatory_block = name.startswith("layer") and not is_skippable(name)
    return in_mandatory_block and ".bn" in name and "_skip" not in name


def test_the_super_nets_loss_reaches_no_norm_of_the_skipping_path():
    assert learners(BASE, alpha=1.0) == {name for name in all_names() if "_skip" not in name}


@pytest.mark.parametrize("feature", [0.0, 1.0], ids=["logits", "logits and features"])
def test_the_base_nets_loss_reaches_neither_skippable_blocks_nor_super_only_norms(feature: float):
    """Were the teacher not detached, the loss would reach both."""
    expected = {n for n in all_names() if not is_skippable(n) and not is_super_only_norm(n)}
    assert learners(BASE, alpha=0.0, feature=feature) == expected


def test_an_in_between_student_learns_in_the_second_sub_paths_that_it_runs():
    reached = learners((True, False), alpha=0.0)
    assert {n for n in reached if is_skippable(n)} == {
        n for n in all_names() if n.startswith("layer2.2.")
    }
    assert not any("_skip" in n for n in reached if n.startswith("layer2."))


def test_a_step_trains_every_parameter():
    assert learners(BASE) == all_names()


def test_the_paper_s_method_has_one_student():
    generator = torch.Generator().manual_seed(0)
    assert {choose_student(3, 0.0, generator) for _ in range(50)} == {skip.base_net(3)}


def test_students_in_between_are_neither_super_net_nor_base_net():
    generator = torch.Generator().manual_seed(0)
    students = {choose_student(3, 1.0, generator) for _ in range(200)}
    assert students == set(skip.all_sub_networks(3)[1:-1])


def test_a_network_with_one_flag_has_nothing_in_between():
    generator = torch.Generator().manual_seed(0)
    assert choose_student(1, 1.0, generator) == (True,)


def test_logit_kl_worked_by_hand():
    # Teacher (1/2, 1/2), student (3/4, 1/4): 1/2 ln(2/3) + 1/2 ln 2 = ln(4/3)/2.
    teacher, student = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    assert logit_kl(student, teacher, 1.0, 500).item() == pytest.approx(0.1438410, abs=1e-6)
    assert logit_kl(teacher, teacher, 1.0, 500).item() == pytest.approx(0.0, abs=1e-7)
    # At temperature 2 the logits are halved and the result is multiplied by 4.
    at_two = logit_kl(student * 2, teacher, 2.0, 500).item()
    assert at_two == pytest.approx(4 * 0.1438410, abs=1e-6)


def test_logit_kl_looks_at_the_teachers_likeliest_classes_only():
    teacher = torch.tensor([[0.0, 0.0, -5.0]])
    student = torch.tensor([[3.0, 1.0, 99.0]])
    student[0, :2] = student[0, :2].log()
    assert logit_kl(student, teacher, 1.0, 2).item() == pytest.approx(0.1438410, abs=1e-6)


def test_feature_kl_takes_feature_maps_and_tokens():
    maps, tokens = torch.randn(2, 8, 4, 4), torch.randn(2, 16, 8)
    assert feature_kl([maps, tokens], [maps, tokens]).item() == pytest.approx(0.0, abs=1e-6)
    assert feature_kl([maps * 2, tokens], [maps, tokens]).item() > 0
