"""What is kept of a run: benchmarks/results/engine.json, and the comparison with the run before."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import record

GATE = 1.25  # a ratio that became worse by this fails


def slower(recorded: Path, rows: list[dict], gated: set[str]) -> list[str]:
    """Name the gated ratios that became 1.25 times worse than the recorded ones."""
    if not recorded.exists():
        return []
    before = {r["metric"]: r["value"] for r in json.loads(recorded.read_text())["rows"]}
    found = []
    for r in rows:
        if r["metric"] in gated & before.keys():
            old, new = before[r["metric"]], r["value"]
            worse = old / new if r["better"] == "higher" else new / old
            if worse > GATE:
                found.append(f"{r['metric']}: {old} recorded, {new} now")
    return found


def versions(peers: str) -> dict[str, str]:
    """Return what is installed in the peers' environment, of what takes part."""
    names = ["vectorbt", "vectorbt-rust", "backtesting", "backtrader", "TA-Lib", "numpy", "numba", "pandas"]
    code = f"from importlib.metadata import version\nfor n in {names}: print(version(n))"
    found = subprocess.run([peers, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return {f"peers: {name}": one for name, one in zip(names, found, strict=True)}


def write(rows: list[dict], gated: set[str], peers: str, load: float) -> list[str]:
    """Print the rows, write them with machine, load and versions, and return what became slower."""
    path = record.RESULTS / "engine.json"
    worse = slower(path, rows, gated)
    record.write("engine", rows)
    written = json.loads(path.read_text())
    written["machine"]["load_at_start"] = load
    written["versions"] |= versions(peers)
    path.write_text(json.dumps(written, indent=1) + "\n")
    return worse


def show(rows: list[dict]) -> None:
    """Print the rows of a run that is not to be kept."""
    with tempfile.TemporaryDirectory() as folder:
        record.RESULTS = Path(folder)
        record.write("engine", rows)
