"""`backtest_forecasts`: levels strategies over many walk-forward windows of stored forecasts.

Each simulation fits both strategies with every exit policy on its training part and trades the frozen
offsets on its test part. Forecasts are read from the lake, so overlapping windows make no model calls.
Every result is a sum of net moves of a fixed notional, not compounded, in basis points per bar.
Axes: S simulations, T bars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.bars.model import Bars, Floats
from engine.config import Instrument, Settings, plain
from engine.config_sections import Levels
from engine.forecasts.store import median_forecasts
from engine.lake.bars import base_bars_of, read_bars
from engine.lake.publish import Lake
from engine.search.levels.api import optimize_levels
from engine.search.levels.windows import PRESETS, Window, cut_windows, windows_that_fit
from engine.simulation.levels import bar_net, problem, value
from engine.simulation.levels_problem import LevelsProblem, one_of

if TYPE_CHECKING:
    import pandas as pd

STRATEGIES = ("entry_exit", "always_on")
CHOSEN = "chosen"  # policy of the summary whose simulations each use the policy chosen in training
_COLUMNS = {
    "row": "string", "strategy": "string", "policy": "string", "variant": "string", "sim": "Int64",
    "train_start": "datetime64[us]", "train_end": "datetime64[us]", "test_start": "datetime64[us]",
    "test_end": "datetime64[us]", "in_sample": "float64", "out_of_sample": "float64", "u": "float64",
    "v": "float64", "regret": "float64", "gain": "float64", "fills": "Int64", "evaluations": "Int64",
    "status": "string", "selected": "boolean", "optimistic": "boolean", "finer": "boolean",
    "simulations": "Int64", "solver": "string", "objective": "string",
}  # fmt: skip
_AVERAGED = ("in_sample", "out_of_sample", "u", "v", "regret", "gain")


def backtest_forecasts(
    lake: Lake, symbol: str, num_simulations: int | None = None, *, settings: Settings,
    preset: str = "long", solver: str | None = None, objective: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return both levels strategies of a symbol over walk-forward simulations; stores nothing.

    Parameters
    ----------
    lake : Lake
        Holds the symbol's bars and forecasts, and its finer bars where it is read in a finer frame.
    symbol : str
        A key of the settings.
    num_simulations : int or None
        How many, newest first; refused where they do not fit. None: ``levels.num_simulations``, or as
        many as fit.
    settings : Settings
        Its ``levels`` section, and the symbol's costs, sides and tick.
    preset : str
        `long`: train 500 bars, test 20, step 20; `seed70`: 6, 1, 1.
    solver, objective : str or None
        In place of those in the settings.

    Returns
    -------
    pandas.DataFrame
        See `simulate`.

    Raises
    ------
    LakeError
        The lake has no bars or forecasts of the symbol.
    LevelsInputError
        The simulations do not fit, or a training part lacks forecasts.
    ConfigError, MissingExtra
        A name is not known, or the solver's package is absent.

    NaN: a test bar without a forecast is not traded.
    """
    one_of("preset", preset, tuple(PRESETS))
    instrument, shape = settings.instrument(symbol), PRESETS[preset]
    bars = read_bars(lake, instrument)
    high, low, _ = median_forecasts(lake, bars, settings.levels.level)
    issued = np.flatnonzero(np.isfinite(high) & np.isfinite(low))
    first = int(issued[0]) + 1 if len(issued) else len(bars)
    sims = num_simulations
    if sims is None:
        fit = windows_that_fit(len(bars), shape.train, shape.test, shape.step, first=first)
        sims = max(1, min(settings.levels.num_simulations, fit))
    windows = cut_windows(len(bars), sims, shape.train, shape.test, shape.step, first=first)
    given = {name: it for name, it in (("solver", solver), ("objective", objective)) if it is not None}
    levels = Levels.model_validate({**dict(settings.levels), **given})
    return simulate(
        bars, high, low, windows, levels, instrument, seed=settings.seed,
        fill_on_zero_volume=settings.execution.fill_on_zero_volume,
        device=settings.devices.device, base=base_bars_of(lake, symbol, settings),
    )  # fmt: skip


def simulate(
    bars: Bars, high: Floats, low: Floats, windows: Sequence[Window], levels: Levels, instrument: Instrument,
    *, seed: int = 0, fill_on_zero_volume: bool = False, device: str = "cpu", base: Bars | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return what every simulation earns in and out of sample.

    Parameters
    ----------
    bars : Bars
        T bars.
    high, low : float64 array, shape (T,)
        Forecast log returns of the next bar, issued at each close.
    windows : sequence of S Window
        Of `cut_windows`.
    levels : Levels
        Settings of the fit.
    instrument : Instrument
        Sides, tick and costs.
    seed : int
        Of the searching solvers.
    fill_on_zero_volume : bool
        Whether orders fill in a bar without volume.
    device : str
        Of the solvers that compute on torch.
    base : Bars or None
        The symbol in a finer frame, on the same price basis, which exit `path` reads.

    Returns
    -------
    pandas.DataFrame
        ``row`` is `simulation`, `mean` or `standard_error` (over the simulations; sd / sqrt(S)).
        Per simulation: each strategy, policy and variant `tuned` and `untuned` (zero offsets), then
        `no_trade` and `buy_and_hold` (price moves of the same notional, no costs). ``in_sample`` and
        ``out_of_sample`` in bps per bar: in_sample is earned on the bars that the offsets were fitted to.
        ``u`` and ``v`` in return units, ``regret`` in bps per bar, in-sample. ``fills`` out of sample.
        ``selected``: the policy that earned most on the training part; its summary is policy `chosen`.
        ``optimistic``: target exits, credited without knowing which level traded first. ``finer``: exit
        `path` had finer bars to read; without any it is `close`.
    """

    def rows(strategy: str, start: int, stop: int, dropped: float) -> LevelsProblem:
        return problem(
            bars, high, low, start, stop, objective=strategy, side=levels.side, sides=instrument.sides,
            fee_bps=instrument.cost.fee_bps, slippage_bps=instrument.cost.slippage_bps,
            fee_mode=levels.fee_mode, fill=levels.fill, tick=instrument.tick,
            fill_on_zero_volume=fill_on_zero_volume, max_dropped_share=dropped, finer=base,
        )  # fmt: skip

    jobs = [(s, w, p) for s in STRATEGIES for w in windows for p in levels.policies]
    trained = {(s, w.sim): rows(s, w.train_start, w.train_end, 0.2) for s in STRATEGIES for w in windows}
    tested = {(s, w.sim): rows(s, w.test_start, w.test_end, 1.0) for s in STRATEGIES for w in windows}
    found = optimize_levels(
        [trained[s, w.sim] for s, w, _ in jobs], exit=[p for _, _, p in jobs], solver=levels.solver,
        objective=levels.objective, smoothing=plain(levels)["smoothing"], shrink=levels.shrink,
        bounds=(levels.bounds.high, levels.bounds.low), budget=levels.budget, abstain=levels.abstain,
        seed=seed, device=device,
    )  # fmt: skip
    made: list[dict[str, Any]] = []
    for i, (strategy, window, policy) in enumerate(jobs):
        train, test = (1e4 / (b - a) for a, b in _spans(window))
        (u, v), outcome = found.offsets[i].tolist(), tested[strategy, window.sim]
        trades = found.status[i] == "ok"
        common = {
            **_stamps(bars, window), "row": "simulation", "strategy": strategy, "policy": policy,
            "optimistic": policy == "target",
            "finer": policy == "path" and trained[strategy, window.sim].finer is not None,
        }  # fmt: skip
        made.append(
            {
                **common, "variant": "tuned", "u": u, "v": v, "status": found.status[i],
                "in_sample": float(found.profit[i]) * train if trades else 0.0,
                "out_of_sample": value(outcome, u, v, policy) * test if trades else 0.0,
                "fills": _fills(outcome, u, v, policy) if trades else 0,
                "regret": float(found.regret[i]) * train, "gain": float(found.gain[i]),
                "evaluations": int(found.evaluations[i]), "selected": False,
                "solver": found.backend, "objective": found.objective,
            }
        )  # fmt: skip
        made.append(
            {
                **common, "variant": "untuned", "u": 0.0, "v": 0.0, "status": "ok",
                "in_sample": float(found.profit_zero[i]) * train,
                "out_of_sample": value(outcome, 0.0, 0.0, policy) * test,
                "fills": _fills(outcome, 0.0, 0.0, policy),
            }
        )  # fmt: skip
    _mark_chosen(made)
    for window in windows:
        common = {**_stamps(bars, window), "row": "simulation", "strategy": "", "policy": "", "status": "ok"}
        held = [_held(bars, a, b) for a, b in _spans(window)]
        made.append({**common, "variant": "no_trade", "in_sample": 0.0, "out_of_sample": 0.0})
        made.append({**common, "variant": "buy_and_hold", "in_sample": held[0], "out_of_sample": held[1]})
    return _frame(made)


def _fills(rows: LevelsProblem, u: float, v: float, exit: str) -> int:
    """Return how many legs fill."""
    scored = bar_net(rows, u, v, exit)
    return int(scored.long.sum() + scored.short.sum())


def _spans(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.train_start, window.train_end), (window.test_start, window.test_end)


def _held(bars: Bars, start: int, stop: int) -> float:
    """Return the mean move of the bars [start, stop) against the close before each, bps."""
    return 1e4 * float((bars.close[start:stop] / bars.close[start - 1 : stop - 1] - 1.0).mean())


def _stamps(bars: Bars, window: Window) -> dict[str, Any]:
    """Return the window's first and last bars, named as columns; microseconds UTC, the ends included."""
    (a, b), (c, d) = _spans(window)
    ts = bars.ts
    return {
        "sim": window.sim, "train_start": int(ts[a]), "train_end": int(ts[b - 1]),
        "test_start": int(ts[c]), "test_end": int(ts[d - 1]),
    }  # fmt: skip


def _mark_chosen(made: list[dict[str, Any]]) -> None:
    """Mark, per strategy and simulation, the policy that earned most in training; ties: the first named."""
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in made:
        if row["variant"] == "tuned":
            held = best.setdefault((row["strategy"], row["sim"]), row)
            if row["in_sample"] > held["in_sample"]:
                best[row["strategy"], row["sim"]] = row
    for row in best.values():
        row["selected"] = True


def _frame(made: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the simulations, then their means and standard errors, every column of its declared type."""
    import pandas as pd

    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in made:
        groups.setdefault((row["strategy"], row["policy"], row["variant"]), []).append(row)
        if row.get("selected"):
            groups.setdefault((row["strategy"], CHOSEN, "tuned"), []).append(row)
    order = {name: rank for rank, name in enumerate((*STRATEGIES, ""))}
    last = {key: (order[key[0]], key[2] != "tuned", key[1] == CHOSEN) for key in groups}
    groups = {key: groups[key] for key in sorted(groups, key=last.__getitem__)}
    summaries = []
    for kind in ("mean", "standard_error"):
        for (strategy, policy, variant), rows in groups.items():
            shared = {"strategy": strategy, "policy": policy, "variant": variant, "simulations": len(rows)}
            same = {name: rows[0].get(name) for name in ("solver", "objective")}
            shared |= {name: any(row.get(name, False) for row in rows) for name in ("optimistic", "finer")}
            numbers = {name: _summary([row.get(name, math.nan) for row in rows], kind) for name in _AVERAGED}
            summaries.append({"row": kind, **shared, **same, **numbers})
    frame = pd.DataFrame([*made, *summaries], columns=list(_COLUMNS))
    for name, dtype in _COLUMNS.items():
        column = frame[name].astype("Int64") if dtype.startswith("datetime") else frame[name]
        frame[name] = (
            pd.to_datetime(column, unit="us").astype(dtype)
            if dtype.startswith("datetime")
            else (column.astype(dtype))
        )
    return frame


def _summary(values: list[float], kind: str) -> float:
    """Return the mean of the finite values, or its standard error; NaN where there are too few."""
    finite = np.array([x for x in values if math.isfinite(x)])
    if len(finite) < (1 if kind == "mean" else 2):
        return math.nan
    return float(finite.mean() if kind == "mean" else finite.std(ddof=1) / math.sqrt(len(finite)))
