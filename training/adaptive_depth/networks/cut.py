"""A network cut into what lies before, between and after its stages, with torch.fx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from adaptive_depth.networks.blocks import SplitError, Stage
from adaptive_depth.networks.switch import Extra, is_norm


@dataclass(frozen=True)
class Cut:
    """A network as a chain of links and stages by turns.

    Attributes:
        links: what lies before each stage, and after the last one: a module that borrows
            from the network or, where nothing does, None.
        extra: the constants that each block of each stage is called with.
        head: what follows the last norm of the last link, if that was asked for.
    """

    links: list[fx.GraphModule | None]
    extra: list[list[Extra]]
    head: fx.GraphModule | None


def cut(net: nn.Module, stages: Sequence[Stage], head_apart: bool = False) -> Cut:
    """Cuts `net` at its stages.

    Raises:
        SplitError: when torch.fx cannot follow the network, or more than one tensor
            crosses from one stage to the next.
    """
    blocks = {name for stage in stages for name in stage.blocks}
    graph = _trace(net, blocks)
    first = {stage.blocks[0]: stage for stage in stages}
    result = Cut([], [], None)
    region: list[fx.Node] = []
    entry = next(node for node in graph.nodes if node.op == "placeholder")
    expected: list[str] = []
    inside: fx.Node | None = None
    for node in graph.nodes:
        name = str(node.target).removeprefix("net.")
        if node.op == "call_module" and name in blocks:
            if name in first:
                result.links.append(_link(net, region, entry, _tensor_of(node, name)))
                result.extra.append([])
                region, expected = [], list(first[name].blocks)
            elif _tensor_of(node, name) is not inside:
                raise SplitError(f"something is computed between the blocks before {name}")
            if not expected or expected.pop(0) != name:
                raise SplitError(f"block {name} is not called in the order of its stage")
            result.extra[-1].append((tuple(node.args[1:]), dict(node.kwargs)))
            entry = inside = node
        elif node.op == "output":
            return _ended(net, result, region, entry, node.args[0], head_apart)
        elif node.op != "placeholder":
            if expected and node.op != "get_attr":
                raise SplitError(f"{node.name} lies between the blocks of a stage")
            region.append(node)
    raise SplitError(f"{type(net).__name__} gives nothing")


def _ended(
    net: nn.Module,
    result: Cut,
    region: Sequence[fx.Node],
    entry: fx.Node,
    out: Any,
    head_apart: bool,
) -> Cut:
    norms = [
        index
        for index, node in enumerate(region)
        if node.op == "call_module"
        and any(map(is_norm, net.get_submodule(str(node.target).removeprefix("net.")).modules()))
    ]
    if not head_apart or not norms:
        return Cut([*result.links, _link(net, region, entry, out)], result.extra, None)
    end = norms[-1] + 1
    last = _link(net, region[:end], entry, region[end - 1])
    head = _link(net, region[end:], region[end - 1], out)
    return Cut([*result.links, last], result.extra, head)


def _tensor_of(block: fx.Node, name: str) -> fx.Node:
    """The one tensor that a block is called with."""
    if not block.args or not isinstance(block.args[0], fx.Node):
        raise SplitError(f"block {name} is not called with a tensor")
    if len(block.all_input_nodes) != 1:
        raise SplitError(f"block {name} is called with more than one tensor")
    return block.args[0]


def _trace(net: nn.Module, blocks: set[str]) -> fx.Graph:
    class Tracer(fx.Tracer):
        """Goes only into modules that hold blocks; everything else stays as it is."""

        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            inside = name.removeprefix("net").removeprefix(".")
            inside = f"{inside}." if inside else ""
            return not any(block.startswith(inside) and block != inside[:-1] for block in blocks)

    class OneInput(nn.Module):
        """Hides optional arguments, which torch.fx would take for tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    try:
        return Tracer().trace(OneInput())
    except Exception as error:  # torch.fx has no error class of its own for this
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SplitError(f"{type(net).__name__} cannot be cut by torch.fx: {reason}") from error


def _link(
    net: nn.Module, region: Sequence[fx.Node], entry: fx.Node, out: Any
) -> fx.GraphModule | None:
    """The nodes of `region` as a module from the tensor `entry` to the tensor `out`."""
    if out is entry:
        return None
    graph = fx.Graph()
    known = {entry: graph.placeholder("x")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in known and node.op == "get_attr":
            known[node] = _without_prefix(graph.node_copy(node))
        if node not in known:
            raise SplitError(f"two tensors, {entry.name} and {node.name}, pass from stage to stage")
        return known[node]

    for node in region:
        known[node] = _without_prefix(graph.node_copy(node, copied))
    graph.output(copied(out))
    return fx.GraphModule(net, graph)


def _without_prefix(node: fx.Node) -> fx.Node:
    if node.op in ("call_module", "get_attr"):
        node.target = str(node.target).removeprefix("net.")
    return node


def borrow_again(net: nn.Module, link: fx.GraphModule) -> None:
    """Takes the tensors that `link` names itself, such as class tokens, from `net` anew."""
    for node in link.graph.nodes:
        if node.op == "get_attr":
            parent, _, name = str(node.target).rpartition(".")
            setattr(link.get_submodule(parent), name, getattr(net.get_submodule(parent), name))
