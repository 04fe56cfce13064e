"""Leaves in onnxruntime's CUDA library only the GPU code that one GPU and our networks need.

The library holds machine code for six architectures, and per architecture mostly the kernels of
language models (attention, mixtures of experts, products of integers). Everything stays where it
was; only code is overwritten, with what compresses to nothing:

- zeros, in entries for other architectures, which the driver passes over;
- a valid program without kernels, in entries of this architecture, which it may look into. To use
  a kernel that is gone is an error of CUDA ("named symbol not found"), never a wrong result;
- zeros, in the attention kernels that lie beside the containers, as data.
"""

from __future__ import annotations

import mmap
import re
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Magic number, version and header size with which each container of GPU code starts.
CONTAINER = struct.pack("<IHH", 0xBA55ED50, 1, 16)
MACHINE_CODE = 2
# In mangled names: the operators of ONNX itself; those of them that no network of ours has; and
# what only language models use.
PLAIN = re.compile(rb"11onnxruntime4cuda")
SELDOM = re.compile(rb"hybrid_topk|FillOutput|DeformConv|Dropout|RandomVectorized|BiCubic")
LANGUAGE = re.compile(rb"11onnxruntime(?:5flash|3llm|7contrib)|7contrib|7cutlass|fused_moe")
# ELF header of a program for GPUs: 64-bit, little-endian, machine 190.
GPU_PROGRAM = re.compile(rb"\x7fELF\x02\x01.{12}\xbe\x00", re.DOTALL)


@dataclass
class Entry:
    """One program for one architecture, compressed by zstd."""

    at: int
    header: int
    length: int
    architecture: int


def entries(data: mmap.mmap) -> Iterator[Entry]:
    """Raises ValueError for code of another kind (PTX), which could serve any GPU."""
    position = data.find(CONTAINER)
    while position >= 0:
        (size,) = struct.unpack_from("<Q", data, position + 8)
        at, end = position + 16, position + 16 + size
        while at < end:
            kind, _, header, length = struct.unpack_from("<HHIQ", data, at)
            if kind != MACHINE_CODE:
                raise ValueError(f"GPU code of kind {kind}")
            (architecture,) = struct.unpack_from("<I", data, at + 28)
            yield Entry(at, header, length, architecture)
            at += header + length
        position = data.find(CONTAINER, end)


def kernels(data: mmap.mmap, entry: Entry) -> list[bytes]:
    """Mangled names: each kernel has a section of its own."""
    (compressed,) = struct.unpack_from("<I", data, entry.at + 16)
    start = entry.at + entry.header
    command = ["zstd", "--decompress", "--stdout", "--quiet"]
    program = subprocess.run(
        command, input=data[start : start + compressed], check=True, stdout=subprocess.PIPE
    ).stdout
    return re.findall(rb"\0\.text\.([^\0]+)", program)


def is_needed(names: list[bytes]) -> bool:
    if any(map(SELDOM.search, names)):
        return False
    return any(map(PLAIN.search, names)) or not any(map(LANGUAGE.search, names))


def blank_attention(data: mmap.mmap) -> int:
    """Blanks the programs that are not in containers; returns their bytes."""
    blanked = 0
    for match in list(GPU_PROGRAM.finditer(data)):
        (sections,) = struct.unpack_from("<Q", data, match.start() + 40)
        size, count = struct.unpack_from("<HH", data, match.start() + 58)
        length = sections + size * count
        data[match.start() : match.start() + length] = bytes(length)
        blanked += length
    return blanked


def keep_only(architecture: int, library: Path, whole: bool = False) -> Counter[str]:
    """Overwrites in place; returns bytes of code before, by architecture (90: compute 9.0), and
    those kept. `whole` keeps all kernels of the architecture."""
    sizes: Counter[str] = Counter()
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        found = list(entries(data))
        named = [
            (entry, [] if whole else kernels(data, entry))
            for entry in found
            if entry.architecture == architecture
        ]
        if not named:
            raise ValueError(f"{library}: no code for {architecture}")
        dropped = [entry for entry, names in named if not is_needed(names)]
        if dropped:
            empty = next(entry for entry, names in named if not names)
            compressed, raw = sizes_of(data, empty)
            start = empty.at + empty.header
            program = data[start : start + compressed]
            for entry in dropped:
                overwrite(data, entry, program)
                struct.pack_into("<I", data, entry.at + 16, compressed)
                struct.pack_into("<Q", data, entry.at + 56, raw)
        if not whole:
            sizes["attention"] = blank_attention(data)
        for entry in found:
            sizes[str(entry.architecture)] += entry.length
            if entry.architecture != architecture:
                overwrite(data, entry, b"")
        sizes["kept"] = sizes[str(architecture)] - sum(entry.length for entry in dropped)
    return sizes


def sizes_of(data: mmap.mmap, entry: Entry) -> tuple[int, int]:
    """Sizes of the program, compressed and not."""
    (compressed,) = struct.unpack_from("<I", data, entry.at + 16)
    (raw,) = struct.unpack_from("<Q", data, entry.at + 56)
    return compressed, raw


def overwrite(data: mmap.mmap, entry: Entry, program: bytes) -> None:
    start = entry.at + entry.header
    data[start : start + entry.length] = program.ljust(entry.length, b"\0")
