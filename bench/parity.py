"""Full-size networks with random weights: ONNX against PyTorch, every sub-network.

    python bench/parity.py [FAMILY ...]

Exits with 1 when a sub-network's logits differ by more than 1e-4 of their spread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch

from adaptive_depth import skip as skip_flags
from adaptive_depth.augment import normalise
from adaptive_depth.onnx_graph import build_graph
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.published import IMAGENET_MEAN, IMAGENET_STD
from families import FAMILIES, image_size, random_network

TOLERANCE = 1e-4


def worst_difference(family: str, folder: Path) -> tuple[str, float]:
    """The sub-network that differs most, and by how much of its logits' spread."""
    network, size = random_network(family), image_size(family)
    path = folder / "model.onnx"
    onnx.save(build_graph(network, size, IMAGENET_MEAN, IMAGENET_STD), path)
    model = OnnxModel(path)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    x = normalise(torch.from_numpy(images), mean, std)
    worst = ("", 0.0)
    for skip in skip_flags.all_sub_networks(network.flags):
        with torch.inference_mode():
            expected = network(x, skip).numpy()
        difference = float(np.abs(model.logits(images, skip) - expected).max() / np.ptp(expected))
        worst = max(worst, (skip_flags.name_of(skip), difference), key=lambda pair: pair[1])
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES, metavar="FAMILY")
    failed = False
    for family in parser.parse_args().families:
        with tempfile.TemporaryDirectory() as folder:
            name, difference = worst_difference(family, Path(folder))
        failed |= not difference <= TOLERANCE
        print(
            f"{family}: largest difference {difference:.1e} of the spread, by {name}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
