"""Pieces of a network as PyTorch's exporter gives them, for `onnx_graph` to put together.

All pieces go through the exporter in one call, whose fixed cost is that of a piece, and
are told apart afterwards.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript import ir, optimizer
from torch import Tensor, nn

from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.skip import SkipFlags

# Current enough for every operator used, old enough for the runtimes in the field.
OPSET = 18
IR_VERSION = 10

BATCH = "N"


class Variant(nn.Module):
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
class Piece:
    """What is traced as one: a link of the chain, or one branch of an ``If``.

    Attributes:
        inputs: examples, by their names in the whole graph.
        out: name of the output there.
        in_branch: where its constants go: into the branch, or into the root graph.
    """

    prefix: str
    variant: Variant
    inputs: dict[str, Tensor]
    out: str
    in_branch: bool = False


class _AllPieces(nn.Module):
    """Runs pieces side by side: the inputs of all, one piece's after the other's."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
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


class Exported:
    """Pieces as the exporter gives them, to be cut out one by one.

    Weights are told apart by identity, so a tensor that several pieces use is stored
    once, under its name in the network.

    Attributes:
        weights: tensors of the root graph that the pieces cut out so far refer to.
    """

    def __init__(self, pieces: Sequence[Piece], network: AdaptiveNetwork) -> None:
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

    def graph_of(self, piece: Piece) -> onnx.GraphProto:
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

    with _quietly(), _out_of_place(module):
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
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """Activations that write to their input are taken apart by the exporter, which is slow."""
    in_place = [m for m in module.modules() if getattr(m, "inplace", False) is True]
    try:
        for part in in_place:
            part.__dict__["inplace"] = False
        yield
    finally:
        for part in in_place:
            part.__dict__["inplace"] = True


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
