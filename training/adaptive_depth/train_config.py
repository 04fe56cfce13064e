"""What decides the result of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from adaptive_depth.distill import DistillConfig
from adaptive_depth.images import DataError, Frame
from adaptive_depth.optimisation import OptimiserConfig
from adaptive_depth.options import setting


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run, beside the data.

    Attributes:
        options: keyword arguments of the architecture (blocks, widths, ...).
        start: "pretrained": what the network's library offers.
    """

    arch: str = "small_resnet"
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int = setting(24, "passes over the training images")
    batch_size: int = setting(256, "images per step, of all processes together")
    lr: float = setting(0.4, "peak learning rate, reached after --warmup-epochs")
    momentum: float = setting(0.9, "of SGD")
    weight_decay: float = setting(5e-4, "of matrices and convolutions, times the learning rate")
    warmup_epochs: float = setting(2.0, "over which the learning rate rises")
    ema: float = setting(
        0.995, "decay per step of the averaged weights, which are what is evaluated; 0: none"
    )
    crop_padding: int = setting(4, "pixels by which padded crops move at most")
    erase: float = setting(0.25, "probability of random erasing")
    seed: int = setting(0, "of every random draw")
    precision: str = setting(
        "auto", "auto: bf16 on a GPU, fp32 on a CPU", choices=("auto", "fp32", "bf16")
    )
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    resize: str = setting(
        "cover",
        "how a photo that is evaluated or served is brought to its size: cover keeps the"
        " proportions and cuts off what is too much, stretch shows all of it",
        choices=("cover", "stretch"),
    )
    centre: float = setting(
        1.0, "share of height and width of such a photo that is kept, from the middle"
    )
    interpolation: str = setting(
        "bilinear", "by which such photos are scaled", choices=("bilinear", "bicubic")
    )
    crop: str = setting(
        "padded",
        "padded: of small images held in memory; resized: of photos, decoded as they are read",
        choices=("padded", "resized"),
    )
    train_size: int = setting(
        0,
        "height and width in pixels of resized crops; 0: as in evaluation. Smaller ones are"
        " quicker, and objects in random crops look larger anyway (Touvron et al., NeurIPS 2019)",
    )
    policy: str = setting(
        "none", "of random changes to colours and shapes", choices=("none", "trivial", "rand")
    )
    bicubic: bool = setting(False, "resize crops with bicubic interpolation")
    crop_area: float = setting(0.08, "smallest share of the photo in a resized crop")
    repeats: int = setting(1, "crops of each photo in a batch (repeated augmentation)")
    mixup: float = setting(0.0, "parameter of its Beta distribution; 0: none")
    cutmix: float = setting(0.0, "parameter of its Beta distribution; 0: none")
    start: str | None = setting(
        None,
        "fine-tune from this checkpoint, published or of this toolkit, or from 'pretrained', what"
        " the network's library offers; the classifier is replaced when the classes differ in"
        " number",
    )
    frozen_norms: bool = setting(
        False,
        "norms keep the statistics of --start, and use them in training too, so that every"
        " sub-network learns to live with the statistics it shares",
    )
    workers: int = setting(0, "processes that decode photos")
    distill: DistillConfig = field(default_factory=DistillConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def frame(self, size: int) -> Frame:
        """What photos that are evaluated or served are brought to.

        Raises:
            DataError: where next to nothing of them would be kept.
        """
        if not 0.1 <= self.centre <= 1:
            raise DataError(f"--centre {self.centre}: from 0.1 to 1 expected")
        return Frame(size, self.resize, self.centre, self.interpolation)


PLACE = ("device", "workers")
"""Settings that say where a run happens, not what it learns."""


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration with the defaults of settings that are younger than it."""
    defaults = asdict(TrainConfig())
    nested = {key: defaults[key] | config.get(key, {}) for key in ("distill", "optimiser")}
    return defaults | config | nested
