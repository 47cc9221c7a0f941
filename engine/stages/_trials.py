"""The ledger of a symbol's trials in the lake: found again after a kill, kept small over the years.

One part of table ``trials`` per UTC year in which a training window ends, rewritten whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.model import Bars, iso
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical
from engine.search.ledger import to_rows
from engine.search.trial import Trial
from engine.stages.common import to_table

Row = dict[str, Any]
TONIGHT = -1  # column ``fold`` of the trials of tonight's fits
FULL_NIGHTS = 30  # newest nights of a strategy whose trials are kept one by one


class TrialLedger:
    """Reads, adds and publishes the trials of one symbol.

    Parameters
    ----------
    lake : Lake
        Where table ``trials`` lies.
    bars : Bars
        Of the symbol; a window's last bar says which part its trials belong to.
    record : mapping
        Lineage of what is published.
    """

    def __init__(self, lake: Lake, bars: Bars, record: Mapping[str, Any]) -> None:
        self.lake, self.bars, self.record = lake, bars, dict(record)
        self.added = 0
        self._new: dict[str, list[Row]] = {}  # by part

    def part(self, train_to: int) -> str:
        """Return the part of a window's trials: the UTC year of its last bar."""
        return iso(int(self.bars.ts[train_to - 1]))[:4]

    def told(self, study_id: str, train_to: int) -> list[Row]:
        """Return the rows that a study which was cut short has left, in trial order."""
        table = self.lake.read("trials", self.bars.symbol, part=self.part(train_to))
        if table is None:
            return []
        rows = rows_of(table.filter(pc.equal(table["study_id"], study_id)))
        return sorted((row for row in rows if row["state"] != "SUMMARY"), key=lambda row: row["trial_number"])

    def add(self, trials: Sequence[Trial], common: Mapping[str, Any], train_to: int) -> None:
        """Keep trials for the next `publish`; those already in the lake are not written twice."""
        self._new.setdefault(self.part(train_to), []).extend(to_rows(trials, common))

    def publish(self, old_nights: Collection[str] = ()) -> None:
        """Write every part that has new rows, or a study of ``old_nights``, which becomes one SUMMARY row."""
        stored = self.lake.parts("trials", self.bars.symbol) if old_nights else []
        for part in sorted({*self._new, *stored}):
            found = self.lake.read("trials", self.bars.symbol, part=part)
            table = to_table("trials", []) if found is None else found
            kept, summaries = _summarised(table, old_nights)
            fresh = _unknown(self._new.get(part, []), kept)
            self.added += len(fresh)
            if fresh or summaries:
                new = to_table("trials", [*summaries, *fresh])
                # a part that an older nightfold wrote lacks the newest columns
                whole = pa.concat_tables([kept, new], promote_options="default")
                self.lake.publish("trials", self.bars.symbol, whole, self.record, part=part)
        self._new.clear()


def part_of(fit: Row) -> str:
    """Return the part with the trials of a fit, a row of ``folds`` or ``nightly``; empty: it has none."""
    searched = fit["n_trials"] and (fit["solver"] or "").startswith("optuna:")
    return iso(fit["train_end"] - 1)[:4] if searched else ""


def lost_studies(lake: Lake, symbol: str, nightly_of: Collection[str]) -> dict[str, str]:
    """Return studies that fits in force rest on and whose trials are gone, with the part they were in.

    In force are the folds' fits, and tonight's of the strategies ``nightly_of`` that are fitted every night.
    The table has no history, so that a part which was torn or removed is lost whole.
    """
    columns = ["train_end", "solver", "n_trials", "study_id"]
    fits = rows_of(lake.read("folds", symbol, columns))
    nightly = rows_of(lake.read("nightly", symbol, [*columns, "asof", "strategy"]))
    last = max((row["asof"] for row in nightly), default=None)
    fits += [row for row in nightly if row["asof"] == last and row["strategy"] in nightly_of]
    kept: set[str] = set()
    for part in lake.parts("trials", symbol):
        table = lake.read("trials", symbol, ["study_id"], part=part)
        kept.update([] if table is None else table["study_id"].unique().to_pylist())
    return {row["study_id"]: part for row in fits if (part := part_of(row)) and row["study_id"] not in kept}


def _unknown(rows: Sequence[Row], table: pa.Table) -> list[Row]:
    """Return the rows whose trial the table does not hold."""
    studies = pa.array(sorted({row["study_id"] for row in rows}), pa.string())
    same = table.filter(pc.is_in(table["study_id"], studies))
    known = set(zip(same["study_id"].to_pylist(), same["trial_number"].to_pylist(), strict=True))
    return [row for row in rows if (row["study_id"], row["trial_number"]) not in known]


def old_nights(nightly: Iterable[Row], folds: Iterable[Row]) -> set[str]:
    """Return the studies of nights before a strategy's newest 30, but for those that a fold rests on."""
    by_strategy: dict[str, dict[int, set[str]]] = {}
    for row in nightly:
        by_strategy.setdefault(row["strategy"], {}).setdefault(row["asof"], set()).add(row["study_id"])
    old: set[str] = set()
    recent: set[str] = {row["study_id"] for row in folds}
    for nights in by_strategy.values():
        for rank, asof in enumerate(sorted(nights, reverse=True)):
            (recent if rank < FULL_NIGHTS else old).update(nights[asof])
    return old - recent


def _summarised(table: pa.Table, studies: Collection[str]) -> tuple[pa.Table, list[Row]]:
    """Return the table without the trials of the studies, and one row for each of these."""
    among = pc.is_in(table["study_id"], pa.array(sorted(studies), pa.string()))
    cut = pc.and_(among, pc.not_equal(table["state"], "SUMMARY"))
    by_study: dict[str, list[Row]] = {}
    for row in rows_of(table.filter(cut)):
        by_study.setdefault(row["study_id"], []).append(row)
    return table.filter(pc.invert(cut)), [_summary(found) for found in by_study.values()]


def _summary(rows: Sequence[Row]) -> Row:
    """Return the one row of a study: its best trial's parameters and value, and what counts for N."""
    distinct = [row for row in rows if row["duplicate_of"] is None and row["bars_done"]]
    chosen = [
        row for row in distinct
        if row["state"] == "COMPLETE" and all(x <= 0 for x in json.loads(row["constraints"]).values())
    ]  # fmt: skip
    best = max(chosen, key=lambda row: (row["value"], -row["trial_number"]), default=None)
    ratios = [row["sr"] for row in distinct if row["sr"] is not None and np.isfinite(row["sr"])]
    moments = {
        "n_configs": len(distinct),
        "sr_mean": float(np.mean(ratios)) if ratios else None,
        "sr_variance": float(np.var(ratios, ddof=1)) if len(ratios) > 1 else None,
    }
    empty = dict.fromkeys(rows[0])
    shared = ("symbol", "strategy", "fold", "study_id", "data_id", "config_hash", "seed")
    return {
        **empty,
        **{name: rows[0][name] for name in shared},
        "trial_number": -1,
        "state": "SUMMARY",
        "outcome": "SUMMARY",
        "params": None if best is None else best["params"],
        "value": None if best is None else best["value"],
        "fold_scores": [],
        "reported": [],
        "config": next((row["config"] for row in rows if row.get("config")), None),
        "summary": canonical(moments),
    }
