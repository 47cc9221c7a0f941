"""When a market trades: its sessions, the bars that are expected, and when each is complete.

Three calendars need nothing: ``24/7`` (every frame), ``weekdays`` (Monday to Friday, 00:00 to 24:00 UTC) and
``observed`` (a session market whose holidays and hours are not known, so that no bar is expected). The
four-letter code of an exchange, such as ``XNYS``, is read from the package exchange_calendars: holidays, half
days, changes of the clock, breaks at noon.
Within a session bars stand on the frame's grid from its open; the last may be shorter than the frame, and
bars that lie whole in a break are not expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import ConfigError, closest, require

Ints = npt.NDArray[np.int64]

ALWAYS, WEEKDAYS, OBSERVED = "24/7", "weekdays", "observed"
EXCHANGE = re.compile(r"[A-Z][A-Z0-9]{3}")
DAY_US = 86_400_000_000
FIRST_US = int(np.datetime64("1900-02-01", "us").astype(np.int64))
LAST_US = int(np.datetime64("2099-12-01", "us").astype(np.int64))
REACH_US = 15 * DAY_US  # no exchange was closed for longer, since 1933 at least


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of one calendar, oldest first.

    Parameters
    ----------
    day : int64 array, shape (S,)
        Each session's date at 00:00 UTC, microseconds since 1970: the stamp of its daily bar.
    open, close : int64 array, shape (S,)
        When it begins and ends, microseconds UTC.
    pause, resume : int64 array, shape (S,)
        Its break; both the close where there is none.
    """

    day: Ints
    open: Ints
    close: Ints
    pause: Ints
    resume: Ints


def knows_sessions(calendar: str) -> bool:
    """Say whether a calendar tells which bars are expected; ``observed`` does not."""
    return calendar != OBSERVED


def edition(calendar: str) -> str:
    """Return the calendar's name, of an exchange with the version of the package that knows its sessions."""
    if not EXCHANGE.fullmatch(calendar):
        return calendar
    return f"{calendar} exchange_calendars {'.'.join(metadata.version('exchange_calendars').split('.')[:2])}"


def _package(calendar: str) -> Any:
    return require("exchange_calendars", needed_by=f"calendar {calendar!r}", extra="calendars")


def require_known(calendar: str) -> None:
    """Refuse a calendar that neither we nor the package know.

    Raises
    ------
    ConfigError
        Names the closest.
    MissingExtra
        exchange_calendars is not installed.
    """
    names = [ALWAYS, WEEKDAYS, OBSERVED]
    if EXCHANGE.fullmatch(calendar):
        names = _package(calendar).get_calendar_names()
    if calendar not in names:
        raise ConfigError(f"calendar {calendar!r} is not known. {closest(calendar, names)}")


def zone_of(calendar: str) -> str:
    """Return the zone in which a market's people read the clock; New York where it is not known.

    >>> zone_of("24/7"), zone_of("observed")
    ('UTC', 'America/New_York')
    """
    if calendar in (ALWAYS, WEEKDAYS):
        return "UTC"
    if calendar == OBSERVED:
        return "America/New_York"
    return str(_package(calendar).get_calendar(calendar, start="2020-01-01", end="2020-12-31").tz)


@lru_cache(maxsize=64)
def _between_years(calendar: str, first: int, last: int) -> Sessions:
    """Return the sessions of whole years, as far as the calendar reaches."""
    begin, end = f"{first}-01-01", f"{last}-12-31"
    if calendar == WEEKDAYS:
        days = np.arange(begin, np.datetime64(end) + 1, dtype="datetime64[D]")
        day = days[np.is_busday(days)].astype("datetime64[us]").astype(np.int64)
        table = [day, day, day + DAY_US, day + DAY_US, day + DAY_US]
    else:
        require_known(calendar)
        package = _package(calendar)
        kind = type(package.get_calendar(calendar, start="2020-01-06", end="2020-01-10"))
        oldest, newest = kind.bound_min(), kind.bound_max()
        begin = begin if oldest is None else max(begin, str(oldest.date()))
        end = end if newest is None else min(end, str(newest.date()))
        frame = package.get_calendar(calendar, start=begin, end=end).schedule
        day = frame.index.to_numpy().astype("datetime64[us]").astype(np.int64)
        opens, closes, pause, resume = (
            frame[name].dt.tz_convert(None).to_numpy().astype("datetime64[us]")
            for name in ("open", "close", "break_start", "break_end")
        )
        whole = np.isnat(pause)
        pause[whole], resume[whole] = closes[whole], closes[whole]
        table = [day, *(column.astype(np.int64) for column in (opens, closes, pause, resume))]
    for column in table:
        column.flags.writeable = False
    return Sessions(*table)


def sessions(calendar: str, first: int, last: int) -> Sessions:
    """Return the sessions around a span, and some before and after it.

    Parameters
    ----------
    calendar : str
        ``weekdays`` or the code of an exchange.
    first, last : int
        Microseconds UTC, first <= last; before 1900 and after 2100 nothing is a session.

    Returns
    -------
    Sessions
        Of whole decades, so that spans near each other share one table; read-only.

    Raises
    ------
    ConfigError
        The package cannot give the sessions of that span.
    MissingExtra
        exchange_calendars is not installed.
    """
    first, last = (min(max(it, FIRST_US), LAST_US) for it in (first, last))
    years = [int(str(np.datetime64(it, "us"))[:4]) for it in (first - REACH_US, last + REACH_US)]
    try:
        found = _between_years(calendar, years[0] // 10 * 10, years[1] // 10 * 10 + 9)
    except ValueError as error:  # the package's word for a name or a span that it cannot serve
        raise ConfigError(
            f"calendar {calendar!r} has no sessions for {years[0]} to {years[1]}: {str(error)[:200]}. "
            "Set calendar: observed for the symbol in nightfold.yaml"
        ) from None
    known = len(found.day) and first >= found.day[0] - REACH_US and last <= found.day[-1] + REACH_US
    if not known:
        span = " to ".join(str(np.datetime64(int(it), "us"))[:10] for it in found.day[[0, -1]])
        wanted = " to ".join(str(np.datetime64(it, "us"))[:10] for it in (first, last))
        raise ConfigError(
            f"calendar {calendar!r} knows sessions of {span}, asked for {wanted}. "
            "Bring a newer exchange_calendars, or set calendar: observed for the symbol in nightfold.yaml"
        )
    return found


def _slots(table: Sessions, frame_us: int) -> tuple[Ints, Ints, Ints]:
    """Return each session's slots up to its close, the first whole in its break, and how many of them are."""
    until_close = -((table.open - table.close) // frame_us)
    first = -((table.open - table.pause) // frame_us)
    return until_close, first, np.maximum((table.resume - table.open) // frame_us - first, 0)


def expected_before(ts: Ints, frame_us: int, calendar: str) -> Ints:
    """Return how many expected bars open before each stamp, counted from one point for the whole call.

    Differences are what counts: the expected bars of [a, b) are ``expected_before(b) - expected_before(a)``.

    Parameters
    ----------
    ts : int64 array, any shape
        Microseconds UTC, any moments.
    frame_us : int
        Length of the bars, microseconds; a day = one bar a session, at its date's 00:00 UTC.
    calendar : str
        Any but ``observed``.

    Returns
    -------
    int64 array, shape of ``ts``

    >>> friday, monday = 1_704_412_800_000_000, 1_704_672_000_000_000
    >>> np.diff(expected_before(np.array([friday, monday]), DAY_US, "weekdays")).tolist()
    [1]
    """
    if calendar == ALWAYS or ts.size == 0:
        return np.asarray(-(-ts // frame_us))
    table = sessions(calendar, int(ts.min()), int(ts.max()))
    if frame_us == DAY_US:
        return np.asarray(np.searchsorted(table.day, ts), dtype=np.int64)
    count, first, skipped = _slots(table, frame_us)
    before = np.concatenate([[0], np.cumsum(count - skipped)])
    at = np.searchsorted(table.open, ts) - 1  # the last session that opened before
    begun = np.maximum(at, 0)
    slot = np.clip(-((table.open[begun] - ts) // frame_us), 0, count[begun])
    slot -= np.clip(slot - first[begun], 0, skipped[begun])
    return np.where(at < 0, 0, before[begun] + slot)


def is_expected(ts: Ints, frame_us: int, calendar: str) -> npt.NDArray[np.bool_]:
    """Say of each stamp whether a bar is expected to open there; bool array, shape of ``ts``."""
    return np.asarray(expected_before(ts + 1, frame_us, calendar) > expected_before(ts, frame_us, calendar))


def expected_stamps(first: int, stop: int, frame_us: int, calendar: str) -> Ints:
    """Return the opens of the bars expected in [first, stop), int64 microseconds UTC, shape (K,).

    Parameters
    ----------
    first, stop : int
        Microseconds UTC.
    frame_us, calendar
        As in `expected_before`.
    """
    if stop <= first:
        return np.empty(0, dtype=np.int64)
    if calendar == ALWAYS:
        return np.arange(-(-first // frame_us), -(-stop // frame_us), dtype=np.int64) * frame_us
    table = sessions(calendar, first, stop)
    if frame_us == DAY_US:
        found = table.day
    else:
        near = slice(*np.searchsorted(table.close, [first, stop + REACH_US]))
        cut = Sessions(*(getattr(table, name)[near] for name in ("day", "open", "close", "pause", "resume")))
        count, broken, skipped = _slots(cut, frame_us)
        session = np.repeat(np.arange(len(count)), count)
        slot = np.arange(len(session)) - np.repeat(np.cumsum(count) - count, count)
        inside = (slot >= broken[session]) & (slot < (broken + skipped)[session])
        found = (cut.open[session] + slot * frame_us)[~inside]
    return np.asarray(found[slice(*np.searchsorted(found, [first, stop]))])


def complete_at(ts: Ints, frame_us: int, calendar: str) -> Ints:
    """Return when each bar of a calendar with sessions is complete, int64 microseconds UTC, shape of ``ts``.

    A daily bar at its session's close, on a half day early; another one frame after its open, or at the
    close where that comes first. A stamp outside all sessions (E09 refuses it) one frame after.
    """
    end = ts + frame_us
    if calendar == ALWAYS or ts.size == 0:
        return end
    table = sessions(calendar, int(ts.min()), int(ts.max()))
    daily = frame_us == DAY_US
    at = np.searchsorted(table.day if daily else table.open, ts, side="right") - 1
    begun = np.maximum(at, 0)
    close = table.close[begun]
    if daily:
        return np.where((at >= 0) & (table.day[begun] == ts), close, end)
    return np.where((at >= 0) & (ts < close), np.minimum(end, close), end)


def periods(ts: Ints, frame_us: int, calendar: str) -> tuple[Ints, Ints, Ints]:
    """Return the coarser bar in which each finer one lies: its stamp, and when it begins and ends.

    Parameters
    ----------
    ts : int64 array, shape (T,), T >= 1
        Opens of finer bars inside the calendar's sessions.
    frame_us, calendar
        Of the coarser bars, as in `expected_before`.

    Returns
    -------
    (int64 array, int64 array, int64 array), each of shape (T,)
        24/7: whole frames from 00:00 UTC. Others: a session's date, open and close, or whole frames from its
        open, the last one cut at its close.
    """
    if calendar == ALWAYS:
        start = ts // frame_us * frame_us
        return start, start, start + frame_us
    table = sessions(calendar, int(ts.min()), int(ts.max()))
    at = np.maximum(np.searchsorted(table.open, ts, side="right") - 1, 0)
    opened, closed = table.open[at], table.close[at]
    if frame_us == DAY_US:
        return table.day[at], opened, closed
    start = opened + (ts - opened) // frame_us * frame_us
    return start, start, np.minimum(start + frame_us, closed)
