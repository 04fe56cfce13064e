#!/bin/sh
# A release's artefacts in release/: the npm package and its SBOM, the Python toolkit as sdist and
# wheel, and their checksums.
set -eu
cd "$(dirname "$0")/.."
rm -rf release dist
mkdir release
# .npmrc forbids scripts; prepack is ours.
npm pack --ignore-scripts=false --pack-destination release
npm sbom --omit=dev --sbom-format cyclonedx >release/sbom.cdx.json
python3 -m venv release/build
release/build/bin/pip install --quiet --disable-pip-version-check build==1.6.1
release/build/bin/python -m build --outdir release training
rm -rf release/build
cd release
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
