#!/usr/bin/env bash
# One call on the GPU machine: unpacks what came with it, checks or measures, prints one table.
#
#   call.sh 1|2 [--provider cpu] [--quick] [--to FOLDER] [--out FOLDER] [--port N] [--seconds N]
#
# 1: what must hold on CUDA, then latencies; 2: over HTTP. Needs no results of the other.
# Ends after --seconds (480) whatever happened: each step has a limit of its own, and results are
# gathered after each one. Exit code 3: parts are still missing, give it the next folder of parts.
# Steps with a model that has not come are left out.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
call=${1:?1 or 2}; shift
provider=cuda to=/opt/depthserve out=${OUT:-results} port=18080 seconds=480 options=() exports=()
while (($#)); do
  case $1 in
    --provider) provider=$2; shift ;;
    --to) to=$2; shift ;;
    --out) out=$2; shift ;;
    --port) port=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --quick) options+=(--quick) exports+=(--size 64 --processes 2) ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
deadline=$((SECONDS + seconds - 10))
results=$to/results$call
rm -rf "$results"
mkdir -p "$out" "$results"
out=$(cd "$out" && pwd)
options+=(--provider "$provider" --out "$results" --port "$port")
report() { python3 "$here/report.py" "$results" "$out/call$call"; }
trap report EXIT
trap 'exit 1' TERM INT

# step NAME SECONDS COMMAND...: time limits reach the processes that a command starts, too.
step() {
  local name=$1 limit=$2 left=$((deadline - SECONDS)) started=$SECONDS status=0
  shift 2
  ((limit < left)) || limit=$left
  if ((left < 5)); then
    status=skipped
  else
    timeout -k 3 "$limit" "$@" >"$results/$name.log" 2>&1 || status=$?
  fi
  printf '%s\t%s\t%s\n' "$name" "$status" $((SECONDS - started)) >>"$results/steps.tsv"
  report >/dev/null
  [[ $status == 0 ]]
}

machine() {
  echo "$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  echo "Node $(node --version), $(python3 --version)"
  python3 -c 'import onnx, torch; print(f"torch {torch.__version__}, onnx {onnx.__version__}")'
} 2>/dev/null

step unpack 120 "$here/unpack.sh" --to "$to" "$here" || {
  cat "$results/unpack.log"
  grep -q '^missing' "$results/unpack.log" && exit 3
  exit 1
}
# shellcheck disable=SC1091
. "$to/env.sh"
cd "$to/app" || exit 1
machine >"$results/machine.txt"
[[ $provider == cpu ]] || ldd node_modules/onnxruntime-node/bin/napi-v6/linux/x64/*_cuda.so |
  grep 'not found' >>"$results/machine.txt"

made=$to/exports$call resnet50=$to/exports$call/resnet50
run() { # run NAME SECONDS SCRIPT MODEL ARGUMENTS...
  local name=$1 limit=$2 script=$3 model=$4
  shift 4
  if [[ -f $model/model.onnx ]]; then
    step "$name" "$limit" node "bench/gpu/$script.mjs" --model "$model" "${options[@]}" "$@"
  else
    printf '%s\t%s\t0\n' "$name" 'not carried' >>"$results/steps.tsv"
  fi
}
shipped=()
for model in models/grocery models/cifar10; do
  [[ ! -f $model/model.onnx ]] || shipped+=(--model "$model")
done
export_models=(python3 bench/gpu/export_models.py --out "$made" "${exports[@]}")

if ((call == 1)); then
  # Beside the checks, which take no timings.
  timeout 240 "${export_models[@]}" "${shipped[@]}" >"$results/export.log" 2>&1 &
  exporting=$!
  trap 'kill $exporting 2>/dev/null; report' EXIT
  run load 60 load models/grocery
  run check-grocery 90 check models/grocery
  run check-cifar10 90 check models/cifar10
  # shellcheck disable=SC2016
  step exported 180 bash -c 'tail --pid="$1" -f /dev/null; cat "$2"; grep -q "^exported to" "$2"' \
    -- "$exporting" "$results/export.log"
  kill $exporting 2>/dev/null
  run check-resnet50 120 check "$resnet50"
  for model in models/grocery "$resnet50" models/cifar10; do
    name=$(basename "$model")
    run "latency-$name" 90 measure "$model" --exports "$made" --what latency
    run "switching-$name" 30 measure "$model" --what switching
  done
else
  run load 60 load models/grocery
  run http-grocery 270 http models/grocery --what throughput,looks,neighbour
  run workers-grocery 40 measure models/grocery --what workers
  step export 100 "${export_models[@]}"
  run workers-resnet50 60 measure "$resnet50" --what workers
  run http-resnet50 90 http "$resnet50" --what throughput
  run check-cifar10 60 check models/cifar10
  run http-cifar10 90 http models/cifar10 --what throughput
fi
