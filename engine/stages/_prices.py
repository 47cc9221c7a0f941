"""Stage ``prices``: checked, split-adjusted bars of one symbol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.bars.checks import refuse, too_few
from engine.bars.model import COLUMNS, Bars, iso, known_at
from engine.bars.revisions import merge, needs_whole_history, revised
from engine.config import Instrument, Settings
from engine.errors import ConfigError, DataError
from engine.lake.paths import table_path
from engine.lake.publish import Lake
from engine.lake.records import content_sha, digest
from engine.search.folds import bars_needed
from engine.sources import FileFormat, Loaded, SymbolSource, load
from engine.sources.loading import CHECKOUT_DATA
from engine.stages.common import Progress, StageResult, purge_of, read_bars

NETWORK_SOURCES = ("yahoo", "exchange")


def prices(
    lake: Lake, symbol: str, settings: Settings, progress: Progress, *, asof: int | None
) -> StageResult:
    """Bring a symbol's bars up to date; what the lake holds is never shortened.

    Parameters
    ----------
    lake, symbol, settings, progress
        As in every stage.
    asof : int or None
        Only bars complete at this stamp are taken, microseconds UTC; None = all the source has.
        Never part of an id.

    Raises
    ------
    DataError
        The source lacks the symbol, a rule is broken, or there are too few bars. Nothing is published.
    MissingExtra
        The source's package is not installed.
    """
    instrument = settings.instrument(symbol)
    bars, stored, loaded = current_bars(lake, symbol, settings, asof)
    table = _table(bars)
    warnings = loaded.warnings + ([] if stored is None else _revisions(stored, bars, instrument))
    record = {
        "stage": "prices",
        "symbol": symbol,
        "source": instrument.source,
        "events_sha": loaded.events_sha,
        # the id rests on the content alone, so that the pattern of requests makes nothing stale
        "result_id": digest(["bars", symbol, instrument.frame, instrument.calendar, content_sha(table)]),
    }
    same = lake.result_id("bars", symbol) == record["result_id"]
    if not same:
        lake.publish("bars", symbol, table, record)
    for warning in warnings:
        progress(f"{symbol} prices {warning}")
    return StageResult(
        "prices",
        symbol,
        len(bars),
        str(record["result_id"]),
        same,
        {
            "bars": len(bars),
            "bars_new": len(bars) - (0 if stored is None else len(stored)),
            "first": iso(int(bars.ts[0])),
            "last": iso(int(bars.ts[-1])),
            "source": instrument.source,
            "warnings": len(warnings),
        },
    )


def current_bars(
    lake: Lake, symbol: str, settings: Settings, asof: int | None
) -> tuple[Bars, Bars | None, Loaded]:
    """Return a symbol's checked bars up to now, those stored before, and what the source gave.

    Nothing is published. Raises what `prices` raises.
    """
    instrument = settings.instrument(symbol)
    stored = read_bars(lake, instrument) if lake.result_id("bars", symbol) else None
    if stored is None:
        loaded = _load(lake, instrument, settings, None, asof)
        bars = loaded.bars
    elif asof is not None and known_at(stored.ts[-1:], stored.frame, stored.calendar)[0] > asof:
        raise ConfigError(
            f"asof {iso(asof)} lies before the last stored bar of {symbol}, {iso(int(stored.ts[-1]))}. "
            "Stored history is never shortened: use a later asof, or another data_dir"
        )
    elif instrument.source in NETWORK_SOURCES:
        sizes = settings.prices.overlap_bars
        overlap = sizes.daily if instrument.frame == "1d" else sizes.intraday
        loaded = _load(lake, instrument, settings, int(stored.ts[max(0, len(stored) - overlap)]), asof)
        record = lake.record("bars", symbol) or {}
        file = str(table_path(lake.data_dir, "bars", symbol))
        if record.get("events_sha") != loaded.events_sha or needs_whole_history(
            stored, loaded.bars, tick=instrument.tick, file=file
        ):
            loaded = _load(lake, instrument, settings, None, asof)  # a split re-bases all of it
        bars = merge(stored, loaded.bars, tick=instrument.tick, file=file)
    else:  # the user's own file, or the sample: it is the whole history, and its owner's to correct
        loaded = _load(lake, instrument, settings, None, asof)
        bars = loaded.bars
        _refuse_shorter(stored, bars, table_path(lake.data_dir, "bars", symbol))
    refuse_too_few(symbol, settings, len(bars), instrument.frame)
    return bars, stored, loaded


def _load(
    lake: Lake, instrument: Instrument, settings: Settings, overlap_from: int | None, asof: int | None
) -> Loaded:
    file = instrument.file
    options = SymbolSource(
        provider_symbol=instrument.provider_symbol,
        venue=instrument.venue,
        calendar=instrument.calendar,
        tick=instrument.tick,
        file=None if file is None else FileFormat(**file.model_dump()),  # paths: relative to the data folder
    )
    start = None if instrument.start is None else int(np.datetime64(instrument.start, "us").astype(np.int64))
    return load(
        instrument.source,
        instrument.key,
        options,
        # the sample is part of the software, wherever the user keeps data
        data_dir=CHECKOUT_DATA if instrument.source == "sample" else lake.data_dir,
        frame=instrument.frame,
        start=start,
        asof=asof,
        overlap_from=overlap_from,
    )


def _refuse_shorter(stored: Bars, bars: Bars, file: Path) -> None:
    if bars.ts[-1] < stored.ts[-1] or len(bars) < len(stored):
        first = iso(int(stored.ts[~np.isin(stored.ts, bars.ts)][0]))
        raise DataError(
            f"history became shorter: {bars.symbol} {bars.frame} has {len(bars)} bars to "
            f"{iso(int(bars.ts[-1]))} at the source, {len(stored)} to {iso(int(stored.ts[-1]))} in the lake; "
            f"the first stored bar that the source lacks is {first}. "
            f"Expected the longer history. To start anew remove {file}, "
            f"then: nightfold run {bars.symbol}",
            rule="E13",
            symbol=bars.symbol,
            rows=(first,),
        )


def _revisions(stored: Bars, bars: Bars, instrument: Instrument) -> list[str]:
    """Return what changed in bars that were stored before; a file's owner may correct its prices."""
    if instrument.source in NETWORK_SOURCES:
        return revised(stored, bars)
    head = bars.slice(None, len(stored))
    differ = np.zeros(len(head), dtype=bool)
    for name in ("ts", *COLUMNS):
        differ |= getattr(head, name) != getattr(stored, name)
    if not differ.any():
        return []
    first = ", ".join(iso(int(ts)) for ts in head.ts[differ][:3])
    return [f"history changed in its source: {int(differ.sum())} stored bars replaced, first {first}"]


def refuse_too_few(symbol: str, settings: Settings, found: int, frame: str) -> None:
    """Raise E17 where a symbol has fewer bars than its least demanding strategy needs."""
    needs = [(bars_needed(e.folds, purge_of(e)), e.label) for e in settings.entries(symbol)]
    if needs and found < min(needs)[0]:
        needed, name = min(needs)
        why = f"strategy {name} needs the fewest: warm-up, training and the least number of test folds"
        refuse([too_few(symbol, found, needed, why)], symbol, frame)


def _table(bars: Bars) -> pa.Table:
    columns = {name: pa.array(getattr(bars, name)) for name in COLUMNS}
    rows = {"symbol": pa.array([bars.symbol] * len(bars)), "ts": pa.array(bars.ts, pa.timestamp("us"))}
    return pa.table({**rows, **columns})
