"""What all servers here share: one JPEG to pixels, and a batch of pixels to class indices."""

import io
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

#: Most images that one call of the session takes, wherever a server forms batches.
MAX_BATCH = 16
#: Worker processes, each with a session of one thread: one for every core of the server.
WORKERS = int(os.environ.get("PEERS_WORKERS", "1"))
#: Requests under way at most, where a server has such a bound.
CAPACITY = int(os.environ.get("PEERS_CAPACITY", "12"))
#: Ms that callers wait; servers that can give up in time are told.
BUDGET_MS = int(os.environ.get("PEERS_BUDGET_MS", "100"))


class Classifier:
    """The sub-network PEERS_SKIP of the model in PEERS_MODEL. Normalisation is in the file."""

    def __init__(self) -> None:
        folder = Path(os.environ["PEERS_MODEL"])
        manifest = json.loads((folder / "model.json").read_text())
        self.input = manifest["input"]["name"]
        self.size = (manifest["input"]["width"], manifest["input"]["height"])
        skip = os.environ["PEERS_SKIP"]
        self.flags = {
            name: np.array(letter == "T")
            for name, letter in zip(manifest["flags"], skip, strict=True)
        }
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / manifest["file"]), options, providers=["CPUExecutionProvider"]
        )
        for size in range(1, MAX_BATCH + 1):
            self.classify([np.zeros((*self.size[::-1], 3), np.uint8)] * size)

    def decode(self, file: bytes) -> np.ndarray:
        """Pixels of the network's size, scaled to cover it; draft mode lets libjpeg scale first."""
        image = Image.open(io.BytesIO(file))
        image.draft("RGB", self.size)
        image = image.convert("RGB")
        if image.size != self.size:
            image = ImageOps.fit(image, self.size, Image.Resampling.BILINEAR)
        return np.asarray(image)

    def classify(self, images: list[np.ndarray]) -> list[int]:
        """Class indices, in the order of the images."""
        (logits,) = self.session.run(None, {self.input: np.stack(images), **self.flags})
        return logits.argmax(axis=1).tolist()

    def classify_files(self, files: list[bytes]) -> list[int]:
        return self.classify([self.decode(file) for file in files])
