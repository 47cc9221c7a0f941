"""Stage ``prices``: checked, split-adjusted bars of one symbol."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.bars.checks import too_few
from engine.bars.findings import Context, refuse
from engine.bars.model import COLUMNS, Bars, iso, known_at
from engine.bars.policy import Policy, Rejected
from engine.bars.revisions import (
    accept,
    differences,
    merge,
    needs_whole_history,
    refuse_other_unit,
    revised,
)
from engine.bars.series import check_series
from engine.config import Instrument, Settings
from engine.errors import ConfigError, DataError
from engine.lake import raw
from engine.lake.paths import table_path
from engine.lake.publish import Lake
from engine.lake.quarantine import add
from engine.lake.records import content_sha, digest
from engine.search.folds import bars_needed
from engine.sources import FileFormat, Loaded, RawBatch, SymbolSource, load
from engine.sources.loading import CHECKOUT_DATA
from engine.stages.common import Progress, StageResult, purge_of, read_bars

NETWORK_SOURCES = ("yahoo", "exchange")


def prices(
    lake: Lake,
    symbol: str,
    settings: Settings,
    progress: Progress,
    *,
    asof: int | None,
    accept_revision: bool = False,
) -> StageResult:
    """Bring a symbol's bars up to date; what the lake holds is never shortened.

    Parameters
    ----------
    lake, symbol, settings, progress
        As in every stage.
    asof : int or None
        Only bars complete at this stamp are taken, microseconds UTC; None = all the source has.
        Never part of an id.
    accept_revision : bool
        Take over the history as the source gives it now, where it differs from the stored one (E13).

    Raises
    ------
    DataError
        The source lacks the symbol, a rule is broken, or there are too few bars. Nothing is published,
        but of a changed history (E13) both versions go to table ``quarantine``.
    MissingExtra
        The source's package is not installed.
    """
    instrument = settings.instrument(symbol)
    try:
        found = current_bars(lake, symbol, settings, asof, keep=True, accept_revision=accept_revision)
    except Disputed as disputed:
        added = add(lake, symbol, disputed.rows)
        progress(f"{symbol} prices disputed: {added} new rows in table quarantine")
        raise disputed.error from None
    bars, stored, loaded = found
    table = _table(bars)
    warnings = loaded.warnings + ([] if stored is None else _revisions(stored, bars, instrument))
    # the id rests on the content alone, so that the pattern of requests makes nothing stale
    content = ["bars", symbol, instrument.frame, instrument.calendar, content_sha(table)]
    before = lake.record("bars", symbol) or {}
    shas = [hashlib.sha256(batch.data).hexdigest() for batch in loaded.raw]
    record = {
        "stage": "prices",
        "symbol": symbol,
        "source": instrument.source,
        "currency": loaded.currency or before.get("currency", ""),
        "events_sha": loaded.events_sha,
        "raw": shas,
        "repairs": list(loaded.repairs),
        "result_id": digest([*content, list(loaded.repairs)] if loaded.repairs else content),
    }
    if loaded.rejected:
        add(lake, symbol, [_set_aside(row, instrument.source, shas) for row in loaded.rejected])
    same = before.get("result_id") == record["result_id"]
    if not same:
        lake.publish("bars", symbol, table, record)
    for warning in [*warnings, *(f"repaired {text}" for text in loaded.repairs)]:
        progress(" ".join([symbol, "prices", warning]))
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
            "set_aside": len(loaded.rejected),
            "repairs": len(loaded.repairs),
        },
    )


class Disputed(Exception):
    """A history that its source changed: the refusal, and both versions as rows of ``quarantine``."""

    def __init__(self, error: DataError, rows: list[dict[str, Any]]) -> None:
        self.error, self.rows = error, rows


def current_bars(
    lake: Lake,
    symbol: str,
    settings: Settings,
    asof: int | None,
    *,
    keep: bool = False,
    accept_revision: bool = False,
) -> tuple[Bars, Bars | None, Loaded]:
    """Return a symbol's checked bars up to now, those stored before, and what the source gave.

    No table is published; with ``keep`` the replies of a network source are stored as they came.

    Raises
    ------
    Disputed
        The source changed its history (E13).
    DataError
        As `prices`.
    """
    instrument = settings.instrument(symbol)
    stored = read_bars(lake, instrument) if lake.result_id("bars", symbol) else None
    early = None if stored is None else known_at(stored.ts[-1:], stored.frame, stored.calendar)[0]
    if stored is not None and asof is not None and early is not None and early > asof:
        raise ConfigError(
            f"asof {iso(asof)} lies before the last stored bar of {symbol}, {iso(int(stored.ts[-1]))}. "
            "Stored history is never shortened: use a later asof, or another data_dir"
        )
    asked = _Asked(lake, instrument, settings, asof, keep)
    accept_revision |= policy_of(instrument, settings).allows("accept_revision")
    network = instrument.source in NETWORK_SOURCES
    if stored is None:
        loaded = asked.load(None)
        bars = loaded.bars
    elif network:
        bars, loaded = _joined(asked, stored, accept_revision)
    else:  # the user's own file, or the sample: it is the whole history, and its owner's to correct
        loaded = asked.load(None)
        bars = loaded.bars
        if not accept_revision:
            _refuse_shorter(stored, bars)
    refuse_too_few(symbol, settings, len(bars), instrument.frame)
    return bars, stored, loaded


def _joined(asked: _Asked, stored: Bars, accept_revision: bool) -> tuple[Bars, Loaded]:
    """Return stored and new bars of a network source as one series."""
    instrument, sizes = asked.instrument, asked.settings.prices.overlap_bars
    record = asked.lake.record("bars", stored.symbol) or {}
    overlap = sizes.daily if stored.frame == "1d" else sizes.intraday
    if accept_revision:
        loaded = asked.load(None)
        refuse_other_unit(record.get("currency", ""), loaded.currency, stored.symbol, stored.frame)
        bars, repair = accept(stored, loaded.bars), tuple[str, ...]()
        if asked.policy.allows("accept_revision") and differences(stored, loaded.bars, tick=instrument.tick):
            repair = ("accept_revision: the vendor's history in place of the stored one",)
        return bars, replace(loaded, repairs=(*loaded.repairs, *repair))
    loaded = asked.load(int(stored.ts[max(0, len(stored) - overlap)]))
    refuse_other_unit(record.get("currency", ""), loaded.currency, stored.symbol, stored.frame)
    try:
        if record.get("events_sha") != loaded.events_sha or needs_whole_history(
            stored, loaded.bars, tick=instrument.tick
        ):
            loaded = asked.load(None)  # a split re-bases all of it
        bars = merge(stored, loaded.bars, tick=instrument.tick)
    except DataError as error:
        if error.rule != "E13":
            raise
        raise Disputed(error, _both_versions(stored, loaded, instrument)) from None
    whole = len(bars) == len(loaded.bars)
    if not whole:  # a whole history was looked at as it was loaded
        findings = check_series(bars, asked.context(), loaded.events, first=len(stored))
        said = refuse(findings, stored.symbol, stored.frame)
        loaded = replace(loaded, warnings=[*loaded.warnings, *said])
    return bars, loaded


def _both_versions(stored: Bars, loaded: Loaded, instrument: Instrument) -> list[dict[str, Any]]:
    rows = []
    raw = hashlib.sha256(b"".join(batch.data for batch in loaded.raw)).hexdigest()
    for ts, old, new in differences(stored, loaded.bars, tick=instrument.tick):
        for version, bars, at in (("stored", stored, old), ("vendor", loaded.bars, new)):
            names = [name for name in COLUMNS if at is not None]
            text = ",".join(f"{name}={getattr(bars, name)[at]:.17g}" for name in names) or "no such bar"
            rows.append(
                {
                    "ts": ts,
                    "rule": "E13",
                    "version": version,
                    "source": instrument.source,
                    "raw_sha": raw,
                    "line": 0,
                    "text": text,
                    "reason": "stored history differs from the vendor's",
                }  # fmt: skip
            )
    return rows


def _set_aside(row: Rejected, source: str, raw: list[str]) -> dict[str, Any]:
    return {
        "ts": row.ts, "rule": row.rule, "version": "row", "source": source, "raw_sha": ",".join(raw),
        "line": row.line, "text": row.text, "reason": row.reason,
    }  # fmt: skip


def policy_of(instrument: Instrument, settings: Settings) -> Policy:
    """Return what becomes of a symbol's rows that break a rule."""
    prices = settings.prices
    return Policy(
        instrument.policy, instrument.repairs, prices.quarantine_max_share, prices.quarantine_max_rows
    )


def _group_last(lake: Lake, instrument: Instrument, settings: Settings) -> int | None:
    """Return the last stored stamp of the other symbols of the same frame and calendar."""
    last = None
    for key in settings.symbols:
        other = settings.instrument(key)
        if key == instrument.key or (other.frame, other.calendar) != (instrument.frame, instrument.calendar):
            continue
        path = table_path(lake.data_dir, "bars", key)
        try:
            stamps = pq.ParquetFile(path).read(columns=["ts"])["ts"].cast(pa.int64()) if path.exists() else []
        except (pa.ArrowException, OSError):
            continue  # that symbol's own run refuses a torn table
        if len(stamps):
            last = max(stamps[-1].as_py(), last or 0)
    return last


@dataclass
class _Asked:
    """One symbol's source, as the settings say it."""

    lake: Lake
    instrument: Instrument
    settings: Settings
    asof: int | None
    keep: bool

    @property
    def policy(self) -> Policy:
        return policy_of(self.instrument, self.settings)

    def context(self) -> Context:
        """Return what the checks of a joined series must know."""
        it = self.instrument
        return Context(
            it.key, it.frame, it.calendar, self.asof, it.tick,
            max_gap_bars=self.settings.prices.max_gap_bars, fresh=True,
            group_last=_group_last(self.lake, it, self.settings),
        )  # fmt: skip

    def load(self, overlap_from: int | None, pages: Sequence[RawBatch] | None = None) -> Loaded:
        """Return what the source gives from a stamp on, or gave in ``pages``; its replies are kept first."""
        it, settings = self.instrument, self.settings
        options = SymbolSource(
            provider_symbol=it.provider_symbol,
            venue=it.venue,
            calendar=it.calendar,
            tick=it.tick,
            file=None if it.file is None else FileFormat(**it.file.model_dump()),  # below the data folder
        )
        start = None if it.start is None else int(np.datetime64(it.start, "us").astype(np.int64))
        kept = self.keep and it.source in NETWORK_SOURCES
        return load(
            it.source,
            it.key,
            options,
            # the sample is part of the software, wherever the user keeps data
            data_dir=CHECKOUT_DATA if it.source == "sample" else self.lake.data_dir,
            frame=it.frame,
            start=start,
            asof=self.asof,
            overlap_from=overlap_from,
            policy=self.policy,
            max_gap_bars=settings.prices.max_gap_bars,
            group_last=_group_last(self.lake, it, settings),
            keep=self._store if kept else None,
            pages=pages,
        )

    def _store(self, batch: RawBatch) -> None:
        it = self.instrument
        raw.keep(self.lake.data_dir, it.source, it.key, batch.data, batch.form, batch.start, batch.end)


def load_whole(
    lake: Lake, settings: Settings, symbol: str, record: Mapping[str, Any]
) -> tuple[Bars, list[str]]:
    """Return a symbol's bars read again, and the sha256 of what they were read from.

    A file is read as it is now; of a network source the kept replies that ``record`` names are read.

    Raises
    ------
    LakeError
        A kept reply is gone.
    DataError
        As `prices`.
    """
    asked = _Asked(lake, settings.instrument(symbol), settings, None, keep=False)
    pages = None
    if asked.instrument.source in NETWORK_SOURCES:
        pages = [raw.read(lake.data_dir, asked.instrument.source, symbol, sha) for sha in record["raw"]]
    loaded = asked.load(None, pages=pages)
    return loaded.bars, [hashlib.sha256(batch.data).hexdigest() for batch in loaded.raw]


def _refuse_shorter(stored: Bars, bars: Bars) -> None:
    if bars.ts[-1] < stored.ts[-1] or len(bars) < len(stored):
        first = iso(int(stored.ts[~np.isin(stored.ts, bars.ts)][0]))
        raise DataError(
            f"history became shorter: {bars.symbol} {bars.frame} has {len(bars)} bars to "
            f"{iso(int(bars.ts[-1]))} at the source, {len(stored)} to {iso(int(stored.ts[-1]))} in the lake; "
            f"the first stored bar that the source lacks is {first}. "
            "Expected the longer history. If the source is right: "
            f"nightfold check {bars.symbol} --accept-revision",
            rule="E13",
            symbol=bars.symbol,
            rows=(first,),
        )


def _revisions(stored: Bars, bars: Bars, instrument: Instrument) -> list[str]:
    """Return what changed in bars that were stored before; a file's owner may correct its prices."""
    if not np.isin(stored.ts, bars.ts).all():  # only a revision that was accepted may lack a stored bar
        return [f"history replaced: {len(bars)} bars in place of {len(stored)}"]
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
    rows = {
        "symbol": pa.repeat(pa.scalar(bars.symbol), len(bars)),
        "ts": pa.array(bars.ts, pa.timestamp("us")),
    }
    return pa.table({**rows, **columns})
