"""A stage's result as Dagster shows it: numbers plotted over time, the equity picture, the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:  # definitions load without numba and pyarrow
    from engine.lake.publish import Lake
    from engine.stages.common import StageResult

BPS = "basis points per bar out of sample, after costs"
# column: key of a row of the leaderboard, type, digits, meaning
BOARD = {
    "symbol": ("symbol", "string", None, None),
    "strategy": ("strategy", "string", None, None),
    "champion": ("champion", "bool", None, "its evidence holds against the matched hold"),
    "folds": ("label", "string", None, "clean, or why none is: then no champion rests on them"),
    "tuned": ("bps_per_bar", "float", 2, BPS),
    "untuned": ("untuned_bps_per_bar", "float", 2, f"its declared parameters, {BPS}"),
    "matched hold": ("matched_hold_bps_per_bar", "float", 2, f"holding as much of the time, {BPS}"),
    "buy and hold": ("buy_and_hold_bps_per_bar", "float", 2, BPS),
    "in sample": ("in_sample_bps_per_bar", "float", 2, "basis points per bar on what the fits saw"),
    "Sharpe": ("sharpe", "float", 2, "annualised"),
    "drawdown": ("max_drawdown", "float", 3, "largest, as a share of the highest equity"),
    "trades": ("trades", "int", None, None),
    "exposure": ("exposure", "float", 2, "share of bars with a position"),
    "bars": ("bars", "int", None, "out of sample"),
    "last bar": ("end", "string", None, None),
    "status": ("status", "string", None, None),
}


def of_result(result: StageResult, lake: Lake, symbols: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of one materialisation, what a reader wants first at the top."""
    shown: dict[str, Any] = {"dagster/row_count": result.rows}
    if result.stage == "backtests":
        from engine.reports.svg import equity_markdown

        shown["equity"] = dg.MetadataValue.md(equity_markdown(lake, result.symbol))
    if result.stage == "leaderboard":
        from engine.reports.board import leaderboard_rows

        rows = leaderboard_rows(lake, symbols)
        if rows:
            shown["leaderboard"] = _table(rows)
    for name, value in result.metadata.items():
        shown[name] = dg.MetadataValue.path(value) if isinstance(value, Path) else value
    shown["unchanged"] = result.unchanged
    shown["seconds"] = round(result.seconds, 3)
    shown["result_id"] = result.result_id
    return shown


def _table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    columns = [
        dg.TableColumn(title, type=kind, description=text) for title, (_, kind, _, text) in BOARD.items()
    ]
    records = [
        dg.TableRecord({title: _cell(row[key], digits) for title, (key, _, digits, _) in BOARD.items()})
        for row in rows
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def _cell(value: Any, digits: int | None) -> str | int | float | bool:
    if value is None:
        return "undefined"
    return value if digits is None else round(value, digits)
