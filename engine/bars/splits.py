"""Splits and dividends: `adjust` turns raw rows and dated events into split-adjusted `Bars`.

A split of value v on a date multiplies the share count by v at that day's open. Prices before it are divided
by v, units multiplied, so that a series has one basis: the shares after the last split of its event table.
Dividends never change prices; they are paid to whoever held the close before (as in total-return accounts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bars.calendars import EXCHANGE, sessions
from engine.bars.findings import Finding, RawBars, refuse
from engine.bars.model import PRICE_COLUMNS, Bars, Floats, Ints, iso

KINDS = ("split", "dividend", "verified_move", "scale")
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Event:
    """One dated fact about a symbol.

    Parameters
    ----------
    ts : int
        The date at 00:00 UTC, microseconds since 1970.
    kind : str
        ``split`` (value = new shares per old), ``dividend`` (value = cash per share in raw terms, ex-date),
        ``verified_move`` (the price jump of that date is real; value 0), ``scale`` (from ``ts`` to the end of
        ``until`` the vendor quoted ``value`` times the price).
    value : float
        See ``kind``.
    place : str
        Where it was read, for messages: ``events.csv line 12``, or the vendor's name.
    until : int
        Last date of a ``scale``, at 00:00 UTC; 0 for other kinds.
    """

    ts: int
    kind: str
    value: float
    place: str
    until: int = 0


def factors(ts: Ints, events: Sequence[Event]) -> Floats:
    """Return the split factor of each stamp: the product of the splits dated after it.

    Parameters
    ----------
    ts : int64 array, shape (T,)
        Bar opens, microseconds UTC, increasing.
    events : sequence of Event
        Any order; only splits count.

    Returns
    -------
    float64 array, shape (T,)
        raw price / factor = price in shares after the last split; 1.0 after it.

    NaN: none.

    >>> factors(np.array([0, 10, 20]), [Event(10, "split", 2.0, "")])
    array([2., 1., 1.])
    """
    factor = np.ones(len(ts))
    # Newest first, so that a bar's factor is the same product whether or not older splits are in the table.
    for event in sorted((e for e in events if e.kind == "split"), key=lambda e: -e.ts):
        factor[ts < event.ts] *= event.value
    return factor


def effect(event: Event, before: int, ts: int) -> float:
    """Return by how much an event multiplies open / close before of a bar; 1.0 where it changes nothing.

    Parameters
    ----------
    event : Event
        As `at_session_open` returns it.
    before, ts : int
        Opens of the bar before and of the bar, microseconds UTC.

    >>> effect(Event(10, "split", 2.0, ""), 5, 10), effect(Event(10, "split", 2.0, ""), 10, 15)
    (2.0, 1.0)
    """
    factor = 1.0
    if event.kind == "split" and before < event.ts <= ts:
        factor *= event.value
    if event.kind == "scale" and before < event.ts <= ts:
        factor /= event.value
    if event.kind == "scale" and before < event.until + DAY_US <= ts:
        factor *= event.value
    return factor


def at_session_open(events: Sequence[Event], frame: str, calendar: str) -> list[Event]:
    """Return events that take effect where their date's session opens.

    That is 00:00 UTC of the date where the calendar knows no other hour, and for daily bars, which bear their
    session's date. A session may open on the evening before, and a block ends where the next one opens.
    A verified move stays at its date.

    Parameters
    ----------
    events : sequence of Event
        At 00:00 UTC of their dates.
    frame, calendar : str
        As in `Bars`.
    """
    if frame == "1d" or not EXCHANGE.fullmatch(calendar):
        return list(events)

    def opening(ts: int) -> int:
        table = sessions(calendar, ts, ts)
        at = int(np.searchsorted(table.day, ts))
        return int(table.open[at]) if at < len(table.day) else ts

    return [
        event
        if event.kind == "verified_move"
        else replace(
            event,
            ts=opening(event.ts),
            until=opening(event.until + DAY_US) - DAY_US if event.kind == "scale" else event.until,
        )
        for event in events
    ]


def rescale(raw: RawBars, events: Sequence[Event]) -> RawBars:
    """Bring blocks that were quoted in another unit back to the unit of the rest.

    Parameters
    ----------
    raw : RawBars
        T rows; volume is left as it is.
    events : sequence of Event
        Only ``scale`` counts, from the open of its date to the end of its last one.

    Returns
    -------
    RawBars
        Prices inside a block divided by its value.

    NaN: stays NaN.
    """
    factor = np.ones(len(raw))
    for event in events:
        if event.kind == "scale" and 0.0 < event.value < np.inf:  # `adjust` refuses any other value
            factor[(raw.ts >= event.ts) & (raw.ts < event.until + DAY_US)] *= event.value
    if bool(np.all(factor == 1.0)):
        return raw
    return replace(raw, **{name: getattr(raw, name) / factor for name in PRICE_COLUMNS})


def _refused(event: Event, detail: str, symbol: str) -> Finding:
    where = (f"{iso(event.ts)} ({event.place})",)
    return Finding(
        "E02", f"value of a {event.kind} is out of range", 1, "row", where, detail,
        "money would be paid or taken that nobody paid",
        f"correct {event.place}, then: nightfold check {symbol}",
    )  # fmt: skip


def adjust(raw: RawBars, events: Sequence[Event], symbol: str, frame: str, calendar: str) -> Bars:
    """Apply a symbol's events to its checked raw rows.

    Parameters
    ----------
    raw : RawBars
        Rows that passed `engine.bars.checks.check` and `clean`: increasing stamps, raw prices.
    events : sequence of Event
        Events of this symbol; those of a date after the last bar count too, so that adding bars never
        changes the basis of older ones.
    symbol, frame, calendar : str
        As in `Bars`.

    Returns
    -------
    Bars
        price = raw / factor, volume = raw * factor, adj = factor; dividend = cash / adj at the first bar on
        or after the ex-date. A dividend on or before the first bar is left out: nobody held the close before.

    NaN: none in, none out.

    Raises
    ------
    DataError
        E02: a split or dividend <= 0, or a dividend >= the close before it (in the shares of the ex-date).
    """
    for event in events:
        if event.kind != "verified_move" and not (0.0 < event.value < np.inf):
            refuse(
                [_refused(event, f"found {event.value:.10g}; expected more than 0", symbol)], symbol, frame
            )
    adj = factors(raw.ts, events)
    close = raw.close / adj
    dividend = np.zeros(len(raw))
    for event in events:
        if event.kind != "dividend":
            continue
        t = int(np.searchsorted(raw.ts, event.ts))
        if t == 0 or t == len(raw):
            continue
        before = float(close[t - 1] * adj[t])
        if event.value >= before:
            detail = f"found {event.value:.10g}; expected less than the close before it, {before:.10g}"
            refuse([_refused(event, detail, symbol)], symbol, frame)
        dividend[t] += event.value / adj[t]
    # Division by one factor per bar keeps low <= open, close <= high, so E05 needs no second look.
    return Bars(
        symbol, frame, calendar, raw.ts,
        raw.open / adj, raw.high / adj, raw.low / adj, close, raw.volume * adj, adj, dividend,
    )  # fmt: skip
