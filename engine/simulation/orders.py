"""Compiled decisions: what the close of a bar orders for the next bar (rows 1, 3, 4, 5, 9 and 19).

``s`` is the state (`slots.py`), t a bar of the span, side +1 long, -1 short.
"""
# ruff: noqa: I001  (the names of the slots would fill 40 lines)

from __future__ import annotations

import math

import numpy as np

from engine.simulation.account import core
from engine.simulation.fills import level
from engine.simulation.slots import (
    CONFLICTS, EXIT_FRACTION, EXIT_LONG, EXIT_SHORT, HALTED_BAR, LIMIT_ROW, LONG, OUT_FRACTION, OUT_LIMIT,
    OUT_SIZE, OUT_STOP, OUT_TARGET, PENDING_BAR, PENDING_DISTANCE, PENDING_EQUITY, PENDING_EXIT,
    PENDING_LIMIT, PENDING_SHARE, PENDING_SIDE, PENDING_STOP, PENDING_TARGET, PENDING_TRAIL, PENDING_VALUE,
    POSITION, REFUSED_LEVELS, REVERSE, REVERSED, RISK, RUIN, SHORT, SIGNAL, SIZE_ROW, STEP, STOP_ROW,
    TARGET_ROW, TRAIL_ROW, Floats, Plan,
)  # fmt: skip


@core
def _asked(override: float, plan: Plan, row: int, t: int) -> tuple[float, bool]:
    """Return a level of an order (NaN = none asked), and whether it can be used."""
    value = override
    if np.isnan(override):
        if plan.rows[row] < 0:
            return np.nan, True
        value = level(plan, row, t)
    return value, value > 0.0 and value < np.inf


@core
def _order_entry(s: Floats, t: int, side: float, equity: float, columns: Floats, plan: Plan) -> None:
    """Make the order for the next bar, with levels of this one; refused and counted where one is none."""
    stop, stop_ok = _asked(s[OUT_STOP], plan, STOP_ROW, t)
    trail, trail_ok = _asked(np.nan, plan, TRAIL_ROW, t)
    distance, distance_ok = _asked(np.nan, plan, SIZE_ROW, t)
    limit, limit_ok = _asked(s[OUT_LIMIT], plan, LIMIT_ROW, t)
    if plan.size_kind == RISK and plan.rows[SIZE_ROW] < 0:  # the stop's own distance
        distance, distance_ok = stop, stop_ok and not np.isnan(stop)
    ok = stop_ok and trail_ok and distance_ok and limit_ok
    target = s[OUT_TARGET]
    if np.isnan(target):
        for row in range(TARGET_ROW, len(plan.rows)):
            value = level(plan, row, t)
            ok = ok and value > 0.0 and value < np.inf
    else:
        ok = ok and target > 0.0 and target < np.inf
    if not ok:
        s[REFUSED_LEVELS] += 1.0
        return
    tick = columns[STEP, t]
    if tick > 0.0 and not np.isnan(limit):  # buys round down, sells up
        steps = limit / tick
        limit = (math.floor(steps + 1e-9) if side > 0.0 else math.ceil(steps - 1e-9)) * tick
    s[PENDING_SIDE], s[PENDING_BAR], s[PENDING_EQUITY], s[PENDING_LIMIT] = side, t, equity, limit
    s[PENDING_STOP], s[PENDING_TRAIL], s[PENDING_TARGET] = stop, trail, target
    s[PENDING_DISTANCE] = distance
    s[PENDING_VALUE] = plan.size_value if np.isnan(s[OUT_SIZE]) else s[OUT_SIZE]


@core
def decide(
    s: Floats, t: int, bits: int, equity: float, columns: Floats, plan: Plan, settings: Floats
) -> None:
    """Rows 1, 3, 4, 5, 19: what the close of bar t orders for the next bar.

    The slots OUT_FRACTION .. OUT_SIZE replace, where they are not NaN, the share of an exit, the
    limit (a price), the stop's and the one target's distance, and the number of the size.
    """
    if s[HALTED_BAR] >= 0.0:
        s[PENDING_SIDE] = 0.0
        s[PENDING_EXIT], s[PENDING_SHARE] = float(RUIN) if s[POSITION] != 0.0 else 0.0, 1.0
        return
    position, side = s[POSITION], 0.0
    long_clash = (bits & LONG) != 0 and (bits & (SHORT | EXIT_LONG)) != 0
    short_clash = (bits & SHORT) != 0 and (bits & (LONG | EXIT_SHORT)) != 0
    if position == 0.0:
        if (bits & LONG) != 0 and not long_clash:
            side = 1.0
        elif (bits & SHORT) != 0 and not short_clash:
            side = -1.0
        elif (bits & (LONG | SHORT)) != 0:
            s[CONFLICTS] += 1.0
    else:
        own_exit = EXIT_LONG if position > 0.0 else EXIT_SHORT
        opposite = SHORT if position > 0.0 else LONG
        if settings[REVERSE] != 0.0 and (bits & opposite) != 0:
            if short_clash if position > 0.0 else long_clash:
                s[CONFLICTS] += 1.0
            else:
                side = -1.0 if position > 0.0 else 1.0
                s[PENDING_EXIT], s[PENDING_SHARE], s[PENDING_SIDE] = float(REVERSED), 1.0, 0.0
        if side == 0.0 and (bits & own_exit) != 0:
            s[PENDING_EXIT], s[PENDING_SIDE] = float(SIGNAL), 0.0
            s[PENDING_SHARE] = settings[EXIT_FRACTION] if np.isnan(s[OUT_FRACTION]) else s[OUT_FRACTION]
    if side != 0.0:
        _order_entry(s, t, side, equity, columns, plan)
