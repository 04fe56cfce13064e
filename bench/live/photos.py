"""Labelled photographs for the live bench: CIFAR-10 test images, enlarged to several sizes.

    python bench/live/photos.py --data cifar10_jpeg.npz --out runs/live-photos

Writes <out>/<label>/<size>-<index>.jpg. The network sees 32 x 32 pixels again, but the server must
decode a file like those that cameras and browsers send.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

#: Shorter side in pixels, and how many of ten photos have it.
SIZES = {32: 3, 128: 3, 320: 3, 640: 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, choices=SIZES, help="all of this size; absent: mixed")
    args = parser.parse_args()

    data = np.load(args.data)
    jpeg, offsets, labels = data["test_jpeg"], data["test_offsets"], data["test_labels"]
    classes = [str(name) for name in data["classes"]]
    chosen = np.random.default_rng(args.seed).choice(len(labels), args.count, replace=False)
    shares = {args.size: 1} if args.size else SIZES
    sizes = [size for size, share in shares.items() for _ in range(share)]
    for position, index in enumerate(chosen):
        file = jpeg[offsets[index] : offsets[index + 1]].tobytes()
        size = sizes[position % len(sizes)]
        if size != 32:
            buffer = io.BytesIO()
            small = Image.open(io.BytesIO(file))
            small.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
            file = buffer.getvalue()
        folder = args.out / classes[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{size}-{index}.jpg").write_bytes(file)


if __name__ == "__main__":
    main()
