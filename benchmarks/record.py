"""Print a benchmark's rows as a table and write them to benchmarks/results/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("dagster", "duckdb", "numba", "numpy", "optuna", "pandas", "pyarrow", "scipy", "torch")


def row(
    metric: str, value: float, unit: str, goal: float | None, better: str = "lower", detail: str = ""
) -> dict:  # fmt: skip
    """Return one row; it holds where the value is on the better side of the goal (None: there is none)."""
    holds = None if goal is None else bool(value <= goal if better == "lower" else value >= goal)
    return {
        "metric": metric, "value": round(value, 4), "unit": unit, "goal": goal, "better": better,
        "holds": holds, "detail": detail,
    }  # fmt: skip


def not_measured(metric: str, unit: str, goal: float | None, better: str, why: str) -> dict:
    """Return a row for what this machine cannot measure; it neither holds nor falls short."""
    detail = f"not measured: {why}"
    return {
        "metric": metric, "value": None, "unit": unit, "goal": goal, "better": better, "holds": None,
        "detail": detail,
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
        mark = {True: "holds", False: "FALLS SHORT", None: "-"}[r["holds"]]
        number = f"{'-':>10}" if r["value"] is None else f"{r['value']:>10.3f}"
        goal = "no goal" if r["goal"] is None else f"goal {sign} {r['goal']:g}"
        value = f"{number} {r['unit']:<8} {goal}"
        print(f"{r['metric']:<{width}}  {value}  {mark}  {r['detail']}")
    RESULTS.mkdir(exist_ok=True)
    found = {"name": name, "machine": machine, "versions": versions, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
