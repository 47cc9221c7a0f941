"""Bars that the calendar expects and that are not there: `gaps`, and in words `said`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.bars.calendars import ALWAYS, expected_before, expected_stamps, knows_sessions
from engine.bars.model import FRAME_US, Bars, Ints, iso, known_at

DAY_US = FRAME_US["1d"]


@dataclass(frozen=True)
class Gaps:
    """What is missing between the first bar and the last.

    Parameters
    ----------
    missing, longest : int
        Expected bars that are not there, and most of them in a row. Of calendar ``observed`` weekdays
        without any bar: its holidays are among them.
    first, after : int
        The bars before the first gap and before the longest, microseconds UTC; 0 where nothing is missing.
    unit : str
        What is counted.
    """

    missing: int
    longest: int
    first: int
    after: int
    unit: str


def _days(ts: Ints) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return (ts // DAY_US).astype("datetime64[D]")


def unit_of(calendar: str) -> str:
    """Return what a calendar's missing bars are counted in."""
    return "bars" if knows_sessions(calendar) else "weekdays"


def missing_between(before: Ints, after: Ints, frame: str, calendar: str) -> Ints:
    """Return how many bars are expected strictly between pairs of stamps.

    Parameters
    ----------
    before, after : int64 arrays, shape (K,)
        Bar opens, microseconds UTC, before < after.
    frame, calendar : str
        As in `Bars`. Of ``observed``, whose holidays and hours are not known, weekdays without any bar are
        counted, whatever the frame.

    Returns
    -------
    int64 array, shape (K,)

    NaN: none.
    """
    if calendar == ALWAYS:
        return np.asarray((after - before) // FRAME_US[frame] - 1)
    if knows_sessions(calendar):
        both = expected_before(np.stack([before + 1, after]), FRAME_US[frame], calendar)
        return np.asarray(both[1] - both[0])
    return np.asarray(np.maximum(np.busday_count(_days(before) + 1, _days(after)), 0))


def late_by(bars: Bars, asof: int) -> int:
    """Return how many bars after the last one are complete at ``asof``, microseconds UTC, and not there.

    Of an ``observed`` market weekdays are counted, holidays among them.
    """
    frame_us, last = FRAME_US[bars.frame], bars.ts[-1:]
    if knows_sessions(bars.calendar):
        after = int(last[0]) + 1
        span = np.array([after, max(after, asof)])
        recent = expected_stamps(max(after, asof - 3 * DAY_US), asof, frame_us, bars.calendar)
        still_open = int((known_at(recent, bars.frame, bars.calendar) > asof).sum())
        return int(np.ptp(expected_before(span, frame_us, bars.calendar))) - still_open
    first_open = last + (asof - known_at(last, bars.frame, bars.calendar)) + frame_us
    return int(missing_between(last, np.maximum(first_open, last + 1), bars.frame, bars.calendar)[0])


def gaps(bars: Bars) -> Gaps:
    """Return what is missing in a series, as its calendar sees it."""
    unit = unit_of(bars.calendar)
    missing = missing_between(bars.ts[:-1], bars.ts[1:], bars.frame, bars.calendar)
    if not missing.any():
        return Gaps(0, 0, 0, 0, unit)
    first, at = int(np.argmax(missing > 0)), int(np.argmax(missing))
    return Gaps(int(missing.sum()), int(missing[at]), int(bars.ts[first]), int(bars.ts[at]), unit)


def said(bars: Bars) -> str:
    """Return the gaps of a series in a few words.

    Returns
    -------
    str
        Such as ``3 of 3270 expected bars missing, first after 2001-09-10, longest gap 2 bars after
        2012-10-26``; without the first where it is the longest, or where it would be a holiday.
    """
    found = gaps(bars)
    if not found.missing:
        return "no bar missing" if found.unit == "bars" else "a bar on every weekday"
    longest = f"longest gap {found.longest} {found.unit} after {iso(found.after)}"
    if found.unit == "bars":
        first = "" if found.first == found.after else f"first after {iso(found.first)}, "
        return f"{found.missing} of {len(bars) + found.missing} expected bars missing, {first}{longest}"
    return f"{found.missing} weekdays without a bar, holidays among them, {longest}"
