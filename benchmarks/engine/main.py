"""nightfold against vectorbt, backtesting.py, backtrader and TA-Lib: speed and agreement.

Run by ``make bench-engine``, which also makes the peers' environment benchmarks/engine/.venv from
requirements.txt (their licences keep them out of nightfold's). ``--quick``: fewer rounds, no long
runs, nothing written. Each engine runs in a process of its own on one thread; the processes
take turns, a ratio is the median over the rounds, and first calls, which compile, are not timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
import agreement  # noqa: E402
import numpy as np  # noqa: E402
import recorded  # noqa: E402
import workloads  # noqa: E402
from race import Runner, Worker, race, ratio  # noqa: E402
from record import row  # noqa: E402

PEERS = HERE / ".venv" / "bin" / "python"
PERIODS = list(range(5, 25))  # 20 at once
GATE_SECONDS = 0.01  # a longer scenario may not become slower against its peer


class Bench:
    """The workers of one run, how often to repeat, and which scenarios count for the gate."""

    def __init__(self, folder: Path, peers: str, quick: bool, clock: str) -> None:
        self.folder, self.quick, self.rounds = folder, quick, 3 if quick else 7
        self.ours = Worker(sys.executable, "ours.py", folder, clock)
        self.vectorbt = Worker(peers, "peer_vectorbt.py", folder, clock)
        self.events = Worker(peers, "peer_events.py", folder, clock)
        self.talib = Worker(peers, "peer_talib.py", folder, clock)
        self.gated: set[str] = set()

    def race(self, *runners: Runner) -> None:
        race(self.rounds, *runners)

    def close(self) -> None:
        """End the processes, which frees what their arms hold; the next question starts them again."""
        for worker in (self.ours, self.vectorbt, self.events, self.talib):
            worker.close()

    def times(self, metric: str, ours: Runner, theirs: Runner, goal: float, detail: str = "") -> dict:
        """Return a row "so many times faster"."""
        if ours.seconds > GATE_SECONDS:
            self.gated.add(metric)
        seconds = f"{1e3 * ours.seconds:.3f} ms against {1e3 * theirs.seconds:.1f} ms"
        once = "" if len(theirs.times) > 1 else ", peer timed once"
        return row(metric, ratio(theirs, ours), "times", goal, "higher", f"{seconds}{once}{detail}")


def w1(bench: Bench, golden: dict[str, Runner]) -> list[dict]:
    """One run over one series, averages included, against three engines.

    Stated goals: vectorbt 100 at 5,000 bars and 15 at a million. 100,000 bars take the latter, the other
    engines the 200 that is stated for W3.
    """
    rows = []
    for series, goal in (("E5K", 100), ("S100K", 15), ("S1M", 15)):
        args = {"series": series}
        ours, fresh = (Runner(bench.ours, "w1", args | {"reuse": reuse}) for reuse in (True, False))
        routes = {r: Runner(bench.vectorbt, "w1", args | {"route": r}) for r in ("numba", "numpy", "rust")}
        backtesting = Runner(bench.events, "w1_backtesting", args)
        backtrader = Runner(bench.events, "w1_backtrader", args)
        events = {"backtesting.py": backtesting, "backtrader": backtrader}
        if bench.quick and series != "E5K":
            events = {}
        bench.race(ours, fresh, *routes.values(), *events.values())
        golden[f"W1 {series}"] = ours
        x = {route: f"x{ratio(one, ours):.1f}" for route, one in routes.items()}
        beside = f"; its numpy signals {x['numpy']}, its rust engine {x['rust']}"
        beside += f"; ours with fresh buffers x{ratio(routes['numba'], fresh):.1f}"
        rows.append(bench.times(f"W1 {series}: vectorbt (own averages)", ours, routes["numba"], goal, beside))
        for name, one in events.items():
            if one.found:
                rows.append(bench.times(f"W1 {series}: {name}", ours, one, 200))
        named = {f"vectorbt ({route})": one for route, one in routes.items()} | events
        rows += [
            agreement.single(f"W1 {series}", ours, name, one) for name, one in named.items() if one.found
        ]
    return rows


def w2(bench: Bench) -> list[dict]:
    """Many pairs of windows, the table of averages included."""
    small, large = (Runner(bench.ours, "w2", {"count": count}) for count in (1000, 10_000))
    theirs, rust = (Runner(bench.vectorbt, "w2", {"count": 1000, "route": r}) for r in ("numba", "rust"))
    exact = Runner(bench.vectorbt, "w2", {"count": 1000, "route": "exact"})
    bench.race(small, theirs, rust)
    bench.race(large)
    race(0, exact)
    print("left out: W2 10,000 by vectorbt: each of its arrays of bars x configs would take 400 MB")
    each = 1e9 * large.seconds / (10_000 * workloads.BARS["E5K"])
    rows = [
        bench.times("W2 1,000 configs: vectorbt (own averages)", small, theirs, 100,
                    f"; its rust engine x{ratio(rust, small):.1f}"),
        row("W2 10,000 configs, per bar and config", each, "ns", 3, detail=f"{1e3 * large.seconds:.1f} ms"),
        agreement.sweep("W2 1,000 configs", small, "vectorbt (crosses of whole sums)", exact, theirs),
        agreement.best(1000, small.found["final"], *workloads.pairs(1000)),
        agreement.best(10_000, large.found["final"], *workloads.pairs(10_000)),
    ]  # fmt: skip
    return rows


def w3(bench: Bench, golden: dict[str, Runner]) -> list[dict]:
    """Stops, targets, trailing stops, size by risk: one run, then sweeps, whole and in chunks (W5)."""
    parity, default, fresh = (
        Runner(bench.ours, "w3", {"form": form, "reuse": reuse})
        for form, reuse in (("parity", True), ("default", True), ("parity", False))
    )
    theirs = Runner(bench.events, "w3_backtesting")
    bench.race(parity, fresh, theirs)
    race(0, default)
    beside = f"; fresh buffers x{ratio(theirs, fresh):.0f}; indicators on both sides"
    golden["W3 GOOG, parity form"], golden["W3 GOOG, default form"] = parity, default
    rows = [
        bench.times("W3 GOOG, one run: backtesting.py", parity, theirs, 200, beside),
        agreement.trade_by_trade(parity, theirs),
        agreement.single("W3 GOOG, parity form", parity, "backtesting.py", theirs),
    ]
    for count in (1000, 10_000):
        whole, *chunked = (
            Runner(bench.ours, "w3_sweep", {"count": count} | ({"chunk": chunk} if chunk else {}))
            for chunk in (0, 500, 100)
        )
        bench.race(whole, *chunked)
        each = 1e9 * whole.seconds / (count * workloads.BARS["E5K"])
        rows.append(row(f"W3 sweep, {count:,} configs, per bar and config", each, "ns", 5,
                        detail=f"{1e3 * whole.seconds:.1f} ms, columns ready"))  # fmt: skip
        for one in chunked:
            size = one.settings["chunk"]
            same = all(np.array_equal(whole.found[k], one.found[k], equal_nan=True) for k in whole.found)
            goal = 1.05 if (size, count) == (500, 10_000) else 1.5  # the second: of the design's prototype
            bits = f"{1e3 * one.seconds:.1f} ms; bits {'equal' if same else 'DIFFER'}"
            metric = f"W5 {count:,} configs, chunks of {size} against one"
            rows.append(row(metric, ratio(one, whole), "times", goal, detail=bits))
            rows[-1]["holds"] &= same
    return rows


def w4(bench: Bench) -> list[dict]:
    """Indicators on a million bars, one by one and twenty periods at once."""
    rows = []
    for name in ("atr", "rsi", "adx", "ema", "sma", "bollinger"):
        (one, kept_one, their_one), (many, new_many, their_many) = (
            [Runner(bench.ours, arm, settings | {"reuse": reuse}) for reuse in order]
            + [Runner(bench.talib, arm, settings)]
            for arm, settings, order in (
                ("w4", {"indicator": name, "n": 14}, (False, True)),
                ("w4_table", {"indicator": name, "periods": PERIODS}, (True, False)),
            )
        )
        bench.race(one, kept_one, their_one)
        bench.race(many, new_many, their_many)
        bench.close()
        metric = f"W4 {name}, against TA-Lib"
        if one.seconds > GATE_SECONDS:
            bench.gated.add(metric)
        detail = f"{1e3 * one.seconds:.2f} ms against {1e3 * their_one.seconds:.2f} ms, a new array each; "
        detail += f"into a kept one x{ratio(kept_one, their_one):.2f}"
        rows += [
            row(metric, ratio(one, their_one), "times", 1.2, detail=detail),
            bench.times(f"W4 {name}, {len(PERIODS)} periods at once: TA-Lib", many, their_many, 2,
                        f", into a kept table; a new one x{ratio(their_many, new_many):.2f}"),
            agreement.indicator(name, one, their_one),
            agreement.tables(name, many, their_many),
        ]  # fmt: skip
    return rows


def process(bench: Bench) -> list[dict]:
    """What a fresh process costs: memory of a large sweep, time to the first answer."""
    count = 1000 if bench.quick else 10_000
    bench.close()
    rows, times = [], []
    if Path("/proc/self/status").exists():
        megabytes = bench.ours.ask("memory", {"count": count})["found"]["megabytes"]
        rows.append(row(f"memory of a W2 sweep of {count:,} configs above the imports", megabytes, "MB", 200))
        bench.close()
    else:
        print("left out: memory, which is counted on Linux only")
    for _ in range(bench.rounds + 1):  # the first fills the cache of kernels
        began = time.perf_counter()
        bench.ours.ask("w1", {"series": "E5K", "reuse": False})
        times.append(time.perf_counter() - began)
        bench.close()
    detail = "kernels from the cache; start of the interpreter included"
    rows.append(
        row("import and first W1 run of a fresh process", statistics.median(times[1:]), "s", 2, detail=detail)
    )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer rounds, no long runs, nothing written")
    options.add_argument("--peers", default=str(PEERS), help="interpreter of the peers' environment")
    options.add_argument("--only", default="", help="parts to run, of w1 w2 w3 w4 process")
    clock_help = "processor time is for a look on a busy machine; nothing is written"
    options.add_argument("--clock", choices=("wall", "processor"), default="wall", help=clock_help)
    chosen = options.parse_args()
    began, load = time.perf_counter(), os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), chosen.peers, chosen.quick, chosen.clock)
        bench.events.ask("series", {})
        for series in ("S100K", "S1M"):
            workloads.save(bench.folder, series, workloads.synthetic(workloads.BARS[series]))
        golden: dict[str, Runner] = {}
        parts = {
            "w1": lambda: w1(bench, golden),
            "w2": lambda: w2(bench),
            "w3": lambda: w3(bench, golden),
            "w4": lambda: w4(bench),
            "process": lambda: process(bench),
        }
        rows = []
        for part, work in parts.items():
            if not chosen.only or part in chosen.only.split(","):
                rows += work()
                print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
        if golden.keys() == agreement.GOLDEN.keys():
            rows.append(agreement.golden(golden, golden["W3 GOOG, parity form"].found["first_fills"]))
        bench.close()
    worse: list[str] = []
    if chosen.quick or chosen.only or chosen.clock != "wall":
        recorded.show(rows)
    else:
        worse = recorded.write(rows, bench.gated, chosen.peers, load[0])
    loads = f"load {load[0]:.2f} at the start, {os.getloadavg()[0]:.2f} at the end"
    print(f"{time.perf_counter() - began:.0f} s in all; {loads}")
    if load[0] > 1:
        print("The machine was busy: a long call waits more than a short one, so ratios are too high.")
    if worse:
        raise SystemExit("slower than recorded: " + "; ".join(worse))


if __name__ == "__main__":
    main()
