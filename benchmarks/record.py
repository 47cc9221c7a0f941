"""Print a benchmark's rows as a table and write them to benchmarks/results/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("dagster", "duckdb", "numba", "numpy", "optuna", "pandas", "pyarrow", "scipy", "torch")


def row(metric: str, value: float, unit: str, goal: float, better: str = "lower", detail: str = "") -> dict:
    """Return one row; it holds where the value is on the better side of the goal."""
    holds = value <= goal if better == "lower" else value >= goal
    return {
        "metric": metric, "value": round(value, 4), "unit": unit, "goal": goal, "better": better,
        "holds": bool(holds), "detail": detail,
    }  # fmt: skip


def write(name: str, rows: list[dict]) -> None:
    """Print the rows and write the JSON file."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    machine = {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "load": os.getloadavg()[0]}
    versions = {"python": platform.python_version(), **{lib: metadata.version(lib) for lib in LIBRARIES}}
    width = max(len(r["metric"]) for r in rows)
    for r in rows:
        sign = "<=" if r["better"] == "lower" else ">="
        mark = "holds" if r["holds"] else "FALLS SHORT"
        value = f"{r['value']:>10.3f} {r['unit']:<8} goal {sign} {r['goal']:g}"
        print(f"{r['metric']:<{width}}  {value}  {mark}  {r['detail']}")
    RESULTS.mkdir(exist_ok=True)
    found = {"name": name, "machine": machine, "versions": versions, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
