"""What the two transformer families share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def switched_layer_norm(
    x: Tensor, norm: nn.LayerNorm, norm_skip: nn.LayerNorm, skip: bool | Tensor
) -> Tensor:
    """`norm_skip` where `skip` is set, else `norm`.

    A layer norm keeps no statistics and is folded into nothing, so the choice may be
    made on its scale and shift alone. With `skip` a scalar bool tensor, a mandatory
    block therefore is one piece of graph, its matrices packed once, whatever the flag.
    """
    if not isinstance(skip, Tensor):
        return norm_skip(x) if skip else norm(x)
    weight = torch.where(skip, norm_skip.weight, norm.weight)
    bias = torch.where(skip, norm_skip.bias, norm.bias)
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def mlp(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Two linear layers round a GELU; the parameters are called ``0`` and ``3``."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, width),
        nn.Dropout(dropout),
    )


class Mandatory(nn.Sequential):
    """The blocks of a stage that always run, each called with the stage's flag."""

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        for block in self:
            x = block(x, skip)
        return x
