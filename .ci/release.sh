#!/bin/sh
# A release's artefacts in release/: the package, its SBOM and their checksums.
set -eu
cd "$(dirname "$0")/.."
rm -rf release dist
mkdir release
# .npmrc forbids scripts; prepack is ours.
npm pack --ignore-scripts=false --pack-destination release
npm sbom --omit=dev --sbom-format cyclonedx >release/sbom.cdx.json
cd release
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
