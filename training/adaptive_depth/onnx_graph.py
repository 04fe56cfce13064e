"""One ONNX graph that holds every sub-network of an adaptive depth network.

Each run of segments that follow one skip flag becomes an ``If`` with two
branches; segments that take the flag as a tensor need none. Stages of few weights may
share a tree of ``If``s, with a branch for each combination of their flags. The weights
lie once: in the root graph, to which all branches refer, or in the branch that alone
reads them. BatchNormalization stays un-folded inside the branches: at load time
onnxruntime fuses it with the convolution before it into branch-local weights, and only
such weights get its blocked (NCHWc) layout. Folding the norms here would duplicate the
convolutions or lose that layout, which costs up to half the speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from adaptive_depth import __version__
from adaptive_depth import skip as skip_flags
from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.onnx_pieces import BATCH, IR_VERSION, OPSET, Exported, Piece, Variant
from adaptive_depth.restate import RestatedLink
from adaptive_depth.skip import SkipFlags

IMAGE, LOGITS = "image", "logits"


def flag_name(index: int) -> str:
    """Name of the scalar bool input for the flag of stage `index`, counted from 0."""
    return f"skip_{index + 1}"


def flag_names(flags: int) -> list[str]:
    """Names of all scalar bool inputs, first stage first."""
    return [flag_name(index) for index in range(flags)]


def build_graph(
    network: AdaptiveNetwork, size: int, mean: Sequence[float], std: Sequence[float]
) -> onnx.ModelProto:
    """The network as a checked ONNX model.

    Args:
        size: height and width of the images in pixels.
        mean, std: per channel in 0..255; the graph normalises with them.

    The model takes ``image`` uint8 ``[N,size,size,3]`` and the scalar bools
    ``skip_1..skip_k``, and gives ``logits`` float32 ``[N,classes]``.
    """
    network = network.eval()
    normaliser = Segment("normalise", _Normaliser(mean, std))
    links, x = _links([[normaliser], *_groups(network.segments())], size)
    exported = Exported([piece for link in links for piece in _pieces(link)], network)
    nodes = []
    for link in links:
        nodes += _graph(link, exported).node
    _move_into_branches(nodes, exported.weights)

    inputs = [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [BATCH, size, size, 3])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.BOOL, [])
        for name in flag_names(network.flags)
    ]
    outputs = [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [BATCH, x.shape[1]])]
    graph = helper.make_graph(
        nodes, "adaptive_depth", inputs, outputs, list(exported.weights.values())
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="adaptive-depth",
        producer_version=__version__,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Normaliser(nn.Module):
    """`augment.normalise` as a segment. It is not folded into the stem's convolution:
    that would be wrong where the convolution pads with zeros.

    Transposed first, while a pixel is one byte, and then scaled plane by plane:
    broadcasting along a last axis of three is ten times slower in onnxruntime, which a
    small network feels.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        planes = torch.tensor([mean, std], dtype=torch.float64).reshape(2, 3, 1, 1)
        self.register_buffer("scale", (1 / planes[1]).float())
        self.register_buffer("shift", (-planes[0] / planes[1]).float())

    def forward(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float() * self.scale + self.shift


@dataclass(frozen=True)
class _Choice:
    """An ``If`` between two pieces, either of which may be another one."""

    name: str
    out: str
    condition: str
    skipped: Piece | _Choice
    full: Piece | _Choice

    def node(self, exported: Exported) -> onnx.NodeProto:
        branches = {
            "then_branch": _graph(self.skipped, exported),
            "else_branch": _graph(self.full, exported),
        }
        return helper.make_node("If", [self.condition], [self.out], self.name, **branches)


def _pieces(link: Piece | _Choice) -> list[Piece]:
    if isinstance(link, Piece):
        return [link]
    return _pieces(link.skipped) + _pieces(link.full)


def _graph(link: Piece | _Choice, exported: Exported) -> onnx.GraphProto:
    if isinstance(link, Piece):
        return exported.graph_of(link)
    node = link.node(exported)
    output = onnx.ValueInfoProto(name=link.out, type=node.attribute[0].g.output[0].type)
    return helper.make_graph([node], link.name, [], [output])


def _move_into_branches(nodes: Sequence[onnx.NodeProto], weights: dict[str, TensorProto]) -> None:
    """Takes out of `weights` what belongs to a convolution of one branch alone that no norm
    follows, as in ConvNeXt: nothing makes it local when the file is loaded.

    All others stay, since their fused copies come on top of what the branch has.
    """
    branches = list(_branches(nodes))
    graphs = [nodes, *(branch.node for branch in branches)]
    readers = Counter(name for each in graphs for name in {i for n in each for i in n.input})
    for branch in branches:
        normed = {node.input[0] for node in branch.node if node.op_type == "BatchNormalization"}
        for node in branch.node:
            if node.op_type == "Conv" and node.output[0] not in normed:
                own = [name for name in node.input if name in weights and readers[name] == 1]
                branch.initializer.extend(weights.pop(name) for name in own)


def _branches(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Of all ``If``s, those within branches, too."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from _branches(attribute.g.node)


def _links(groups: Sequence[Sequence[Segment]], size: int) -> tuple[list[Piece | _Choice], Tensor]:
    """The chain as links, and the logits of an example."""
    links: list[Piece | _Choice] = []
    value, x = IMAGE, torch.zeros(2, size, size, 3, dtype=torch.uint8)
    for index, group in enumerate(groups):
        name = "+".join(segment.name for segment in group)
        out = LOGITS if index == len(groups) - 1 else name
        flag = group[-1].flag
        full = Variant(group, (False,) * (0 if flag is None else flag + 1))
        if flag is None:
            links.append(Piece(name, full, {value: x}, out))
        elif group[-1].tensor_flag:
            inputs = {value: x, flag_name(flag): torch.tensor(False)}
            links.append(Piece(name, full, inputs, out))
        else:
            links.append(_choice(group, flag, (), {value: x}, name, out))
        with torch.no_grad():
            x = full(x)
        value = out
    return links, x


def _groups(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Neighbours to be decided at once: those that follow one flag in one way, and those
    that ask for it (`Segment.joins_previous`).

    The stem joins the first ``If``: only a map that a branch computes itself has the
    blocked layout, and so only to such a map a convolution of that branch can add.
    """
    runs = [
        list(run)
        for _, run in groupby(segments, lambda segment: (segment.flag, segment.tensor_flag))
    ]
    if len(runs) > 1 and runs[0][0].flag is None and not runs[1][0].tensor_flag:
        runs[:2] = [runs[0] + runs[1]]
    groups: list[list[Segment]] = []
    for run in runs:
        if run[0].joins_previous:
            groups[-1] += run
        else:
            groups.append(run)
    return groups


def _choice(
    group: Sequence[Segment],
    flag: int,
    decided: SkipFlags,
    inputs: dict[str, Tensor],
    name: str,
    out: str,
) -> _Choice:
    """An ``If`` on `flag`, and inside it on earlier ones where they make a difference.

    Args:
        flag: the flag to decide next.
        decided: what has been decided on the later ones, up to the group's last.
    """

    def branch(skip: bool) -> Piece | _Choice:
        now = (skip, *decided)
        prefix = f"{name}/{'skip' if skip else 'full'}"
        if _depends_on_flags_before(group, flag, now):
            return _choice(group, flag - 1, now, inputs, prefix, f"{prefix}/out")
        # Earlier flags make no difference any more: as if they were equal to this one.
        variant = Variant(group, (skip,) * flag + now)
        return Piece(prefix, variant, inputs, f"{prefix}/out", in_branch=True)

    return _Choice(name, out, flag_name(flag), branch(True), branch(False))


def _depends_on_flags_before(group: Sequence[Segment], flag: int, decided: SkipFlags) -> bool:
    """Whether the group is still open when flags from `flag` on are `decided`."""
    for segment in group:
        if segment.flag is None:
            continue
        if segment.flag < flag:
            return True
        if isinstance(segment.module, RestatedLink):
            ending = skip_flags.name_of(decided[: segment.flag - flag + 1])
            if flag > 0 and any(own.endswith(ending) for own in segment.module.own):
                return True
    return False
