"""Gathers what the steps of one call wrote, and prints it as one table.

report.py RESULTS OUT     OUT.json (all results), OUT.log (ends of all logs), OUT.md (table)
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

LOG_BYTES = 200_000
# Parts of check.mjs's results that something must hold for.
CHECKED = {"answers": "photos", "float32": "logits", "placement": "operators"}
Row = tuple[str, str, str]


def steps(results: Path) -> Iterator[Row]:
    file = results / "steps.tsv"
    for line in file.read_text().splitlines() if file.exists() else []:
        name, status, seconds = line.split("\t")
        log = results / f"{name}.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        why = next((text.strip() for text in lines if "rror" in text or "missing" in text), "")
        named = {"0": "done", "124": "time limit", "137": "time limit", "skipped": "no time left"}
        named["not carried"] = "its model is not there"
        outcome = named.get(status, f"FAILED ({status}) {why[:500]}")
        yield "step", name, f"{outcome}, {seconds} s"


def check(data: dict) -> Iterator[Row]:
    model = data["model"]
    answers = data.get("answers", [])
    labels = ", ".join(f"{a.get('label')} {a.get('probability', 0):.2f}" for a in answers)
    count = sum(a["status"] == 200 for a in answers)
    yield "photos", model, f"{count} of {len(answers)} by {data['providerOfServer']}: {labels}"
    for name, title in (("float32", "TF32 off"), ("tf32", "as served")):
        if name in data:
            # null: logits that are no number.
            worst = max(row["relative"] or 0.0 for row in data[name])
            if any(row["relative"] is None for row in data[name]):
                worst = math.inf
            rows = len(data[name])
            yield f"logits, {title}", model, f"largest relative difference {worst:.1e} of {rows}"
    for skip, providers in data.get("placement", {}).items():
        counts = {where: sum(ops.values()) for where, ops in providers.items()}
        copies = sum(
            count
            for ops in providers.values()
            for op, count in ops.items()
            if op.startswith("Memcpy")
        )
        conditions = ", ".join(
            f"{ops['If']} If on {w}" for w, ops in providers.items() if "If" in ops
        )
        on_cpu = providers.get("CPU", {}) if data["provider"] == "cuda" else {}
        few = f" {json.dumps(on_cpu)}" if on_cpu else ""
        yield f"operators {skip}", model, f"{counts}{few}, {copies} Memcpy, {conditions or 'no If'}"
    failures = data["failures"]
    text = "; ".join(failures[:4]) + (f" and {len(failures) - 4} more" if failures[4:] else "")
    # The step ended before.
    missing = [title for part, title in CHECKED.items() if part not in data]
    unchecked = f"not checked: {', '.join(missing)}" if missing else ""
    yield "must hold", model, "; ".join(filter(None, [text, unchecked])) or "all holds"


def measure(data: dict) -> Iterator[Row]:
    model = data["model"]
    for skip, row in data["latency"].items():
        cells = [
            f"{batch}: {cell['ms']:.2f}"
            + (f" ({cell['staticMs']:.2f})" if cell["staticMs"] else "")
            for batch, cell in row.items()
        ]
        yield f"ms by batch (static) {skip}", model, ", ".join(cells)
    ratios = [f"{b}: x {r['switched'] / r['unswitched']:.3f}" for b, r in data["switching"].items()]
    if ratios:
        yield "switching depth, by batch", model, ", ".join(ratios)
    for row in data["workers"]:
        rates = ", ".join(f"{skip} {rate:.0f}" for skip, rate in row["imagesPerSecond"].items())
        yield f"images/s, {row['workers']} engine workers", model, rates


def http(data: dict) -> Iterator[Row]:
    for kind in ("throughput", "looks", "neighbour"):
        for row in data.get(kind, []):
            name = {
                "throughput": "{servers} servers x {workers} workers, {budgetMs} ms",
                "looks": "second looks {setting}, {moment}",
                "neighbour": "second process: {second}",
            }[kind].format_map(row)
            yield name, data["model"], served(row)


def served(row: dict) -> str:
    busy = [f"server {row['serverCores']:.1f} cores, engine {row['engineBusy']:.2f}"]
    if row["gpuUtilisation"] is not None:
        busy.append(f"GPU {row['gpuUtilisation']:.2f}")
    deepest = sorted(row["tiers"].items(), key=lambda tier: -tier[1])[:3]
    asked = f" of {row['asked']:.0f}" if row["asked"] else ""
    return (
        f"{row['perSecond']:.0f}{asked} answers/s, late {row['late']}, failed {row['failed']}, "
        f"p99 {row['p99Ms']:.1f} ms, actual/predicted {row['p50Ratio']:.2f} (p95 "
        f"{row['p95Ratio']:.2f}), second looks {row['secondLooks']}, {dict(deepest)}, "
        + ", ".join(busy)
    )


def main() -> None:
    results, out = Path(sys.argv[1]), Path(sys.argv[2])
    kinds = {"check": check, "measure": measure, "http": http}
    rows: list[Row] = []
    machine = results / "machine.txt"
    for line in machine.read_text().splitlines() if machine.exists() else []:
        rows.append(("machine", "", line))
    rows += steps(results)
    gathered = {}
    # In the order in which they were written.
    for file in sorted(results.glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            data = gathered[file.stem] = json.loads(file.read_text())
        except ValueError:  # the time limit came while it was written
            continue
        kind = kinds.get(file.stem.partition("-")[0])
        if kind:
            rows += list(kind(data))
    out.with_suffix(".json").write_text(json.dumps({"rows": rows, "results": gathered}))
    logs = [f"== {log.name}\n{tail(log)}\n" for log in sorted(results.glob("*.log"))]
    out.with_suffix(".log").write_text("".join(logs))
    lines = ["| what | model or step | result |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def tail(log: Path) -> str:
    return log.read_bytes()[-LOG_BYTES:].decode(errors="replace")


if __name__ == "__main__":
    main()
