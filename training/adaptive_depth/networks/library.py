"""Any network of timm or torchvision as an adaptive one, without code for its family.

The network is built by its library, its residual stages are found (`blocks`), and its
graph is cut at them with torch.fx. Blocks that always run get a second copy of each norm,
for when the rest of their stage is skipped. Nothing else changes: at the start, with the
copies equal, the super-net is the original network to the bit.

Parameters keep the library's names; the second copies of norms are called as in the
published checkpoints (``layer1.0.bn1_skip.weight``).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from adaptive_depth.networks.base import AdaptiveNetwork, Segment
from adaptive_depth.networks.blocks import SplitError, Stage, find_stages

LIBRARIES = ("timm", "torchvision")

DECIDED_AT_ONCE = 3
FEW_WEIGHTS = 0.1
"""The first stages have large maps. As long as they hold at most this share of all
weights, the exporter decides so many flags at once, see `Segment.joins_previous`."""


@dataclass(frozen=True)
class Pretraining:
    """What a library's weights expect. `mean` and `std` are per channel in 0..255."""

    mean: list[float]
    std: list[float]
    size: int


class Switch:
    """A stage's flag, as its norms see it: bool, or a scalar bool tensor in the exporter."""

    def __init__(self) -> None:
        self.skip: bool | Tensor = False

    @contextmanager
    def at(self, skip: bool | Tensor) -> Iterator[None]:
        before, self.skip = self.skip, skip
        try:
            yield
        finally:
            self.skip = before


class SwitchedNorm(nn.Module):
    """A norm and its copy for when the rest of the stage is skipped."""

    def __init__(self, norm: nn.Module, switch: Switch) -> None:
        super().__init__()
        self.norm, self.norm_skip = norm, copy.deepcopy(norm)
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        skip = self.switch.skip
        if not isinstance(skip, Tensor):
            return self.norm_skip(x) if skip else self.norm(x)
        # Norms without statistics: the choice is made on scale and shift alone, so that
        # the block is one piece of graph, its matrices packed once.
        chosen = {
            name: torch.where(skip, self.norm_skip.get_parameter(name), parameter)
            for name, parameter in self.norm.named_parameters()
        }
        return torch.func.functional_call(self.norm, chosen, (x,))


class FirstSubPath(nn.Sequential):
    """The blocks of a stage that always run, their norms switched by the stage's flag.

    Args:
        blocks: each with the constants that the network gives it beside the tensor.
    """

    def __init__(self, blocks: Sequence[nn.Module], extra: Sequence[_Extra], switch: Switch):
        super().__init__(*blocks)
        self.extra, self.switch = list(extra), switch

    def forward(self, x: Tensor, skip: bool | Tensor = False) -> Tensor:
        with self.switch.at(skip):
            for block, (args, kwargs) in zip(self, self.extra, strict=True):
                x = block(x, *args, **kwargs)
        return x


class SecondSubPath(nn.Sequential):
    """The blocks of a stage that all run or, when skipped, none: the identity."""

    def __init__(self, blocks: Sequence[nn.Module], extra: Sequence[_Extra]):
        super().__init__(*blocks)
        self.extra = list(extra)

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        if not skip:
            for block, (args, kwargs) in zip(self, self.extra, strict=True):
                x = block(x, *args, **kwargs)
        return x


_Extra = tuple[tuple[Any, ...], dict[str, Any]]


class _Both(nn.Module):
    """Both sub-paths of a stage as one link."""

    def __init__(self, first: FirstSubPath, second: SecondSubPath) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, skip: bool = False) -> Tensor:
        return self.second(self.first(x, skip), skip)


class LibraryNetwork(AdaptiveNetwork):
    """An adaptive depth network out of a library's.

    Args:
        classes: number of classes.
        model: ``timm:NAME`` or ``torchvision:NAME``.
        size: height and width in pixels of the images that it is cut with. Transformers
            with a position embedding take no other size.
        groups, keep: see `blocks.find_stages`.
    Raises:
        SplitError: when the library has no such network, or it cannot be made adaptive.
    """

    def __init__(
        self,
        classes: int,
        model: str,
        size: int = 224,
        groups: int | None = None,
        keep: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.net = build_original(model, classes, size).eval()
        image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        self.stages = find_stages(self.net, image, groups, keep)
        self.flags = len(self.stages)
        self._links = _cut(self.net, self.stages)
        switches = [_switch_norms(self.net, stage) for stage in self.stages]
        self._sub_paths = [
            self._stage(stage, extra, switch)
            for stage, (_, extra), switch in zip(
                self.stages, self._links[:-1], switches, strict=True
            )
        ]
        head = [name for name, module in self.net.named_modules() if isinstance(module, nn.Linear)]
        self.logits_layer = head[-1] if head else ""
        with torch.no_grad():
            out = self.eval().forward_features(image)[1][-1]
        self.channel_axis = _channel_axis(out)
        self.register_load_state_dict_pre_hook(_from_published_names)

    def _stage(
        self, stage: Stage, extra: list[_Extra], switch: Switch
    ) -> tuple[FirstSubPath, SecondSubPath]:
        blocks = [self.net.get_submodule(name) for name in stage.blocks]
        return (
            FirstSubPath(blocks[: stage.keep], extra[: stage.keep], switch),
            SecondSubPath(blocks[stage.keep :], extra[stage.keep :]),
        )

    def segments(self) -> list[Segment]:
        chain: list[Segment] = []
        total = sum(p.numel() for p in self.net.parameters())
        weights = 0
        for index, (link, _) in enumerate(self._links):
            if link is not None:
                chain.append(Segment(f"link{index}", self._as_is(link)))
            if index == self.flags:
                break
            first, second = self._sub_paths[index]
            name = f"stage{index + 1}"
            weights += sum(p.numel() for path in (first, second) for p in path.parameters())
            if not any(isinstance(m, SwitchedNorm) and _has_buffers(m) for m in first.modules()):
                chain += [
                    Segment(name, self._as_is(first), index, tensor_flag=True),
                    Segment(f"{name}_second", self._as_is(second), index, is_stage=True),
                ]
                continue
            at_once = 0 < index < DECIDED_AT_ONCE and weights <= FEW_WEIGHTS * total
            both = self._as_is(_Both(first, second))
            # A link without a flag between two stages ends what is decided at once.
            joins = at_once and link is None
            chain.append(Segment(name, both, index, is_stage=True, joins_previous=joins))
        return chain

    def _as_is(self, link: nn.Module) -> nn.Module:
        """A link of the chain borrows its modules: it is in the network's mode, and not
        registered, so that parameters keep the library's names."""
        link.training = self.training
        for child in link.children():
            if isinstance(child, FirstSubPath | SecondSubPath):
                child.training = self.training
        return link

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Parameters under the library's names; norms' copies as ``*_skip``."""
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        state = super().state_dict(*args, **kwargs)
        for own, published in self._renamed(prefix):
            _rename(state, own, published)
        return state

    def _renamed(self, prefix: str) -> list[tuple[str, str]]:
        """Beginnings of the modules' names and of those in a state dict, to be renamed in
        this order, and back in the reverse order."""
        inside = f"{prefix}net."
        norms = self.norms_with_a_copy()
        return [
            *((f"{inside}{name}.norm_skip.", f"{inside}{name}_skip.") for name in norms),
            *((f"{inside}{name}.norm.", f"{inside}{name}.") for name in norms),
            (inside, prefix),
        ]

    def norms_with_a_copy(self) -> list[str]:
        """Names of the norms that have a ``*_skip`` beside them, as in the state dict."""
        return [
            name.removeprefix("net.")
            for name, module in self.named_modules()
            if isinstance(module, SwitchedNorm)
        ]


def build_original(
    model: str, classes: int | None, size: int, pretrained: bool = False
) -> nn.Module:
    """The library's network, with random weights unless `pretrained`, which may download.

    Args:
        classes: None: as many as the weights know.
    Raises:
        SplitError: for an unknown name.
    """
    library, _, name = model.partition(":")
    if library == "timm":
        import timm

        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name}*")[:5]) or "see timm.list_models()"
            raise SplitError(f"timm has no network {name!r}: {near}")
        try:
            return timm.create_model(name, pretrained, num_classes=classes, img_size=size)
        except TypeError:  # networks that take any size have no such argument
            return timm.create_model(name, pretrained, num_classes=classes)
    if library == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if name not in known:
            near = ", ".join(m for m in known if name in m)[:200] or "see list_models()"
            raise SplitError(f"torchvision has no network {name!r}: {near}")
        options: dict[str, Any] = {"image_size": size} if name.startswith("vit_") else {}
        if classes is not None:
            options["num_classes"] = classes
        return models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    raise SplitError(f"--model {model}: expected timm:NAME or torchvision:NAME")


def pretraining(model: str) -> Pretraining:
    """How the library's weights for `model` want their images."""
    library, _, name = model.partition(":")
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
        if config is None:
            raise SplitError(f"timm says nothing about the weights of {name!r}")
        mean, std, size = config.mean, config.std, config.input_size[-1]
    else:
        from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD

        return Pretraining(list(IMAGENET_MEAN), list(IMAGENET_STD), 224)
    return Pretraining([255 * v for v in mean], [255 * v for v in std], size)


def _switch_norms(net: nn.Module, stage: Stage) -> Switch:
    """Gives every norm of the stage's kept blocks a copy. A shortcut's norm ("downsample")
    stays single, as in the published networks: what it reads does not depend on the flag."""
    switch = Switch()
    for block in stage.kept:
        for name, module in list(net.get_submodule(block).named_modules()):
            if _is_norm(module) and "downsample" not in name:
                parent = net.get_submodule(f"{block}.{name}".rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], SwitchedNorm(module, switch))
    return switch


def _is_norm(module: nn.Module) -> bool:
    """By name, and by holding vectors only: some libraries call a convolution with its
    norm "...NormAct", too."""
    parameters = list(module.parameters())
    named = "norm" in type(module).__name__.lower()
    return named and bool(parameters) and all(p.dim() == 1 for p in parameters)


def _has_buffers(module: nn.Module) -> bool:
    return any(True for _ in module.buffers())


def _channel_axis(feature: Tensor) -> int:
    """Maps ``[N,C,H,W]`` of convolutions, or ``[N,T,C]`` and ``[N,H,W,C]``."""
    if feature.dim() != 4:
        return -1
    return 1 if feature.shape[1] != feature.shape[2] else -1


_Link = tuple[fx.GraphModule | None, list[_Extra]]


def _cut(net: nn.Module, stages: Sequence[Stage]) -> list[_Link]:
    """What lies before each stage, and after the last: a module or, where nothing does,
    None; and the constants that each block of the stage is called with.

    Raises:
        SplitError: when torch.fx cannot follow the network, or more than one tensor
            crosses from one stage to the next.
    """
    blocks = {name for stage in stages for name in stage.blocks}
    graph = _trace(net, blocks)
    first = {stage.blocks[0]: stage for stage in stages}
    links: list[_Link] = []
    region: list[fx.Node] = []
    entry = next(node for node in graph.nodes if node.op == "placeholder")
    expected: list[str] = []
    inside: fx.Node | None = None
    extra: list[_Extra] = []
    for node in graph.nodes:
        name = str(node.target).removeprefix("net.")
        if node.op == "call_module" and name in blocks:
            if name in first:
                links.append((_link(net, region, entry, _tensor_of(node, name)), []))
                extra = links[-1][1]
                region, expected = [], list(first[name].blocks)
            elif _tensor_of(node, name) is not inside:
                raise SplitError(f"something is computed between the blocks before {name}")
            if not expected or expected.pop(0) != name:
                raise SplitError(f"block {name} is not called in the order of its stage")
            extra.append((tuple(node.args[1:]), dict(node.kwargs)))
            entry = inside = node
        elif node.op == "output":
            links.append((_link(net, region, entry, node.args[0]), []))
        elif node.op != "placeholder":
            if expected and node.op != "get_attr":
                raise SplitError(f"{node.name} lies between the blocks of a stage")
            region.append(node)
    return links


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


def _from_published_names(
    network: LibraryNetwork, state: dict[str, Any], prefix: str, *unused: Any
) -> None:
    for own, published in reversed(network._renamed(prefix)):
        _rename(state, published, own)


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    for name in [name for name in state if name.startswith(old)]:
        state[new + name.removeprefix(old)] = state.pop(name)
