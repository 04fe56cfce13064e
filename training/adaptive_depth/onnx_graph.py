"""One ONNX graph that holds every sub-network of an adaptive depth network.

Each run of segments that follow one skip flag becomes an ``If`` with two
branches; segments that take the flag as a tensor need none. Stages of few weights may
share a tree of ``If``s, with a branch for each combination of their flags. The weights
lie once, in the root graph, and all branches refer to them. BatchNormalization
stays un-folded inside the branches: at load time onnxruntime fuses it with the
convolution before it into branch-local weights, and only such weights get its
blocked (NCHWc) layout. Folding the norms here would duplicate the convolutions
or lose that layout, which costs up to half the speed.

All pieces go through PyTorch's exporter in one call, whose fixed cost is that of
a piece, and are told apart afterwards.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir, optimizer
from torch import Tensor, nn

from adaptive_depth import __version__
from adaptive_depth import skip as skip_flags
from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.restate import RestatedLink
from adaptive_depth.skip import SkipFlags

# Current enough for every operator used, old enough for the runtimes in the field.
OPSET = 18
IR_VERSION = 10

IMAGE, LOGITS = "image", "logits"
BATCH = "N"


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
    exported = _Exported([piece for link in links for piece in _pieces(link)], network)
    nodes = []
    for link in links:
        nodes += _graph(link, exported).node

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


class _Variant(nn.Module):
    """Consecutive segments with their skip flags decided, ready to be traced.

    Args:
        skip: one flag per stage, as far as these segments go.
    """

    def __init__(self, segments: Sequence[Segment], skip: SkipFlags) -> None:
        super().__init__()
        self.segments, self.skip = segments, skip
        self.links = nn.ModuleList(segment.module for segment in segments)
        self.eval()

    def forward(self, x: Tensor, flag: Tensor | None = None) -> Tensor:
        """`flag`, a scalar bool tensor, takes the place of the last decision."""
        skip: tuple[Any, ...] = self.skip if flag is None else (*self.skip[:-1], flag)
        for segment in self.segments:
            x = segment.run(x, skip)
        return x


@dataclass(frozen=True)
class _Piece:
    """What is traced as one: a link of the chain, or one branch of an ``If``.

    Attributes:
        inputs: examples, by their names in the whole graph.
        out: name of the output there.
        in_branch: where its constants go: into the branch, or into the root graph.
    """

    prefix: str
    variant: _Variant
    inputs: dict[str, Tensor]
    out: str
    in_branch: bool = False


@dataclass(frozen=True)
class _Choice:
    """An ``If`` between two pieces, either of which may be another one."""

    name: str
    out: str
    condition: str
    skipped: _Piece | _Choice
    full: _Piece | _Choice

    def node(self, exported: _Exported) -> onnx.NodeProto:
        branches = {
            "then_branch": _graph(self.skipped, exported),
            "else_branch": _graph(self.full, exported),
        }
        return helper.make_node("If", [self.condition], [self.out], self.name, **branches)


def _pieces(link: _Piece | _Choice) -> list[_Piece]:
    if isinstance(link, _Piece):
        return [link]
    return _pieces(link.skipped) + _pieces(link.full)


def _graph(link: _Piece | _Choice, exported: _Exported) -> onnx.GraphProto:
    if isinstance(link, _Piece):
        return exported.graph_of(link)
    node = link.node(exported)
    output = onnx.ValueInfoProto(name=link.out, type=node.attribute[0].g.output[0].type)
    return helper.make_graph([node], link.name, [], [output])


def _links(groups: Sequence[Sequence[Segment]], size: int) -> tuple[list[_Piece | _Choice], Tensor]:
    """The chain as links, and the logits of an example."""
    links: list[_Piece | _Choice] = []
    value, x = IMAGE, torch.zeros(2, size, size, 3, dtype=torch.uint8)
    for index, group in enumerate(groups):
        name = "+".join(segment.name for segment in group)
        out = LOGITS if index == len(groups) - 1 else name
        flag = group[-1].flag
        full = _Variant(group, (False,) * (0 if flag is None else flag + 1))
        if flag is None:
            links.append(_Piece(name, full, {value: x}, out))
        elif group[-1].tensor_flag:
            inputs = {value: x, flag_name(flag): torch.tensor(False)}
            links.append(_Piece(name, full, inputs, out))
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

    def branch(skip: bool) -> _Piece | _Choice:
        now = (skip, *decided)
        prefix = f"{name}/{'skip' if skip else 'full'}"
        if _depends_on_flags_before(group, flag, now):
            return _choice(group, flag - 1, now, inputs, prefix, f"{prefix}/out")
        # Earlier flags make no difference any more: as if they were equal to this one.
        variant = _Variant(group, (skip,) * flag + now)
        return _Piece(prefix, variant, inputs, f"{prefix}/out", in_branch=True)

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


class _AllPieces(nn.Module):
    """Runs pieces side by side: the inputs of all, one piece's after the other's."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        super().__init__()
        self.variants = nn.ModuleList(piece.variant for piece in pieces)
        self.counts = [len(piece.inputs) for piece in pieces]
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = iter(inputs)
        return tuple(
            variant(*islice(given, count))
            for variant, count in zip(self.variants, self.counts, strict=True)
        )


class _Exported:
    """Pieces as the exporter gives them, to be cut out one by one.

    Weights are told apart by identity, so a tensor that several pieces use is stored
    once, under its name in the network's state dict.

    Attributes:
        weights: tensors of the root graph that the pieces cut out so far refer to.
    """

    def __init__(self, pieces: Sequence[_Piece], network: AdaptiveNetwork) -> None:
        module = _AllPieces(pieces)
        # Of several names the first.
        names = {id(tensor): name for name, tensor in reversed([*_tensors(network)])}
        traced = dict(_tensors(module))
        # The exporter takes one tensor given twice for one input: hence the clones.
        inputs = [x.clone() for piece in pieces for x in piece.inputs.values()]
        self.graph = _export(module, inputs, set(traced)).graph
        self.weights: dict[str, TensorProto] = {}
        self.known = {
            name: names[id(tensor)] for name, tensor in traced.items() if id(tensor) in names
        }
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        given = (value.name for value in self.graph.input)
        self.inputs = {
            piece.prefix: dict(zip(islice(given, len(piece.inputs)), piece.inputs, strict=True))
            for piece in pieces
        }
        self.outputs = {
            piece.prefix: value for piece, value in zip(pieces, self.graph.output, strict=True)
        }

    def graph_of(self, piece: _Piece) -> onnx.GraphProto:
        """The piece with its names of the whole graph; adds to `weights` what it reads."""
        output = self.outputs[piece.prefix]
        rename = {"": "", output.name: piece.out, **self.inputs[piece.prefix]}
        constants = []
        nodes = []
        for exported in self._leading_to(output.name):
            node = onnx.NodeProto()
            node.CopyFrom(exported)
            if node.op_type == "Conv" and len(node.input) == 3 and self._is_zero(node.input[2]):
                # The exporter gives a convolution without bias one of zeros.
                del node.input[2]
            for name in node.input:
                if name in self.initializers and name not in rename:
                    rename[name] = self.known.get(name, f"{piece.prefix}/{name}")
                    tensor = _bare(self.initializers[name])
                    tensor.name = rename[name]
                    if piece.in_branch and name not in self.known:
                        constants.append(tensor)
                    else:
                        self.weights[tensor.name] = tensor
            node = _bare(node)
            node.name = f"{piece.prefix}/{node.name}"
            for names in (node.input, node.output):
                names[:] = [rename.get(name, f"{piece.prefix}/{name}") for name in names]
            nodes.append(node)
        if not nodes:  # a skipped sub-path: the output is the input
            nodes = [helper.make_node("Identity", [rename[output.name]], [piece.out])]
        value = onnx.ValueInfoProto(name=piece.out, type=output.type)
        # One name of the batch in all pieces, although the exporter gave each its own.
        # Without it onnxruntime cannot tell that two maps are equal in size, and adds them
        # by an operator of its own instead of in the convolution.
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
        return helper.make_graph(nodes, piece.prefix, [], [value], constants)

    def _leading_to(self, output: str) -> list[onnx.NodeProto]:
        """The nodes that `output` depends on, in their order."""
        wanted, found = [output], set()
        while wanted:
            node = self.producers.get(wanted.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                wanted += node.input
        return [node for node in self.graph.node if node.name in found]

    def _is_zero(self, name: str) -> bool:
        tensor = self.initializers.get(name)
        known = name in self.known
        return tensor is not None and not known and not numpy_helper.to_array(tensor).any()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under each of their names."""
    return chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )


def _bare(proto: Any) -> Any:
    """A copy without the exporter's metadata, which quotes files of the machine at hand."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    copy.ClearField("metadata_props")
    copy.ClearField("doc_string")
    return copy


def _export(module: nn.Module, inputs: Sequence[Tensor], weights: set[str]) -> onnx.ModelProto:
    """PyTorch's exporter without its optimiser, which would fold the norms.

    Constants are folded, but nothing computed from weights is, since the result
    would be stored once more for every branch.
    """

    def should_fold(node: ir.Node) -> bool | None:
        reads_weights = any(value is not None and value.name in weights for value in node.inputs)
        return False if reads_weights and node.op_type not in {"Shape", "Size"} else None

    with _quietly():
        program = torch.onnx.export(
            module,
            tuple(inputs),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            dynamic_shapes=(
                tuple({0: f"N{i}"} if x.dim() else None for i, x in enumerate(inputs)),
            ),
            verbose=False,
        )
    assert program is not None
    optimizer.inline(program.model)
    optimizer.fold_constants_ir(program.model, should_fold=should_fold)
    optimizer.remove_unused_nodes(program.model)
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silences the exporter's progress and its warnings about libraries we don't use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name")
            yield
    finally:
        logger.setLevel(level)
