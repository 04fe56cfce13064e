#!/usr/bin/env bash
# Trains a CIFAR-10 network for the repository on one GPU, and its rungs as networks of their own.
#
#   bench/gpu/train.sh ladder|alone|evaluate [--data FILE] [--out FOLDER] [--epochs N]
#                      [--quick] [--provider cuda|cpu]
#
# ladder:   the adaptive network, then a short phase with frozen normalisation statistics, which
#           makes all sub-networks fit the statistics they share; exported to OUT/model
# alone:    FFFF, TFFF, ... TTTT, each trained alone with the same recipe and epochs
# evaluate: all of them on the test images
# Called again, an interrupted run goes on where it stopped.
set -euo pipefail

what=${1:?ladder, alone or evaluate}; shift
here=$(dirname "$0")
data=data/cifar10_jpeg.npz out=runs/gpu epochs=150 provider=cuda
blocks=4,4,4,2 widths=32,64,128,256 rate=0.8
while (($#)); do
  case $1 in
    --data) data=$2; shift ;;
    --out) out=$2; shift ;;
    --epochs) epochs=$2; shift ;;
    --provider) provider=$2; shift ;;
    --quick) epochs=1 blocks=2,2,2,2 widths=8,8,8,8 rate=0.01 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
settle=$((epochs < 20 ? 1 : 5))
rungs=(FFFF TFFF TTFF TTTF TTTT)
common=(--data "$data" --batch-size 512 --weight-decay 5e-4 --erase 0.25 --precision auto
  --device "$provider")
recipe=("${common[@]}" --epochs "$epochs" --lr $rate --warmup-epochs 5 --ema 0.998)

# Options of a run folder that already holds a checkpoint.
resume() { [[ ! -f $1/checkpoint.pt ]] || echo --resume; }

toolkit() { python3 "$here/train_alone.py" "$@"; }

case $what in
  ladder)
    # shellcheck disable=SC2046
    time toolkit train --out "$out/ladder" "${recipe[@]}" --blocks $blocks --widths $widths \
      --between 0.5 $(resume "$out/ladder")
    # shellcheck disable=SC2046
    toolkit train --out "$out/settled" "${common[@]}" --blocks $blocks --widths $widths \
      --between 0.5 --start "$out/ladder/checkpoint.pt" --frozen-norms --epochs $settle \
      --lr 0.02 --warmup-epochs 0.25 $(resume "$out/settled")
    toolkit export --run "$out/settled" --out "$out/model" --name cifar10-small-resnet \
      --version 2.0.0
    ;;
  alone)
    # Side by side: one small network does not fill a GPU.
    pids=()
    for rung in "${rungs[@]}"; do
      # shellcheck disable=SC2046
      toolkit train --out "$out/$rung" "${recipe[@]}" --arch alone --option "skip=\"$rung\"" \
        --option "blocks=[$blocks]" --option "widths=[$widths]" --alpha 1 \
        $(resume "$out/$rung") >"$out-$rung.log" 2>&1 &
      pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    tail -qn 1 "$out"-????.log
    ;;
  evaluate)
    for run in ladder settled "${rungs[@]}"; do
      echo "== $run"
      toolkit evaluate --run "$out/$run" --device "$provider"
    done
    ;;
  *) echo "unknown step $what" >&2; exit 2 ;;
esac
