#!/usr/bin/env bash
# On the bare machine: takes the parts of one or more transfers, and once all have come, checks
# and unpacks them and loads the execution provider.
#
#   bench/gpu/unpack.sh [--provider cuda|cpu] [--to FOLDER] PARTS...
#
# PARTS are folders written by pack.py. Parts already taken stay in FOLDER/parts, so the script
# can be called once per transfer. Exit code 3: parts are still missing.
set -euo pipefail

provider=cuda to=/opt/depthserve
while [[ ${1-} == --* ]]; do
  case $1 in
    --provider) provider=$2 ;;
    --to) to=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done

mkdir -p "$to/parts"
for parts in "$@"; do cp "$parts"/* "$to/parts/"; done
cd "$to/parts"

missing=0
while read -r _ name; do [[ -f $name ]] || { echo "missing: $name"; missing=1; }; done <SHA256SUMS
sha256sum --quiet --strict --ignore-missing --check SHA256SUMS
((missing)) && exit 3

for first in *.tar.xz.000; do
  echo "unpacking ${first%.000}"
  # Python's, since a bare machine may lack xz.
  cat "${first%.000}".??? | python3 -c \
    'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="tar")' "$to"
done

# CUDA and cuDNN as PyTorch's packages bring them.
libraries=$(python3 -c '
import sys, pathlib
found = {str(lib) for path in sys.path for lib in pathlib.Path(path or ".").glob("nvidia/*/lib")}
print(":".join(sorted(found)))')
cat >"$to/env.sh" <<END
export PATH="$to/node/bin:\$PATH"
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export PYTHONPATH="$to/app/training:$to/app/bench"
export ORT_DISABLE_TELEMETRY=1
END
. "$to/env.sh"
cd "$to/app"

echo "node $(node --version), $(python3 --version)"
python3 -c 'import onnx, onnxruntime, torch; print("torch", torch.__version__, "CUDA", torch.version.cuda, "onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)'
if [[ $provider == cuda ]]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  ldd node_modules/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so |
    grep 'not found' && exit 1
fi
node bench/gpu/load.mjs --provider "$provider"
echo "ready: . $to/env.sh && cd $to/app"
