"""One symbol's bars: the `Bars` record, frames, and when a bar is known."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from engine.bars.calendars import OBSERVED, complete_at

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MINUTE_US = 60_000_000
FRAME_US = {
    "1m": MINUTE_US, "5m": 5 * MINUTE_US, "15m": 15 * MINUTE_US, "30m": 30 * MINUTE_US,
    "1h": 60 * MINUTE_US, "4h": 240 * MINUTE_US, "1d": 1440 * MINUTE_US,
}  # fmt: skip
PRICE_COLUMNS = ("open", "high", "low", "close")
COLUMNS = (*PRICE_COLUMNS, "volume", "adj", "dividend")


@dataclass(frozen=True, eq=False)
class Bars:
    """One symbol's checked bars, oldest first.

    Parameters
    ----------
    symbol, frame, calendar : str
        Canonical key, one of `FRAME_US`, and a calendar of `engine.bars.calendars`.
    ts : int64 array, shape (T,), strictly increasing
        Open of each bar, microseconds since 1970, UTC.
    open, high, low, close : float64 array, shape (T,)
        Split-adjusted prices.
    volume : float64 array, shape (T,)
        Split-adjusted units.
    adj : float64 array, shape (T,)
        Cumulative split factor: raw price = price * adj, raw volume = volume / adj.
    dividend : float64 array, shape (T,)
        Cash per adjusted unit at the first bar on or after an ex-date, else 0.

    NaN: none; `engine.bars.checks` refuses such bars before.
    """

    symbol: str
    frame: str
    calendar: str
    ts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    adj: Floats
    dividend: Floats

    def __post_init__(self) -> None:
        """Freeze the arrays: bars are shared between stages and never changed."""
        for field in fields(self)[3:]:
            dtype = np.int64 if field.name == "ts" else np.float64
            column = np.ascontiguousarray(getattr(self, field.name), dtype=dtype)
            column = column.view()
            column.flags.writeable = False
            object.__setattr__(self, field.name, column)
            if len(column) != len(self.ts):
                raise ValueError(f"column {field.name} has {len(column)} rows, ts has {len(self.ts)}")

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.ts)

    def slice(self, start: int | None, stop: int | None) -> Bars:
        """Return the bars of the half-open index range."""
        arrays = {f.name: getattr(self, f.name)[start:stop] for f in fields(self)[3:]}
        return Bars(self.symbol, self.frame, self.calendar, **arrays)


def known_at(ts: Ints, frame: str, calendar: str) -> Ints:
    """Return when each bar is complete, int64 microseconds UTC, shape (T,).

    A 24/7 bar is known one frame after its open, a bar of a calendar with sessions at the session's close
    where that comes first (half days too), a daily one at that close. A daily bar of an ``observed`` market
    is known at 21:00 UTC of its date: the New York close (16:00) in winter, one hour late in summer, so
    never early.
    """
    if calendar == OBSERVED:
        return ts + (21 * 60 * MINUTE_US if frame == "1d" else FRAME_US[frame])
    return complete_at(ts, FRAME_US[frame], calendar)


def iso(ts: int) -> str:
    """Return a stamp as ISO text, the date alone where the time is midnight."""
    text = np.datetime_as_string(np.datetime64(int(ts), "us"), unit="s")
    return str(text).removesuffix("T00:00:00")
