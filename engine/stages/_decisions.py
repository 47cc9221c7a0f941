"""Which procedure of a symbol is champion: its rows of ``looks`` written, its rows of ``champions`` decided.

Looks are few: a symbol is decided when its evidence is new (a procedure evaluated for the first
time, or a fold of one closed) or its thresholds are, and not in the nights between.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.bars.model import Bars
from engine.config import Settings, Strategy, plain
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical
from engine.stages.common import CLEAN, procedure_hash, to_table
from engine.strategies import registry
from engine.validation import out_of_sample as oos
from engine.validation.champion import Series, Verdict, choose, draw_seed, judge, measure

Row = dict[str, Any]
ROLLED_BACK = "rolled_back"


def closed_bars(folds: Sequence[Row]) -> np.ndarray[Any, Any]:
    """Return the indices of the test bars of closed clean folds, rising; ``folds`` are the chosen rows."""
    spans = [
        np.arange(row["test_from"], row["test_to"])
        for row in sorted(folds, key=lambda row: int(row["fold"]))
        if not row["open"] and row["label"] == CLEAN
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *spans]).astype(np.int64)


def series_of(bars: Bars, procedure: str, name: str, tuned: oos.Piece, cash: float, at: Any) -> Series:
    """Return the evidence of one procedure on the closed test bars ``at``, from its stitched account."""
    inside = at - tuned.start
    total = oos.total_returns(bars, 1, len(bars))[at - 1]
    hold = oos.matched_returns(tuned.equity[inside], tuned.position[inside], bars.close[at], total)
    net = tuned.returns(cash)[inside]
    return Series(procedure, name, bars.ts[at], net, net - hold)


def look_rows(old: pa.Table | None, symbol: str, found: Sequence[Series]) -> pa.Table:
    """Return table ``looks``: series with new bars replaced whole, all others as they stand."""
    known = {one.procedure: one for one in read_series(old)}
    for one in found:
        before = known.get(one.procedure)
        if before is None or not np.array_equal(before.ts, one.ts):
            known[one.procedure] = one
    parts = [to_table("looks", [])]
    for one in known.values():
        columns = {
            "symbol": pa.repeat(symbol, len(one.ts)),
            "procedure": pa.repeat(one.procedure, len(one.ts)),
            "strategy": pa.repeat(one.strategy, len(one.ts)),
            "ts": pa.array(one.ts, pa.timestamp("us")),
            "net": pa.array(one.net),
            "x": pa.array(one.excess),
        }
        parts.append(pa.table(columns).cast(parts[0].schema))
    return pa.concat_tables(parts)


def read_series(looks: pa.Table | None) -> list[Series]:
    """Return the series of table ``looks``, in the order of their first rows."""
    if looks is None or not len(looks):
        return []
    coded = looks["procedure"].combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy()
    ts = looks["ts"].cast(pa.int64()).to_numpy()
    net, x = looks["net"].to_numpy(), looks["x"].to_numpy()
    strategies = looks["strategy"]
    made = []
    for number, name in enumerate(coded.dictionary.to_pylist()):
        mine = np.flatnonzero(codes == number)
        made.append(Series(name, strategies[int(mine[0])].as_py(), ts[mine], net[mine], x[mine]))
    return made


def decide_symbol(
    lake: Lake, symbol: str, settings: Settings, before: list[Row]
) -> tuple[list[Row], list[float]]:
    """Return a symbol's rows of ``champions``, new ones where evidence is new, and its present p-values.

    An incumbent that left the settings is demoted at once.
    """
    instrument = settings.instrument(symbol)
    entries = {procedure_hash(e, instrument, settings): e for e in settings.entries(symbol)}
    looks = lake.read("looks", symbol)
    series = read_series(looks)  # without the table: results of an older version, not judged
    if looks is not None:
        series += _without_evidence(lake, symbol, entries, {one.procedure for one in series})
    present = [one for one in series if one.procedure in entries]
    limits = [entries[one.procedure].promotion for one in present]
    latest = {row["settings_hash"]: row for row in before if row["decision"] != ROLLED_BACK}
    incumbent = next((row for row in before if row["in_force"]), None)
    left = incumbent is not None and incumbent["settings_hash"] not in entries
    barred = _barred(lake, symbol, settings)
    losing = [barred if registry.get(entries[one.procedure].strategy).kind == "levels" else None
              for one in present]  # fmt: skip
    keys = [
        {"bars": len(one.ts), "last_bar": int(one.ts[-1]) if len(one.ts) else 0, "thresholds": plain(limit),
         "losing_forecasts_allowed": settings.forecasts.allow_losing_forecasts}
        for one, limit in zip(present, limits, strict=True)
    ]  # fmt: skip
    known = [json.loads(latest[one.procedure]["evidence"]) if one.procedure in latest else {}
             for one in present]  # fmt: skip
    same = all(all(was.get(name) == value for name, value in key.items())
               for was, key in zip(known, keys, strict=True))  # fmt: skip
    rows = [dict(row) for row in before]
    if left and incumbent is not None:
        rows = [{**row, "in_force": False} for row in rows]
        rows.append({**incumbent, "seq": len(rows), "decision": "demoted", "reasons": "left the settings",
                     "in_force": False})  # fmt: skip
    sits = None if incumbent is None else incumbent["settings_hash"]
    unseated = any(why and one.procedure == sits for one, why in zip(present, losing, strict=True))
    if same and not unseated:  # a champion whose forecasts lose goes at once; else only new evidence decides
        p = [float("nan") if was["p"] is None else float(was["p"]) for was in known]
        return rows, p
    seed = draw_seed(symbol, settings.seed, series)
    evidence = {e.settings_hash: e for e in measure(series, _trades(lake, symbol, present), seed=seed)}
    verdicts = [judge(evidence[one.procedure], limit, why)
                for one, limit, why in zip(present, limits, losing, strict=True)]  # fmt: skip
    sitting = None if incumbent is None or left else incumbent["settings_hash"]
    chosen, said = choose(verdicts, limits, series, sitting, seed=seed)
    rows = [{**row, "in_force": False} for row in rows]
    for verdict, key in zip(verdicts, keys, strict=True):
        fit = newest_fit(lake, symbol, verdict.evidence.strategy, verdict.evidence.settings_hash)
        rows.append(_row(symbol, len(rows), verdict, verdict is chosen, fit, key, incumbent, sitting, said))
    return rows, [verdict.evidence.p for verdict in verdicts]


def _barred(lake: Lake, symbol: str, settings: Settings) -> str | None:
    """Return why no strategy that trades forecasts may be champion: the model's highs or lows lose.

    The verdicts are those of the next bar after the model's knowledge cut-off.
    """
    if settings.forecasts.allow_losing_forecasts:
        return None
    model = str(lake.need("forecast_models", symbol, "forecasts")["model_key"][0])
    lost = [
        row["field"]
        for row in rows_of(lake.need("forecast_quality", symbol, "forecasts"))
        if (row["model_key"], row["step"], row["verdict"]) == (model, 1, "loses")
        and row["field"] in ("high", "low") and row["span"] != "before"
    ]  # fmt: skip
    if not lost:
        return None
    which = " and ".join(f"{field}s" for field in sorted(lost))
    return f"the model's {which} lose to its baselines (forecasts.allow_losing_forecasts)"


def _without_evidence(
    lake: Lake, symbol: str, entries: Mapping[str, Strategy], known: set[str]
) -> list[Series]:
    """Return empty series of procedures that were evaluated, but on no bar that is closed and clean.

    One whose forecaster may have seen its test bars is judged on nothing, so that it cannot stay champion.
    """
    folds = rows_of(lake.need("folds", symbol, "optimizations"))
    none = np.zeros(0)
    found = []
    for procedure, entry in entries.items():
        mine = [row for row in folds if row["strategy"] == entry.label and row["selected"]]
        if mine and procedure not in known and not len(closed_bars(mine)):
            found.append(Series(procedure, entry.label, none.astype(np.int64), none, none))
    return found


def _row(
    symbol: str,
    seq: int,
    verdict: Verdict,
    in_force: bool,
    fit: Row,
    key: Row,
    incumbent: Row | None,
    sitting: str | None,
    said: Mapping[str, str],
) -> Row:
    item = verdict.evidence
    was = item.settings_hash == sitting
    words = {(True, True): "kept", (True, False): "promoted", (False, True): "demoted"}
    row = {
        "symbol": symbol,
        "seq": seq,
        "asof": fit["asof"],
        "decision": words.get((in_force, was), "rejected"),
        "strategy": item.strategy,
        "settings_hash": item.settings_hash,
        "p": item.p,
        "q": math.nan,  # filled over all symbols
        "params": fit["params"],
        "study_id": fit["study_id"],
        "trial_number": fit["trial_number"],
        "evidence": canonical({**verdict.as_json(), **key}),
        "reasons": "; ".join(verdict.reasons) or said.get(item.settings_hash, ""),
        "predecessor": None,
        "diff": "{}",
        "in_force": in_force,
    }
    if in_force and incumbent is not None:
        row["predecessor"] = incumbent.get("predecessor") if was else incumbent["seq"]
        row["diff"] = canonical(_difference(incumbent, row))
    return row


def _difference(old: Row, new: Row) -> Row:
    """Return what changed from the champion before: name to [before, now]."""
    a = {"strategy": old["strategy"], **json.loads(old["params"])}
    b = {"strategy": new["strategy"], **json.loads(new["params"])}
    return {name: [a.get(name), b.get(name)] for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


def newest_fit(lake: Lake, symbol: str, name: str, procedure: str) -> Row:
    """Return a procedure's newest fit: tonight's, or the newest fold's where there is none."""
    folds = rows_of(lake.need("folds", symbol, "optimizations"))
    nightly = (r for r in rows_of(lake.read("nightly", symbol)) if r.get("procedure") == procedure)
    fits = [*nightly, *({**row, "asof": row["train_end"] - 1} for row in folds)]
    mine = (row for row in fits if row["strategy"] == name and row["selected"])
    return max(mine, key=lambda row: int(row["asof"]))


def _trades(lake: Lake, symbol: str, present: Sequence[Series]) -> dict[str, int]:
    """Return the trades that each present procedure closed in closed clean folds."""
    folds = rows_of(lake.need("folds", symbol, "optimizations"))
    closed = {(r["strategy"], r["fold"]) for r in folds if not r["open"] and r["label"] == CLEAN}
    table = lake.need("trades", symbol, "backtests").select(["strategy", "variant", "fold"])
    found = [
        row["strategy"]
        for row in table.to_pylist()
        if row["variant"] == "tuned" and (row["strategy"], row["fold"]) in closed
    ]
    return {one.procedure: found.count(one.strategy) for one in present}
