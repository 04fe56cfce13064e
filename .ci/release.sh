#!/bin/sh
# A release's artefacts in release/: the npm package and its SBOM, the Python toolkit as sdist and
# wheel, and their checksums.
set -eu
cd "$(dirname "$0")/.."
rm -rf release dist
mkdir release
# .npmrc forbids scripts; prepack is ours.
npm pack --ignore-scripts=false --pack-destination release
# From the lock, whatever is installed here. npm names the project after its folder.
npm sbom --omit=dev --package-lock-only --sbom-format cyclonedx |
  node -e "const bom = JSON.parse(require('fs').readFileSync(0)); const { name } = require('./package.json');
    bom.metadata.component.name = name; console.log(JSON.stringify(bom, null, 2))" \
  >release/sbom.cdx.json
python3 -m venv release/build
release/build/bin/pip install --quiet --disable-pip-version-check build==1.6.1
release/build/bin/python -m build --outdir release training
rm -rf release/build
cd release
sha256sum -- * >SHA256SUMS
cat SHA256SUMS
