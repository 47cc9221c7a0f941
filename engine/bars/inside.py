"""Which bars of a finer frame lie inside each bar of a coarser one."""

from __future__ import annotations

import numpy as np

from engine.bars.calendars import knows_sessions, periods
from engine.bars.model import FRAME_US, Bars, Ints


def inside(bars: Bars, finer: Bars) -> tuple[Ints, Ints]:
    """Return where the finer bars inside each bar begin and end.

    Inside a bar: what `resample` makes it from. A session may open on the day before its date. Where the
    calendar knows no sessions (``observed``): opened in [ts_t, ts_t + frame), before the next bar opens.

    Parameters
    ----------
    bars, finer : Bars
        The same symbol in two frames, T and M bars.

    Returns
    -------
    (int64 array, int64 array), shape (T,)
        Half-open ranges of ``finer``, in [0, M]; equal where a bar holds none.
    """
    if not knows_sessions(bars.calendar) or len(finer) == 0:
        ends = bars.ts + FRAME_US[bars.frame]
        ends[:-1] = np.minimum(ends[:-1], bars.ts[1:])
        starts, stops = (np.searchsorted(finer.ts, at) for at in (bars.ts, ends))
    else:
        stamps = periods(finer.ts, FRAME_US[bars.frame], bars.calendar)[0]
        starts, stops = (np.searchsorted(stamps, bars.ts, side=side) for side in ("left", "right"))
    return starts.astype(np.int64), stops.astype(np.int64)
