"""Gathers what a bare GPU machine without network needs, in parts to carry there.

    python bench/gpu/pack.py [--provider cpu] [--data FILE] [--part-mb N] [--gpu-arch 90]

Needs network, npm, pip, `npm ci` and `npm run build`. Writes bench/gpu/parts/1, 2, ...:
each folder is one transfer. bench/gpu/unpack.sh puts them together over there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fatbin import keep_only

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLATFORM = "linux-x64"
PROVIDERS = ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so")
BINDING = Path("node_modules/onnxruntime-node/bin/napi-v6/linux/x64")


def run(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def gather_node(version: str, folder: Path, cache: Path) -> None:
    """The `node` program from its npm package for this platform."""
    package = cache / f"node-{PLATFORM}-{version}.tgz"
    if not package.exists():
        run("npm", "pack", "--silent", f"node-{PLATFORM}@{version}", cwd=cache)
    with tarfile.open(package) as archive:
        program = archive.extractfile("package/bin/node")
        target = folder / "bin/node"
        target.parent.mkdir(parents=True)
        with target.open("wb") as file:
            shutil.copyfileobj(program, file)
    target.chmod(0o755)


def production_packages() -> list[Path]:
    """Folders of the packages that run on the GPU machine, from the lock file."""
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]

    def wanted(name: str, entry: dict) -> bool:
        here = "linux" in entry.get("os", ["linux"]) and "x64" in entry.get("cpu", ["x64"])
        return bool(name) and not entry.get("dev") and here and entry.get("libc") != ["musl"]

    found = [Path(name) for name, entry in lock.items() if wanted(name, entry)]
    return [path for path in found if (ROOT / path).is_dir()]


def gather_app(folder: Path) -> None:
    """The built server, its packages, the toolkit and these scripts."""
    # Maps, types and other platforms' libraries are not needed to run.
    unused = shutil.ignore_patterns(
        "*.map", "*.d.ts", "*.md", "node_modules", "win32", "darwin", "arm64", "__pycache__"
    )
    for path in production_packages():
        shutil.copytree(ROOT / path, folder / path, ignore=unused, dirs_exist_ok=True)
    parts = shutil.ignore_patterns("parts", "cache", "results", "__pycache__", "*.map")
    # Compiled benches and simulator are not needed there: bench/gpu is plain JavaScript.
    compiled = shutil.ignore_patterns("bench", "*.map")
    shutil.copytree(ROOT / "dist", folder / "dist", ignore=compiled)
    for name in ("bench", "training/adaptive_depth"):
        shutil.copytree(ROOT / name, folder / name, ignore=parts)
    for name in ("package.json", "models/model.schema.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def gather_cuda(folder: Path, cache: Path, architecture: int) -> None:
    """The CUDA provider from the wheel of exactly onnxruntime-node's version."""
    package = json.loads((ROOT / "node_modules/onnxruntime-node/package.json").read_text())
    wanted = f"onnxruntime-gpu=={package['version']}"
    name = f"onnxruntime_gpu-{package['version']}-*.whl"
    if not list(cache.glob(name)):
        platform = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.12"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run(*pip, "--only-binary=:all:", *platform, "--dest", str(cache), wanted, cwd=cache)
    target = folder / BINDING
    target.mkdir(parents=True)
    with zipfile.ZipFile(next(cache.glob(name))) as wheel:
        for library in PROVIDERS:
            source = wheel.open(f"onnxruntime/capi/{library}")
            with source, (target / library).open("wb") as file:
                shutil.copyfileobj(source, file)
        print(wheel.read("onnxruntime/capi/build_and_package_info.py").decode().strip())
    if architecture:
        found = keep_only(architecture, target / PROVIDERS[0])
        sizes = ", ".join(f"{name}: {size / 1e6:.0f} MB" for name, size in sorted(found.items()))
        print(f"GPU code by architecture: {sizes}; kept {architecture}")


def compress(folder: Path, archive: Path) -> None:
    print(f"compressing {archive.name}", flush=True)
    run("tar", "-C", str(folder), "-I", "xz -3 -T0", "-cf", str(archive), ".", cwd=folder)


def pieces(archives: list[Path], limit: int) -> Iterator[tuple[int, str, bytes]]:
    """(transfer, name, bytes): archives one behind the other, cut where a transfer is full."""
    transfer, room = 1, limit
    for archive in archives:
        with archive.open("rb") as file:
            number = 0
            while piece := file.read(room):
                yield transfer, f"{archive.name}.{number:03}", piece
                number, room = number + 1, room - len(piece)
                if room == 0:
                    transfer, room = transfer + 1, limit


def split(archives: list[Path], folder: Path, limit: int) -> None:
    """Writes the transfers, each with the checksums of all."""
    shutil.rmtree(folder, ignore_errors=True)
    sums, transfers = [], {}
    for transfer, name, piece in pieces(archives, limit):
        target = folder / str(transfer) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(piece)
        sums.append(f"{hashlib.sha256(piece).hexdigest()}  {name}\n")
        transfers.setdefault(transfer, []).append(f"{name} {len(piece) / 1e6:.1f} MB")
    for transfer, names in transfers.items():
        (folder / str(transfer) / "SHA256SUMS").write_text("".join(sums))
        print(f"parts/{transfer}: " + ", ".join(names))
    print(f"{len(transfers)} transfers of at most {limit / 1e6:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--node-version", default="22.23.3")
    parser.add_argument("--gpu-arch", type=int, default=90, help="90: H100, H200; 0: all of them")
    parser.add_argument("--model", type=Path, default=ROOT / "models/cifar10")
    parser.add_argument("--data", type=Path, help="training images, for train.sh")
    parser.add_argument("--part-mb", type=int, default=48, choices=range(1, 61), metavar="1..60")
    args = parser.parse_args()
    cache = HERE / "cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        content, archives = Path(name), []
        gather_node(args.node_version, content / "node", cache)
        gather_app(content / "app")
        shutil.copytree(args.model, content / "model/app/models" / args.model.name)
        if args.provider == "cuda":
            gather_cuda(content / "cuda/app", cache, args.gpu_arch)
        if args.data:
            (content / "data/data").mkdir(parents=True)
            shutil.copy(args.data, content / "data/data")
        # node/bin/node and app/... are relative to the folder that unpack.sh fills.
        for top in ("node", "app"):
            (content / f"{top}.d").mkdir()
            (content / top).rename(content / f"{top}.d" / top)
        for source in sorted(content.iterdir()):
            archive = content / f"{source.name.removesuffix('.d')}.tar.xz"
            compress(source, archive)
            archives.append(archive)
        split(archives, HERE / "parts", args.part_mb * 10**6)


if __name__ == "__main__":
    main()
