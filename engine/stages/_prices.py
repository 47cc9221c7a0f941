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
from engine.bars.gaps import said as gaps_of
from engine.bars.model import Bars, iso, known_at
from engine.bars.policy import Policy
from engine.bars.resample import Resampled
from engine.bars.revisions import accept, differences, merge, needs_whole_history, refuse_other_unit
from engine.bars.series import check_series
from engine.bars.splits import Event
from engine.config import Instrument, Settings
from engine.errors import ConfigError, DataError
from engine.lake import raw
from engine.lake.paths import table_path
from engine.lake.publish import Lake
from engine.lake.quarantine import add
from engine.search.folds import bars_needed
from engine.sources import FileFormat, Loaded, RawBatch, SymbolSource, load
from engine.sources.loading import CHECKOUT_DATA
from engine.sources.patience import Patience
from engine.stages._network import answered, patience_for, went_stale
from engine.stages.coarse import coarser, content_id, publish_coarser, source_table, to_rows
from engine.stages.common import Progress, StageResult, purge_of, read_bars
from engine.stages.revised import (
    NETWORK_SOURCES,
    both_versions,
    refuse_shorter,
    revisions,
    set_aside,
)


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
        patience = patience_for(lake, instrument, settings, progress)
        found = current_bars(lake, symbol, settings, asof, keep=patience, accept_revision=accept_revision)
    except Disputed as disputed:
        added = add(lake, symbol, disputed.rows)
        progress(f"{symbol} prices disputed: {added} new rows in table quarantine")
        raise disputed.error from None
    except DataError as error:
        if accept_revision:
            raise
        return went_stale(lake, instrument, asof, error, progress)
    answered(lake, symbol)
    bars, stored, loaded, made = found
    warnings = loaded.warnings + ([] if stored is None else revisions(stored, bars, instrument))
    table = source_table(instrument)
    before = lake.record(table, symbol) or {}
    shas = [hashlib.sha256(batch.data).hexdigest() for batch in loaded.raw]
    record = {
        "stage": "prices",
        "symbol": symbol,
        "source": instrument.source,
        "frame": bars.frame,
        "currency": loaded.currency or before.get("currency", ""),
        "events_sha": loaded.events_sha,
        "raw": shas,
        "repairs": list(loaded.repairs),
        "result_id": content_id(table, bars, loaded.repairs),
    }
    if loaded.rejected:
        add(lake, symbol, [set_aside(row, instrument.source, shas) for row in loaded.rejected])
    result_id, same = str(record["result_id"]), before.get("result_id") == record["result_id"]
    held = 0 if stored is None else len(stored)
    if not same:
        lake.publish(table, symbol, to_rows(bars), record)
    read: dict[str, Any] = {}
    if made is not None:
        read = {"base_bars": len(bars), "base_bars_new": len(bars) - held, "left_out": len(made.left_out)}
        warnings = warnings + made.said(bars.frame)
        rows = lake.read("bars", symbol, columns=["symbol"])
        bars, held = made.bars, 0 if rows is None else len(rows)
        result_id, unmoved = publish_coarser(lake, made, instrument, record)
        same &= unmoved
    for warning in [*warnings, *(f"repaired {text}" for text in loaded.repairs)]:
        progress(" ".join([symbol, "prices", warning]))
    return StageResult(
        "prices",
        symbol,
        len(bars),
        result_id,
        same,
        {
            "bars": len(bars),
            "bars_new": len(bars) - held,
            "first": iso(int(bars.ts[0])),
            "last": iso(int(bars.ts[-1])),
            "gaps": gaps_of(bars),
            **read,
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
    keep: Patience | None = None,
    accept_revision: bool = False,
) -> tuple[Bars, Bars | None, Loaded, Resampled | None]:
    """Return a symbol's checked bars up to now, those stored before, and what the source gave.

    Where the symbol has a base frame these are its base bars, and the bars made from them come last.
    No table is published. With ``keep`` a network source is asked in that way and its replies are stored as
    they came; without, nothing is stored.

    Raises
    ------
    Disputed
        The source changed its history (E13).
    DataError
        As `prices`.
    """
    wanted = settings.instrument(symbol)
    instrument, table = wanted.as_read(), source_table(wanted)
    stored = read_bars(lake, instrument, table) if lake.result_id(table, symbol) else None
    _refuse_other_frame(lake.record(table, symbol) or {}, table, instrument)
    early = None if stored is None else known_at(stored.ts[-1:], stored.frame, stored.calendar)[0]
    if stored is not None and asof is not None and early is not None and early > asof:
        raise ConfigError(
            f"asof {iso(asof)} lies before the last stored bar of {symbol}, {iso(int(stored.ts[-1]))}. "
            "Stored history is never shortened: use a later asof, or another data_dir"
        )
    asked = _Asked(lake, instrument, settings, asof, keep, table)
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
            refuse_shorter(stored, bars)
    made = None if wanted.base_frame is None else coarser(bars, wanted, settings, loaded.events)
    if made is not None and lake.result_id("bars", symbol):
        _refuse_other_frame(lake.record("bars", symbol) or {}, "bars", wanted)
        if not accept_revision:
            refuse_shorter(read_bars(lake, wanted), made.bars)
    refuse_too_few(symbol, settings, len(bars if made is None else made.bars), wanted.frame)
    return bars, stored, loaded, made


def _refuse_other_frame(record: Mapping[str, Any], table: str, instrument: Instrument) -> None:
    """Refuse to join bars of one length to stored ones of another."""
    stored, key = record.get("frame", instrument.frame), instrument.key
    if stored != instrument.frame:
        raise ConfigError(
            f"table {table} of {key} holds {stored} bars, the settings ask for {instrument.frame}. Two "
            "frames of one instrument are two symbols: add a key of its own, with provider_symbol or file, "
            f"or move data/lake/{table}/{key}.parquet away to begin anew"
        )


def _joined(asked: _Asked, stored: Bars, accept_revision: bool) -> tuple[Bars, Loaded]:
    """Return stored and new bars of a network source as one series."""
    instrument, sizes = asked.instrument, asked.settings.prices.overlap_bars
    record = asked.lake.record(asked.table, stored.symbol) or {}
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
        raise Disputed(error, both_versions(stored, loaded, instrument)) from None
    whole = len(bars) == len(loaded.bars)
    if not whole:  # a whole history was looked at as it was loaded
        findings = check_series(bars, asked.context(), loaded.events, first=len(stored))
        said = refuse(findings, stored.symbol, stored.frame)
        loaded = replace(loaded, warnings=[*loaded.warnings, *said])
    return bars, loaded


def policy_of(instrument: Instrument, settings: Settings) -> Policy:
    """Return what becomes of a symbol's rows that break a rule."""
    prices = settings.prices
    return Policy(
        instrument.policy, instrument.repairs, prices.quarantine_max_share, prices.quarantine_max_rows
    )


def _group_last(lake: Lake, instrument: Instrument, settings: Settings) -> int | None:
    """Return the last stored stamp of the other symbols read at the same frame and calendar."""
    last = None
    for key in settings.symbols:
        table, other = source_table(settings.instrument(key)), settings.instrument(key).as_read()
        if key == instrument.key or (other.frame, other.calendar) != (instrument.frame, instrument.calendar):
            continue
        path = table_path(lake.data_dir, table, key)
        try:
            stamps = pq.ParquetFile(path).read(columns=["ts"])["ts"].cast(pa.int64()) if path.exists() else []
        except (pa.ArrowException, OSError):
            continue  # that symbol's own run refuses a torn table
        if len(stamps):
            last = max(stamps[-1].as_py(), last or 0)
    return last


@dataclass
class _Asked:
    """One symbol's source, as the settings say it, and the table that keeps what it gives."""

    lake: Lake
    instrument: Instrument
    settings: Settings
    asof: int | None
    keep: Patience | None
    table: str

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

    def load(
        self,
        overlap_from: int | None,
        pages: Sequence[RawBatch] | None = None,
        to_declare: Sequence[Event] = (),
    ) -> Loaded:
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
        kept = self.keep is not None and it.source in NETWORK_SOURCES
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
            keeper=raw.Download(self.lake.data_dir, it.source, it.key) if kept else None,
            patience=self.keep,
            pages=pages,
            to_declare=to_declare,
        )


def compare_events(
    lake: Lake, symbol: str, settings: Settings, asof: int | None, declared: Sequence[Event]
) -> None:
    """Refuse events of a symbol that its source's prices, as they are now, do not show.

    Raises
    ------
    ConfigError, DataError
        As `engine.sources.declaring.refuse_unfounded`; or the prices cannot be read.
    """
    instrument = settings.instrument(symbol)
    asked = _Asked(lake, instrument.as_read(), settings, asof, keep=None, table=source_table(instrument))
    asked.load(None, to_declare=declared)


def load_whole(
    lake: Lake, settings: Settings, symbol: str, record: Mapping[str, Any]
) -> tuple[Bars, list[str]]:
    """Return a symbol's bars as they are read, now again, and the sha256 of what they were read from.

    A file is read as it is now; of a network source the kept replies that ``record`` names are read.

    Raises
    ------
    LakeError
        A kept reply is gone.
    DataError
        As `prices`.
    """
    instrument = settings.instrument(symbol)
    asked = _Asked(lake, instrument.as_read(), settings, None, keep=None, table=source_table(instrument))
    pages = None
    if asked.instrument.source in NETWORK_SOURCES:
        pages = [raw.read(lake.data_dir, asked.instrument.source, symbol, sha) for sha in record["raw"]]
    loaded = asked.load(None, pages=pages)
    return loaded.bars, [hashlib.sha256(batch.data).hexdigest() for batch in loaded.raw]


def refuse_too_few(symbol: str, settings: Settings, found: int, frame: str) -> None:
    """Raise E17 where a symbol has fewer bars than its least demanding strategy needs."""
    needs = [(bars_needed(e.folds, purge_of(e)), e.label) for e in settings.entries(symbol)]
    if needs and found < min(needs)[0]:
        needed, name = min(needs)
        why = f"strategy {name} needs the fewest: warm-up, training and the least number of test folds"
        refuse([too_few(symbol, found, needed, why)], symbol, frame)
