#!/usr/bin/env bash
# Makes what `npm run bench:peers` needs: a virtual environment for each server, the generator, and
# labelled photos. What cannot be installed leaves its reason in runs/peers/NAME.failed.
#   bench/peers/setup.sh [cifar10_jpeg.npz] [NAME...]      PYTHON: Python 3.11
set -euo pipefail
cd "$(dirname "$0")/../.."

data=${1:-../shared/data/cifar10_jpeg.npz}
shift || true
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(fastapi mosec bentoml litserve ray-serve mlserver kserve triton)
python=${PYTHON:-python3.11}

mkdir -p runs/peers/venvs
(cd bench/peers/load && go build -o ../../../runs/peers/load .)
for name in "${names[@]}"; do
  venv=runs/peers/venvs/$name
  rm -f "runs/peers/$name.failed"
  if ! { "$python" -m venv "$venv" && "$venv/bin/pip" install --quiet -r "bench/peers/requirements/$name.txt"; } \
      >"runs/peers/$name.install.log" 2>&1; then
    tail -n 5 "runs/peers/$name.install.log" >"runs/peers/$name.failed"
    echo "$name cannot be installed: $(head -c 300 "runs/peers/$name.failed")"
  fi
done
if [ ! -d runs/peers/photos ]; then
  runs/peers/venvs/fastapi/bin/python bench/live/photos.py --data "$data" --out runs/peers/photos
fi
