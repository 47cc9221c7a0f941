"""Coarser bars from finer ones: `resample`. Never the other way: what happened inside a bar is not in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engine.bars.calendars import expected_before, is_expected, knows_sessions, periods
from engine.bars.model import FRAME_US, Bars, Ints, iso
from engine.errors import ConfigError, DataError, closest


@dataclass(frozen=True, eq=False)
class Resampled:
    """Coarser bars, and those that could not be made.

    Parameters
    ----------
    bars : Bars
        N whole bars; N = 0 where none is whole.
    left_out : int64 array, shape (K,)
        Stamps of bars that were begun and are over, with at least one base bar and not all; microseconds UTC.
    """

    bars: Bars
    left_out: Ints

    def said(self, base: str) -> list[str]:
        """Return one line where bars were left out, for people; ``base`` is the frame they were made from."""
        if not len(self.left_out):
            return []
        first = ", ".join(iso(int(ts)) for ts in self.left_out[:3])
        count = len(self.left_out)
        return [
            f"{count} {self.bars.frame} bar{'' if count == 1 else 's'} left out, first {first}: "
            f"some of the {base} bars inside are missing"
        ]


def _refuse(bars: Bars, frame: str) -> None:
    if frame not in FRAME_US:
        raise ConfigError(f"frame {frame!r} is not known. {closest(frame, FRAME_US)}")
    if FRAME_US[frame] <= FRAME_US[bars.frame] or FRAME_US[frame] % FRAME_US[bars.frame]:
        raise ConfigError(
            f"{bars.symbol} has {bars.frame} bars, from which {frame} bars cannot be made; "
            f"expected a frame that is a whole multiple of {bars.frame}"
        )
    if not knows_sessions(bars.calendar):
        raise ConfigError(
            f"{bars.symbol} has calendar {bars.calendar!r}, which does not say which {bars.frame} bars "
            f"belong to one of {frame}; expected 24/7, weekdays, or the code of an exchange such as XNYS"
        )


def resample(bars: Bars, frame: str) -> Resampled:
    """Make coarser bars: open first, high highest, low lowest, close last, volume and dividend summed.

    A bar exists only where every base bar that the calendar expects in it is there; a bar that is still open
    is no bar yet. Whole frames count from 00:00 UTC in a 24/7 market, from the session's open in others.
    The first T base bars give the first of the same bars, so that a later one changes none.

    Parameters
    ----------
    bars : Bars
        T base bars on the grid of a calendar that knows its sessions; prices have one split basis.
    frame : str
        A whole multiple of ``bars.frame``.

    Returns
    -------
    Resampled
        ``adj`` is that of the last base bar. A dividend whose bar is left out is paid on the next one, as if
        it had been held over: nobody loses it. One before the first whole bar is left out.

    NaN: none in, none out.

    Raises
    ------
    ConfigError
        The frame is not a whole multiple, or the calendar does not know its sessions.
    DataError
        E09: a base bar that the calendar does not expect.
    """
    _refuse(bars, frame)
    base_us, frame_us, calendar = FRAME_US[bars.frame], FRAME_US[frame], bars.calendar
    if len(bars) == 0:
        return Resampled(replace(bars, frame=frame), np.empty(0, dtype=np.int64))
    odd = np.flatnonzero(~is_expected(bars.ts, base_us, calendar))
    if len(odd):
        raise DataError(
            f"{len(odd)} {bars.frame} bars of {bars.symbol} lie outside the sessions of calendar {calendar}, "
            f"first {iso(int(bars.ts[odd[0]]))}; expected none. Set the calendar of {bars.symbol} in "
            f"nightfold.yaml, then: nightfold check {bars.symbol}",
            rule="E09", symbol=bars.symbol, rows=tuple(iso(int(ts)) for ts in bars.ts[odd[:3]]),
        )  # fmt: skip
    stamp, begin, end = periods(bars.ts, frame_us, calendar)  # each (T,)
    first = np.flatnonzero(np.concatenate([[True], stamp[1:] != stamp[:-1]]))  # (P,): one a period
    last = np.concatenate([first[1:], [len(bars)]]) - 1
    wanted = expected_before(end[first], base_us, calendar) - expected_before(begin[first], base_us, calendar)
    whole = last - first + 1 == wanted
    newest = np.array([bars.ts[-1] + 1, end[-1]])
    still_open = np.ptp(expected_before(newest, base_us, calendar)) > 0  # bars of it may come yet
    left_out = ~whole
    left_out[-1] &= not still_open
    kept, until = first[whole], last[whole]
    if len(kept) == 0:
        return Resampled(replace(bars.slice(0, 0), frame=frame), stamp[first[left_out]])
    paid_from = np.concatenate([kept[:1], until[:-1] + 1])
    # reduceat runs on to the next start, so the bars between two whole ones are cut away for the rest
    pairs = np.stack([kept, until + 1], axis=1).reshape(-1)  # (2N,): start, stop, start, stop, ...
    pairs = pairs if pairs[-1] < len(bars) else pairs[:-1]
    made = Bars(
        bars.symbol, frame, calendar, stamp[kept],
        bars.open[kept],
        np.maximum.reduceat(bars.high, pairs)[::2],
        np.minimum.reduceat(bars.low, pairs)[::2],
        bars.close[until],
        np.add.reduceat(bars.volume, pairs)[::2],
        bars.adj[until],
        np.add.reduceat(bars.dividend[: until[-1] + 1], paid_from),
    )  # fmt: skip
    return Resampled(made, stamp[first[left_out]])
