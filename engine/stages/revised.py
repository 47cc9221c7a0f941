"""What a source says now of bars that were stored before: refused, told, or kept in both versions."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from engine.bars.model import COLUMNS, Bars, iso
from engine.bars.policy import Rejected
from engine.bars.revisions import differences, revised
from engine.config import Instrument
from engine.errors import DataError
from engine.sources import Loaded

NETWORK_SOURCES = ("yahoo", "exchange")


def both_versions(stored: Bars, loaded: Loaded, instrument: Instrument) -> list[dict[str, Any]]:
    """Return the stored and the vendor's version of every bar that differs, as rows of ``quarantine``."""
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


def set_aside(row: Rejected, source: str, raw: list[str]) -> dict[str, Any]:
    """Return a row that the policy set aside as a row of ``quarantine``."""
    return {
        "ts": row.ts, "rule": row.rule, "version": "row", "source": source, "raw_sha": ",".join(raw),
        "line": row.line, "text": row.text, "reason": row.reason,
    }  # fmt: skip


def refuse_shorter(stored: Bars, bars: Bars) -> None:
    """Refuse (E13) a history that ends earlier, or has fewer bars, than the stored one."""
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


def revisions(stored: Bars, bars: Bars, instrument: Instrument) -> list[str]:
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
