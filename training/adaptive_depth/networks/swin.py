"""Adaptive depth Swin transformers (Swin-T by default).

Parameter names are those of the published checkpoint
(``features.0.0.attn.relative_position_bias_table``, ``features.1.norm_skip.weight``).
Feature maps are ``[N,H,W,C]`` throughout.

Source: Liu et al., "Swin Transformer", ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

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

MASKED = -100.0  # what is added to the attention between pixels that are no neighbours


def relative_position_index(window: int) -> Tensor:
    """For each pair of a window's pixels, the row of their offset in the bias table.

    int64 ``[window^4]``.
    """
    line = torch.arange(window)
    pixels = torch.cartesian_prod(line, line)
    offsets = pixels[:, None] - pixels[None, :] + window - 1
    return (offsets[..., 0] * (2 * window - 1) + offsets[..., 1]).flatten()


def to_windows(x: Tensor, window: int) -> Tensor:
    """``[N,H,W,C]`` to ``[N,windows,window^2,C]``; H and W are multiples of `window`."""
    height, width, channels = x.shape[1:]
    down, across = height // window, width // window
    x = x.reshape(-1, down, window, across, window, channels).transpose(2, 3)
    return x.reshape(-1, down * across, window * window, channels)


def from_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `to_windows`."""
    down, across = height // window, width // window
    x = x.reshape(-1, down, across, window, window, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, height, width, x.shape[-1])


def shift_mask(
    height: int, width: int, window: int, shift: tuple[int, int], like: Tensor
) -> Tensor:
    """What is added to the attention after a cyclic shift, ``[windows,1,window^2,window^2]``:
    `MASKED` between pixels that only the shift brought together."""

    def regions(length: int, moved: int) -> Tensor:
        position = torch.arange(length, device=like.device)
        if not moved:
            return torch.zeros_like(position)
        return (position >= length - window).long() + (position >= length - moved).long()

    region = 3 * regions(height, shift[0])[:, None] + regions(width, shift[1])[None, :]
    region = to_windows(region[None, :, :, None], window)[0, :, :, 0]
    apart = region[:, None, :, None] != region[:, None, None, :]
    return apart.to(like.dtype) * MASKED


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, of a cyclically shifted map where `shift`."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        window = self.window
        below, right = -height % window, -width % window
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        full = (height + below, width + right)
        # A map of one window has nothing to shift over.
        shift = tuple(self.shift if side > window else 0 for side in full)
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))

        x = to_windows(x, window)
        windows, pixels = x.shape[1:3]
        qkv = self.qkv(x).reshape(-1, windows, pixels, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind()
        scale = (channels // self.heads) ** -0.5
        attention = (query * scale) @ key.transpose(-2, -1) + self._bias(full, shift, query)
        x = (attention.softmax(-1) @ value).transpose(2, 3)
        x = self.proj(x.reshape(-1, windows, pixels, channels))

        x = from_windows(x, window, *full)
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x[:, :height, :width] if below or right else x

    def _bias(self, full: tuple[int, int], shift: tuple[int, ...], like: Tensor) -> Tensor:
        """``[windows or 1, heads, window^2, window^2]``; depends on no input."""
        pixels = self.window**2
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.reshape(pixels, pixels, self.heads).permute(2, 0, 1)[None]
        if any(shift):
            bias = bias + shift_mask(*full, self.window, (shift[0], shift[1]), like)
        return bias


def drop_rows(x: Tensor, probability: float, training: bool) -> Tensor:
    """Stochastic depth: zeroes whole images of ``[N,...]``, scales the others up."""
    if not training or probability == 0:
        return x
    keep = 1 - probability
    kept = x.new_empty([len(x)] + [1] * (x.dim() - 1)).bernoulli_(keep)
    return x * kept / keep


class SwinBlock(nn.Module):
    """Window attention and MLP, each after a norm and with a residual connection.

    Stochastic depth never touches the base path: it is on only while the second
    sub-path runs too.
    """

    def __init__(
        self, width: int, heads: int, window: int, shift: int, drop: float, mandatory: bool
    ) -> None:
        super().__init__()
        self.mandatory, self.drop = mandatory, drop
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, 4 * width, dropout=0.0)
        if mandatory:
            self.norm1_skip = nn.LayerNorm(width)
            self.norm2_skip = nn.LayerNorm(width)

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        drop = 0.0 if skip is True else self.drop
        x = x + drop_rows(self.attn(self._norm("norm1", x, skip)), drop, self.training)
        return x + drop_rows(self.mlp(self._norm("norm2", x, skip)), drop, self.training)

    def _norm(self, name: str, x: Tensor, skip: bool | Tensor) -> Tensor:
        norm = getattr(self, name)
        if not self.mandatory:
            return norm(x)
        return switched_layer_norm(x, norm, getattr(self, name + "_skip"), skip)


class PatchMerging(nn.Module):
    """Joins 2x2 pixels: half the height and width, twice the channels.

    Its norms are chosen by the flag of the stage that follows.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)
        self.norm_skip = nn.LayerNorm(4 * width)

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = torch.cat(corners, dim=-1)
        return self.reduction(switched_layer_norm(x, self.norm, self.norm_skip, skip))


class ToChannelsLast(nn.Module):
    """``[N,C,H,W]`` to ``[N,H,W,C]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _PooledHead(nn.Module):
    """Final norm, mean over pixels and classifier."""

    def __init__(self, norm: nn.LayerNorm, head: nn.Linear) -> None:
        super().__init__()
        self.norm, self.head = norm, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x).mean(dim=(1, 2)))


class SwinTransformer(AdaptiveNetwork):
    """Four stages of shifted-window attention, for images of any size from 32 on.

    Args:
        classes: number of classes.
        blocks: Swin blocks in each stage, each at least 2.
        width: channels of the first stage; they double from stage to stage.
        heads: attention heads in each stage.
        window: height and width of a window in pixels of the feature map.
        patch: height and width in image pixels of a pixel of the first feature map.
        drop: stochastic depth of the last block; it grows linearly from 0.
    """

    channel_axis = -1
    logits_layer = "head"

    def __init__(
        self,
        classes: int,
        blocks: Sequence[int] = (2, 2, 6, 2),
        width: int = 96,
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        patch: int = 4,
        drop: float = 0.1,
    ) -> None:
        super().__init__()
        if len(blocks) != len(heads):
            raise ValueError(f"{len(blocks)} block counts for {len(heads)} head counts")
        require_skippable(blocks)
        self.flags = len(blocks)
        self.pre = nn.Sequential(
            nn.Conv2d(3, width, patch, patch), ToChannelsLast(), nn.LayerNorm(width)
        )
        features: list[nn.Module] = []
        last = sum(blocks) - 1
        rates = iter(drop * index / last for index in range(last + 1))
        for stage, (count, stage_heads) in enumerate(zip(blocks, heads, strict=True)):
            if stage > 0:
                features.append(PatchMerging(width))
                width *= 2
            mandatory = second_sub_path_starts_at(count)
            features.append(
                nn.Sequential(
                    *(
                        SwinBlock(
                            width,
                            stage_heads,
                            window,
                            shift=window // 2 if index % 2 else 0,
                            drop=next(rates),
                            mandatory=index < mandatory,
                        )
                        for index in range(count)
                    )
                )
            )
        self.features = nn.Sequential(*features)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def segments(self) -> list[Segment]:
        chain = [Segment("pre", self.pre)]
        for flag in range(self.flags):
            if flag > 0:
                merging = self.features[2 * flag - 1]
                chain.append(Segment(f"merging{flag}", merging, flag, tensor_flag=True))
            blocks = list(self.features[2 * flag].children())
            mandatory = second_sub_path_starts_at(len(blocks))
            first, second = Mandatory(*blocks[:mandatory]), SecondSubPath(*blocks[mandatory:])
            chain += [
                Segment(f"stage{flag + 1}", first, flag, tensor_flag=True),
                Segment(f"stage{flag + 1}_second", second, flag, is_stage=True),
            ]
        return [*chain, Segment("head", _PooledHead(self.norm, self.head))]
