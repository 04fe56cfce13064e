#!/bin/sh
# Builds etcd, the API server, the controllers and kubectl into bin/, as go.mod has their versions,
# and copies the operators' CRDs there from their modules. Needs Go; the first time takes long.
set -eu
cd "$(dirname "$0")"
mkdir -p bin/crds

build() { go build -ldflags '-s -w' -o "bin/$1" "$2"; }
build etcd go.etcd.io/etcd/server/v3
for program in kube-apiserver kube-controller-manager kubectl; do
  build "$program" "k8s.io/kubernetes/cmd/$program"
done

# The same versions as in k8s/schemas/vendor.py.
crds() {
  folder=$(go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  shift
  for file; do install -m 644 "$folder/$file" bin/crds; done
}
prometheus=example/prometheus-operator-crd/monitoring.coreos.com
crds github.com/prometheus-operator/prometheus-operator@v0.85.0 \
  ${prometheus}_prometheusrules.yaml ${prometheus}_servicemonitors.yaml
crds github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml
kserve=config/crd/full/serving.kserve.io
crds github.com/kserve/kserve@v0.15.2 \
  ${kserve}_inferenceservices.yaml ${kserve}_servingruntimes.yaml
