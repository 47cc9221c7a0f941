"""Symbols with a `base_frame`: finer bars are read and kept in `base_bars`, and `bars` is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from engine.bars.calendars import edition
from engine.bars.checks import too_few
from engine.bars.findings import Context, refuse
from engine.bars.model import COLUMNS, Bars
from engine.bars.resample import Resampled, resample
from engine.bars.series import check_series
from engine.bars.splits import Event
from engine.config import Instrument, Settings
from engine.lake.publish import Lake
from engine.lake.records import content_sha, digest


def source_table(instrument: Instrument) -> str:
    """Return the table that keeps a symbol's bars as they were read."""
    return "bars" if instrument.base_frame is None else "base_bars"


def to_rows(bars: Bars) -> pa.Table:
    """Return bars as rows of tables ``bars`` and ``base_bars``."""
    columns = {name: pa.array(getattr(bars, name)) for name in COLUMNS}
    rows = {
        "symbol": pa.repeat(pa.scalar(bars.symbol), len(bars)),
        "ts": pa.array(bars.ts, pa.timestamp("us")),
    }
    return pa.table({**rows, **columns})


def content_id(table: str, bars: Bars, repairs: Sequence[str]) -> str:
    """Return a result id that rests on the content, so that the pattern of requests makes nothing stale."""
    content: list[Any] = [table, bars.symbol, bars.frame, edition(bars.calendar), content_sha(to_rows(bars))]
    return digest([*content, list(repairs)] if repairs else content)


def coarser(base: Bars, instrument: Instrument, settings: Settings, events: Sequence[Event]) -> Resampled:
    """Make a symbol's bars from the finer ones it keeps.

    Raises
    ------
    DataError
        No bar is whole (E17), or too many in a row are not (E11).
    """
    made = resample(base, instrument.frame)
    said = made.said(base.frame)
    if len(made.bars) == 0:
        why = said[0] if said else f"the {base.frame} bars do not reach to the end of one"
        refuse([too_few(base.symbol, 0, 1, why)], base.symbol, instrument.frame)
    context = Context(
        base.symbol, instrument.frame, instrument.calendar, max_gap_bars=settings.prices.max_gap_bars
    )
    gaps = [it for it in check_series(made.bars, context, events) if it.rule == "E11"]
    refuse([replace(it, why="; ".join([it.why, *said])) for it in gaps], base.symbol, instrument.frame)
    return made


def publish_coarser(
    lake: Lake, made: Resampled, instrument: Instrument, base: dict[str, Any]
) -> tuple[str, bool]:
    """Publish bars made from finer ones; return their id, and whether the lake held them already.

    The record names the base bars that they were made from, the id does not: a base bar of a bar that is
    still open changes nothing that follows.
    """
    key = instrument.key
    record = {
        "stage": "prices",
        "symbol": key,
        "inputs": {"base_bars": base["result_id"]},
        "frame": instrument.frame,
        "base_frame": instrument.base_frame,
        "left_out": len(made.left_out),
        "result_id": content_id("bars", made.bars, base["repairs"]),
    }
    before = lake.record("bars", key) or {}
    same = all(before.get(name) == value for name, value in record.items())
    if not same:
        lake.publish("bars", key, to_rows(made.bars), record)
    return str(record["result_id"]), same
