"""Events that a user declares are compared with the prices before they are kept: `refuse_unfounded`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.bars.findings import Context, RawBars
from engine.bars.model import Bars, iso
from engine.bars.series import (
    SPIKE,
    closed,
    is_jump,
    jumps,
    made_by,
    outliers,
    reach_of,
    take_away,
    typical_moves,
)
from engine.bars.splits import DAY_US, Event, adjust, at_session_open, rescale
from engine.errors import ConfigError
from engine.sources.events import combine

NOTHING = "Nothing was written"
VISIBLE = 4.0  # typical moves; a smaller factor drowns in the move of its night


def based_on(rows: RawBars, events: Sequence[Event], context: Context) -> tuple[RawBars, Bars]:
    """Return rows in one unit, and the bars that they are after their events.

    Raises
    ------
    DataError
        E02, as `engine.bars.splits.adjust`.
    """
    effective = at_session_open(events, context.frame, context.calendar)
    kept = rescale(rows, effective)
    return kept, adjust(kept, effective, context.symbol, context.frame, context.calendar)


def _opened(bars: Bars, t: int) -> float:
    """Return open (plus its dividend) / close before, as `jumps` does."""
    return float((bars.open[t] + bars.dividend[t]) / bars.close[t - 1])


def _typical(bars: Bars, t: int) -> float:
    return float(typical_moves(bars.close, np.array([t]))[0])


def _unexplained(bars: Bars, events: Sequence[Event]) -> str:
    """Return the jumps there are, to name the date that was meant."""
    at, ratio, _ = jumps(bars, events)
    shown = [f"{iso(int(bars.ts[t]))} ({r:.3f} x)" for t, r in zip(at[:3], ratio, strict=False)]
    return f"Unexplained jumps: {', '.join(shown)}. " if shown else "There is no unexplained jump. "


def _refuse_made(bars: Bars, t: int, events: Sequence[Event]) -> None:
    """Refuse where an event that is there already makes the jump at a bar: it is to go first."""
    sudden = (np.array([t]), np.array([_opened(bars, t)]), np.array([_typical(bars, t)]))
    if is_jump(float(sudden[1][0]), float(sudden[2][0])) and (made := made_by(bars, sudden, events)):
        _, event, left = made
        raise ConfigError(
            f"{bars.symbol}: the {event.kind} {event.value:.10g} of {iso(event.ts)} ({event.place}) makes "
            f"the jump of {iso(int(bars.ts[t]))}: {sudden[1][0]:.3f} x the close before, {left:.3f} x "
            "without it. "
            f"First {take_away(event, bars.symbol)}, then: nightfold check {bars.symbol}. {NOTHING}"
        )


def _refuse_factor(event: Event, rows: RawBars, before: Sequence[Event], context: Context) -> None:
    """Refuse a split or a scale that leaves or makes a jump at an edge, or takes its open further away.

    A factor of the size of usual moves is not to be seen, and is believed. Dividends stand aside: one may be
    impossible until the event is there.
    """
    before = [e for e in before if e.kind != "dividend"]
    after = combine([event], [e for e in before if (e.ts, e.kind) != (event.ts, event.kind)])
    bars, changed = based_on(rows, before, context)[1], based_on(rows, after, context)[1]
    (effective,) = at_session_open([event], context.frame, context.calendar)
    stamps = [effective.ts] if event.kind == "split" else [effective.ts, effective.until + DAY_US]
    edges = [int(t) for t in np.searchsorted(bars.ts, stamps)]
    what = f"{event.value:.10g}:1 split" if event.kind == "split" else f"scale of {event.value:.10g}"
    named = f"{context.symbol}: {what} of {iso(event.ts)}"
    inside = [t for t in dict.fromkeys(edges) if 0 < t < len(bars)]
    if not inside or (len(edges) == 2 and edges[0] == edges[1]):
        raise ConfigError(
            f"{named} cannot be compared with the prices: found bars from {iso(int(bars.ts[0]))} to "
            f"{iso(int(bars.ts[-1]))}; expected some on both sides of it. {NOTHING}"
        )
    verified = [e.ts // DAY_US for e in after if e.kind == "verified_move"]
    for t in inside:
        _refuse_made(bars, t, [e for e in before if (e.ts, e.kind) != (event.ts, event.kind)])
        was, made, day = _opened(bars, t), _opened(changed, t), iso(int(bars.ts[t]))
        typical, real = _typical(changed, t), changed.ts[t] // DAY_US in verified
        jump = is_jump(made, typical) or is_jump(closed(changed, t), typical)
        nearer = abs(np.log(made)) < abs(np.log(was))
        closer = abs(np.log(closed(changed, t))) < abs(np.log(closed(bars, t)))
        fits = closer if real else not jump  # a real move of that day excuses a jump, not a false event
        if fits and (nearer or abs(np.log(made / was)) <= VISIBLE * typical):
            continue
        if nearer and (real or not is_jump(made, typical)):
            raise ConfigError(
                f"{context.symbol}: the close of {day} is {closed(bars, t):.3f} x the close before: a {what} "
                f"there would make it {closed(changed, t):.3f}; expected open and close to show it. "
                f"Correct the open of that bar, or if the move is real: nightfold check {context.symbol} "
                f"--verified {iso(int(bars.ts[t] // DAY_US * DAY_US))}. {NOTHING}"
            )
        if not nearer:
            raise ConfigError(
                f"{context.symbol}: the open of {day} is {was:.3f} x the close before: a {what} there would "
                f"make it {made:.3f}; expected nearer to 1. {_unexplained(bars, before)}{NOTHING}"
            )
        raise ConfigError(
            f"{context.symbol}: the open of {day} is {was:.3f} x the close before: a {what} there would "
            f"make it {made:.3f}, still a jump; expected a factor near {1 / was:.3g}, found "
            f"{made / was:.3g}. {NOTHING}"
        )


def _refuse_verified(event: Event, rows: RawBars, before: Sequence[Event], context: Context) -> None:
    """Refuse a verified move where no bar of its date moves so that a check would name it."""
    _, bars = based_on(rows, before, context)
    of_day = np.flatnonzero(bars.ts // DAY_US == event.ts // DAY_US)
    if not len(of_day):
        raise ConfigError(
            f"{context.symbol}: there is no bar of {iso(event.ts)} whose move is real. {NOTHING}"
        )
    for t in of_day[of_day > 0]:
        _refuse_made(bars, int(t), before)
    reach, (at, _, _) = reach_of(bars), jumps(bars, before)
    odd = np.concatenate([at, np.flatnonzero(reach >= SPIKE), outliers(bars, reach, at)])
    if not np.isin(of_day, odd).any():
        t = int(of_day[0])
        moved = f"the open is {_opened(bars, t):.3f} x the close before; " if t else ""
        raise ConfigError(
            f"{context.symbol}: no bar of {iso(event.ts)} jumps: {moved}expected a move that a check names "
            f"(E12, W05). {_unexplained(bars, before)}{NOTHING}"
        )


def refuse_unfounded(
    rows: RawBars, context: Context, own: Sequence[Event], others: Sequence[Event], declared: Sequence[Event]
) -> None:
    """Refuse events that the prices do not show; each is compared with all the others in place.

    Parameters
    ----------
    rows : RawBars
        T checked rows in raw terms.
    context : Context
        Symbol, frame and calendar.
    own : sequence of Event
        What is kept of the symbol; one of the kind and date of a declared one is to be replaced by it.
    others : sequence of Event
        The vendor's; the symbol's own count before them.
    declared : sequence of Event
        Splits, scales and verified moves.

    Raises
    ------
    ConfigError
        A split or scale leaves or makes a jump, or takes an open further away; a verified move is no move;
        or an event that is kept already makes the jump.
    DataError
        E02: a kept event has an impossible value.

    NaN: none in ``rows``.
    """
    for event in declared:
        beside = [e for e in declared if (e.ts, e.kind) != (event.ts, event.kind)]
        before = combine([*own, *beside], others)
        check = _refuse_verified if event.kind == "verified_move" else _refuse_factor
        check(event, rows, before, context)
