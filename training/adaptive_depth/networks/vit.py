"""Adaptive depth vision transformers (ViT-B/16 by default).

Parameter names are those of the published checkpoint
(``encoder.layers.encoder_layer_0.self_attention.in_proj_weight``, ``...ln_1_skip.weight``).

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adaptive_depth.networks.base import (
    AdaptiveNetwork,
    SecondSubPath,
    Segment,
    require_skippable,
    second_sub_path_starts_at,
)
from adaptive_depth.networks.transformer import Mandatory, mlp, switched_layer_norm

EPSILON = 1e-6


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens ``[N,T,width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1:]
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.reshape(-1, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        out = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(out.transpose(1, 2).reshape(-1, tokens, width))


class EncoderBlock(nn.Module):
    """Attention and MLP, each after a norm and with a residual connection."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, mandatory: bool
    ) -> None:
        super().__init__()
        self.mandatory = mandatory
        self.ln_1 = nn.LayerNorm(width, EPSILON)
        self.self_attention = SelfAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, EPSILON)
        self.mlp = mlp(width, hidden, dropout)
        if mandatory:
            self.ln_1_skip = nn.LayerNorm(width, EPSILON)
            self.ln_2_skip = nn.LayerNorm(width, EPSILON)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        x = x + self.dropout(self.self_attention(self._norm("ln_1", x, skip)))
        return x + self.mlp(self._norm("ln_2", x, skip))

    def _norm(self, name: str, x: Tensor, skip: bool | Tensor) -> Tensor:
        norm = getattr(self, name)
        if not self.mandatory:
            return norm(x)
        return switched_layer_norm(x, norm, getattr(self, name + "_skip"), skip)


class Encoder(nn.Module):
    """Holds the blocks under their published names; `VisionTransformer` chains them."""

    def __init__(self, tokens: int, width: int, blocks: list[EncoderBlock], dropout: float) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, tokens, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential()
        for index, block in enumerate(blocks):
            self.layers.add_module(f"encoder_layer_{index}", block)
        self.ln = nn.LayerNorm(width, EPSILON)
        nn.init.normal_(self.pos_embedding, std=0.02)


class _Embedding(nn.Module):
    """Image ``[N,3,H,W]`` to tokens ``[N,1+patches,width]``, the class token first.

    A link of the chain that borrows its parameters from the network.
    """

    def __init__(self, network: VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = network.conv_proj
        self.class_token = network.class_token
        self.pos_embedding = network.encoder.pos_embedding
        self.dropout = network.encoder.dropout
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        token = self.class_token.expand(x.shape[0], -1, -1)
        return self.dropout(torch.cat([token, patches], dim=1) + self.pos_embedding)


class _ClassToken(nn.Module):
    """Final norm and classifier, of the class token alone: norms work token by token."""

    def __init__(self, norm: nn.LayerNorm, head: nn.Module) -> None:
        super().__init__()
        self.norm, self.head = norm, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x[:, 0]))


class VisionTransformer(AdaptiveNetwork):
    """Encoder blocks in groups; the end of each group is skippable.

    Args:
        classes: number of classes.
        size: height and width of the images in pixels, a multiple of `patch`. The
            position embedding belongs to it.
        patch: height and width of a patch in pixels.
        depth: encoder blocks, a multiple of `group`.
        group: blocks per stage, at least 2.
        width: of a token; a multiple of `heads`.
        hidden: width inside the MLP.
        dropout: probability, in embedding, attention output and MLP.
    """

    channel_axis = -1
    logits_layer = "heads.head"

    def __init__(
        self,
        classes: int,
        size: int = 224,
        patch: int = 16,
        depth: int = 12,
        group: int = 3,
        width: int = 768,
        heads: int = 12,
        hidden: int = 3072,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for what, value, unit in (
            ("size", size, patch),
            ("depth", depth, group),
            ("width", width, heads),
        ):
            if value % unit:
                raise ValueError(f"{what} {value} is not a multiple of {unit}")
        require_skippable([group])
        self.flags = depth // group
        self.group = group
        self.conv_proj = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        mandatory = second_sub_path_starts_at(group)
        blocks = [
            EncoderBlock(width, heads, hidden, dropout, mandatory=index % group < mandatory)
            for index in range(depth)
        ]
        self.encoder = Encoder((size // patch) ** 2 + 1, width, blocks, dropout)
        head = nn.Linear(width, classes)
        self.heads = nn.Sequential()
        self.heads.add_module("head", head)
        nn.init.trunc_normal_(self.conv_proj.weight, std=math.sqrt(1 / (3 * patch**2)))
        nn.init.trunc_normal_(head.weight, std=0.02)
        for layer in (self.conv_proj, head):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def segments(self) -> list[Segment]:
        chain = [Segment("embedding", _Embedding(self))]
        mandatory = second_sub_path_starts_at(self.group)
        for flag in range(self.flags):
            blocks = list(self.encoder.layers[flag * self.group : (flag + 1) * self.group])
            first, second = Mandatory(*blocks[:mandatory]), SecondSubPath(*blocks[mandatory:])
            chain += [
                Segment(f"group{flag + 1}", first, flag, tensor_flag=True),
                Segment(f"group{flag + 1}_second", second, flag, is_stage=True),
            ]
        return [*chain, Segment("head", _ClassToken(self.encoder.ln, self.heads))]
