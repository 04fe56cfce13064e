"""Blanks the GPU code for all architectures but one in a CUDA shared library.

The provider library holds machine code for six architectures, one GPU needs one of them.
Only the code is overwritten with zeros, which then compress to nothing: the headers stay,
so that the driver finds every entry where it was and picks the one for its GPU.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path

# Magic number, version and header size with which each container of GPU code starts.
CONTAINER = struct.pack("<IHH", 0xBA55ED50, 1, 16)
MACHINE_CODE = 2


def keep_only(architecture: int, library: Path) -> Counter[int]:
    """Blanks in place; returns the bytes found per architecture, 90 being compute 9.0.

    Raises ValueError when the library has no machine code for `architecture`, or also
    carries code of another kind (PTX), which could serve any GPU.
    """
    found: Counter[int] = Counter()
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        blanks = []
        position = data.find(CONTAINER)
        while position >= 0:
            (size,) = struct.unpack_from("<Q", data, position + 8)
            entry, end = position + 16, position + 16 + size
            while entry < end:
                kind, _, header, length = struct.unpack_from("<HHIQ", data, entry)
                (built_for,) = struct.unpack_from("<I", data, entry + 28)
                if kind != MACHINE_CODE:
                    raise ValueError(f"{library}: GPU code of kind {kind}")
                found[built_for] += length
                if built_for != architecture:
                    blanks.append((entry + header, length))
                entry += header + length
            position = data.find(CONTAINER, end)
        if architecture not in found:
            raise ValueError(f"{library}: code for {sorted(found)}, none for {architecture}")
        for start, length in blanks:
            data[start : start + length] = bytes(length)
    return found
