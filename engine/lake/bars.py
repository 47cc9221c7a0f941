"""A symbol's stored bars; and, where they are made from finer ones, those in the frame they were read at."""

from __future__ import annotations

import pyarrow as pa

from engine.bars.model import COLUMNS, Bars
from engine.config import Instrument, Settings
from engine.lake.publish import Lake


def read_bars(lake: Lake, instrument: Instrument, table: str = "bars") -> Bars:
    """Return a symbol's stored bars; those of table ``base_bars`` with the instrument as it is read.

    Raises
    ------
    LakeError
        There are none yet.
    """
    rows = lake.need(table, instrument.key, "prices")
    arrays = {name: rows[name].to_numpy() for name in COLUMNS}
    ts = rows["ts"].cast(pa.int64()).to_numpy()
    return Bars(instrument.key, instrument.frame, instrument.calendar, ts, **arrays)


def base_bars_of(lake: Lake, symbol: str, settings: Settings) -> Bars | None:
    """Return a symbol's finer bars, on the price basis of its bars; None where it has none.

    Raises
    ------
    LakeError
        The settings name a base frame, and the lake does not hold its bars yet.
    """
    instrument = settings.instrument(symbol)
    if instrument.base_frame is None:
        return None
    return read_bars(lake, instrument.as_read(), "base_bars")
