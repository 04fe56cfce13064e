#!/usr/bin/env bash
# On the bare machine: takes the parts of one or more transfers, checks and unpacks them.
#
#   unpack.sh --to FOLDER PARTS...
#
# PARTS are folders written by pack.py. Parts already taken stay in FOLDER/parts, so the script
# can be called once per transfer. Exit code 3: parts are still missing, other than of later.tar.xz,
# which the first call does without.
set -euo pipefail

[[ ${1-} == --to ]] || { echo "usage: unpack.sh --to FOLDER PARTS..." >&2; exit 2; }
to=$2
shift 2

mkdir -p "$to/parts"
for parts in "$@"; do cp "$parts"/* "$to/parts/"; done
cd "$to/parts"

missing=0 is_later_whole=1 pids=()
while read -r _ name; do
  if [[ -f $name ]]; then continue; fi
  case $name in
    later.*) echo "later: $name"; is_later_whole=0 ;;
    *) echo "missing: $name"; missing=1 ;;
  esac
done <SHA256SUMS
sha256sum --quiet --strict --ignore-missing --check SHA256SUMS
((missing)) && exit 3

for first in *.tar.xz.000; do
  archive=${first%.000}
  [[ $archive != later.tar.xz || $is_later_whole == 1 ]] || continue
  # Unpacked by an earlier call.
  [[ ! $archive.unpacked -nt $first ]] || continue
  cat "$archive".??? >"$archive"
  # Python's, since a bare machine may lack xz. Side by side: each takes seconds of one core.
  python3 -c \
    'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter="tar")' \
    "$archive" "$to" && touch "$archive.unpacked" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done

# CUDA and cuDNN as PyTorch's packages bring them.
libraries=$(python3 -c '
import sys, pathlib
found = {str(lib) for path in sys.path for lib in pathlib.Path(path or ".").glob("nvidia/*/lib")}
print(":".join(sorted(found)))')
cat >"$to/env.sh" <<END
export PATH="$to/node/bin:\$PATH"
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export PYTHONPATH="$to/app/training:$to/app/bench:$to/app/bench/gpu/stand_ins"
export ORT_DISABLE_TELEMETRY=1
# The provider lacks kernels that we do not use: none is looked for before it is called.
export CUDA_MODULE_LOADING=LAZY
END
