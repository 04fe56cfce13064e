#!/bin/sh
# Takes out of node_modules what no Linux container of this architecture can use. onnxruntime-node
# brings its library for every platform, five times the size of the one that is loaded.
set -eu
arch=$(node -p process.arch)
for folder in node_modules/onnxruntime-node/bin/napi-v6/*/*; do
  case $folder in
    */linux/"$arch") ;;
    *) rm -r "$folder" ;;
  esac
done
find node_modules -name '*.map' -delete
