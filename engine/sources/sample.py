"""Source ``sample``: five committed daily series, so that a fresh clone has something honest to run on.

`sample("AAPL")` returns checked, split-adjusted bars. The five are survivors (and FB, too short to test on):
never take a result on them for a result on a market.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from engine.errors import closest
from engine.sources.base import FileFormat, Parsed, RawBatch, Request
from engine.sources.read_csv import read_csv
from engine.sources.refusals import require_key, unknown_symbol


class Sample:
    """The files of data/sample: raw daily OHLCV of AAPL, FB, GOOG, IBM and MSFT."""

    name = "sample"
    basis: Literal["raw", "split_adjusted"] = "raw"
    stamp: Literal["open", "close"] = "open"
    zone = "UTC"

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "sample"

    def fetch(self, request: Request) -> Iterator[RawBatch]:
        """Yield the file's bytes as one page, or refuse a key that the sample does not hold (E16)."""
        require_key(request)
        path = self.folder / f"{request.key}.csv"
        here = sorted(p.stem for p in self.folder.glob("*.csv") if p.stem != "events")
        if request.key not in here:
            near = (
                closest(request.key, here) if here else "data/sample is empty; it comes with the repository."
            )
            unknown_symbol(
                request, f"found no {request.key} in the sample. {near}",
                f"set source: of {request.key} in nightfold.yaml, then: nightfold check {request.key}",
            )  # fmt: skip
        if request.frame != "1d":
            unknown_symbol(
                request, f"found frame {request.frame}; expected 1d, the only one of the sample",
                f"set frame: 1d for {request.key} in nightfold.yaml, then: nightfold check {request.key}",
            )  # fmt: skip
        yield RawBatch(path.read_bytes(), "csv", path.name)

    def parse(self, batch: RawBatch, request: Request) -> Parsed:
        """Return the file's rows."""
        calendar = request.options.calendar
        return Parsed(read_csv(batch.data, request.key, request.frame, calendar, FileFormat(), batch.origin))
