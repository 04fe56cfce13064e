"""What a sub-network costs: multiply-accumulates and parameters used."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.skip import SkipFlags


def count_macs(network: AdaptiveNetwork, size: int, skip: SkipFlags) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image.

    PyTorch's counter counts a multiply-accumulate as two operations.
    """
    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    # PyTorch's fused encoder layers are not counted.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), counter:
            network.eval()(_image(network, size), skip)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() // 2


def count_parameters_used(network: AdaptiveNetwork, size: int, skip: SkipFlags) -> int:
    """Number of parameters on which the sub-network's logits depend.

    Automatic differentiation knows: the others have no gradient.
    """
    parameters = list(network.parameters())
    with torch.enable_grad():
        logits = network.eval()(_image(network, size), skip)
        gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    used = zip(parameters, gradients, strict=True)
    return sum(p.numel() for p, gradient in used if gradient is not None)


def _image(network: AdaptiveNetwork, size: int) -> Tensor:
    return torch.zeros(1, 3, size, size, device=next(network.parameters()).device)
