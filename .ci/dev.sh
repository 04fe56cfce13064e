#!/bin/sh
# The server, which starts again whenever a file under src changes. Arguments go to it.
set -eu
cd "$(dirname "$0")/.."
npm run -s build
npx tsc -p tsconfig.build.json --watch --preserveWatchOutput &
trap 'kill $!' EXIT INT TERM
node --watch dist/main.js "$@"
