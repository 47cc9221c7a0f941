"""The features' outputs on fixed bars, as recorded in digests.json.  Run to record anew:

    PYTHONPATH=. python tests/engine/features/record.py

An output that changed without a higher code_version is refused.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from engine.bars.model import Bars
from engine.features import registry, table

RECORDED = Path(__file__).with_name("digests.json")
COMMAND = "PYTHONPATH=. python tests/engine/features/record.py"


def fixture_bars(n: int = 90) -> Bars:
    """Bars by a generator written out here, so that no change elsewhere changes them."""
    state, rows, before = 12345, [], 5000
    for _ in range(n):
        draw = []
        for _ in range(4):
            state = (1103515245 * state + 12345) % 2**31
            draw.append(state >> 16)
        open_ = before + draw[0] % 41 - 20
        close = open_ + draw[1] % 201 - 100
        high, low = max(open_, close) + draw[2] % 50, min(open_, close) - draw[3] % 50
        rows.append([q / 100 for q in (open_, high, low, close)] + [1000.0 + draw[2]])
        before = close
    columns = np.array(rows).T
    ts = np.arange(n) * 86_400_000_000
    return Bars("TEST", "1d", "observed", ts, *columns, np.ones(n), np.zeros(n))


def bars_with_a_flat_stretch() -> Bars:
    """110 bars; from bar 60 to 79 nothing moves. TA-Lib's recorded values are of these."""
    bars = fixture_bars(110)
    columns = {}
    for name in ("open", "high", "low", "close", "volume"):
        columns[name] = getattr(bars, name).copy()
        columns[name][60:80] = bars.volume[59] if name == "volume" else bars.close[59]
    return Bars("TEST", "1d", "observed", bars.ts, *columns.values(), bars.adj, bars.dividend)


def usual(declared: registry.Feature) -> str:
    """Return the feature's column of length 14 on the close."""
    values = tuple((p.name, 14 if p.whole else 2.0) for p in declared.parameters)
    return str(table.ColumnName(declared, "close" if declared.takes_column else None, values, None))


def digest(name: str) -> str:
    """Return the digest of a column's values at 12 significant digits."""
    values = table.FeatureSet(fixture_bars(), 0.01).column(name)
    return hashlib.sha256("\n".join(f"{value:.12g}" for value in values).encode()).hexdigest()[:16]


def outputs() -> dict[str, dict]:
    """Return column -> code_version and digest, for every feature of the engine."""
    return {
        str(member): {"code_version": declared.code_version, "digest": digest(str(member))}
        for declared in map(registry.get, registry.names())
        if declared.compute.__module__.startswith("engine.")
        for member in table.parse(usual(declared)).members()
    }


def unversioned(recorded: dict, now: dict) -> list[str]:
    """Return the columns whose output changed while their code_version did not rise."""
    return [
        name
        for name in now.keys() & recorded.keys()
        if now[name]["digest"] != recorded[name]["digest"]
        and now[name]["code_version"] <= recorded[name]["code_version"]
    ]


if __name__ == "__main__":
    found = outputs()
    if refused := unversioned(json.loads(RECORDED.read_text()) if RECORDED.exists() else {}, found):
        sys.exit(f"changed without a higher code_version, nothing recorded: {', '.join(sorted(refused))}")
    RECORDED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
