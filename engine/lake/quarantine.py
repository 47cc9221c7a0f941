"""Table ``quarantine``: rows that were set aside, and both versions of a history that its vendor changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from engine.lake.publish import Lake, rows_of
from engine.lake.records import digest
from engine.lake.schemas import schema_of

_KEY = ("raw_sha", "line", "rule", "version", "ts")


def add(lake: Lake, key: str, rows: Sequence[dict[str, Any]]) -> int:
    """Add rows to a symbol's quarantine; those that are there already are not added twice.

    Parameters
    ----------
    lake : Lake
        Where to.
    key : str
        Canonical key.
    rows : sequence of dict
        The columns of the table without ``symbol``; ``ts`` in microseconds UTC or None.

    Returns
    -------
    int
        Number of rows that are new.
    """
    held = [{k: v for k, v in row.items() if k != "symbol"} for row in rows_of(lake.read("quarantine", key))]
    known = {tuple(row[name] for name in _KEY) for row in held}
    new = [row for row in rows if tuple(row[name] for name in _KEY) not in known]
    if new:
        whole = [{"symbol": key, **row} for row in (*held, *new)]
        table = pa.Table.from_pylist(whole, schema=schema_of("quarantine"))
        record = {"stage": "prices", "symbol": key, "result_id": digest([key, whole])}
        lake.publish("quarantine", key, table, record)
    return len(new)
