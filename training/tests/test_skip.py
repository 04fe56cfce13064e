"""Skip flags: names, and that what is skipped does not run."""

from __future__ import annotations

import pytest
import torch
from conftest import SIZE

from adaptive_depth import networks, skip
from adaptive_depth.complexity import count_macs, count_parameters_used
from adaptive_depth.networks.base import SkippableStage, second_sub_path_starts_at


def test_names_list_the_first_stage_first():
    assert skip.name_of((True, False, False)) == "TFF"
    assert skip.parse("TFF", 3) == (True, False, False)


@pytest.mark.parametrize("name", ["TF", "TFFF", "TXF", "tff"])
def test_other_names_are_refused(name: str):
    with pytest.raises(ValueError, match="expected 3 letters"):
        skip.parse(name, 3)


def test_all_sub_networks_run_from_super_net_to_base_net():
    every = skip.all_sub_networks(4)
    assert len(set(every)) == 16
    assert (every[0], every[-1]) == (skip.super_net(4), skip.base_net(4))


@pytest.mark.parametrize(("blocks", "mandatory"), [(2, 1), (3, 2), (4, 2), (6, 3), (23, 12)])
def test_the_mandatory_half_is_rounded_up_but_never_everything(blocks: int, mandatory: int):
    assert second_sub_path_starts_at(blocks) == mandatory


@pytest.mark.parametrize("flags", skip.all_sub_networks(4), ids=skip.name_of)
def test_a_set_flag_keeps_the_stages_second_half_from_being_called(network, flags):
    called: list[torch.nn.Module] = []
    hooks = [
        block.register_forward_hook(lambda module, *_: called.append(module))
        for stage in network.modules()
        if isinstance(stage, SkippableStage)
        for block in stage
    ]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, SIZE, SIZE), flags)
    finally:
        for hook in hooks:
            hook.remove()
    expected = []
    for stage, skipped in enumerate(flags, start=1):
        blocks = list(network.get_submodule(f"layer{stage}"))
        expected += blocks[:1] if skipped else blocks
    assert called == expected


def test_costs_are_those_of_the_layers_that_run():
    network = networks.build("small_resnet", 5, {"blocks": [2, 2], "widths": [4, 8]})
    # Multiply-accumulates on 8x8 images: stem 3*4*9*64, a 4-wide block 2*(4*4*9*64),
    # the second stage on 4x4: its first block 4*8*9*16 + 8*8*9*16 and the shortcut
    # 4*8*16, its second block 2*(8*8*9*16), the classifier 8*5.
    stem, narrow, first, second, head = 6912, 18432, 4608 + 9216 + 512, 18432, 40
    assert count_macs(network, 8, (False, False)) == stem + 2 * narrow + first + second + head
    assert count_macs(network, 8, (True, True)) == stem + narrow + first + head
    # Parameters: weights, and two per channel of each norm in use; the classifier's bias.
    stem, narrow = 108 + 8, 288 + 16
    first, second, head = 288 + 576 + 32 + 32 + 16, 1152 + 32, 40 + 5
    total = stem + 2 * narrow + first + second + head
    assert count_parameters_used(network, 8, (False, False)) == total
    assert count_parameters_used(network, 8, (True, True)) == total - narrow - second
    assert count_parameters_used(network, 8, (True, False)) == total - narrow
