"""Does the champion rule tell luck from an edge? Markets whose truth is known, through the whole search.

Run by ``make bench-truth``; ``python benchmarks/truth.py 20 10`` takes fewer symbols. Each symbol gets
the default settings: forecasts of the local model, a solve or an Optuna study of every outer fold, the
frozen parameters on its test bars, and the champion rule at every look of the last 250 nights. What is
left out is the lake: folds are fitted once and the nights replayed on them, which is what the nightly
chain does (a closed fold never changes). Tonight's fits are left out, since they decide nothing. Trials
are drawn at random instead of by TPE, which would take three quarters of the time.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np  # noqa: E402
import truth_markets as markets  # noqa: E402
from record import row, write  # noqa: E402

NIGHTS, NULLS, PLANTED, PANELS = 250, 200, 50, 300
NULL_BARS, PLANTED_BARS = 2520, 5040
SHARPE = (1.0, 1.5)  # of the best of 100 parameter sets over the matched hold, after costs, on all bars
ZERO = {"fee_bps": 0.0, "slippage_bps": 0.0, "borrow_bps_year": 0.0, "financing_bps_year": 0.0}
ALONE = "three columns, p alone"
CURVE = (0.90, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99)


def settings_of(symbol: str, costs: dict | None = None):
    """Return the default settings with one symbol, its costs changed, trials drawn at random."""
    from engine.config import Settings

    raw = {"symbols": {symbol: dict(costs or {})}, "search": {"sampler": "random"}}
    return Settings.model_validate(raw)


def median_forecasts(bars):
    """Return the local model's median of the next bar's high and low, NaN before the first, (T,) each."""
    from engine.forecasts.interface import FIELDS
    from engine.forecasts.local import LocalForecaster, local_spec
    from engine.forecasts.quality import run_over

    forecaster = LocalForecaster(local_spec(bars.frame, bars.calendar, 1, (0.1, 0.5, 0.9)))
    as_of = np.arange(249, len(bars), dtype=np.int64)
    found = run_over(bars, forecaster, as_of)[:, 0, :, 1]  # (n, V)
    out = {name: np.full(len(bars), np.nan) for name in ("high", "low")}
    for name, values in out.items():
        values[as_of] = found[:, FIELDS.index(name)]
    return out["high"], out["low"], forecaster.model_key


@dataclass
class Record:
    """All closed folds of one procedure: bars [start, stop) of the series, in time order."""

    entry: object
    start: int
    closes: list[int]  # end of each fold's test bars
    equity: np.ndarray
    position: np.ndarray
    net: np.ndarray
    entries: np.ndarray  # bar of entry of each trade


def records(bars, settings, forecasts) -> list[Record]:
    """Fit every outer fold of every strategy and run its frozen parameters on its test bars."""
    from engine.features.table import FeatureSet
    from engine.search.folds import walk_forward
    from engine.search.levels_fit import LevelsFitter
    from engine.search.rules_fit import RulesFitter
    from engine.simulation import adjusted_tick
    from engine.stages.common import execution_of, purge_of
    from engine.strategies import registry
    from engine.validation import out_of_sample as oos

    instrument = settings.instrument(bars.symbol)
    features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
    found = []
    for entry in settings.entries(bars.symbol):
        strategy, cash = registry.get(entry.strategy), entry.execution.initial_cash
        execution = execution_of(instrument, entry)
        rules = strategy.kind == "rules"
        if rules:
            fitter = RulesFitter(features, strategy, entry, execution, settings.seed)
        else:
            fitter = LevelsFitter(bars, *forecasts, strategy, entry, instrument, settings.seed)
        pieces = []
        for fold in walk_forward(len(bars), entry.folds, purge_of(entry)):
            if fold.open:
                continue
            fit = next(f for f in fitter.fit(fold.train_from, fold.train_to, lambda text: None) if f.selected)
            span = (fold.number, fold.test_from, fold.test_to, cash)
            if fit.status != "ok":
                pieces.append(oos.flat_piece(*span, status=fit.status, compounded=rules))
            elif rules:
                pieces.append(
                    oos.rules_piece(features, strategy, fit.params, execution, *span, open_fold=False)
                )
            else:
                problem = fitter.problem(fold.test_from, fold.test_to, max_dropped_share=1.0)
                exit = "target" if fit.policy == "target" else "close"
                pieces.append(
                    oos.levels_piece(
                        bars,
                        problem,
                        fit.params["u"],
                        fit.params["v"],
                        exit,
                        instrument.cost.slippage_bps,
                        *span,
                        entry.execution.initial_cash,
                    )  # fmt: skip
                )
            cash = float(pieces[-1].equity[-1])
        whole = oos.stitch(pieces)
        entered = np.searchsorted(bars.ts, whole.trades["entry_ts"])
        net = whole.returns(entry.execution.initial_cash)
        closes = [piece.stop for piece in pieces]
        found.append(Record(entry, whole.start, closes, whole.equity, whole.position, net, entered))
    return found


def looks(bars, found: list[Record], nights: int = NIGHTS) -> list[float]:
    """Return, at each look of the last nights, the smallest p of what meets every other condition.

    1.0 where nothing does. A look: the first of those nights, and every night a fold closes.
    """
    from engine.validation import champion
    from engine.validation import out_of_sample as oos

    last = len(bars)
    days = {last - nights, *(day for one in found for day in one.closes if last - nights < day <= last)}
    total = oos.total_returns(bars, 1, last)
    smallest = []
    for day in sorted(days):
        series, trades = [], {}
        for one in found:
            stop = max([stop for stop in one.closes if stop <= day], default=one.start)
            n, name = stop - one.start, one.entry.label
            path, position = one.equity[:n], one.position[:n]
            hold = oos.matched_returns(path, position, bars.close[one.start : stop],
                                       total[one.start - 1 : stop - 1])  # fmt: skip
            excess = one.net[:n] - hold
            series.append(champion.Series(name, name, bars.ts[one.start : stop], one.net[:n], excess))
            trades[name] = int((one.entries < stop).sum())
        evidence = champion.measure(series, trades, seed=champion.draw_seed(bars.symbol, 0, series))
        met = []
        for item, one in zip(evidence, found, strict=True):
            free = one.entry.promotion.model_copy(update={"confidence": 0.0})  # every p passes
            if champion.judge(item, free).qualified:
                met.append(item.p)
        smallest.append(min(met, default=1.0))
    return smallest


def best_sharpe(bars) -> float:
    """Return the best annual Sharpe ratio over the matched hold, after default costs, of 100 sets."""
    from engine.features.table import FeatureSet
    from engine.simulation import run
    from engine.stages.common import execution_of
    from engine.strategies import registry
    from engine.validation import out_of_sample as oos

    settings = settings_of(bars.symbol)
    instrument = settings.instrument(bars.symbol)
    entry = next(e for e in settings.entries(bars.symbol) if e.strategy == "trend")
    execution = execution_of(instrument, entry)
    rng = np.random.default_rng(0)
    features, total = FeatureSet(bars, 0.01), oos.total_returns(bars, 250, len(bars))
    best = -np.inf
    for _ in range(100):
        params = {
            "fast": int(rng.integers(5, 61)), "slow": int(rng.integers(13, 41)) * 5,
            "adx_min": float(rng.integers(10, 31)), "stop_atr": float(rng.integers(4, 17)) / 4,
            "target_atr": float(rng.integers(4, 17)) / 2,
        }  # fmt: skip
        if params["fast"] >= params["slow"]:
            continue
        done = run(features, registry.get("trend"), params, execution, start=250, stop=len(bars))
        net = np.diff(done.equity, prepend=1e5) / np.concatenate([[1e5], done.equity[:-1]])
        x = net - oos.matched_returns(done.equity, done.position, bars.close[250:], total)
        best = max(best, float(x.mean() / x.std(ddof=1) * np.sqrt(markets.DAYS_A_YEAR)))
    return best


def planted(seed: int, n: int = PLANTED_BARS):
    """Return a trending market whose best parameters earn a Sharpe ratio inside `SHARPE`, and that ratio.

    The goal is drawn evenly inside; the strength of the trends is found by halving the interval.
    """
    goal = np.random.default_rng([seed, 3]).uniform(*SHARPE)
    low, high = 0.0, 0.5
    for _ in range(9):
        middle = (low + high) / 2
        bars = markets.trending(seed, n, middle)
        sharpe = best_sharpe(bars)
        if abs(sharpe - goal) < 0.05:
            break
        low, high = (middle, high) if sharpe < goal else (low, middle)
    return bars, sharpe


def one_null(seed: int) -> dict[str, list[float]]:
    """Return the smallest p of each look of a random walk, with default costs and with none."""
    bars = markets.null(seed, NULL_BARS)
    forecasts = median_forecasts(bars)
    return {
        name: looks(bars, records(bars, settings_of(bars.symbol, costs), forecasts))
        for name, costs in (("default costs", {}), ("no costs", ZERO))
    }


def one_planted(seed: int) -> tuple[float, list[float]]:
    """Return the planted Sharpe ratio and the smallest p of each look."""
    bars, sharpe = planted(seed)
    return sharpe, looks(bars, records(bars, settings_of(bars.symbol), median_forecasts(bars)))


def one_panel(seed: int) -> list[float]:
    """Return the smallest p of each look at three unrelated columns without an edge: p alone decides.

    A look every 20 bars while the columns grow from 1,270 to 1,520 bars; t-distributed returns.
    """
    from engine.validation.max_t import max_t

    x = np.random.default_rng([seed, 9]).standard_t(markets.FAT_TAILS, (1520, 3))
    return [float(np.nanmin(max_t(x[:n], seed=seed * 1000 + n)[1])) for n in range(1270, 1521, 20)]


def ever(found: list[list[float]], confidence: float) -> float:
    """Return the per cent of symbols that ever have a champion at a confidence of one look."""
    return 100.0 * float(np.mean([min(ps) <= round(1 - confidence, 12) for ps in found]))


def compute(nulls: int, plants: int, workers: int) -> tuple[dict[str, list[list[float]]], list[float]]:
    """Return the smallest p of each look, by market and symbol, and the planted Sharpe ratios."""
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache

    kernel_cache.warm()
    with ProcessPoolExecutor(workers) as pool:
        planted_found = list(pool.map(one_planted, range(plants)))
        null_found = list(pool.map(one_null, range(nulls)))
        panels = list(pool.map(one_panel, range(PANELS * nulls // NULLS)))
    found = {name: [one[name] for one in null_found] for name in ("default costs", "no costs")}
    found[ALONE], found["planted"] = panels, [ps for _, ps in planted_found]
    return found, [sharpe for sharpe, _ in planted_found]


def report(found: dict[str, list[list[float]]], sharpes: list[float], minutes: float) -> list[dict]:
    """Return the rows: the goals at the default confidence, and the curve over others."""
    from engine.config_sections import Promotion

    default = Promotion().confidence
    rows = []
    for name in ("default costs", "no costs"):
        count = np.mean([len(ps) for ps in found[name]])
        many = f"{len(found[name])} random walks, {NULL_BARS} bars, {count:.1f} looks"
        metric = f"random walks that ever have a champion in {NIGHTS} nights, {name}"
        rows.append(row(metric, ever(found[name], default), "%", 5, detail=f"confidence {default}; {many}"))
    many = f"{len(found[ALONE])} panels, 13 looks; the harder case: nothing but p decides"
    metric = f"unrelated columns that ever qualify in {NIGHTS} nights, p alone"
    rows.append(row(metric, ever(found[ALONE], default), "%", 5, detail=many))
    metric = f"planted edges that have a champion in {NIGHTS} nights"
    many = (
        f"{len(sharpes)} symbols, {PLANTED_BARS} bars, best parameters' Sharpe {min(sharpes):.2f} to "
        f"{max(sharpes):.2f}; {minutes:.1f} min in all"
    )
    rows.append(row(metric, ever(found["planted"], default), "%", 80, "higher", detail=many))
    for confidence in CURVE:
        for name, values in found.items():
            goal = (80, "higher") if name == "planted" else (5, "lower")
            metric = f"curve: confidence {confidence}, {name}"
            rows.append(row(metric, ever(values, confidence), "%", *goal))
    return rows


def main(nulls: int = NULLS, plants: int = PLANTED, workers: int = 2) -> None:
    """Run both truths, print and write them."""
    began = time.perf_counter()
    found, sharpes = compute(nulls, plants, workers)
    write("truth", report(found, sharpes, (time.perf_counter() - began) / 60))


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
