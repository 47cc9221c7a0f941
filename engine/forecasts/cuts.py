"""When the local model is refitted: cuts on a fixed calendar, so that no history moves them.

Daily bars of a session market are numbered by weekdays since 1970-01-01, whether or not a bar
exists for each; all other bars by their slot, stamp // frame. Bars whose numbers share
number // 63 form a group; the first bar of a group is its cut, and the model fitted there
serves the whole group.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import FRAME_US, Ints

REFIT_BARS = 63
DAY_US = 86_400_000_000
THURSDAY = 3  # 1970-01-01, Monday = 0


def refit_rule(frame: str, calendar: str) -> str:
    """Return the rule's name, which enters the model key."""
    return f"{'weekday' if frame == '1d' and calendar != '24/7' else 'slot'}//{REFIT_BARS}"


def refit_groups(ts: Ints, frame: str, calendar: str) -> Ints:
    """Return the refit group of each stamp, int64, shape (T,); it depends on the stamp alone.

    >>> days = np.arange("1970-01-01", "1970-06-01", dtype="datetime64[D]")
    >>> groups = refit_groups(days.astype("datetime64[us]").astype(np.int64), "1d", "observed")
    >>> str(days[np.flatnonzero(np.diff(groups))[0] + 1])  # 63 weekdays after 1970-01-01
    '1970-03-31'
    """
    if refit_rule(frame, calendar).startswith("weekday"):
        week, weekday = np.divmod(ts // DAY_US + THURSDAY, 7)  # weeks that begin on Monday
        number = 5 * week + np.minimum(weekday, 5) - THURSDAY  # a weekend counts as its Monday
    else:
        number = ts // FRAME_US[frame]
    return np.asarray(number // REFIT_BARS, dtype=np.int64)


def cut_positions(groups: Ints) -> Ints:
    """Return for each bar the position of its group's first bar, int64, shape (T,)."""
    first = np.concatenate([[True], groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, dtype=bool)
    return np.maximum.accumulate(np.where(first, np.arange(len(groups)), 0)).astype(np.int64)


def window_starts(ts: Ints, frame: str, calendar: str, lookback: int) -> Ints:
    """Return the first bar each as-of bar's window reads: ``lookback`` bars before its cut.

    Older bars change nothing, so the window is also what the input hash covers.

    Parameters
    ----------
    ts : int64 array, shape (T,)
        Bar opens, microseconds UTC.
    frame, calendar : str
        Of the bars, as in `Bars`.
    lookback : int
        Bars before the cut.

    Returns
    -------
    int64 array, shape (T,)
        Positions; 0 where less history exists.
    """
    return np.maximum(0, cut_positions(refit_groups(ts, frame, calendar)) - lookback)


def trailing_starts(bars: int, lookback: int) -> Ints:
    """Return the first bar of windows that hold the ``lookback`` bars up to each as-of bar, shape (T,).

    >>> trailing_starts(5, 3)
    array([0, 0, 0, 1, 2])
    """
    return np.maximum(0, np.arange(bars, dtype=np.int64) - lookback + 1)
