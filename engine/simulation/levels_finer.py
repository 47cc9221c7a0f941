"""The finer bars inside each outcome bar of a levels problem: which of two levels traded first.

Exit ``path`` credits a target only where a finer bar strictly after the finer bar of the entry
trades it. `FinerBars` holds them row by row, `finer_moves` takes them from a series of bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.bars.inside import inside
from engine.bars.model import FRAME_US, Bars, Floats, Ints
from engine.errors import LevelsInputError

SLACK = 1e-9  # of a finer bar beyond its own bar, in return units: rounding, far below a tick


@dataclass(frozen=True, eq=False)
class FinerBars:
    """Highs and lows of the finer bars of n rows, in time order (CSR layout).

    Parameters
    ----------
    starts : int64 array, shape (n + 1,)
        Row i holds the finer bars [starts[i], starts[i + 1]); a row may hold none.
    high, low : float64 array, shape (starts[n],)
        Moves against the row's base, e.g. high / base - 1.

    Raises
    ------
    LevelsInputError
        The arrays do not fit together.

    NaN: refused by the problem they belong to.
    """

    starts: Ints
    high: Floats
    low: Floats

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        for name, dtype in (("starts", np.int64), ("high", np.float64), ("low", np.float64)):
            column = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        starts = self.starts
        if starts.ndim != 1 or not len(starts) or starts[0] != 0 or (np.diff(starts) < 0).any():
            raise LevelsInputError(
                f"finer bars: starts was {starts}, expected numbers that begin at 0 and never fall, "
                "one more than rows"
            )
        if self.high.shape != self.low.shape or self.high.shape != (starts[-1],):
            raise LevelsInputError(
                f"finer bars: high has shape {self.high.shape}, low {self.low.shape}; "
                f"expected ({starts[-1]},), the last of starts"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def take(self, rows: Ints) -> FinerBars:
        """Return the finer bars of the rows at ``rows``, int64 array of shape (k,), in that order."""
        starts, counts = ranges(self.starts[:-1][rows], self.starts[1:][rows])
        return FinerBars(starts, self.high[counts], self.low[counts])

    def within(self, high: Floats, low: Floats, name: str, index: Ints) -> FinerBars:
        """Return the same finer bars, moved into their bars where rounding put them outside.

        Parameters
        ----------
        high, low : float64 array, shape (n,)
            Moves of the bars themselves.
        name, index : str, int64 array of shape (n,)
            Of the problem, for messages.

        Raises
        ------
        LevelsInputError
            A finer bar is not finite, has its high below its low, or reaches beyond its bar: bars of
            another price basis would credit fills that never were.
        """
        if len(self) != len(high):
            raise LevelsInputError(f"{name}: finer bars of {len(self)} rows, expected {len(high)}")
        row = np.repeat(np.arange(len(self)), np.diff(self.starts))
        top, bottom = high[row], low[row]
        wrong = ~(
            (self.low <= self.high) & (self.high <= top + SLACK) & (self.low >= bottom - SLACK)
        )  # NaN too
        if wrong.any():
            at = int(wrong.argmax())
            i = int(row[at])
            raise LevelsInputError(
                f"{name}, row {i} (bar {index[i]}): finer bar {at - self.starts[i]} has high "
                f"{self.high[at]:g} and low {self.low[at]:g} against the base, its bar "
                f"{top[at]:g} and {bottom[at]:g}; expected low <= high inside the bar. Bring both "
                "frames from one source on one price basis"
            )
        return FinerBars(self.starts, np.minimum(self.high, top), np.maximum(self.low, bottom))


def ranges(starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Return the CSR starts (k + 1,) of half-open ranges, and every index in them, one after the other."""
    counts = stops - starts
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
    return ends, np.arange(ends[-1]) + np.repeat(starts - ends[:-1], counts)


def has_trades(volume: Floats) -> npt.NDArray[np.bool_]:
    """Return in which bars orders can fill: those with volume, and all before the first that has any.

    Nothing depends on later bars. bool array, shape of ``volume``; NaN: no volume.
    """
    traded = volume > 0
    return np.asarray(traded | ~np.logical_or.accumulate(traded))


def finer_moves(
    bars: Bars, finer: Bars, rows: Ints, base: Floats, *, fill_on_zero_volume: bool
) -> FinerBars | None:
    """Return the finer bars of the outcome bars ``rows``, None where no row holds any.

    Parameters
    ----------
    bars, finer : Bars
        The outcome bars' series, and the same symbol in a finer frame on the same price basis.
    rows : int64 array, shape (n,)
        Positions of the outcome bars.
    base : float64 array, shape (n,)
        Close before each outcome bar, in price units.
    fill_on_zero_volume : bool
        Whether orders fill in a finer bar without volume of a series that has any.

    Raises
    ------
    LevelsInputError
        The frame is not finer, or the symbol another.
    """
    if FRAME_US[finer.frame] >= FRAME_US[bars.frame] or finer.symbol != bars.symbol:
        raise LevelsInputError(
            f"finer bars of {finer.symbol} {finer.frame} were given for {bars.symbol} {bars.frame}; "
            "expected the same symbol in a finer frame"
        )
    first, stop = inside(bars, finer)
    starts, at = ranges(first[rows], stop[rows])
    if not fill_on_zero_volume:
        trades = has_trades(finer.volume)[at]
        kept = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(trades)])
        starts, at = kept[starts], at[trades]
    if not len(at):
        return None
    against = np.repeat(base, np.diff(starts))
    return FinerBars(starts, finer.high[at] / against - 1, finer.low[at] / against - 1)
