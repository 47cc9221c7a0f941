"""1,000,000 one-minute bars from a CSV file into the lake, every check on: time, memory, and how both grow.

Each size runs in a process of its own, as a first run of a symbol does: read, check, split-adjust, hash,
publish; modules are imported before the clock starts. Peak memory is that of the whole process. Reading and
checking alone stands beside `pandas.read_csv`, which checks nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from record import row, write

SIZES = (1_000_000, 10_000_000)
GOAL_S, GOAL_MB, GOAL_RATIO, GOAL_READ = 3.0, 500.0, 1.3, 0.6

INGEST = """
import json, resource, sys, time
from pathlib import Path
import pandas  # pyarrow loads it at its first conversion
from engine.config import Settings
from engine.lake.publish import Lake
from engine.stages._prices import prices
settings = Settings.model_validate({
    "symbols": {"BTC-USD": {"class": "crypto", "source": "files", "frame": "1m"}}, "strategies": []})
lake = Lake(Path(sys.argv[1]))
began = time.perf_counter()
result = prices(lake, "BTC-USD", settings, lambda text: None, asof=None)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([seconds, peak, result.rows]))
"""
READ = """
import json, sys, time
from pathlib import Path
import pandas
from engine.sources import SymbolSource, load
file = Path(sys.argv[1])
options, ratios = SymbolSource(calendar="24/7"), []
for _ in range(3):
    began = time.perf_counter()
    loaded = load("files", "BTC-USD", options, data_dir=file.parents[1], frame="1m")
    ours = time.perf_counter() - began
    began = time.perf_counter()
    frame = pandas.read_csv(file)
    ratios.append(ours / (time.perf_counter() - began))
assert len(frame) == len(loaded.bars)
print(json.dumps([sorted(ratios)[1], 0.0, len(frame)]))
"""


def make_file(path: Path, bars: int) -> None:
    """Write made one-minute bars as a vendor's CSV file."""
    import pyarrow as pa
    import pyarrow.csv as csv

    from engine.bars.synthetic import make_bars

    made = make_bars(1, bars, "1m", calendar="24/7", volatility=0.0005, symbol="BTC-USD")
    names = ("open", "high", "low", "close", "volume")
    stamps = pa.array(made.ts, pa.timestamp("us", "UTC")).cast(pa.timestamp("s", "UTC")).cast(pa.string())
    table = pa.table({"timestamp": stamps, **{name: pa.array(getattr(made, name)) for name in names}})
    options = csv.WriteOptions(quoting_style="none", quoting_header="none")
    path.parent.mkdir(parents=True, exist_ok=True)
    csv.write_csv(table, path, options)


def measured(code: str, argument: Path, repeats: int) -> tuple[float, float, int]:
    """Return the median time, largest memory and row count of a program run in fresh processes."""
    times, peaks, rows = [], [], 0
    for _ in range(repeats):
        for left in argument.glob("lake") if argument.is_dir() else ():
            subprocess.run(["rm", "-r", str(left)], check=True)
        done = subprocess.run(
            [sys.executable, "-c", code, str(argument)], capture_output=True, text=True, check=True
        )
        seconds, peak, rows = json.loads(done.stdout)
        times.append(seconds)
        peaks.append(peak)
    return sorted(times)[len(times) // 2], max(peaks), rows


def main() -> None:
    """Measure every size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, action="append", help="in place of 1 and 10 million")
    sizes = parser.parse_args().bars or SIZES
    rows, per_bar = [], []
    for bars in sizes:
        repeats = 3 if bars <= 1_000_000 else 1
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            file = data / "inbox" / "BTC-USD.csv"
            make_file(file, bars)
            size = file.stat().st_size / 1e6
            seconds, peak, stored = measured(INGEST, data, repeats)
            ratio, _, _ = measured(READ, file, 1) if bars == min(sizes) else (0.0, 0.0, 0)
        assert stored == bars, f"{stored} bars stored of {bars}"
        name = f"{bars / 1e6:g} million 1m bars"
        detail = f"{size:.0f} MB of CSV, all checks, published; median of {repeats}"
        scale = bars / 1e6
        rows.append(row(f"ingest {name}", seconds, "s", GOAL_S * max(1.0, scale), detail=detail))
        if bars == min(sizes):
            rows.append(row(f"peak memory, {name}", peak, "MB", GOAL_MB, detail="whole process"))
            what = f"file to checked bars / pandas.read_csv alone, {name}"
            note = "median of 3, in turn in one process; pandas reads on every idle core"
            rows.append(row(what, ratio, "x", GOAL_READ, detail=note))
        per_bar.append(seconds / bars)
    if len(per_bar) > 1:
        growth = per_bar[-1] / per_bar[0]
        rows.append(row("time per bar, largest / smallest", growth, "x", GOAL_RATIO, detail="1 = linear"))
    write("intake", rows)


if __name__ == "__main__":
    main()
