"""A published checkpoint as a network ready to be evaluated and exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adaptive_depth import networks
from adaptive_depth.images import Frame
from adaptive_depth.published import CENTRE, IMAGENET_MEAN, IMAGENET_STD
from adaptive_depth.run_folder import TrainedRun
from adaptive_depth.weights import WeightsError, load_exactly, read_weights


def read_published(
    arch: str,
    checkpoint: Path,
    size: int = 224,
    labels: Sequence[str] | None = None,
    published: str | None = None,
) -> TrainedRun:
    """The network with the checkpoint's weights, the averaged ones where there are any.

    Args:
        arch: see `networks.ARCHITECTURES`.
        size: height and width of the images in pixels.
        published: the checkpoint that it is, see `published.ACCURACIES`; its photos are
            framed as the authors did.
        labels: class names in the order of the logits; default: ``class 0`` and so on.
    Raises:
        WeightsError: when the file is no checkpoint, or one of another network; the
            message lists the tensors that differ.
    """
    weights = read_weights(checkpoint)
    bias = weights.get(f"{networks.logits_layer_of(arch)}.bias")
    classes = 1000 if bias is None else len(bias)
    network = networks.build(arch, classes, networks.size_options(arch, size))
    load_exactly(network, weights, str(checkpoint))
    if labels is None:
        labels = [f"class {index}" for index in range(classes)]
    if len(labels) != classes:
        raise WeightsError(f"{len(labels)} labels for the {classes} classes of {checkpoint}")
    frame = Frame(size, centre=CENTRE.get(published or arch, 1.0))
    return TrainedRun(
        network.eval(), list(labels), frame, IMAGENET_MEAN, IMAGENET_STD, command=None, epochs=None
    )
