"""One simulation with parameters that a person states; it is shown and never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from engine.bars.model import Bars, iso
from engine.config import Instrument, Settings, Strategy
from engine.errors import ConfigError, LevelsInputError, closest
from engine.lake.publish import Lake
from engine.search.levels_fit import LevelsFitter
from engine.search.space import make_space
from engine.search.trial import GATES
from engine.simulation import BacktestResult, run
from engine.simulation.levels import EXITS
from engine.stages.common import (
    CLEAN,
    base_bars_of,
    execution_of,
    feature_set,
    forecast_label,
    median_forecasts,
    read_bars,
    refuse_stale,
)
from engine.strategies import registry, user
from engine.strategies.params import Choice, Declaration, Float, Int
from engine.validation import out_of_sample as oos

IN_SAMPLE = (
    "Parameters chosen while looking at these bars are in-sample: this is no evidence. What counts is earned "
    "out of sample: nightfold champions"
)


@dataclass(frozen=True)
class SingleRun:
    """What one simulation did.

    Parameters
    ----------
    symbol, strategy : str
        Key, and label of the entry.
    first, last : int
        Open of the first and the last bar, microseconds UTC.
    bars : int
        Bars of the run, flat before the first.
    params : dict
        Every parameter by name.
    origin : dict
        Where each comes from: ``set``, ``settings`` or ``default``.
    status : str
        As in `BacktestResult`; a levels strategy: ``valid`` or ``blocked``.
    growth : float
        After costs, basis points per bar: log growth, as the search maximises it; of a levels strategy the
        mean net move of its fixed notional. NaN where the equity was used up.
    metrics : dict of float
        As in `engine.simulation.metrics.metrics`; of a levels strategy as `Piece.metrics`.
    notes : tuple of str
        What must be known to read the numbers.
    """

    symbol: str
    strategy: str
    first: int
    last: int
    bars: int
    params: dict[str, Any]
    origin: dict[str, str]
    status: str
    growth: float
    metrics: dict[str, float]
    notes: tuple[str, ...]


def single_run(
    lake: Lake, settings: Settings, symbol: str, name: str, given: Mapping[str, str], span: str | None = None
) -> SingleRun:
    """Run one strategy of a symbol once, from flat, on its stored bars.

    Parameters
    ----------
    lake, settings, symbol
        Where the bars are, how they trade, whose.
    name : str
        An entry's label, or the registered name of the only entry that has it.
    given : mapping of str to str
        Parameters by name, as text. The others have the entry's fixed values, else their defaults. Of a
        levels strategy: offsets ``u`` and ``v`` (default 0), ``policy`` (default: the first of the settings).
    span : str or None
        ``A..B``, dates UTC, B not included. None: all bars (levels: all since the first forecast). Indicators
        read the bars before; only those inside trade.

    Raises
    ------
    ConfigError
        An unknown strategy or parameter, a value outside its declaration, a span without bars.
    LakeError
        The lake lacks the symbol's bars, features or forecasts, or they are not of one making.
    LevelsInputError
        No bar of the span has a forecast.
    SimulationError
        The strategy raised.
    """
    user.load(lake.data_dir)
    entry, instrument = _entry(settings, symbol, name), settings.instrument(symbol)
    levels = registry.get(entry.strategy).kind == "levels"
    params, origin = _levels_params(entry, given) if levels else _rules_params(entry, given)
    bars = read_bars(lake, instrument)
    stored = (lake.record("bars", symbol) or {}).get("frame", instrument.frame)
    if stored != instrument.frame:
        raise ConfigError(
            f"the stored bars of {symbol} are of {stored}, the settings say {instrument.frame}. "
            f"Run nightfold run {symbol}, or set frame: {stored}"
        )
    if levels:
        start, stop, found = _levels(lake, settings, bars, instrument, entry, params, span)
    else:
        start, stop, found = _rules(lake, bars, instrument, entry, params, span)
    status, growth, metrics, notes = found
    return SingleRun(
        symbol, entry.label, int(bars.ts[start]), int(bars.ts[stop - 1]), stop - start, params, origin,
        status, growth, metrics, (*notes, IN_SAMPLE),
    )  # fmt: skip


def _entry(settings: Settings, symbol: str, name: str) -> Strategy:
    """Return the entry of a symbol that a label, or the registered name of only one of them, means."""
    entries = settings.entries(symbol)
    labels = {entry.label: entry for entry in entries}
    if name in labels:
        return labels[name]
    same = [entry for entry in entries if entry.strategy == name]
    if len(same) == 1:
        return same[0]
    if same:
        raise ConfigError(
            f"{len(same)} entries of {symbol} are of strategy {name!r}; expected one of their names: "
            + ", ".join(entry.label for entry in same)
        )
    raise ConfigError(f"strategy {name!r} is none that the settings give {symbol}. {closest(name, labels)}")


_Found = tuple[str, float, dict[str, float], tuple[str, ...]]  # status, growth, metrics, notes


def _rules(
    lake: Lake, bars: Bars, instrument: Instrument, entry: Strategy, params: Mapping[str, Any],
    span: str | None,
) -> tuple[int, int, _Found]:  # fmt: skip
    """Run a strategy whose account holds positions over night."""
    start, stop = _indices(bars, span)
    refuse_stale(lake, bars.symbol, {"features": "features"})
    features = feature_set(lake, bars, instrument)
    strategy, execution = registry.get(entry.strategy), execution_of(instrument, entry)
    done = run(features, strategy, params, execution, start=start, stop=stop)
    notes = ("Flat until the first bar's close; what is open at the last close is closed there, with costs.",)
    why = _why_no_trade(bars, done)
    return start, stop, (done.status, done.metrics["log_growth"], done.metrics, (*why, *notes))


def _why_no_trade(bars: Bars, done: BacktestResult) -> tuple[str, ...]:
    """Return a sentence on a run that did not trade, or not to its end."""
    if done.status == "no_signal":
        return ("No trade: no bar had an entry signal.",)
    if done.status == "blocked":
        signals = done.counters["signals_long"] + done.counters["signals_short"]
        stopped = ", ".join(f"{gate} {done.counters[gate]}" for gate in GATES)
        return (f"No trade: {signals} entry signals, stopped by: {stopped}.",)
    if done.halted_at is not None:
        return (f"The account was used up at the close of {iso(int(bars.ts[done.halted_at]))}.",)
    return ()


def _levels(
    lake: Lake, settings: Settings, bars: Bars, instrument: Instrument, entry: Strategy,
    params: Mapping[str, Any], span: str | None,
) -> tuple[int, int, _Found]:  # fmt: skip
    """Run a levels strategy: a fixed notional on every bar that has a forecast, flat at every close."""
    refuse_stale(lake, bars.symbol, {"forecasts": "forecasts"})
    high, low, key = median_forecasts(lake, bars, entry.levels.level)
    base = base_bars_of(lake, bars.symbol, settings)
    start, stop = _indices(bars, span)
    start = max(start, 1)  # a bar trades on the forecast of the one before
    if span is None and np.isfinite(high).any():
        start = int(np.flatnonzero(np.isfinite(high))[0]) + 1
    fitter = LevelsFitter(bars, high, low, key, registry.get(entry.strategy), entry, instrument, base=base)
    problem = fitter.problem(start, stop, max_dropped_share=1.0) if start < stop else None
    if problem is None or problem.n_dropped == stop - start:
        raise LevelsInputError(
            f"{bars.symbol} {entry.label} trades on forecasts, and none of these {stop - start} bars has a "
            f"stored one. Take later bars, or make them: nightfold run {bars.symbol} --stage forecasts"
        )
    exit = "close" if params["policy"] == "path" and base is None else params["policy"]
    cash = entry.execution.initial_cash
    piece = oos.levels_piece(
        bars,
        problem,
        params["u"],
        params["v"],
        exit,
        instrument.cost.slippage_bps,
        -1,
        start,
        stop,
        cash,
        cash,
    )
    found = piece.metrics(bars, cash)
    notes = [
        "Every bar trades the same amount, the initial cash, and ends flat; returns are sums, not compounded."
    ]
    if problem.n_dropped:
        notes.append(f"{problem.n_dropped} of the bars have no stored forecast and trade nothing.")
    if exit != params["policy"]:
        notes.append("path: the symbol has no finer bars, so that it is the same as close.")
    if exit == "target":
        notes.append("target exits are optimistic: credited in the entry's bar without knowing the order.")
    label = forecast_label(lake, bars.symbol, key)(int(bars.ts[start - 1]))
    if label != CLEAN:
        notes.append(f"Forecasts of the first bars are {label}: the model's training may have held them.")
    if piece.status == "blocked":
        notes.insert(0, "No trade: no order was filled.")
    return start, stop, (piece.status, found["bps_per_bar"], found, tuple(notes))


def _indices(bars: Bars, span: str | None) -> tuple[int, int]:
    """Return the bars [start, stop) whose opens lie in a span of dates."""
    if span is None:
        return 0, len(bars)
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d\.\.\d{4}-\d\d-\d\d", span, re.ASCII):
            raise ValueError(span)
        first, end = (np.datetime64(date.fromisoformat(day), "us") for day in span.split(".."))
    except ValueError:
        raise ConfigError(
            f"range was {span!r}; expected two dates (UTC), the second not included, such as "
            "2012-01-01..2013-01-01"
        ) from None
    start, stop = (int(np.searchsorted(bars.ts, moment.astype(np.int64))) for moment in (first, end))
    if start >= stop:
        stored = f"{iso(int(bars.ts[0]))} to {iso(int(bars.ts[-1]))}" if len(bars) else "none"
        raise ConfigError(f"range {span} holds no bar of {bars.symbol}; stored bars: {stored}")
    return start, stop


def _rules_params(entry: Strategy, given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return every parameter of a strategy, and where each comes from."""
    strategy = registry.get(entry.strategy)
    # what the settings search has no value there: it stands at its default
    fixed = make_space(strategy.parameters, entry.parameters, search_all=False).fixed
    texts = {name: _value(strategy.parameters.get(name), text) for name, text in given.items()}
    params = dict(registry.check(strategy, {**fixed, **texts}))
    leaves = {name for name, leaf in entry.parameters.items() if leaf.type == "fixed"}
    return params, _origins(params, given, leaves)


def _levels_params(entry: Strategy, given: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return both offsets and the exit policy, and where each comes from."""
    limits = entry.levels.bounds
    declared: dict[str, Declaration] = {
        "u": Float(min(limits.high[0], 0.0), max(limits.high[1], 0.0), 0.0),
        "v": Float(min(limits.low[0], 0.0), max(limits.low[1], 0.0), 0.0),
        "policy": Choice(EXITS, entry.levels.policies[0]),
    }
    for name in given:
        if name not in declared:
            raise ConfigError(
                f"strategy {entry.strategy}: parameter {name!r} is not declared. {closest(name, declared)}"
            )
    params: dict[str, Any] = {}
    for name, one in declared.items():
        value = _value(one, given[name]) if name in given else one.default
        params[name] = one.check(f"strategy {entry.strategy}: {name}", value)
    return params, _origins(params, given, {"policy"})


def _origins(params: Mapping[str, Any], given: Mapping[str, str], fixed: set[str]) -> dict[str, str]:
    return {name: "set" if name in given else "settings" if name in fixed else "default" for name in params}


def _value(declared: Declaration | None, text: str) -> Any:
    """Return a text as a value of the declared type; what is none stays text, for the check to refuse."""
    if isinstance(declared, Choice):
        named = {str(one).lower() if isinstance(one, bool) else str(one): one for one in declared.choices}
        return named.get(text, text)
    try:
        return int(text) if isinstance(declared, Int) else float(text)
    except ValueError:
        return text
