"""Does the champion rule tell luck from an edge? Markets whose truth is known, through the whole chain.

Run by ``make bench-truth``; about 15 processor seconds a random walk, 40 a planted edge. Each finished symbol
is a small file in ``--cache``, so a run that was stopped goes on where it was, several may share the work,
and ``--report`` prints what is there. ``--walks 20 --planted 10`` takes fewer symbols.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import truth_markets as markets  # noqa: E402
from record import not_measured, row, write  # noqa: E402

NIGHTS, WALKS, PLANTED, PANELS = 250, 200, 50, 300
WALK_BARS = 2520  # 10 years
CACHE = Path(__file__).parent / ".cache" / "truth"
DEFAULT, ZERO, EDGE, ALONE = "default costs", "no costs", "planted", "three columns, p alone"
CURVE = (0.90, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99)


class Job(NamedTuple):
    """One symbol: its market (`DEFAULT` and `ZERO` are random walks at these costs), and its seed."""

    market: str
    seed: int

    @property
    def file(self) -> str:
        return f"{self.market.replace(' ', '-').replace(',', '')}-{self.seed:03d}.json"


def jobs(walks: int, planted: int, panels: int) -> list[Job]:
    """Return all symbols in an order whose every beginning is balanced, so that a part tells something."""
    order = [(2 * n, Job(ALONE, n)) for n in range(panels)]
    order += [(2 * n, Job(market, n)) for n in range(walks) for market in (DEFAULT, ZERO)]
    order += [(5 * n, Job(EDGE, n)) for n in range(planted)]
    return [job for _, job in sorted(order, key=lambda pair: pair[0])]


def one_symbol(job: Job) -> dict:
    """Return ``looks`` of one symbol, as `truth_chain.through_the_chain` does, and what it took."""
    import truth_chain
    import truth_planted

    if job.market == ALONE:
        return {"looks": one_panel(job.seed)}
    if job.market == EDGE:
        bars, sharpe = truth_planted.planted(job.seed)
        return {**truth_chain.run_symbol(bars, DEFAULT, NIGHTS), "sharpe": round(sharpe, 4)}
    return truth_chain.run_symbol(markets.null(job.seed, WALK_BARS), job.market, NIGHTS)


def one_panel(seed: int) -> list[dict]:
    """Return the looks at three unrelated columns without an edge: nothing but p decides.

    A look every 20 bars while the columns grow from 1,270 to 1,520 bars; t-distributed returns.
    """
    from engine.validation.max_t import max_t

    x = np.random.default_rng([seed, 9]).standard_t(markets.FAT_TAILS, (1520, 3))
    looks = range(1270, 1521, 20)
    return [{"bars": n, "p": float(np.nanmin(max_t(x[:n], seed=seed * 1000 + n)[1]))} for n in looks]


def finish(job: Job, cache: Path) -> None:
    """Run one symbol and leave its file; one that another run has finished meanwhile is left alone."""
    from engine.lake.files import write_text
    from engine.lake.records import code_id

    path = cache / job.file
    if not path.exists():
        done = {**job._asdict(), **one_symbol(job), "code": code_id("engine.stages.chain")[0]}
        write_text(path, json.dumps(done) + "\n")


def compute(wanted: list[Job], cache: Path, workers: int) -> None:
    """Run the symbols that ``cache`` lacks."""
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache

    left = [job for job in wanted if not (cache / job.file).exists()]
    if not left:
        return
    cache.mkdir(parents=True, exist_ok=True)
    kernel_cache.warm()
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(finish, job, cache): job for job in left}
        for number, done in enumerate(as_completed(running), start=1):
            if done.exception():
                pool.shutdown(wait=False, cancel_futures=True)
            done.result()
            print(f"{number} of {len(left)}: {running[done].file}", flush=True)


def read(wanted: list[Job], cache: Path) -> dict[str, list[dict]]:
    """Return the finished symbols of each market, by seed."""
    found: dict[str, list[dict]] = {market: [] for market in (DEFAULT, ZERO, ALONE, EDGE)}
    for job in sorted(wanted):
        if (cache / job.file).exists():
            found[job.market].append(json.loads((cache / job.file).read_text()))
    return found


def interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % Clopper-Pearson interval of a share, in per cent."""
    from scipy.stats import binomtest

    exact = binomtest(hits, n).proportion_ci(0.95, "exact")
    return 100 * float(exact.low), 100 * float(exact.high)


def ever(symbols: list[dict], confidence: float) -> int:
    """Return how many symbols ever have a champion at a ``confidence`` of one look."""
    level = round(1 - confidence, 12)
    return sum(min(look["p"] for look in symbol["looks"]) <= level for symbol in symbols)


def crowned(symbols: list[dict]) -> int:
    """Return how many symbols ever had a champion in table ``champions``, with the default settings."""
    return sum(any(look["champion"] for look in symbol["looks"]) for symbol in symbols)


def report(found: dict[str, list[dict]], asked: dict[str, int]) -> list[dict]:
    """Return the rows: the goals at the default confidence, then the curve over others."""
    from engine.config_sections import Promotion

    default = Promotion().confidence
    about = {
        DEFAULT: (f"random walks that ever have a champion in {NIGHTS} nights, {DEFAULT}", 5, "lower"),
        ZERO: (f"random walks that ever have a champion in {NIGHTS} nights, {ZERO}", 5, "lower"),
        ALONE: (f"unrelated columns that ever qualify in {NIGHTS} nights, p alone", 5, "lower"),
        EDGE: (f"planted edges that have a champion in {NIGHTS} nights", 80, "higher"),
    }
    rows, curve = [], []
    for market, (metric, goal, better) in about.items():
        symbols = found[market]
        if not symbols:
            rows.append(not_measured(metric, "%", goal, better, "no symbol is finished"))
            continue
        n = len(symbols)
        hits = ever(symbols, default) if market == ALONE else crowned(symbols)
        low, high = interval(hits, n)
        fewer = "" if n == asked[market] else f" (asked for {asked[market]}: the rest has not run)"
        said = [f"{hits} of {n} symbols{fewer}", f"95 % interval {low:.1f} to {high:.1f} %"]
        said.append(f"confidence {default}, {np.mean([len(s['looks']) for s in symbols]):.1f} looks")
        versions = {symbol["code"] for symbol in symbols}
        if len(versions) > 1:
            said.append(f"by {len(versions)} versions of the code")
        if market != ALONE:
            said.append(f"{np.mean([s['processor_s'] for s in symbols]):.1f} processor s each")
        if market == EDGE:
            sharpes = [s["sharpe"] for s in symbols]
            said.append(f"best parameters' Sharpe ratio {min(sharpes):.2f} to {max(sharpes):.2f}")
        found_row = row(metric, 100 * hits / n, "%", goal, better, detail="; ".join(said))
        if fewer and low <= goal <= high:
            found_row["holds"] = None  # too few symbols to say
        rows.append(found_row)
        curve += [
            (c, row(f"curve: confidence {c}, {market}", 100 * ever(symbols, c) / n, "%", None, better))
            for c in CURVE
        ]
    return [*rows, *(line for _, line in sorted(curve, key=lambda pair: pair[0]))]


def main() -> None:
    """Run what is left, print the rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=WALKS, help="random walks, each at both costs")
    parser.add_argument("--planted", type=int, default=PLANTED, help="symbols with an edge")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the finished symbols")
    parser.add_argument("--report", action="store_true", help="run nothing, report what is finished")
    given = parser.parse_args()
    panels = PANELS * given.walks // WALKS
    wanted = jobs(given.walks, given.planted, panels)
    if not given.report:
        compute(wanted, given.cache, given.workers)
    asked = {DEFAULT: given.walks, ZERO: given.walks, ALONE: panels, EDGE: given.planted}
    write("truth", report(read(wanted, given.cache), asked))


if __name__ == "__main__":
    main()
