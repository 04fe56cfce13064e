"""The toolkit's command line, with one sub-network trained as a network of its own.

    python bench/gpu/train_alone.py train --arch alone --option 'skip="TTFF"' \
      --option blocks=[4,4,4,2] --option widths=[32,64,128,256] --alpha 1 ...

`--alpha 1` leaves the label's loss alone: the distillation term compares the network with itself
and weighs nothing. Recipe, data order and averaging are those of the adaptive network, and so
are `evaluate` and `export`.
"""

from __future__ import annotations

import sys

from adaptive_depth import cli, networks
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.skip import parse
from families import StaticNetwork


def alone(classes: int, skip: str, **options: object) -> AdaptiveNetwork:
    network = networks.build("small_resnet", classes, options)
    return StaticNetwork(network, parse(skip, network.flags))


if __name__ == "__main__":
    networks.ARCHITECTURES["alone"] = alone
    sys.exit(cli.main())
