"""What one row cannot show: gaps, jumps that no event explains, stale ends. `check_series` finds them.

It looks at split-adjusted bars, so a declared split is no jump. E11 and E12 are errors; W02, W03, W05, W07
and W09 are said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from engine.bars.calendars import knows_sessions
from engine.bars.findings import Context, Finding, Mask, RawBars, places
from engine.bars.gaps import late_by, missing_between, unit_of
from engine.bars.model import FRAME_US, Bars, Floats, Ints, iso
from engine.bars.splits import Event, at_session_open, effect

DAY_US = FRAME_US["1d"]
GAP_FLOOR, GAP_MULTIPLE = float(np.log(1.4)), 15.0  # E12
SPIKE = 10.0  # E12: high or low this many times beyond open and close
MOVE_FLOOR, MOVE_MULTIPLE = float(np.log(1.5)), 25.0  # W05
TYPICAL_BARS, TYPICAL_LEAST = 250, 20  # returns whose median is the typical move
RATIOS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100, 1000)
RATIO_TOLERANCE = 0.06  # real splits stand 0.3 to 6 % off the exact ratio
EQUAL_CLOSES = 20  # W02
VOLUME_BARS, VOLUME_RATIO = 20, 6.0  # W09
GROUP_BARS = 30  # W07
LATE_BARS, LATE_DAYS = 2, 3  # W03: bars that the calendar expects, weekdays of an observed market


def typical_moves(close: Floats, at: Ints) -> Floats:
    """Return the median absolute log return of the 250 bars before each bar of ``at``.

    Parameters
    ----------
    close : float64 array, shape (T,)
        Split-adjusted.
    at : int64 array, shape (K,), each >= 1
        Indices of bars; the return into a bar is not part of its own median.

    Returns
    -------
    float64 array, shape (K,)
        Bars with fewer than 20 returns before them get the median of the first 20; 0.0 without any.

    NaN: none.
    """
    found = np.zeros(len(at))
    if not len(at):
        return found
    move = np.abs(np.diff(np.log(close)))  # (T-1,): move[t-1] leads into bar t
    whole = at - 1 >= TYPICAL_BARS
    windows = sliding_window_view(move, TYPICAL_BARS) if len(move) >= TYPICAL_BARS else None
    chosen = np.flatnonzero(whole)
    for part in np.array_split(chosen, len(chosen) // 4096 + 1):
        if windows is not None and len(part):
            found[part] = np.median(windows[at[part] - 1 - TYPICAL_BARS], axis=1)
    for i in np.flatnonzero(~whole):
        known = move[: at[i] - 1] if at[i] - 1 >= TYPICAL_LEAST else move[:TYPICAL_LEAST]
        found[i] = np.median(known) if len(known) else 0.0
    return found


def jumps(bars: Bars, events: Sequence[Event]) -> tuple[Ints, Floats, Floats]:
    """Return bars that open far from the close before, and no event says why.

    Returns
    -------
    (int64 array, float64 array, float64 array), each of shape (K,)
        Index of the bar; open (plus its dividend) / close before; the typical move there.

    NaN: none.
    """
    ratio = bars.open[1:] + bars.dividend[1:]
    ratio /= bars.close[:-1]
    distance = np.log(ratio)
    np.abs(distance, out=distance)
    at = np.flatnonzero(distance > GAP_FLOOR) + 1
    typical = typical_moves(bars.close, at)
    verified = np.array([e.ts // DAY_US for e in events if e.kind == "verified_move"], dtype=np.int64)
    real = np.isin(bars.ts[at] // DAY_US, verified)
    kept = (distance[at - 1] > GAP_MULTIPLE * typical) & ~real
    return at[kept], ratio[at[kept] - 1], typical[kept]


def is_jump(ratio: float, typical: float) -> bool:
    """Say whether open / close before is an E12, where moves of log size ``typical`` are usual."""
    return bool(abs(np.log(ratio)) > max(GAP_FLOOR, GAP_MULTIPLE * typical))


def closed(bars: Bars, t: int) -> float:
    """Return close / close before of a bar: a split is in it too, one wrong open is not."""
    return float(bars.close[t] / bars.close[t - 1])


def made_by(
    bars: Bars, sudden: tuple[Ints, Floats, Floats], events: Sequence[Event]
) -> tuple[int, Event, float] | None:
    """Return the first of some jumps that is not in the prices: an event makes it.

    Parameters
    ----------
    bars : Bars
        Bars that ``events`` are applied to.
    sudden
        What `jumps` returns, or some of it.
    events : sequence of Event
        As for `check_series`.

    Returns
    -------
    (int, Event, float) or None
        Index of the bar; the event without which the bar does not jump; open / close before without it.

    NaN: none.
    """
    effective = at_session_open(events, bars.frame, bars.calendar) if len(sudden[0]) else ()
    for t, ratio, typical in zip(*sudden, strict=True):
        for event, at in zip(events, effective, strict=True):
            factor = effect(at, int(bars.ts[t - 1]), int(bars.ts[t]))
            without = (ratio / factor, closed(bars, int(t)) / factor)
            if factor != 1.0 and not any(is_jump(one, typical) for one in without):
                return int(t), event, float(ratio / factor)
    return None


def take_away(event: Event, key: str) -> str:
    """Return how to take an event of a symbol out of where it was read."""
    if event.place.endswith(".yaml"):
        return f"delete the {event.kind} of {iso(event.ts)} from {event.place}"
    if not event.place.endswith("reply"):
        return f"delete {event.place}"
    return f"set the vendor's {event.kind} aside: nightfold check {key} --adjust 1:1@{iso(event.ts)}"


def near_ratio(ratio: float) -> float:
    """Return n where a price ratio is within 6 % of n or 1/n, of n = 1.5, 2, 3 .. 1000; else 0.

    >>> near_ratio(0.502), near_ratio(97.0), near_ratio(0.62)
    (2, 100, 0)
    """
    up = max(ratio, 1.0 / ratio)
    return min(
        (n for n in RATIOS if abs(up / n - 1.0) <= RATIO_TOLERANCE),
        key=lambda n: abs(up / n - 1.0),
        default=0,
    )


def _shares(n: float) -> tuple[str, str]:
    """Return (new, old) shares of an n-for-1 split in whole numbers."""
    return ("3", "2") if n == 1.5 else (f"{n:g}", "1")


def _session_date(bars: Bars, t: int) -> str:
    """Return the date whose events take effect at a bar: a session may open on the evening before.

    Empty where none does: inside a session.
    """
    day = int(bars.ts[t] // DAY_US * DAY_US)
    dated = [Event(day, "split", 2.0, ""), Event(day + DAY_US, "split", 2.0, "")]
    first, second = at_session_open(dated, bars.frame, bars.calendar)
    span = int(bars.ts[t - 1]), int(bars.ts[t])
    if effect(second, *span) != 1.0 and first.ts < second.ts:
        return iso(day + DAY_US)
    return iso(day) if effect(first, *span) != 1.0 else ""


def _advice(bars: Bars, at: Ints, ratio: Floats, events: Sequence[Event]) -> str:
    """Return the command that would explain the first jump."""
    key, day = bars.symbol, iso(int(bars.ts[at[0]] // DAY_US * DAY_US))
    real, dated = f"nightfold check {key} --verified {day}", _session_date(bars, int(at[0]))
    if abs(np.log(closed(bars, int(at[0])))) <= GAP_FLOOR:  # the open alone: no split
        return f"correct that bar, or if the move is real: {real}"
    for event, effective in zip(events, at_session_open(events, bars.frame, bars.calendar), strict=True):
        factor = effect(effective, int(bars.ts[at[0] - 1]), int(bars.ts[at[0]]))
        if factor != 1.0:  # an event stands there already, of another value than the prices show
            n = near_ratio(float(ratio[0] / factor))
            if event.kind != "split" or not n or event.place.endswith(".yaml"):
                mend = "correct that bar" if event.place.endswith("reply") else take_away(event, key)
                return f"{mend} if it is wrong, or if the move is real: {real}"
            new, old = _shares(n) if ratio[0] < factor else _shares(n)[::-1]
            return (
                f"looks like a {new}:{old} split in place of {event.value:.10g}:1 of {event.place}: "
                f"nightfold check {key} --adjust {new}:{old}@{iso(event.ts)}   (real move: --verified {day})"
            )
    n = near_ratio(float(ratio[0]))
    if not n or not dated:
        return f"correct that bar, or if the move is real: {real}"
    back = [
        i
        for i in range(1, len(at))
        if near_ratio(float(ratio[i] * ratio[0])) == 0 and abs(np.log(ratio[i] * ratio[0])) < GAP_FLOOR
    ]
    if back:  # it comes back by the same factor: a block in another unit
        last = iso(int(bars.ts[at[back[0]] - 1] // DAY_US * DAY_US))
        unit = n if ratio[0] > 1 else 1 / n
        return (
            f"looks like a block in another unit: nightfold check {key} --scale {unit:g}@{dated}..{last}"
            f"   (real move: --verified {day})"
        )
    new, old = _shares(n) if ratio[0] < 1 else _shares(n)[::-1]
    return (
        f"looks like a {new}:{old} {'' if ratio[0] < 1 else 'reverse '}split: "
        f"nightfold check {key} --adjust {new}:{old}@{dated}   (real move: --verified {day})"
    )


def _jump(
    bars: Bars,
    sudden: tuple[Ints, Floats, Floats],
    first: int,
    place: Callable[[Ints], tuple[str, ...]],
    events: Sequence[Event],
) -> Iterator[Finding]:
    at, ratio, typical = sudden
    new = at >= first
    at, ratio, typical = at[new], ratio[new], typical[new]
    if not len(at):
        return
    if made := made_by(bars, (at, ratio, typical), events):
        t, event, left = made
        day, i = iso(int(bars.ts[t] // DAY_US * DAY_US)), int(np.searchsorted(at, t))
        yield Finding(
            "E12", "price gap made by an event", 1, "bar", place(at[i : i + 1]),
            f"open was {ratio[i]:.3f} x the previous close with the {event.kind} {event.value:.10g} of "
            f"{iso(event.ts)} ({event.place}), {left:.3f} x without it; expected no jump on {day}",
            "the prices do not show that event, or show it on another date",
            f"{take_away(event, bars.symbol)}, then: nightfold check {bars.symbol}",
        )  # fmt: skip
        return
    bound = max(GAP_FLOOR, GAP_MULTIPLE * float(typical[0]))
    before = float(bars.close[at[0] - 1] * bars.adj[at[0] - 1])
    n = near_ratio(float(ratio[0]))
    why = "such a move is real only where news or a wrong price made it; a strategy would trade it"
    if n and ratio[0] < 1:
        split = ":".join(_shares(n))
        why = (
            f"a backtest over an unadjusted {split} split reports a {100 * (1 - 1 / n):.0f} % loss "
            "that nobody had"
        )
    elif n:
        why = f"a backtest over it reports a gain of {100 * (n - 1):.0f} % that nobody had"
    yield Finding(
        "E12", "unexplained price gap", len(at), "bar", place(at),
        f"open was {ratio[0]:.3f} x the previous close {before:.10g}; "
        f"expected within {np.exp(-bound):.3f} .. {np.exp(bound):.3f} (floor ln 1.4; "
        f"15 x median move = {GAP_MULTIPLE * float(typical[0]):.2f})",
        why, _advice(bars, at, ratio, events),
    )  # fmt: skip


def reach_of(bars: Bars) -> Floats:
    """Return how many times high or low lies beyond open and close, >= 1, shape (T,)."""
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    return np.asarray(np.maximum(bars.high / top, bottom / bars.low))


def _spike(
    bars: Bars, reach: Floats, real: Mask, first: int, place: Callable[[Ints], tuple[str, ...]]
) -> Iterator[Finding]:
    at = np.flatnonzero((reach >= SPIKE) & ~real)
    at = at[at >= first]
    if not len(at):
        return
    t = int(at[0])
    day = iso(int(bars.ts[t] // DAY_US * DAY_US))
    shown = " ".join(
        f"{name} {getattr(bars, name)[t] * bars.adj[t]:.10g}" for name in ("open", "high", "low", "close")
    )
    yield Finding(
        "E12", "unexplained price spike", len(at), "bar", place(at),
        f"found {shown}; expected high and low within {SPIKE:g} times open and close",
        "stops and limits would fill at prices that nobody traded",
        f"correct that bar, or if it was traded: nightfold check {bars.symbol} --verified {day}",
    )  # fmt: skip


def _gap(
    bars: Bars, context: Context, first: int, place: Callable[[Ints], tuple[str, ...]]
) -> Iterator[Finding]:
    missing = missing_between(bars.ts[:-1], bars.ts[1:], bars.frame, bars.calendar)
    at = np.flatnonzero(missing > context.max_gap_bars) + 1
    at = at[at >= first]
    if not len(at):
        return
    t, what = int(at[0]), unit_of(bars.calendar)
    yield Finding(
        "E11", "gap in time", len(at), "gap", place(at),
        f"found {missing[t - 1]} {what} missing between {iso(int(bars.ts[t - 1]))} and "
        f"{iso(int(bars.ts[t]))}; expected at most {context.max_gap_bars}",
        "indicators and exits would run over the gap as if nothing had happened",
        "bring the missing bars, or set prices.max_gap_bars in nightfold.yaml where nothing was traded, "
        f"then: nightfold check {bars.symbol}",
    )  # fmt: skip


def _stuck(close: Floats) -> Ints:
    """Return the first bar of each run of more than 20 equal closes."""
    starts = np.flatnonzero(np.concatenate([[True], close[1:] != close[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(close)]]))
    return np.asarray(starts[lengths > EQUAL_CLOSES])


def outliers(bars: Bars, reach: Floats, explained: Ints) -> Ints:
    """Return bars whose close, or whose range beyond open and close, is far from the typical move."""
    move = np.zeros(len(bars))
    move[1:] = np.abs(np.diff(np.log(bars.close)))
    move = np.maximum(move, np.log(reach))
    at = np.flatnonzero(move > MOVE_FLOOR)
    at = at[(at > 0) & ~np.isin(at, explained)]
    return np.asarray(at[move[at] > MOVE_MULTIPLE * typical_moves(bars.close, at)])


def _volume_changes(volume: Floats) -> Ints:
    """Return every tenth bar at which the median of 20 volumes is over 6 times, or under 1/6, that before."""
    if len(volume) < 2 * VOLUME_BARS:
        return np.empty(0, dtype=np.int64)
    step = VOLUME_BARS // 2
    medians = np.median(sliding_window_view(volume, VOLUME_BARS)[::step], axis=1)
    before, after = medians[:-2], medians[2:]
    high, low = np.maximum(before, after), np.minimum(before, after)
    changed = (low > 0.0) & (high > VOLUME_RATIO * low)
    return np.asarray((np.flatnonzero(changed) + 2) * step)


def _late(bars: Bars, context: Context) -> str:
    """Return by how much the last bar is older than `asof` allows, or nothing."""
    if context.asof is None or not context.fresh:
        return ""
    if knows_sessions(bars.calendar):
        late = late_by(bars, context.asof)
        return f"{late} bars" if late > LATE_BARS else ""
    late = int(missing_between(bars.ts[-1:], np.array([context.asof]), bars.frame, bars.calendar)[0])
    return f"{late} weekdays" if late > LATE_DAYS else ""


def check_series(
    bars: Bars, context: Context, events: Sequence[Event], *, raw: RawBars | None = None, first: int = 0
) -> list[Finding]:
    """Return what is wrong with a series as a whole; errors first.

    Parameters
    ----------
    bars : Bars
        T split-adjusted bars that passed the row rules.
    context : Context
        Asof, largest gap, last stamp of the group.
    events : sequence of Event
        The symbol's own and its vendor's; splits, scales and dividends are in ``bars`` already.
    raw : RawBars or None
        The same T rows as they came, for file and line in messages.
    first : int
        Bars before this index were looked at when they were stored.

    Returns
    -------
    list of Finding
        E11, E12, then W02, W03, W05, W07, W09. Empty for a series without a finding.

    NaN: none; the row rules refuse it before.
    """

    def place(rows: Ints) -> tuple[str, ...]:
        return tuple(iso(int(bars.ts[t])) for t in rows[:3]) if raw is None else places(raw, rows)

    sudden, reach = jumps(bars, events), reach_of(bars)
    verified = [event.ts // DAY_US for event in events if event.kind == "verified_move"]
    real = np.isin(bars.ts // DAY_US, verified) if verified else np.zeros(len(bars), dtype=np.bool_)
    found = [
        *_gap(bars, context, first, place),
        *_jump(bars, sudden, first, place, events),
        *_spike(bars, reach, real, first, place),
    ]
    odd = outliers(bars, reach, sudden[0])
    odd = odd[~real[odd]]
    for rule, title, rows in (
        ("W02", f"more than {EQUAL_CLOSES} equal closes", _stuck(bars.close)),
        ("W05", "outlier kept", odd),
        ("W09", "median volume of 20 bars changed more than 6-fold", _volume_changes(bars.volume)),
    ):
        rows = rows[rows >= first]
        if len(rows):
            found.append(Finding(rule, title, len(rows), "bar", place(rows), "", "", ""))
    last = np.array([len(bars) - 1])
    if late := _late(bars, context):
        found.append(
            Finding("W03", f"last bar is {late} older than expected", 1, "bar", place(last), "", "", "")
        )
    if context.group_last is not None and context.group_last > bars.ts[-1]:
        behind = int(
            missing_between(bars.ts[-1:], np.array([context.group_last]), bars.frame, bars.calendar)[0]
        )
        if behind > GROUP_BARS:
            title = f"series ends {behind} bars before others of its calendar"
            found.append(Finding("W07", title, 1, "bar", place(last), "", "", ""))
    return found
