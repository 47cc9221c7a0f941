"""Made sessions and gapless bars, and what a calendar expects, the slow and obvious way."""

from dataclasses import replace

import numpy as np

from engine.bars.calendars import DAY_US, Sessions, expected_stamps
from engine.bars.model import FRAME_US
from engine.bars.synthetic import make_bars

MINUTE = 60_000_000
MONDAY = int(np.datetime64("2024-01-01", "us").astype(np.int64))


def market(seed, days=12):
    """Return made sessions: half days, breaks, opens on the evening before, days off."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(days):
        if rng.random() < 0.25:
            continue  # a holiday
        day = MONDAY + number * DAY_US
        open_ = day + int(rng.choice([-120, 0, 540, 570, 870])) * MINUTE
        close = open_ + int(rng.choice([180, 210, 390, 400, 450])) * MINUTE
        pause = resume = close
        if rng.random() < 0.4:
            pause = open_ + int(rng.choice([60, 90, 100, 105])) * MINUTE
            resume = pause + int(rng.choice([30, 45, 60])) * MINUTE
        rows.append((day, open_, close, pause, resume))
    if not rows:
        return market(seed + 1, days)
    return Sessions(*np.array(rows, dtype=np.int64).T.copy())


def stamps_of_session(table, s, frame_us):
    """Return the bars expected in one session: whole frames from its open, none whole in its break."""
    found, ts = [], int(table.open[s])
    while ts < table.close[s]:
        if not (ts >= table.pause[s] and ts + frame_us <= table.resume[s]):
            found.append(ts)
        ts += frame_us
    return found


def every_stamp(table, frame_us):
    """Return the bars expected in all sessions, oldest first."""
    if frame_us == DAY_US:
        return table.day.tolist()
    return [ts for s in range(len(table.day)) for ts in stamps_of_session(table, s, frame_us)]


def gapless(
    seed, n, frame, calendar="24/7", *, start="2024-01-01", symbol="TEST", tick=0.01, volatility=0.002
):
    """Return made bars on every one of the first ``n`` stamps that a calendar expects from a day on."""
    first = int(np.datetime64(start, "us").astype(np.int64))
    span = n * FRAME_US[frame] * (1 if calendar == "24/7" else 9) + 30 * DAY_US
    bars = make_bars(
        seed, n, frame, start=start, calendar="24/7", symbol=symbol, tick=tick, volatility=volatility
    )
    return replace(
        bars, calendar=calendar, ts=expected_stamps(first, first + span, FRAME_US[frame], calendar)[:n]
    )
