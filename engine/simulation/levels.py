"""Forecast levels: two limit orders per bar at the forecast high and low, each moved by an offset.

`problem` makes one window of rows, `bar_net` and `value` say what a pair of offsets (u for
the high, v for the low) earns on it, `trades` and `next_levels` turn it into records and
orders. A fit, a backtest and an export all call these same functions.

One row = one outcome bar j: base = close of bar j-1, forecast issued at that close, every
filled entry closed inside bar j. Moves are simple returns against the base. Each bar trades
the same notional, the initial cash, times the leg's weight: nothing is compounded, and
equity = initial cash * (1 + running sum of the net moves).

Limits: a bar that opens beyond a limit still fills at the limit. Exit ``path`` credits a target
where a finer bar strictly after the finer bar of the entry trades it; a bar without finer bars
(`LevelsProblem.finer`) is closed at its close. Exit ``target`` credits a target in the bar of
its entry without knowing which came first: optimistic, and every report has to print that word.
An entry fills where the bar itself reaches it, whatever the exit. Scores use the level itself;
the order's price is the level rounded down (buys) or up (sells) to the tick, less than one tick
better than scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from engine.bars.model import Bars, Floats, Ints, iso
from engine.errors import LevelsInputError
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import (
    EXITS,
    ROWS,
    Flags,
    LevelsProblem,
    bar_ticks,
    leg_weights,
    one_of,
    problem,
)

__all__ = [
    "EXITS",
    "LevelsBars",
    "LevelsOrder",
    "LevelsProblem",
    "LevelsTrades",
    "bar_net",
    "equity",
    "next_levels",
    "order_prices",
    "problem",
    "trades",
    "value",
    "warm",
]


_NO_FINER = FinerBars(np.zeros(1, dtype=np.int64), np.zeros(0), np.zeros(0))


@njit(cache=True, nogil=True, error_model="numpy")
def _in_order(highs, lows, delta, h, l, long, touch):  # type: ignore[no-untyped-def]  # noqa: E741
    """Say whether a finer bar strictly after that of the entry trades the target of a leg."""
    entered = False
    for s in range(len(highs)):
        top, bottom = highs[s] - delta, lows[s] + delta
        if entered:
            if (h <= top) if long else (l >= bottom):
                return True
        elif long:
            entered = l > bottom if touch else l >= bottom
        else:
            entered = h < top if touch else h <= top
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _score(rows, fees, touch, target, u, v, parts):  # type: ignore[no-untyped-def]
    """Return levels, fills, gross and costs of both legs, float64 (10, n): the rows `bar_net` unpacks."""
    close, high, low, forecast_high, forecast_low, a, b, delta = rows
    (f_e, f_t, f_c), (starts, highs, lows) = fees, parts
    n, path = len(close), len(starts) > 1
    out = np.zeros((10, n))
    for i in range(n):
        first, stop = (starts[i], starts[i + 1]) if path else (0, 0)
        h = min(max(forecast_high[i] + u, 0.0), 10.0)
        l = min(max(forecast_low[i] + v, -1.0), 0.0)  # noqa: E741
        top, bottom = high[i] - delta[i], low[i] + delta[i]
        reach_high = h <= top  # a limit sell at h trades; touch: a target needs no more
        reach_low = l >= bottom
        out[0, i], out[1, i] = h, l
        if a[i] > 0 and (l > bottom if touch else reach_low):
            credited = (
                _in_order(highs[first:stop], lows[first:stop], delta[i], h, l, True, touch)
                if path
                else target and reach_high
            )
            out[2, i], out[4, i] = 1.0, credited
            out[6, i] = a[i] * ((h if credited else close[i]) - l)
            out[7, i] = a[i] * (f_e + (f_t if credited else f_c))
        if b[i] > 0 and (h < top if touch else reach_high):
            credited = (
                _in_order(highs[first:stop], lows[first:stop], delta[i], h, l, False, touch)
                if path
                else target and reach_low
            )
            out[3, i], out[5, i] = 1.0, credited
            out[8, i] = b[i] * (h - (l if credited else close[i]))
            out[9, i] = b[i] * (f_e + (f_t if credited else f_c))
    return out


@dataclass(frozen=True, eq=False)
class LevelsBars:
    """What one pair of offsets did on each row; every array has shape (n,).

    Parameters
    ----------
    index : int64 array
        Outcome bar of each row.
    high_level, low_level : float64 array
        The two levels as moves against the base, clipped to [0, 10] and [-1, 0].
    long, short : bool array
        The leg's entry filled.
    long_target, short_target : bool array
        Its exit was credited at the target; otherwise at the close.
    long_gross, long_costs, short_gross, short_costs : float64 array
        In return units of the bar's notional; 0 where nothing filled.
    gross, costs, net : float64 array
        Both legs together; net = gross - costs.
    """

    index: Ints
    high_level: Floats
    low_level: Floats
    long: Flags
    short: Flags
    long_target: Flags
    short_target: Flags
    long_gross: Floats
    long_costs: Floats
    short_gross: Floats
    short_costs: Floats
    gross: Floats
    costs: Floats
    net: Floats


def _table(levels: LevelsProblem, u: float, v: float, exit: str) -> Floats:
    """Return `_score` of the problem."""
    one_of("levels.policies", exit, EXITS)
    if not np.isfinite([u, v]).all():
        raise LevelsInputError(f"{levels.name}: offsets were ({u}, {v}), expected two finite numbers")
    rows = tuple(getattr(levels, name) for name in ROWS)
    fees = float(levels.fee_entry), float(levels.fee_target), float(levels.fee_close)
    finer = (levels.finer if exit == "path" else None) or _NO_FINER
    parts = finer.starts, finer.high, finer.low
    table: Floats = _score(rows, fees, levels.touch, exit == "target", float(u), float(v), parts)
    return table


def bar_net(problem: LevelsProblem, u: float, v: float, exit: str) -> LevelsBars:
    """Return the outcome of every row at offsets ``u`` (high) and ``v`` (low).

    Parameters
    ----------
    problem : LevelsProblem
        n rows.
    u, v : float
        Added to the forecast moves; return units.
    exit : str
        `close`, `path` (finer bars tell the order; `close` without them) or `target` (optimistic).

    Source: long = a E (R (h - f_t) + (1-R) (C - f_c) - l - f_e), short mirrored.
    """
    high_level, low_level, long, short, long_target, short_target, *money = _table(problem, u, v, exit)
    long_gross, long_costs, short_gross, short_costs = money
    gross, costs = long_gross + short_gross, long_costs + short_costs
    return LevelsBars(
        problem.index,
        high_level,
        low_level,
        long > 0,
        short > 0,
        long_target > 0,
        short_target > 0,
        long_gross,
        long_costs,
        short_gross,
        short_costs,
        gross,
        costs,
        gross - costs,
    )


def value(problem: LevelsProblem, u: float, v: float, exit: str) -> float:
    """Return the sum of the net moves over all rows, in return units; 1e4 * value / n = bps per bar."""
    table = _table(problem, u, v, exit)
    return float(((table[6] + table[8]) - (table[7] + table[9])).sum())


def order_prices(base: Floats, level: Floats, tick: Floats | float, *, buy: bool) -> Floats:
    """Return limit prices base * (1 + level), shape of ``base``: buys rounded down to the tick, sells up."""
    price = np.asarray(base * (1.0 + level), dtype=np.float64)
    step = np.broadcast_to(np.asarray(tick, dtype=np.float64), price.shape)
    steps = price / np.where(step > 0, step, 1.0)
    near = np.rint(steps)
    outward = np.floor(steps) if buy else np.ceil(steps)
    rounded = np.where(np.abs(steps - near) <= 1e-9 * near, near, outward) * step
    return np.asarray(np.where(step > 0, rounded, price))


@dataclass(frozen=True, eq=False)
class LevelsTrades:
    """Every filled leg, oldest first, long before short; every array has shape (K,).

    Parameters
    ----------
    index : int64 array
        Bar of entry and exit.
    side : int64 array
        1 long, -1 short.
    quantity : float64 array
        Units per 1 of initial cash (weight / base).
    entry_level, exit_level : float64 array
        As scored: moves against the base.
    entry_price, exit_price : float64 array
        The limit order's price; the exit is the target's limit price or the bar's close.
    at_target : bool array
        True: closed at the target, False: at the close.
    gross, costs, net : float64 array
        Fractions of the initial cash. They add up to the change of equity.
    """

    index: Ints
    side: Ints
    quantity: Floats
    entry_level: Floats
    exit_level: Floats
    entry_price: Floats
    exit_price: Floats
    at_target: Flags
    gross: Floats
    costs: Floats
    net: Floats


def trades(problem: LevelsProblem, bars: Bars, u: float, v: float, exit: str) -> LevelsTrades:
    """Return the filled legs at offsets ``u``, ``v``; ``bars`` is the series the problem was made from."""
    scored = bar_net(problem, u, v, exit)
    buy = order_prices(problem.base, scored.low_level, problem.tick, buy=True)
    sell = order_prices(problem.base, scored.high_level, problem.tick, buy=False)
    closes = bars.close[problem.index]
    legs = []
    for sign, filled, at_target, weight, gross, costs, entry, target in (
        (1, scored.long, scored.long_target, problem.long_weight, scored.long_gross, scored.long_costs,
         (scored.low_level, buy), (scored.high_level, sell)),
        (-1, scored.short, scored.short_target, problem.short_weight, scored.short_gross, scored.short_costs,
         (scored.high_level, sell), (scored.low_level, buy)),
    ):  # fmt: skip
        columns = (
            problem.index, np.full(len(problem), sign, dtype=np.int64), weight / problem.base,
            entry[0], np.where(at_target, target[0], problem.close),
            entry[1], np.where(at_target, target[1], closes), at_target, gross, costs, gross - costs,
        )  # fmt: skip
        legs.append([column[filled] for column in columns])
    joined = [np.concatenate(pair) for pair in zip(*legs, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return LevelsTrades(*(column[order] for column in joined))


def equity(initial_cash: float, bars: LevelsBars, start: int, stop: int) -> Floats:
    """Return equity at the close of the bars [start, stop), float64, in cash; bars without a row are flat."""
    net = np.zeros(stop - start)
    net[bars.index - start] = bars.net
    return np.asarray(initial_cash * (1.0 + np.cumsum(net)))


@dataclass(frozen=True)
class LevelsOrder:
    """One limit order for the next bar, good for that bar only.

    ``leg`` long | short, ``side`` buy | sell, ``level`` a move against ``base``, ``price`` on the
    tick, ``quantity`` units per 1 of initial cash, ``exit`` close | target, ``target`` its limit price.
    """

    leg: str
    side: str
    level: float
    price: float
    quantity: float
    exit: str
    target: float | None


def next_levels(
    bars: Bars, forecast_high: Floats, forecast_low: Floats, u: float, v: float, *,
    objective: str, side: str, sides: str, exit: str, tick: float,
) -> tuple[LevelsOrder, ...]:  # fmt: skip
    """Return the next bar's orders from the last bar's close and forecast, one per traded leg.

    The arguments are those of `problem` and `bar_net`. A crossed forecast gives no order.

    Raises
    ------
    LevelsInputError
        The last bar has no finite forecast.
    """
    one_of("levels.policies", exit, EXITS)
    high, low = np.expm1(forecast_high[-1:]), np.expm1(forecast_low[-1:])
    aligned = 0 < len(bars) == len(forecast_high) == len(forecast_low)
    if not aligned or not np.isfinite(high + low).all():
        last = iso(bars.ts[-1]) if len(bars) else "none"
        raise LevelsInputError(
            f"{bars.symbol} {bars.frame}: no finite forecast was issued at the last bar ({last}); "
            "run the forecasts stage before asking for orders"
        )
    origin = np.array([len(bars) - 1], dtype=np.int64)
    a, b, _ = leg_weights(bars, origin, high, low, objective, side, sides)
    base, step = bars.close[-1:], bar_ticks(bars, origin, tick)
    top, bottom = np.clip(high + u, 0.0, 10.0), np.clip(low + v, -1.0, 0.0)
    buy = float(order_prices(base, bottom, step, buy=True)[0])
    sell = float(order_prices(base, top, step, buy=False)[0])
    rule = "target" if exit == "target" else "close"
    orders = (
        (
            "long",
            "buy",
            float(bottom[0]),
            buy,
            float(a[0] / base[0]),
            rule,
            sell if rule == "target" else None,
        ),
        (
            "short",
            "sell",
            float(top[0]),
            sell,
            float(b[0] / base[0]),
            rule,
            buy if rule == "target" else None,
        ),
    )
    return tuple(LevelsOrder(*order) for order in orders if order[4] > 0)


def warm() -> None:
    """Compile the kernel of this module on one row."""
    one, index = np.full(1, 0.01), np.ones(1, dtype=np.int64)
    tiny = LevelsProblem(one, one, -one, one, -one, one, one, one, one, index, 0.0, 0.0, 0.0, False)
    value(tiny, 0.0, 0.0, "target")  # every exit is the same signature
