"""Gathers what a bare GPU machine without network needs, in parts to carry there.

    python bench/gpu/pack.py [--provider cpu] [--node FILE] [--gpu-code lean|whole] [--part-mb N]

Needs network, npm, pip, zstd, xz, strip and git, `npm ci` and `npm run build`. Writes
bench/gpu/parts/1, 2, ...: each folder is one transfer. bench/gpu/call.sh, which comes along in
each, puts them together over there. The last line names a commit without the repository's files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fatbin import keep_only
from node_program import shrink

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLATFORM = "linux-x64"
SCRIPTS = ("call.sh", "unpack.sh", "report.py")
MODELS = ("cifar10", "grocery")
# Of them, the file that the first call does without where one transfer can't hold everything.
LATER = Path("cifar10/model.onnx")
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
    run("strip", str(target), cwd=folder)
    print(f"node: {shrink(target) / 1e6:.0f} MB blanked of {target.stat().st_size / 1e6:.0f}")


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
    # Maps, types, sources and other platforms' libraries are not needed to run.
    unused = shutil.ignore_patterns(
        *("*.map", "*.ts", "*.mts", "*.cts", "*.md", "*.cc", "*.c", "*.h", "*.markdown"),
        *("node_modules", "win32", "darwin", "arm64", "*-win32-*", "*-darwin-*", "*-linux-arm*"),
        *("*musl*", "test", "tests", "__pycache__", "swagger-ui*.js", "swagger-ui.css"),
    )
    for path in production_packages():
        if not path.name.startswith("undici-types") and "@types" not in path.parts:
            shutil.copytree(ROOT / path, folder / path, ignore=unused, dirs_exist_ok=True)
    parts = shutil.ignore_patterns("parts", "cache", "results", "__pycache__", "*.ts", "peers")
    # Compiled benches and simulator are not needed there: bench/gpu is plain JavaScript.
    compiled = shutil.ignore_patterns("bench", "*.map")
    shutil.copytree(ROOT / "dist", folder / "dist", ignore=compiled)
    for name in ("bench", "training/adaptive_depth", "src/page"):
        shutil.copytree(ROOT / name, folder / name, ignore=parts)
    for name in ("package.json", "models/model.schema.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def gather_cuda(folder: Path, cache: Path, architecture: int, whole: bool) -> None:
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
    found = keep_only(architecture, target / PROVIDERS[0], whole)
    sizes = ", ".join(f"{name}: {size / 1e6:.1f} MB" for name, size in sorted(found.items()))
    print(f"GPU code by architecture: {sizes}")


# Weights are aligned to four bytes, programs are not aligned and full of jumps.
WEIGHTS = ["--lzma2=preset=9,lp=2,lc=2"]
PROGRAMS = ["--x86", "--lzma2=preset=9,dict=64MiB,lc=4,pb=0"]
FILTERS = {"models": WEIGHTS, "later": WEIGHTS}


def compress(folder: Path, archive: Path) -> None:
    print(f"compressing {archive.name}", flush=True)
    filters = FILTERS.get(folder.name, PROGRAMS)
    command = " ".join(["nice -n 10 xz -T1", *filters])
    run("tar", "-C", str(folder), "-I", command, "-cf", str(archive), ".", cwd=folder)


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
        for script in SCRIPTS:
            shutil.copy(HERE / script, folder / str(transfer))
        (folder / str(transfer) / "SHA256SUMS").write_text("".join(sums))
        print(f"parts/{transfer}: " + ", ".join(names))
    print(f"{len(transfers)} transfers of at most {limit / 1e6:.0f} MB")


def light_commit() -> str:
    """A commit with nothing but ignore files: to check it out leaves all room to the parts."""
    with tempfile.TemporaryDirectory() as name:
        env = {**os.environ, "GIT_INDEX_FILE": f"{name}/index"}

        def git(*command: str) -> str:
            done = subprocess.run(
                ["git", *command], cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout.strip()

        git("add", ".gitignore", "bench/gpu/.gitignore")
        return git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", "Parts for a GPU machine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provider", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--node-version", default="22.23.3")
    parser.add_argument("--gpu-arch", type=int, default=90, help="90: H100, H200")
    parser.add_argument("--gpu-code", choices=["lean", "whole"], default="lean")
    parser.add_argument("--part-mb", type=float, default=67.0)
    args = parser.parse_args()
    cache = HERE / "cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        content, archives = Path(name), []
        gather_node(args.node_version, content / "node/node", cache)
        gather_app(content / "app/app")
        for model in MODELS:
            target = content / "models/app/models" / model
            shutil.copytree(ROOT / "models" / model, target, ignore=shutil.ignore_patterns("*.md"))
        later = content / "later/app/models" / LATER
        later.parent.mkdir(parents=True)
        (content / "models/app/models" / LATER).rename(later)
        if args.provider == "cuda":
            gather_cuda(content / "cuda/app", cache, args.gpu_arch, args.gpu_code == "whole")
        # node/bin/node and app/... are relative to the folder that unpack.sh fills.
        for source in sorted(content.iterdir(), key=lambda path: (path.name == "later", path)):
            archive = content / f"{source.name}.tar.xz"
            compress(source, archive)
            archives.append(archive)
        split(archives, HERE / "parts", int(args.part_mb * 10**6))
    print(f"light commit: {light_commit()}")


if __name__ == "__main__":
    main()
