"""A symbol's bars in the frame it was read at, where its bars are made from finer ones."""

from __future__ import annotations

import pyarrow as pa

from engine.bars.model import COLUMNS, Bars
from engine.config import Settings
from engine.lake.publish import Lake


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
    table = lake.need("base_bars", symbol, "prices")
    arrays = {name: table[name].to_numpy() for name in COLUMNS}
    ts = table["ts"].cast(pa.int64()).to_numpy()
    return Bars(symbol, instrument.base_frame, instrument.calendar, ts, **arrays)
