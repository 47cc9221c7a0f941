"""The bars to come, and the clock on the wall: what is known of a market's calendar in advance.

Only a window's own stamps are read, so a forecast never depends on whether later bars exist yet.
An `observed` market trades on weekdays (which of them are holidays is not known) and, within a day, at
the times at which its newest sessions had bars. Calendars with sessions say it themselves: as they are known
today, so that a day on which an exchange closed unforeseen is no session here either.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from engine.bars.calendars import ALWAYS, OBSERVED, REACH_US, WEEKDAYS, expected_stamps, zone_of
from engine.bars.model import FRAME_US, Ints
from engine.forecasts.cuts import DAY_US, THURSDAY

HOUR_US = 3_600_000_000
SESSION_ZONE = "America/New_York"  # of `observed` calendars, as in `engine.bars.model.known_at`
CLOCK_DAYS = 14  # the newest bars of a session market that show its hours


def local_wall_clock(ts: Ints, zone: str) -> Ints:
    """Return UTC stamps as the wall clock of a zone showed them, microseconds since 1970.

    >>> winter, summer = 1_704_216_600_000_000, 1_719_927_000_000_000
    >>> (local_wall_clock(np.array([winter, summer]), "America/New_York") - [winter, summer]) // HOUR_US
    array([-5, -4])
    """
    if zone == "UTC":
        return ts
    place, epoch = ZoneInfo(zone), datetime(1970, 1, 1, tzinfo=UTC)
    hours, inverse = np.unique(ts // HOUR_US, return_inverse=True)  # an offset changes on the hour
    shifts = [
        (epoch + timedelta(hours=int(hour))).astimezone(place).utcoffset() or timedelta() for hour in hours
    ]
    offsets = np.array([shift // timedelta(microseconds=1) for shift in shifts], dtype=np.int64)
    return np.asarray(ts + offsets[inverse].reshape(ts.shape), dtype=np.int64)


def _utc(wall: int, zone: str) -> int:
    """Return the UTC stamp of a wall-clock time."""
    guess = wall
    for _ in range(2):  # the offset in force an offset away may be another
        guess = wall - (int(local_wall_clock(np.array([guess]), zone)[0]) - guess)
    return guess


def _next_weekday(day: int) -> int:
    """Return the weekday after a day, both as days since 1970."""
    day += 1
    while (day + THURSDAY) % 7 > 4:
        day += 1
    return day


def future_stamps(stamps: Ints, frame: str, calendar: str, horizon: int) -> Ints:
    """Return the opens of the bars that follow a window.

    Parameters
    ----------
    stamps : int64 array, shape (T,), T >= 1
        Opens of the window's bars, microseconds UTC; the last is the as-of bar.
    frame, calendar : str
        As in `Bars`.
    horizon : int
        h.

    Returns
    -------
    int64 array, shape (h,)
        24/7: one frame apart. Calendar with sessions: the next bars it expects. Observed: the next
        weekdays; within a day the times at which the newest two weeks had bars, in New York time.

    >>> friday = np.array(["2024-01-05"], dtype="datetime64[us]").astype(np.int64)
    >>> future_stamps(friday, "1d", "observed", 2).astype("datetime64[us]").astype("datetime64[D]")
    array(['2024-01-08', '2024-01-09'], dtype='datetime64[D]')
    """
    last = int(stamps[-1])
    if calendar == ALWAYS:
        return last + FRAME_US[frame] * np.arange(1, horizon + 1, dtype=np.int64)
    if calendar != OBSERVED:
        ahead = np.empty(0, dtype=np.int64)
        span = max(REACH_US, 4 * horizon * FRAME_US[frame])
        while len(ahead) < horizon:
            ahead, span = expected_stamps(last + 1, last + span, FRAME_US[frame], calendar), 2 * span
        return ahead[:horizon]
    found: list[int] = []
    if frame == "1d":
        day = last // DAY_US
        for _ in range(horizon):
            day = _next_weekday(day)
            found.append(day * DAY_US)
        return np.array(found, dtype=np.int64)
    newest = local_wall_clock(stamps[stamps > last - CLOCK_DAYS * DAY_US], SESSION_ZONE)
    times = np.unique(newest % DAY_US).tolist()
    day, time = divmod(int(newest[-1]), DAY_US)
    while len(found) < horizon:
        later = [one for one in times if one > time]
        if later:
            time = later[0]
        else:
            day, time = _next_weekday(day), times[0]
        found.append(_utc(day * DAY_US + time, SESSION_ZONE))
    return np.array(found, dtype=np.int64)


def stamp_rule(frame: str, calendar: str) -> str:
    """Return which clock a bar's time features are read from; part of the model key.

    >>> stamp_rule("1d", "observed"), stamp_rule("1h", "observed"), stamp_rule("1h", "24/7")
    ('date', 'close America/New_York', 'open UTC')
    """
    if frame == "1d":
        return "date"
    zone = zone_of(calendar)
    return f"open {zone}" if calendar in (ALWAYS, WEEKDAYS) else f"close {zone}"


def wall_clock(ts: Ints, frame: str, rule: str) -> Ints:
    """Return the wall-clock stamps that a `stamp_rule` wants, microseconds, shape of ``ts``.

    A daily bar counts as midnight of its date, without any zone: UTC midnight is the day before in
    New York. Bars of a session market are named by their close, others by their open.
    """
    if rule == "date":
        return np.asarray(ts // DAY_US * DAY_US)
    label, zone = rule.split(" ")
    return local_wall_clock(ts + (FRAME_US[frame] if label == "close" else 0), zone)
