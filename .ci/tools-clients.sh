#!/bin/sh
# What the clients' tests need beyond npm's packages: Chromium for the page, and Python clients
# (tritonclient), their generator and the API fuzzer in an environment of their own. May be run
# again at any time.
# Tests skip with a message where a tool is missing, except in CI.
set -eu
cd "$(dirname "$0")/.."

if ! command -v chromium >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi

venv=.venv-clients
wanted='tritonclient[http,grpc]==2.73.0 schemathesis==4.32.5 requests==2.34.2 httpx==0.28.1'
wanted="$wanted openapi-python-client==0.29.1"
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
  python3 -m venv "$venv"
  # shellcheck disable=SC2086
  "$venv/bin/pip" install --quiet --disable-pip-version-check $wanted
  echo "$wanted" >"$venv/wanted"
fi
