"""The rules that bars must pass before they are stored: `check` finds, `refuse` raises, `clean` drops.

Rows outside the request or not complete at `asof` are no part of the data; nothing else is ever dropped,
except rows that repeat the row before them in every value (W06).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.bars.calendars import ALWAYS, OBSERVED, is_expected
from engine.bars.findings import Context, Finding, Mask, RawBars, places, refuse
from engine.bars.model import FRAME_US, Ints, iso, known_at

__all__ = ["Context", "Finding", "RawBars", "check", "clean", "refuse", "too_few"]
DAY_US = 86_400_000_000
FIRST_US = int(np.datetime64("1900-01-01", "us").astype(np.int64))
LAST_US = int(np.datetime64("2100-01-01", "us").astype(np.int64))
DEFAULT_TICK_RELATIVE = 1e-6  # E05's tolerance where no tick is known


def _mend(raw: RawBars, context: Context, rows: Ints) -> str:
    """Return the remedy for a row that is wrong at its origin."""
    return (
        f"correct {raw.origin} {raw.place} {raw.line[rows[0]]} or ask its vendor, "
        f"then: nightfold check {context.symbol}"
    )


def _within_request(raw: RawBars, context: Context) -> tuple[Mask, Mask]:
    """Return (complete at asof, open at asof), bool arrays of shape (T,)."""
    if context.asof is None:
        return np.ones(len(raw), dtype=np.bool_), np.zeros(len(raw), dtype=np.bool_)
    complete = known_at(raw.ts, context.frame, context.calendar) <= context.asof
    return complete, ~complete & (raw.ts < context.asof)


def _repeats(raw: RawBars) -> tuple[Mask, Mask]:
    """Return (same stamp and same values, same stamp and other values) as an earlier row, shape (T,)."""
    same, other = np.zeros(len(raw), dtype=np.bool_), np.zeros(len(raw), dtype=np.bool_)
    if len(raw) < 2 or bool(np.all(np.diff(raw.ts) > 0)):
        return same, other
    order = np.argsort(raw.ts, kind="stable")
    before, after = order[:-1], order[1:]
    doubled = raw.ts[before] == raw.ts[after]
    equal = doubled.copy()
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(raw, name)
        equal &= column[before] == column[after]
    same[after[equal]] = True
    other[after[doubled & ~equal]] = True
    return same, other


def _values(raw: RawBars, i: int) -> str:
    return " ".join(
        f"{name} {getattr(raw, name)[i]:.10g}" for name in ("open", "high", "low", "close", "volume")
    )


def _not_finite(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = np.zeros(len(raw), dtype=np.bool_)
    for column in (raw.open, raw.high, raw.low, raw.close, raw.volume):
        bad |= ~np.isfinite(column)
    return bad, lambda i: f"found {_values(raw, i)}; expected finite numbers"


def _not_positive(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = (raw.open <= 0.0) | (raw.high <= 0.0) | (raw.low <= 0.0) | (raw.close <= 0.0)
    return bad, lambda i: f"found {_values(raw, i)}; expected prices above 0"


def _outside_range(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    beyond = np.maximum(raw.open, raw.close)
    # Half a millionth of slack more, so that a bar off by exactly one tick is inside.
    slack = (context.tick if context.tick > 0.0 else DEFAULT_TICK_RELATIVE * np.abs(beyond)) * (1 + 5e-7)
    with np.errstate(invalid="ignore"):  # inf - inf is E03's
        beyond -= raw.high  # in place: fresh memory costs more than the sums
        bad = beyond > slack
        np.minimum(raw.open, raw.close, out=beyond)
        np.subtract(raw.low, beyond, out=beyond)
        bad |= beyond > slack
    return bad, lambda i: f"found {_values(raw, i)}; expected low <= open, close <= high"


def _negative_volume(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    return raw.volume < 0.0, lambda i: f"found volume {raw.volume[i]:.10g}; expected 0 or more"


def _other_values(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    _, other = _repeats(raw)

    def text(i: int) -> str:
        first = int(np.flatnonzero(raw.ts == raw.ts[i])[0])
        return f"found {_values(raw, first)} and {_values(raw, i)}; expected one bar per stamp"

    return other, text


def _not_increasing(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = np.zeros(len(raw), dtype=np.bool_)
    bad[1:] = np.diff(raw.ts) < 0
    return (
        bad,
        lambda i: f"found {iso(int(raw.ts[i]))} after {iso(int(raw.ts[i - 1]))}; expected oldest first",
    )


def _off_grid(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    """Find stamps off the frame's grid: whole frames from 00:00 UTC, or from the session's open."""
    if context.calendar not in (ALWAYS, OBSERVED):
        bad = ~is_expected(raw.ts, FRAME_US[context.frame], context.calendar)
        what = "a session" if context.frame == "1d" else f"whole {context.frame} from the open of a session"
        return bad, lambda i: f"found {iso(int(raw.ts[i]))}; expected {what} of calendar {context.calendar}"
    if context.calendar == ALWAYS:
        step, offset = FRAME_US[context.frame], 0
    elif context.frame == "1d":
        step, offset = DAY_US, 0
    else:  # sessions open at one minute of the hour, which a change of the clock leaves as it is
        step = min(FRAME_US[context.frame], FRAME_US["1h"])
        minutes, counts = np.unique(raw.ts % step, return_counts=True)
        offset = int(minutes[np.argmax(counts)]) if len(minutes) else 0
    grid = f"a multiple of {context.frame}" + (f" and {offset // 1_000_000} s" if offset else "")
    return raw.ts % step != offset, lambda i: f"found {iso(int(raw.ts[i]))}; expected {grid} after 00:00 UTC"


def _outside_request(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    first = FIRST_US if context.first is None else context.first - DAY_US
    bad = (raw.ts < first) | (raw.ts >= LAST_US)
    return bad, lambda i: f"found {iso(int(raw.ts[i]))}; expected {iso(max(first, FIRST_US))} to 2100"


ROW_RULES: tuple[
    tuple[str, str, str, Callable[[RawBars, Context], tuple[Mask, Callable[[int], str]]]], ...
] = (
    ("E03", "price or volume is NaN or infinite", "every later indicator value would be NaN", _not_finite),
    ("E04", "price is 0 or negative", "a return over it is infinite or has the wrong sign", _not_positive),
    (
        "E05",
        "price outside the bar's range",
        "stops and limits would fill where nobody traded",
        _outside_range,
    ),
    ("E06", "same stamp, different values", "which of them is true cannot be known from here", _other_values),
    ("E07", "stamps not increasing", "a backtest over it would look into the future", _not_increasing),
    (
        "E09",
        "stamp off the frame's grid",
        "bars of another length, or of another clock, would be taken for these",
        _off_grid,
    ),
    ("E10", "negative volume", "volume averages and fill limits would be wrong", _negative_volume),
    (
        "E14",
        "stamp outside the request",
        "old prices at new stamps, or new at old, were sent before",
        _outside_request,
    ),
)


def too_few(symbol: str, found: int, needed: int, explanation: str) -> Finding:
    """Return the E17 finding: fewer bars than are needed, both numbers named."""
    return Finding(
        "E17",
        "too few bars",
        found,
        "bar",
        (),
        f"found {found}; expected at least {needed}",
        explanation,
        f"bring a longer history, or leave {symbol} out of symbols in nightfold.yaml, then: nightfold check",
    )


def check(raw: RawBars, context: Context) -> list[Finding]:
    """Return everything found in the rows that are complete at ``context.asof``; errors first.

    Parameters
    ----------
    raw : RawBars
        T rows in the vendor's order.
    context : Context
        Symbol, frame, calendar, asof, tick and the number of bars needed.

    Returns
    -------
    list of Finding
        E03 to E07, E09, E10, E14, E17, then W01, W04, W06. Empty for clean bars.

    NaN: named by E03; comparisons with NaN break no other rule.
    """
    complete, partial = _within_request(raw, context)
    kept, index = raw.take(complete), np.flatnonzero(complete)
    found: list[Finding] = []
    for rule, title, why, test in ROW_RULES:
        bad, detail = test(kept, context)
        rows = np.flatnonzero(bad)
        if len(rows):
            where, remedy = places(kept, rows), _mend(kept, context, rows)
            detail_text = detail(int(rows[0]))
            if rule == "E07":
                sort = f"set policy: repair, repairs: [sort] for {context.symbol} in nightfold.yaml"
                remedy = f"put its rows in order, or {sort}, then: nightfold check {context.symbol}"
                if len(rows) == len(kept) - 1:
                    detail_text += "; the file has its newest bar first"
                    remedy = f"turn {raw.origin} round, or {sort}, then: nightfold check {context.symbol}"
            found.append(Finding(rule, title, len(rows), "bar", where, detail_text, why, remedy, index[rows]))
    same, _ = _repeats(kept)
    count = len(kept) - int(same.sum())
    if count < context.bars_needed:
        why = "warm-up, training and test folds need that many"
        if context.bars_needed == 1:
            until = "" if context.asof is None else f" complete at {iso(context.asof)}"
            why = f"{raw.origin} holds no bar{until}"
        found.append(too_few(context.symbol, count, context.bars_needed, why))
    for rule, title, rows_of, source in (
        ("W01", "zero volume", np.flatnonzero(kept.volume == 0.0), kept),
        ("W04", "bar not complete at asof left out", np.flatnonzero(partial), raw),
        ("W06", "identical duplicate dropped", np.flatnonzero(same), kept),
    ):
        if len(rows_of):
            found.append(Finding(rule, title, len(rows_of), "bar", places(source, rows_of), "", "", ""))
    return found


def clean(raw: RawBars, context: Context) -> RawBars:
    """Return the complete rows without identical duplicates; call it when `refuse` was silent."""
    complete, _ = _within_request(raw, context)
    kept = raw.take(complete)
    same, _ = _repeats(kept)
    return kept.take(~same)
