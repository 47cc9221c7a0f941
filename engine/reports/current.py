"""Which next orders are current: those of fits that were made under the settings of now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.lake.publish import Lake, rows_of

Row = dict[str, Any]


def current_orders(lake: Lake, symbol: str, procedures: Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """Return the orders of a symbol that stand under the settings of now, and a line for each left out.

    Parameters
    ----------
    lake, symbol
        Where tables ``next_orders`` and ``nightly`` lie, and of which symbol.
    procedures : mapping of str to str
        Strategy to the hash of its procedure, of the symbol's entries in the settings of now.

    Returns
    -------
    (list of dict, list of str)
        Rows of ``next_orders`` whose fit, the row of ``nightly`` they were made from, has the hash of now.
        The others are left out: one line a strategy says why, and the command that mends it.

    Raises
    ------
    LakeError
        A table cannot be read.
    """
    orders = rows_of(lake.read("next_orders", symbol))
    fits = {
        (row["strategy"], row["asof"]): row.get("procedure")  # older rows lack it
        for row in rows_of(lake.read("nightly", symbol))
        if row["selected"]
    }
    # fits that were made again have taken the place of those that the orders rest on
    rests_on = (lake.record("next_orders", symbol) or {}).get("inputs", {}).get("folds")
    fitted_anew = any(rests_on != lake.result_id(table, symbol) for table in ("folds", "nightly"))
    current: list[Row] = []
    why: dict[str, str] = {}
    for row in orders:
        name = row["strategy"]
        made_by = fits.get((name, row["asof"]))
        if made_by is None or made_by != procedures.get(name):
            why[name] = "settings changed since its last fit"
        elif fitted_anew:
            why[name] = "fitted anew since its last orders"
        else:
            current.append(row)
    lines = [f"{symbol} {name}: {reason}; run nightfold run {symbol}" for name, reason in why.items()]
    return current, lines
