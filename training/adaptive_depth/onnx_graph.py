"""One ONNX graph that holds every sub-network of an adaptive depth network.

Each run of segments that follow one skip flag becomes an ``If`` with two
branches. The weights lie once, in the root graph, and both branches refer to
them. BatchNormalization stays un-folded inside the branches: at load time
onnxruntime fuses it with the convolution before it into branch-local weights,
and only such weights get its blocked (NCHWc) layout. Folding the norms here
would duplicate the convolutions or lose that layout, which costs up to half
the speed.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir, optimizer
from torch import Tensor, nn

from adaptive_depth import __version__
from adaptive_depth.augment import normalise
from adaptive_depth.networks.base import AdaptiveNetwork, Segment

# Current enough for every operator used, old enough for the runtimes in the field.
OPSET = 18
IR_VERSION = 10

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
    stitcher = _Stitcher(network)
    normaliser = Segment("normalise", _Normaliser(mean, std))
    groups = [
        (flag, list(group))
        for flag, group in groupby([normaliser, *network.segments()], lambda s: s.flag)
    ]
    value, x = IMAGE, torch.zeros(2, size, size, 3, dtype=torch.uint8)
    for index, (flag, segments) in enumerate(groups):
        name = "+".join(segment.name for segment in segments)
        out = LOGITS if index == len(groups) - 1 else name
        if flag is None:
            x = stitcher.add_chain(_Variant(segments), x, name, value, out)
        else:
            x = stitcher.add_if(segments, flag, x, name, value, out)
        value = out

    batch = "N"
    inputs = [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, size, size, 3])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.BOOL, [])
        for name in flag_names(network.flags)
    ]
    outputs = [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, x.shape[1]])]
    graph = helper.make_graph(
        stitcher.nodes, "adaptive_depth", inputs, outputs, list(stitcher.weights.values())
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
    that would be wrong where the convolution pads with zeros."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)


class _Variant(nn.Module):
    """Consecutive segments with their common skip flag decided, ready to be traced."""

    def __init__(self, segments: Sequence[Segment], skip: bool = False) -> None:
        super().__init__()
        self.links = nn.ModuleList(segment.module for segment in segments)
        self.flagged = [segment.flag is not None for segment in segments]
        self.skip = skip
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for link, flagged in zip(self.links, self.flagged, strict=True):
            x = link(x, self.skip) if flagged else link(x)
        return x


@dataclass(frozen=True)
class _Piece:
    """One exported variant: nodes, constants other than weights, and the output's type."""

    nodes: list[onnx.NodeProto]
    constants: list[TensorProto]
    output: onnx.ValueInfoProto


class _Stitcher:
    """Joins separately exported pieces; weights are told apart by identity, so a
    tensor that several pieces use is stored once, under its name in the state dict.
    """

    def __init__(self, network: AdaptiveNetwork) -> None:
        self.names = {
            id(tensor): name
            for name, tensor in chain(network.named_parameters(), network.named_buffers())
        }
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, TensorProto] = {}

    def add_chain(self, variant: _Variant, x: Tensor, name: str, value: str, out: str) -> Tensor:
        """Appends nodes that compute `out` from `value` to the root graph."""
        piece = self._piece(variant, x, name, value, out)
        self.nodes += piece.nodes
        self.weights |= {constant.name: constant for constant in piece.constants}
        return _run(variant, x)

    def add_if(
        self, segments: Sequence[Segment], flag: int, x: Tensor, name: str, value: str, out: str
    ) -> Tensor:
        """Appends an ``If`` on flag number `flag` that computes `out` from `value`."""
        branches = {}
        for attribute, skip in (("then_branch", True), ("else_branch", False)):
            prefix = f"{name}/{'skip' if skip else 'full'}"
            piece = self._piece(_Variant(segments, skip), x, prefix, value, f"{prefix}/out")
            branches[attribute] = helper.make_graph(
                piece.nodes, prefix, [], [piece.output], piece.constants
            )
        self.nodes.append(helper.make_node("If", [flag_name(flag)], [out], name, **branches))
        return _run(_Variant(segments), x)

    def _piece(self, variant: _Variant, x: Tensor, prefix: str, value: str, out: str) -> _Piece:
        """Exports `variant`, which reads `value` and gives `out`, and collects its weights."""
        tensors = dict(chain(variant.named_parameters(), variant.named_buffers()))
        graph = _export(variant, x, weights=set(tensors)).graph
        weights = {n: self.names[id(t)] for n, t in tensors.items() if id(t) in self.names}
        renamed = weights | {"": "", graph.input[0].name: value, graph.output[0].name: out}

        def rename(names: Iterable[str]) -> list[str]:
            return [renamed.get(name, f"{prefix}/{name}") for name in names]

        nodes = []
        zeros = {t.name for t in graph.initializer if t.name not in weights and _is_zero(t)}
        for node in graph.node:
            # Built anew, without the exporter's metadata: it quotes files of this machine.
            inputs = rename(_inputs_without_zero_bias(node, zeros))
            copy = helper.make_node(
                node.op_type,
                inputs,
                rename(node.output),
                f"{prefix}/{node.name}",
                domain=node.domain,
            )
            copy.attribute.extend(node.attribute)
            nodes.append(copy)

        constants = []
        used = {name for node in nodes for name in node.input}
        for tensor in graph.initializer:
            is_weight = tensor.name in weights
            (tensor.name,) = rename([tensor.name])
            tensor.ClearField("metadata_props")
            tensor.ClearField("doc_string")
            if is_weight:
                self.weights[tensor.name] = tensor
            elif tensor.name in used:
                constants.append(tensor)
        output = onnx.ValueInfoProto(name=out, type=graph.output[0].type)
        return _Piece(nodes, constants, output)


def _run(variant: _Variant, x: Tensor) -> Tensor:
    with torch.no_grad():
        return variant(x)


def _export(variant: _Variant, x: Tensor, weights: set[str]) -> onnx.ModelProto:
    """PyTorch's exporter without its optimiser, which would fold the norms.

    Constants are folded, but nothing computed from weights is, since the result
    would be stored once more for every branch.
    """

    def should_fold(node: ir.Node) -> bool | None:
        reads_weights = any(value is not None and value.name in weights for value in node.inputs)
        return False if reads_weights and node.op_type not in {"Shape", "Size"} else None

    with _quietly():
        program = torch.onnx.export(
            variant,
            (x,),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            dynamic_shapes=({0: "N"},),
            verbose=False,
        )
    assert program is not None
    optimizer.inline(program.model)
    optimizer.fold_constants_ir(program.model, should_fold=should_fold)
    optimizer.remove_unused_nodes(program.model)
    return program.model_proto


def _is_zero(tensor: TensorProto) -> bool:
    return not numpy_helper.to_array(tensor).any()


def _inputs_without_zero_bias(node: onnx.NodeProto, zeros: set[str]) -> list[str]:
    """The exporter gives a convolution without bias one of zeros; this leaves it out."""
    inputs = list(node.input)
    if node.op_type == "Conv" and len(inputs) == 3 and inputs[2] in zeros:
        inputs.pop()
    return inputs


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silences the exporter's progress and its warnings about libraries we don't use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
