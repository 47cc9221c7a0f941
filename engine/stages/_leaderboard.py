"""Stage ``leaderboard``: who is champion of each symbol, if anybody, and the report over all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.model import Bars, iso
from engine.config import Settings, Strategy, plain
from engine.lake import warehouse
from engine.lake.files import write_text
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical, code_id, digest, make_record
from engine.reports.leaderboard import write_reports
from engine.search.folds import bars_needed
from engine.stages.common import Progress, StageResult, purge_of, read_bars, terms, to_table
from engine.strategies import registry
from engine.validation import out_of_sample as oos
from engine.validation.champion import Evidence, best, decide, measure

Row = dict[str, Any]


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
        params={symbol: [plain(e) for e in settings.entries(symbol)] for symbol in ready},
    )
    same = lake.result_id("champions", ALL_SYMBOLS) == record["result_id"]
    champions = rows_of(lake.read("champions", ALL_SYMBOLS))
    if not same:
        decided = [
            row for row in champions if row["symbol"] not in ready
        ]  # symbols that left stay as they were
        for symbol in ready:
            decided += _decide(lake, symbol, settings, [row for row in champions if row["symbol"] == symbol])
        champions = decided
        lake.publish("champions", ALL_SYMBOLS, to_table("champions", champions), record)
    page = _report_if_new(lake, settings, record["result_id"], problems, asof)
    warehouse.refresh(lake.data_dir)
    holders = sorted(row["symbol"] for row in champions if row["in_force"] and row["symbol"] in ready)
    progress(f"leaderboard {len(holders)} of {len(ready)} symbols have a champion")
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
    """Write the HTML report over all symbols of the settings; return its first page."""
    symbols = list(settings.symbols)
    return write_reports(
        lake,
        symbols,
        problems=problems or {},
        asof_us=asof,
        charts=settings.report.charts,
        left_out={symbol: left_out(lake, symbol, settings) for symbol in symbols},
        sample_symbols=[symbol for symbol in symbols if settings.instrument(symbol).source == "sample"],
        confidence=settings.promotion.confidence,
    )


def _report_if_new(
    lake: Lake, settings: Settings, result_id: str, problems: Mapping[str, str], asof: int | None
) -> Path:
    """Write the report, unless the one that stands was written from the same results on the same day."""
    day = None if asof is None else iso(asof)[:10]
    code = code_id(__name__)[0]
    key = digest([result_id, sorted(problems.items()), plain(settings), day, code])
    page = lake.data_dir / "reports" / "index.html"
    written = lake.data_dir / "cache" / "report.key"
    if not (page.exists() and written.exists() and written.read_text() == key):
        page = write_report(lake, settings, asof=asof, problems=problems)
        write_text(written, key)
    return page


def left_out(lake: Lake, symbol: str, settings: Settings) -> dict[str, str]:
    """Return the strategies that a symbol has too few bars for, with both numbers."""
    rows = lake.read("bars", symbol, columns=["symbol"])
    if rows is None:
        return {}
    needs = {entry.label: bars_needed(entry.folds, purge_of(entry)) for entry in settings.entries(symbol)}
    return {
        name: f"has {len(rows)} bars, needs {needed}" for name, needed in needs.items() if len(rows) < needed
    }


def _decide(lake: Lake, symbol: str, settings: Settings, before: list[Row]) -> list[Row]:
    """Return a symbol's rows of ``champions``: the earlier ones, and new ones where evidence is new.

    A sitting champion stays while it is qualified. One that is not, or that left the settings,
    is demoted; then the qualified procedure of the lowest p is promoted, if there is one.
    """
    bars = read_bars(lake, settings.instrument(symbol))
    trading = settings.instrument(symbol).trading()
    judged = []
    for entry in settings.entries(symbol):
        # a procedure: what the user chose; new code of the engine makes no new one
        found = _evidence(lake, bars, entry, digest([terms(entry), trading, settings.seed], 16))
        if found is not None:
            judged.append(found)
    limits = [entry.promotion for _, _, entry in judged]
    latest = {row["settings_hash"]: row for row in before}
    looked = len({*latest, *(evidence.settings_hash for evidence, _, _ in judged)})
    verdicts = decide([evidence for evidence, _, _ in judged], limits, looked)
    incumbent = next((row for row in before if row["in_force"]), None)
    present = {verdict.evidence.settings_hash: verdict for verdict in verdicts}
    texts = [
        canonical({**verdict.as_json(), "thresholds": plain(limit)})
        for verdict, limit in zip(verdicts, limits, strict=True)
    ]
    known = [latest.get(verdict.evidence.settings_hash, {}).get("evidence") for verdict in verdicts]
    left = incumbent is not None and incumbent["settings_hash"] not in present
    if known == texts and not left:
        return before
    sitting = present.get(incumbent["settings_hash"]) if incumbent is not None else None
    chosen = sitting if sitting is not None and sitting.qualified else best(verdicts)
    rows = [{**row, "in_force": False} for row in before]
    if left and incumbent is not None:
        rows.append({**incumbent, "seq": len(rows), "decision": "demoted", "reasons": "left the settings",
                     "in_force": False})  # fmt: skip
    for verdict, (item, fit, _), text in zip(verdicts, judged, texts, strict=True):
        in_force = verdict is chosen
        was = incumbent is not None and incumbent["settings_hash"] == item.settings_hash
        other = () if in_force else ("another procedure is champion",)
        rows.append(
            {
                "symbol": symbol,
                "seq": len(rows),
                "asof": fit["asof"],
                "decision": ("kept" if was else "promoted")
                if in_force
                else ("demoted" if was else "rejected"),
                "strategy": item.strategy,
                "settings_hash": item.settings_hash,
                "p": verdict.p,
                "params": fit["params"],
                "study_id": fit["study_id"],
                "evidence": text,
                "reasons": "; ".join(verdict.reasons or other),
                "in_force": in_force,
            }
        )
    return rows


def _evidence(
    lake: Lake, bars: Bars, entry: Strategy, settings_hash: str
) -> tuple[Evidence, Row, Strategy] | None:
    """Return the evidence of one procedure on closed clean folds, and its newest fit."""
    symbol, name, cash = bars.symbol, entry.label, entry.execution.initial_cash
    equity = lake.need("equity", symbol, "backtests")
    equity = equity.filter(pc.equal(equity["strategy"], name))
    if not len(equity):
        return None  # left out for want of bars
    folds = [row for row in rows_of(lake.need("folds", symbol, "optimizations")) if row["strategy"] == name]
    closed = sorted({row["fold"] for row in folds if not row["open"] and row["label"] == "clean"})
    rows = equity.filter(pc.equal(equity["variant"], "tuned"))
    inside = np.isin(rows["fold"].to_numpy(), closed)  # the open fold grows: it decides nothing
    path, position = (rows[column].to_numpy() for column in ("equity", "position"))
    before = np.concatenate([[cash], path[:-1]])
    fixed = registry.get(entry.strategy).kind == "levels"
    returns = ((path - before) / (cash if fixed else before))[inside]
    at = np.searchsorted(bars.ts, rows["ts"].cast(pa.int64()).to_numpy()[inside])
    total = oos.total_returns(bars, 1, len(bars))[at - 1]
    hold = oos.matched_returns(path[inside], position[inside], bars.close[at], total)
    trades = lake.need("trades", symbol, "backtests").to_pylist()
    count = sum(
        row["strategy"] == name and row["variant"] == "tuned" and row["fold"] in closed for row in trades
    )
    fits = [*rows_of(lake.read("nightly", symbol)), *({**row, "asof": row["train_end"] - 1} for row in folds)]
    newest = max(
        (row for row in fits if row["strategy"] == name and row["selected"]), key=lambda row: row["asof"]
    )
    found = measure(name, settings_hash, returns, hold, count)
    return found, newest, entry
