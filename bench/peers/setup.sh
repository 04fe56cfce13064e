#!/usr/bin/env bash
# Makes what `npm run bench:peers` needs, where it is not there yet: the generator, a virtual
# environment for each server, labelled photos. What cannot be installed leaves its reason in
# bench/peers/.venvs/NAME.failed, and is tried again the next time.
#   bench/peers/setup.sh DATA [NAME...]      PYTHON: Python 3.11
# DATA: CIFAR-10 as JPEG files in one .npz (test_jpeg, test_offsets, test_labels, classes).
set -euo pipefail
cd "$(dirname "$0")/../.."

data=$1
shift
python=${PYTHON:-python3.11}
venvs=bench/peers/.venvs
mkdir -p runs/peers "$venvs"
(cd bench/peers/load && go build -o ../../../runs/peers/load .)

install() {
  "$python" -m venv --clear "$venvs/$1"
  "$venvs/$1/bin/pip" install --quiet -r "bench/peers/requirements/$1.txt"
  if [ "$1" = triton ]; then
    # The server in the wheel looks for the stub of this Python beside its backend.
    triton=$(echo "$venvs"/triton/lib/python*/site-packages/pytriton/tritonserver)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cp "$triton/python_backend_stubs/$version/triton_python_backend_stub" "$triton/backends/python/"
    ln -sfn "$PWD/$triton" "$venvs/triton/triton"
  fi
}

for name in "$@"; do
  wanted=$(sha256sum <"bench/peers/requirements/$name.txt")
  [ "$(cat "$venvs/$name/installed" 2>/dev/null)" != "$wanted" ] || continue
  echo "installing $name" >&2
  rm -f "$venvs/$name.failed"
  if (set -e; install "$name") >"$venvs/$name.log" 2>&1; then
    echo "$wanted" >"$venvs/$name/installed"
  else
    tail -n 5 "$venvs/$name.log" >"$venvs/$name.failed"
  fi
done
if [ ! -d runs/peers/photos ]; then
  any=$(ls -d "$venvs"/*/bin/python | head -1)
  "$any" bench/live/photos.py --data "$data" --out runs/peers/photos --size 32 --count 2000
fi
