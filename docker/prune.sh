#!/bin/sh
# Takes out of node_modules what no Linux container of this architecture can use: libraries of other
# platforms (onnxruntime-node's are five times the size of the one that is loaded), declarations and
# source maps.
set -eu
arch=$(node -p process.arch)
prune() { # FOLDERS... except the one that ends in $1
  kept=$1
  shift
  for folder; do
    case $folder in
      *"$kept") ;;
      *) rm -r "$folder" ;;
    esac
  done
}
prune "/linux/$arch" node_modules/onnxruntime-node/bin/napi-v6/*/*
prune "-linux-$arch" node_modules/@julusian/jpeg-turbo/prebuilds/*
find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
