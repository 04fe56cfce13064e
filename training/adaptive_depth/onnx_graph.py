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
from collections.abc import Iterator, Sequence
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


def flag_names(flags: int) -> list[str]:
    """Names of the scalar bool inputs, first stage first."""
    return [f"skip_{index + 1}" for index in range(flags)]


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
        nodes, constants, _ = self._piece(variant, x, name, value, out)
        self.nodes += nodes
        self.weights |= {constant.name: constant for constant in constants}
        return _run(variant, x)

    def add_if(
        self, segments: Sequence[Segment], flag: int, x: Tensor, name: str, value: str, out: str
    ) -> Tensor:
        """Appends an ``If`` on flag number `flag` that computes `out` from `value`."""
        branches = {}
        for attribute, skip in (("then_branch", True), ("else_branch", False)):
            prefix = f"{name}/{'skip' if skip else 'full'}"
            variant = _Variant(segments, skip)
            nodes, constants, output = self._piece(variant, x, prefix, value, f"{prefix}/out")
            branches[attribute] = helper.make_graph(nodes, prefix, [], [output], constants)
        condition = f"skip_{flag + 1}"
        self.nodes.append(helper.make_node("If", [condition], [out], name, **branches))
        return _run(_Variant(segments), x)

    def _piece(
        self, variant: _Variant, x: Tensor, prefix: str, value: str, out: str
    ) -> tuple[list[onnx.NodeProto], list[TensorProto], onnx.ValueInfoProto]:
        """The nodes, the constants other than weights, and the output's type of one piece."""
        tensors = dict(chain(variant.named_parameters(), variant.named_buffers()))
        exported = _export(variant, x, weights=set(tensors))
        graph = exported.graph
        rename = {"": "", graph.input[0].name: value, graph.output[0].name: out}
        constants: list[TensorProto] = []
        zeros: set[str] = set()
        for tensor in graph.initializer:
            weight = self.names.get(id(tensors.get(tensor.name)))
            rename[tensor.name] = weight or f"{prefix}/{tensor.name}"
            if weight is None and not numpy_helper.to_array(tensor).any():
                zeros.add(tensor.name)
        nodes = []
        for exported_node in graph.node:
            node = _without_zero_bias(exported_node, zeros)
            # The exporter's metadata quotes source files of the machine at hand.
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
            node.name = f"{prefix}/{node.name}"
            for names in (node.input, node.output):
                names[:] = [rename.get(n, f"{prefix}/{n}") for n in names]
            nodes.append(node)
        used = {name for node in nodes for name in node.input}
        for tensor in graph.initializer:
            known = id(tensors.get(tensor.name)) in self.names
            tensor.name = rename[tensor.name]
            tensor.ClearField("metadata_props")
            tensor.ClearField("doc_string")
            if tensor.name not in used:
                continue
            if known:
                self.weights[tensor.name] = tensor
            else:
                constants.append(tensor)
        output = onnx.ValueInfoProto(name=out, type=graph.output[0].type)
        return nodes, constants, output


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


def _without_zero_bias(node: onnx.NodeProto, zeros: set[str]) -> onnx.NodeProto:
    """The exporter gives a convolution without bias one of zeros; this takes it away."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if copy.op_type == "Conv" and len(copy.input) == 3 and copy.input[2] in zeros:
        del copy.input[2]
    return copy


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
