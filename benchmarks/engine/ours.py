"""nightfold's arms: the same workloads through its public interface, in nightfold's environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from workloads import FAST, SLOW, TICK, UNITS, load, pairs, stop_configs

from engine import kernel_cache

kernel_cache.use(Path(__file__).parents[2] / "data", os.environ)

from engine.bars.model import Bars  # noqa: E402
from engine.features import registry  # noqa: E402
from engine.features.table import FeatureSet  # noqa: E402
from engine.simulation import Execution, run, sweep  # noqa: E402
from engine.simulation.backtest import workspace_of  # noqa: E402
from engine.strategies import rules as rule  # noqa: E402
from engine.strategies.params import Float, Int, Params  # noqa: E402
from engine.strategies.registry import Strategy, strategy  # noqa: E402

W1 = Execution(fee_bps=10.0, slippage_bps=0.0, close_at_end=False, sides="long")


@strategy("benchmark_cross")
class Cross(Strategy):
    """W1 and W2: long while the fast average is above the slow one, a fixed number of units."""

    parameters = {
        "fast": Int(1, 400, default=FAST),
        "slow": Int(2, 400, default=SLOW),
        "units": Float(0.0, 1e6, default=10_000.0),
    }
    relations = (("fast", "<", "slow"),)

    @staticmethod
    def rules(p: Params) -> rule.Rules:
        fast, slow = rule.sma("close", p.fast), rule.sma("close", p.slow)
        return rule.Rules(
            enter_long=rule.cross_above(fast, slow),
            exit_long=rule.cross_below(fast, slow),
            size=rule.Units(p.units),
        )


@strategy("benchmark_stops")
class Stops(Strategy):
    """W3: the same crosses in a trend, with stop, target, trailing stop and a size by risk."""

    parameters = {
        "fast": Int(2, 400, default=FAST),
        "slow": Int(3, 400, default=SLOW),
        "n_adx": Int(2, 100, default=14),
        "n_atr": Int(2, 100, default=14),
        "adx_min": Float(0.0, 100.0, default=20.0),
        "stop": Float(0.1, 10.0, default=2.0),
        "target": Float(0.1, 10.0, default=3.0),
        "trail": Float(0.1, 10.0, default=2.5),
    }
    relations = (("fast", "<", "slow"),)

    @staticmethod
    def rules(p: Params) -> rule.Rules:
        fast, slow, distance = rule.sma("close", p.fast), rule.sma("close", p.slow), rule.atr(p.n_atr)
        return rule.Rules(
            enter_long=rule.cross_above(fast, slow) & (rule.adx(p.n_adx) >= p.adx_min) & (distance > 0),
            exit_long=rule.cross_below(fast, slow),
            stop=distance * p.stop,
            targets=((distance * p.target, 1.0),),
            trail=distance * p.trail,
            size=rule.Risk(0.01),
        )


def _bars(folder: Path, name: str) -> Bars:
    found = load(folder, name)
    frame, calendar = {"E5K": ("1h", "24/7"), "GOOG": ("1d", "observed")}.get(name, ("1m", "24/7"))
    ones, zeros = np.ones(len(found["ts"])), np.zeros(len(found["ts"]))
    return Bars(name, frame, calendar, **found, adj=ones, dividend=zeros)


def _single(result: Any) -> dict[str, Any]:
    closed = result.trades["reason"] != result.reasons.index("open")
    return {
        "final": float(result.metrics["final_equity"]),
        "trades": int(closed.sum()),
        "drawdown": float(result.metrics["max_drawdown"]),
        "fees": float(result.metrics["fees"]),
        "equity": result.equity,
    }


def _run(bars: Bars, tick: float, rules: Any, params: Any, execution: Execution, reuse: bool) -> Any:
    """Return a call from bars to trades: columns, run, equity, fills and metrics each time.

    ``reuse`` keeps the checked bars and the buffers from call to call, as a search does.
    """
    kept = workspace_of(FeatureSet(bars, tick), execution, 0, len(bars)) if reuse else None

    def call() -> Any:
        features = FeatureSet(bars, tick)
        return run(features, rules, params, execution, start=0, stop=len(bars), workspace=kept)

    return call


def w1(folder: Path, series: str, reuse: bool) -> Any:
    """W1, one run."""
    return _run(_bars(folder, series), TICK[series], Cross, {"units": UNITS[series]}, W1, reuse), _single


def w3(folder: Path, form: str, reuse: bool) -> Any:
    """W3 on GOOG, one run; form parity or default."""
    bars = _bars(folder, "GOOG")
    execution = Execution(tick=TICK["GOOG"], sides="long")
    if form == "parity":
        execution = Execution(
            lot=1.0, level_base="signal_close", target_in_entry_bar="after_open_entry", limit_fill="touch",
            leverage=0.95, slippage_bps=0.0, close_at_end=False, sides="long",
        )  # fmt: skip

    def answer(result: Any) -> dict[str, Any]:
        trades, fills = result.trades, result.fills
        entry, exit = (np.searchsorted(bars.ts, trades[name]) for name in ("entry_ts", "exit_ts"))
        size = trades["side"] * trades["quantity"]
        rows = np.column_stack((entry, exit, size, trades["entry_price"], trades["exit_price"]))
        first = [
            [int(np.searchsorted(bars.ts, fills["ts"][k])), result.reasons[int(fills["reason"][k])],
             float(fills["quantity"][k]), float(fills["price"][k])]
            for k in range(2)
        ]  # fmt: skip
        return {**_single(result), "rows": rows, "first_fills": first}

    return _run(bars, TICK["GOOG"], Stops, {}, execution, reuse), answer


def w2(folder: Path, count: int) -> Any:
    """W2: many pairs of windows on E5K, the table of averages made in every call."""
    bars, (fast, slow) = _bars(folder, "E5K"), pairs(count)
    configs = {"fast": fast, "slow": slow}

    def call() -> Any:
        features = FeatureSet(bars, TICK["E5K"])
        return sweep(features, Cross, configs, W1, start=0, stop=len(bars), metrics="core")

    return call, lambda found: {"final": found.final_equity, "drawdown": found.max_drawdown}


def w3_sweep(folder: Path, count: int, chunk: int = 0) -> Any:
    """W3's sweep form on E5K, columns ready; with a chunk also W5: a callback that stops nothing."""
    bars, configs = _bars(folder, "E5K"), stop_configs(count)
    features = FeatureSet(bars, TICK["E5K"])
    execution = Execution(tick=TICK["E5K"], leverage=0.95, close_at_end=False, sides="long")
    nothing = np.zeros(count, dtype=np.bool_)
    chunks = {"chunk": chunk, "on_chunk": lambda step, value, alive: nothing} if chunk else {}

    def call() -> Any:
        return sweep(features, Stops, configs, execution, start=0, stop=len(bars), metrics="core", **chunks)

    return call, lambda found: {
        "final": found.final_equity, "drawdown": found.max_drawdown, "trades": found.trades,
    }  # fmt: skip


COLUMNS = {
    "atr": ["atr.n={n}"],
    "rsi": ["rsi.n={n}"],
    "adx": ["adx.n={n}"],
    "ema": ["ema.close.n={n}"],
    "sma": ["sma.close.n={n}"],
    "bollinger": [f"bollinger.close.n={{n}}.k=2:{output}" for output in ("upper", "mid", "lower")],
}


def w4(folder: Path, indicator: str, n: int, reuse: bool) -> Any:
    """W4 on S1M, one indicator: arrays in, a new array out, or one that is kept from call to call."""
    bars, feature = _bars(folder, "S1M"), registry.get(indicator)
    inputs = [getattr(bars, name if name != registry.COLUMN else "close") for name in feature.inputs]
    more: dict[str, Any] = {"n": n} | ({"k": 2.0} if indicator == "bollinger" else {})
    if feature.uses_tick:
        more["tick"] = TICK["S1M"]
    if reuse:
        more["out"] = np.empty((*((len(feature.outputs),) if feature.outputs else ()), len(bars)))

    def answer(found: Any) -> dict[str, Any]:
        if feature.outputs:  # in TA-Lib's order, and without the one it does not have
            found = np.array([found[feature.outputs.index(name)] for name in ("upper", "mid", "lower")])
        return {"values": found}

    return lambda: feature.compute(*inputs, **more), answer


def w4_table(folder: Path, indicator: str, periods: list[int], reuse: bool) -> Any:
    """W4 on S1M, one indicator for many periods: a table of columns, new or kept from call to call."""
    bars = _bars(folder, "S1M")
    names = [name.format(n=n) for n in periods for name in COLUMNS[indicator]]
    kept = np.empty((len(names), len(bars))) if reuse else None

    def call() -> Any:
        return FeatureSet(bars, TICK["S1M"]).table_rows(names, kept)

    return call, lambda found: {"sums": [float(np.nansum(found[0][found[1][name]])) for name in names]}


def _megabytes(field: str) -> float:
    """Return what this process holds: VmRSS now, VmHWM at its peak. Linux's own count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def memory(folder: Path, count: int) -> Any:
    """Megabytes that a W2 sweep takes at its peak above what the imports take; in a fresh process."""
    call, _ = w2(folder, count)
    before = _megabytes("VmRSS")
    return call, lambda _: {"megabytes": _megabytes("VmHWM") - before}


if __name__ == "__main__":
    from worker import serve

    serve(
        {"w1": w1, "w2": w2, "w3": w3, "w3_sweep": w3_sweep, "w4": w4, "w4_table": w4_table, "memory": memory}
    )
