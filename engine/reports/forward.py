"""The forward record in the reports: what the nights' own fits earned, apart from the walk-forward."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.reports.html import Column, Html, details, join, number, paragraph, stamp, table, tag, whole
from engine.reports.results import Row, SymbolResults

LATEST_NIGHTS = 60
NOT_YET = (
    "No night is scored yet. The record begins with the first bar after a night's fit, and grows by one "
    "row a night."
)
_BPS = 1e4


def summary(rows: Sequence[Row], *, compounded: bool) -> Row | None:
    """Return what the clean rows of one record come to, or None without any row.

    Parameters
    ----------
    rows : sequence of dict
        Rows of ``forward`` of one procedure, oldest first.
    compounded : bool
        False: every bar trades a fixed notional, so that the rows add up.

    Returns
    -------
    dict
        ``since`` and ``end`` (first bar, and just after the last one; None where no row is clean),
        ``nights``, ``bars``, ``fills``, ``net_bps`` over all of them, ``costs_bps``, and
        ``left_out``: nights that are not clean.
    """
    if not rows:
        return None
    clean = [row for row in rows if row["label"] == "clean"]
    total = math.prod(1.0 + row["net"] for row in clean) - 1.0
    net = total if compounded else math.fsum(row["net"] for row in clean)
    return {
        "since": clean[0]["start"] if clean else None,
        "end": clean[-1]["end"] if clean else None,
        "nights": len(clean),
        "bars": sum(row["bars"] for row in clean),
        "fills": sum(row["fills"] for row in clean),
        "net_bps": _BPS * net if clean else None,
        "costs_bps": _BPS * math.fsum(row["costs"] for row in clean) if clean else None,
        "left_out": len(rows) - len(clean),
    }


def record_summary(results: SymbolResults, strategy: str) -> Row | None:
    """Return `summary` of the present procedure of a strategy."""
    return summary(results.forward_record(strategy), compounded=not results.is_levels(strategy))


def forward_part(results: SymbolResults, strategy: str) -> Html:
    """Return the record of one strategy: its sum in a sentence, and its newest nights."""
    rows, found = results.forward_record(strategy), record_summary(results, strategy)
    if found is None:
        return paragraph(NOT_YET)
    daily = results.daily
    said: list[object] = []
    if found["nights"]:
        said = [
            tag("strong", number(found["net_bps"], 1, sign=True), " basis points"),
            f" after {found['costs_bps']:,.1f} of costs, over {found['bars']:,} bar"
            f"{'' if found['bars'] == 1 else 's'} since ",
            stamp(found["since"], daily=daily),
            ". ",
        ]
    if found["left_out"]:
        said.append(f"Left out, since they are not clean: {found['left_out']} of {len(rows)} nights. ")
    held = rows[-1]["position_out"]
    said.append(f"Held now: {'long' if held > 0 else 'short'} {abs(held):,.2f}." if held else "Flat now.")
    columns = [
        Column("Fit of", numeric=False),
        Column("Bars"),
        Column("Gross", group="Basis points"),
        Column("Costs", group="Basis points"),
        Column("Net", group="Basis points"),
        Column("Fills"),
        Column("Position after"),
        Column("Label", numeric=False),
    ]
    lines = [
        [
            tag("span", stamp(row["asof"], daily=daily), class_="nowrap"),
            whole(row["bars"]),
            *(number(row[name] * _BPS, 1, sign=name != "costs") for name in ("gross", "costs", "net")),
            whole(row["fills"]),
            number(row["position_out"], 2, sign=True),
            row["label"],
        ]
        for row in rows[: -LATEST_NIGHTS - 1 : -1]
    ]
    shown = f"{len(lines)} of {len(rows)} nights, newest first"
    note = (
        "Paper trading with nothing left to choose: each night's fit on the bars after it, from the position "
        "that the night before left. It decides nothing about champions, and lies on bars of the test "
        "stretches too, so that it is not added to them."
    )
    return join(
        [
            paragraph(*said),
            details(shown, table(columns, lines, label="Forward record")),
            paragraph(note, kind="note"),
        ]
    )
