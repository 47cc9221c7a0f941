"""The main job on the sample, as ``make backtest`` runs it: cold, unchanged, one more bar, and its memory.

Run by ``make bench-pipeline``. Data and Dagster's home lie in a temporary folder; kernels are
compiled before, as at the end of the install.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from record import row, write  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
LAST_BUT_ONE = "2013-02-28T23:00Z"  # the sample ends 2013-03-01
STAGE = re.compile(
    r"^(\w+) (prices|features|forecasts|optimizations|backtests) (unchanged|\d+ rows) ([\d.]+) s$"
)


@dataclass
class Run:
    """One run of the job: what it printed, how long, and the peak memory of each process."""

    wall: float = 0.0
    first_stage: float = 0.0  # seconds until the first stage of any symbol had ended
    stages: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    peaks_mb: list[float] = field(default_factory=list)
    inferred: int = 0
    trials: int = 0

    @property
    def compute(self) -> float:
        return sum(seconds for _, seconds in self.stages.values())


def run(settings: Path, home: Path) -> Run:
    """Run the job in a process of its own."""
    environment = {
        **os.environ,
        "NIGHTFOLD_SETTINGS": str(settings),
        "DAGSTER_HOME": str(home),
    }
    done = Run()
    peaks: dict[int, float] = {}
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(str(settings), peaks, stop))
    watcher.start()
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.run"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := STAGE.match(line.strip()):
                done.first_stage = done.first_stage or time.perf_counter() - began
                done.stages[found[1], found[2]] = (found[3], float(found[4]))
            if found := re.search(r"forecasts (\d+) as-of bars inferred", line):
                done.inferred += int(found[1])
            if found := re.search(r"optimizations .* tried (\d+) pruned", line):
                done.trials += int(found[1])
    done.wall = time.perf_counter() - began
    stop.set()
    watcher.join()
    if process.returncode != 0 or len(done.stages) != 5 * len(SYMBOLS):
        raise SystemExit("".join(lines[-40:]) + f"\nthe job ended with {process.returncode}")
    done.peaks_mb = sorted(peaks.values())
    return done


def _watch(marker: str, peaks: dict[int, float], stop: threading.Event) -> None:
    """Note the peak resident memory of every process whose environment holds the marker."""
    while not stop.wait(0.1):
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if marker.encode() in (folder / "environ").read_bytes():
                    high = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
                    peaks[int(folder.name)] = float(high[1]) / 1024 if high else 0.0
            except OSError:
                continue


def settings_in(folder: Path, asof: str | None) -> Path:
    """Write a settings file with the four sample symbols."""
    path = folder / "nightfold.yaml"
    symbols = "".join(f"  {symbol}: {{}}\n" for symbol in SYMBOLS)
    path.write_text(f"data_dir: data\nasof: {asof or 'null'}\nsymbols:\n{symbols}")
    return path


def main() -> None:
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache

    kernel_cache.warm()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = folder / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text((ROOT / "data/dagster/dagster.yaml").read_text())
        cold = run(settings_in(folder, LAST_BUT_ONE), home)
        night = run(settings_in(folder, None), home)
        unchanged = run(settings_in(folder, None), home)
    assert all(what == "unchanged" for what, _ in unchanged.stages.values()), unchanged.stages
    assert cold.trials and cold.inferred, "the job's lines changed: nothing was counted"
    count = len(SYMBOLS)
    # compute is the stages' own seconds, summed over all symbols
    ending = unchanged.wall - unchanged.first_stage
    share = 100 * night.compute / cold.compute
    said = {
        "cold": f"{count} symbols, {cold.inferred} forecasts, {cold.trials} trials",
        "unchanged": f"executor's start {unchanged.first_stage:.1f} s, wall {unchanged.wall:.1f} s",
        "night": f"{night.compute:.2f} s against {cold.compute:.2f} s, wall {night.wall:.1f} s, "
        f"{night.trials} trials",
    }
    write(
        "pipeline",
        [
            row("cold run, wall", cold.wall, "s", 60, detail=said["cold"]),
            row("unchanged run, wall after the first stage", ending, "s", count, detail=said["unchanged"]),
            row("unchanged run, forecasts and trials", unchanged.inferred + unchanged.trials, "", 0),
            row("one more bar, compute against cold", share, "%", 10, detail=said["night"]),
            row("one more bar, forecasts per symbol", night.inferred / count, "", 1),
            row("peak memory of one process", max(cold.peaks_mb), "MB", 1024),
        ],
    )


if __name__ == "__main__":
    main()
