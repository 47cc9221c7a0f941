"""Stage ``leaderboard``: who is champion of each symbol, if anybody, and the report over all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.bars.model import iso
from engine.config import Settings, plain
from engine.errors import LakeError
from engine.lake import warehouse
from engine.lake.files import write_text
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical, code_id, digest, make_record
from engine.reports.leaderboard import write_reports
from engine.stages._decisions import decide_symbol
from engine.stages.common import Progress, StageResult, procedures, to_table, too_short_for
from engine.validation.max_t import benjamini_hochberg

Row = dict[str, Any]

ORDERS_REST_ON = ("next_orders", "folds", "nightly")
PROBLEMS = "problems.json"  # what failed in the last run, for a report that is written again


def leaderboard(
    lake: Lake,
    settings: Settings,
    progress: Progress,
    *,
    problems: Mapping[str, str],
    asof: int | None,
) -> StageResult:
    """Decide the champions and write the report over the symbols that have results.

    Parameters
    ----------
    lake, settings, progress
        As in every stage; all symbols of the settings, those without results are said to have none.
    problems : mapping of str to str
        Symbol to the message of what failed in this run.
    asof : int or None
        Clock of the run, microseconds UTC, for the age of the prices; never part of an id.
    """
    ready = sorted(symbol for symbol in settings.symbols if lake.result_id("backtests", symbol))
    record = make_record(
        __name__,
        ALL_SYMBOLS,
        inputs={symbol: lake.result_id("backtests", symbol) or "" for symbol in ready},
        params={
            "allow_losing_forecasts": settings.forecasts.allow_losing_forecasts,
            "entries": {symbol: [plain(e) for e in settings.entries(symbol)] for symbol in ready},
        },
    )
    same = lake.result_id("champions", ALL_SYMBOLS) == record["result_id"]
    champions = rows_of(lake.read("champions", ALL_SYMBOLS))
    if not same:
        decided = [
            row for row in champions if row["symbol"] not in ready
        ]  # symbols that left stay as they were
        champions = decided + _decide_all(lake, ready, settings, champions)
        lake.publish("champions", ALL_SYMBOLS, to_table("champions", champions), record)
    decisions = digest([record["result_id"], [row for row in champions if row["in_force"]]])
    page = _report_if_new(lake, settings, decisions, problems, asof)
    warehouse.refresh(lake.data_dir, progress)
    holders = sorted(row["symbol"] for row in champions if row["in_force"] and row["symbol"] in ready)
    progress(f"leaderboard {len(holders)} of all {len(ready)} symbols with results have a champion")
    return StageResult(
        "leaderboard",
        "",
        len(champions),
        record["result_id"],
        same,
        {"symbols": len(ready), "champions": len(holders), "report": page},
    )


def write_report(
    lake: Lake, settings: Settings, *, asof: int | None, problems: Mapping[str, str] | None = None
) -> Path:
    """Write the HTML report over all symbols of the settings; return its first page.

    Without ``problems`` the symbols that failed are those of the last run.
    """
    symbols = list(settings.symbols)
    if problems is None:
        kept = lake.data_dir / "cache" / PROBLEMS
        problems = json.loads(kept.read_text()) if kept.exists() else {}
    return write_reports(
        lake,
        symbols,
        problems={symbol: text for symbol, text in problems.items() if symbol in settings.symbols},
        asof_us=asof,
        charts=settings.report.charts,
        left_out={symbol: left_out(lake, symbol, settings) for symbol in symbols},
        instruments={symbol: settings.instrument(symbol) for symbol in symbols},
        sample_symbols=[symbol for symbol in symbols if settings.instrument(symbol).source == "sample"],
        confidence=settings.promotion.confidence,
        procedures={symbol: procedures(symbol, settings) for symbol in symbols},
    )


def _report_if_new(
    lake: Lake, settings: Settings, result_id: str, problems: Mapping[str, str], asof: int | None
) -> Path:
    """Write the report, unless the one that stands was written from the same results on the same day."""
    day = None if asof is None else iso(asof)[:10]
    code = code_id(__name__)[0]
    stand = {  # what decides which orders are current
        symbol: [procedures(symbol, settings), *(lake.result_id(table, symbol) for table in ORDERS_REST_ON)]
        for symbol in settings.symbols
    }
    key = digest([result_id, sorted(problems.items()), plain(settings), day, code, stand])
    page = lake.data_dir / "reports" / "index.html"
    written = lake.data_dir / "cache" / "report.key"
    if not (page.exists() and written.exists() and written.read_text() == key):
        page = write_report(lake, settings, asof=asof, problems=problems)
        write_text(lake.data_dir / "cache" / PROBLEMS, canonical(dict(problems)))
        write_text(written, key)
    return page


def left_out(lake: Lake, symbol: str, settings: Settings) -> dict[str, str]:
    """Return the strategies that a symbol has too few bars for, with both numbers."""
    try:
        rows = lake.read("bars", symbol, columns=["symbol"])
    except LakeError:  # a torn file; the symbol's page says so
        rows = None
    return {} if rows is None else too_short_for(settings.entries(symbol), len(rows))


def _decide_all(lake: Lake, symbols: Sequence[str], settings: Settings, before: list[Row]) -> list[Row]:
    """Return the rows of ``champions`` of all symbols; new rows get their q over all of them."""
    found = {
        symbol: decide_symbol(lake, symbol, settings, [row for row in before if row["symbol"] == symbol])
        for symbol in symbols
    }
    smallest = [min((p for p in ps if p == p), default=math.nan) for _, ps in found.values()]
    rows: list[Row] = []
    for (symbol, (decided, _)), q in zip(found.items(), benjamini_hochberg(smallest), strict=True):
        known = sum(row["symbol"] == symbol for row in before)
        rows += decided[:known]
        rows += [{**row, "q": q} if row["reasons"] != "left the settings" else row for row in decided[known:]]
    return rows
