"""What a person does with champions: put the predecessor back, and write them to a file.

No stage calls these: nothing becomes live by itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine.bars.model import iso
from engine.config import Settings
from engine.errors import LakeError
from engine.lake import warehouse
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake, rows_of
from engine.reports.current import current_orders
from engine.reports.forward import summary
from engine.stages._decisions import ROLLED_BACK, newest_fit
from engine.stages._forward import record_of
from engine.stages.chain import holding
from engine.stages.common import Progress, procedures, to_table

PAPER_ONLY = "paper only: nightfold places no orders"
Row = dict[str, Any]


def rollback(lake: Lake, symbol: str, settings: Settings, progress: Progress, *, cpus: int) -> Row:
    """Put the champion before the one in force back, until new evidence decides again.

    Where none was before, the symbol has none again.

    Returns
    -------
    dict
        The new row of ``champions``: the predecessor's, but for its number, the decision and reason.

    Raises
    ------
    LakeError
        The symbol has no champion, or its predecessor left the settings.
    AlreadyRunning
        Another live process writes the leaderboard.
    """
    with holding(lake, ALL_SYMBOLS, settings, cpus, progress):
        rows = rows_of(lake.read("champions", ALL_SYMBOLS))
        mine = [row for row in rows if row["symbol"] == symbol]
        holder = next((row for row in mine if row["in_force"]), None)
        if holder is None:
            raise LakeError(f"{symbol} has no champion to roll back. See: nightfold champions --why {symbol}")
        back = holder if holder.get("predecessor") is None else mine[holder["predecessor"]]
        if back is not holder and back["settings_hash"] not in procedures(symbol, settings).values():
            raise LakeError(
                f"{symbol}: the champion before was {back['strategy']} with settings that are no longer in "
                f"the settings file, so it cannot come back. Put them back there, or keep the champion"
            )
        row = {
            **back,
            "seq": len(mine),
            "decision": ROLLED_BACK,
            "reasons": f"rolled back by hand from decision {holder['seq']}, until new evidence",
            "in_force": back is not holder,
        }
        kept = [{**old, "in_force": old["in_force"] and old["symbol"] != symbol} for old in rows]
        place = max(i for i, old in enumerate(rows) if old["symbol"] == symbol) + 1
        record = dict(lake.record("champions", ALL_SYMBOLS) or {})
        record.pop("record_sha", None)
        table = to_table("champions", [*kept[:place], row, *kept[place:]])
        lake.publish("champions", ALL_SYMBOLS, table, record)
        warehouse.refresh(lake.data_dir)
    return row


def export(lake: Lake, symbols: Sequence[str], settings: Settings) -> Row:
    """Return the champions in force as plain JSON values: parameters of now, evidence, next orders.

    ``next_orders`` are those of all strategies, ``is_champion`` marks the champions'. What the nights'
    own fits earned so far stands under ``forward_record``, null before the first scored night.
    Symbols without a champion are named under ``without_champion``. Orders of fits, and champions, of other
    settings are left out, with a line under ``not_current``.
    """
    held = {row["symbol"]: row for row in rows_of(lake.read("champions", ALL_SYMBOLS)) if row["in_force"]}
    champions: list[Row] = []
    every: list[Row] = []
    not_current: list[str] = []
    for symbol in symbols:
        row, now = held.get(symbol), procedures(symbol, settings)
        orders, left_out = current_orders(lake, symbol, now)
        not_current += left_out
        mine = [{name: _plain(name, value) for name, value in order.items()} for order in orders]
        if row is not None and row["settings_hash"] != now.get(row["strategy"]):  # no parameters of now
            not_current.append(
                f"{symbol} {row['strategy']}: settings changed since it became champion; "
                f"run nightfold run {symbol}"
            )
            row = None
        name = None if row is None else row["strategy"]
        every += [{**order, "is_champion": order["strategy"] == name} for order in mine]
        if row is None:
            continue
        fit = newest_fit(lake, symbol, row["strategy"], row["settings_hash"])
        champions.append(
            {
                "symbol": symbol,
                "strategy": row["strategy"],
                "procedure": row["settings_hash"],
                "decision": row["decision"],
                "decided_asof": iso(row["asof"]),
                "p": row["p"],
                "q": None if row.get("q") != row.get("q") else row.get("q"),
                "evidence": json.loads(row["evidence"]),
                "forward_record": _forward_record(lake, row),
                "parameters": json.loads(fit["params"]),
                "parameters_asof": iso(fit["asof"]),
                "study_id": fit["study_id"],
                "trial_number": fit["trial_number"],
                "next_orders": [
                    {key: value for key, value in order.items() if key not in ("symbol", "strategy")}
                    for order in mine
                    if order["strategy"] == name
                ],
            }
        )
    without = [symbol for symbol in symbols if symbol not in held]
    return {
        "note": PAPER_ONLY, "champions": champions, "without_champion": without, "next_orders": every,
        "not_current": not_current,
    }  # fmt: skip


def _plain(name: str, value: Any) -> Any:
    """Return one value of an order for JSON: stamps as text, undefined as None."""
    return iso(value) if name == "asof" else None if value != value else value


def _forward_record(lake: Lake, champion: Row) -> Row | None:
    """Return the sum of a champion's forward record, stamps as text."""
    symbol, name = champion["symbol"], champion["strategy"]
    rows = record_of(rows_of(lake.read("forward", symbol)), name, champion["settings_hash"])
    folds = rows_of(lake.need("folds", symbol, "optimizations"))
    found = summary(rows, compounded=not any(row["policy"] for row in folds if row["strategy"] == name))
    if found is None:
        return None
    stamps = {"since": found["since"], "last_bar": None if found["end"] is None else found["end"] - 1}
    text = {name: None if value is None else iso(value) for name, value in stamps.items()}
    return {**text, **{name: value for name, value in found.items() if name not in ("since", "end")}}
