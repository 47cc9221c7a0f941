"""A network source in memory: it answers with the bars it has now, whatever it answered before."""

import json

import numpy as np

from engine.bars.findings import RawBars
from engine.sources.base import Parsed, RawBatch


class Replies:
    """A network source with the bars it has now; its pages are JSON of raw rows."""

    name, basis, stamp, zone = "exchange", "raw", "open", "UTC"

    def __init__(self, bars):
        self.bars, self.currency, self.asked = bars, "USD", []

    def fetch(self, request):
        self.asked.append(request.start)
        kept = (
            self.bars
            if request.start is None
            else self.bars.slice(int(np.searchsorted(self.bars.ts, request.start)), None)
        )
        names = ("ts", "open", "high", "low", "close", "volume")
        rows = {name: getattr(kept, name).tolist() for name in names}
        yield RawBatch(json.dumps([self.currency, rows]).encode(), "json", "Vendor ALFA", request.start)

    def parse(self, batch, request):
        currency, rows = json.loads(batch.data)
        ts = np.array(rows.pop("ts"), dtype=np.int64)
        columns = {name: np.array(values, dtype=float) for name, values in rows.items()}
        return Parsed(
            RawBars(batch.origin, "row", ts, **columns, line=np.arange(1, len(ts) + 1)), currency=currency
        )
