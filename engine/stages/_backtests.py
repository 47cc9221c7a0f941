"""Stage ``backtests``: frozen parameters on bars no fit ever saw, beside what they must beat."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.bars.model import Bars, Ints
from engine.config import Instrument, Settings, Strategy
from engine.features.table import FeatureSet
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical, make_record
from engine.lake.schemas import METRICS, STATISTICS, schema_of
from engine.search.levels_fit import LevelsFitter
from engine.stages._decisions import closed_bars, look_rows, series_of
from engine.stages._forward import NO_TRADE, newest, record_of, score_nights
from engine.stages._statistics import BLANK, luck
from engine.stages.common import (
    CLEAN,
    Progress,
    StageResult,
    base_bars_of,
    execution_of,
    feature_set,
    finer_terms,
    held,
    median_forecasts,
    procedure,
    procedure_hash,
    read_bars,
    refuse_edited,
    refuse_other_finer,
    refuse_stale,
    to_table,
    unchanged,
)
from engine.stages.next_orders import next_orders
from engine.strategies import registry
from engine.validation import out_of_sample as oos
from engine.validation.champion import Series
from engine.validation.out_of_sample import Piece

TABLES = ("trades", "equity", "forward", "next_orders", "backtests", "looks")
STITCHED, EVERY_FOLD = -1, -2  # the clean folds, the headline; all folds, where others exist
CHOSEN = "chosen"  # policy of the stitched row whose folds each use the policy chosen in training
Row = dict[str, Any]


def backtests(lake: Lake, symbol: str, settings: Settings, progress: Progress) -> StageResult:
    """Run every strategy of a symbol out of sample and write what it would do next.

    Raises
    ------
    LakeError
        The stages before have not run, or the disk refuses.
    """
    instrument = settings.instrument(symbol)
    entries = settings.entries(symbol)
    base = base_bars_of(lake, symbol, settings)
    finer = finer_terms(lake, instrument, base)
    record = make_record(
        __name__,
        symbol,
        inputs={t: lake.result_id(t, symbol) or "" for t in ("bars", "features", "forecasts", "folds")},
        params={
            "instrument": instrument.trading(),
            "entries": [procedure(entry) for entry in entries],
            # fits made anew, where their trials were lost, may differ under the same id
            "fits": [(lake.record(t, symbol) or {}).get("content_sha") for t in ("folds", "nightly")],
            **finer,
        },
    )
    if held(lake, TABLES, symbol, record["result_id"]):
        return unchanged(lake, "backtests", "backtests", symbol, record["result_id"])
    refuse_stale(lake, symbol, {"features": "features", "forecasts": "forecasts", "folds": "optimizations"})
    refuse_other_finer(lake, symbol, finer)
    refuse_edited(lake, symbol, entries)
    bars = read_bars(lake, instrument)
    features = feature_set(lake, bars, instrument)
    folds = rows_of(lake.need("folds", symbol, "optimizations"))
    nightly, forward = (rows_of(lake.read(name, symbol)) for name in ("nightly", "forward"))
    tables: dict[str, list[Row]] = {name: [] for name in ("trades", "next_orders", "backtests")}
    equity = [schema_of("equity").empty_table()]
    looks: list[Series] = []
    headline: Row = {}
    known = (lake.record("backtests", symbol) or {}).get("until_a_fold_closes", {})
    lasting: Row = {}
    for entry in entries:
        of_entry = [row for row in folds if row["strategy"] == entry.label]
        if not of_entry:
            continue  # left out for want of bars; the optimisation stage says so
        levels = registry.get(entry.strategy).kind == "levels"
        account = (
            _levels_account(lake, bars, base, instrument, entry)
            if levels
            else _rules_account(features, instrument, entry)
        )
        policies = sorted({row["policy"] for row in of_entry})
        for policy in policies if len(policies) > 1 else []:
            rows = [row for row in of_entry if row["policy"] == policy]
            tables["backtests"] += _compare(bars, instrument, entry, account, rows, policy, headline=False)[0]
        chosen = [row for row in of_entry if row["selected"]]
        policy = policies[0] if len(policies) == 1 else CHOSEN
        # with several policies each fold's own rows stand above already
        summary, stitched = _compare(
            bars, instrument, entry, account, chosen, policy, headline=True, folds_too=len(policies) == 1
        )
        tables["backtests"] += summary
        key, cash = procedure_hash(entry, instrument, settings), entry.execution.initial_cash
        closed = closed_bars(chosen)
        looks.append(series_of(bars, key, entry.label, stitched["tuned"], cash, closed))
        tuned = next(r for r in summary if r["fold"] in (STITCHED, EVERY_FOLD) and r["variant"] == "tuned")
        clean = _clean(chosen)
        if clean:
            first = min(row["test_from"] for row in clean)  # of the last folds: a training ends once
            returns = stitched["tuned"].returns(cash)[first - stitched["tuned"].start :]
            luck_row, lasting[entry.label] = luck(
                lake, bars, features, instrument, entry, clean, looks[-1], returns, tuned["bps_per_bar"],
                settings.seed, known.get(entry.label, {}),
            )  # fmt: skip
            tuned |= luck_row
        else:
            tuned["undefined"] = canonical(dict.fromkeys(("n_trials", *STATISTICS), "no test fold is clean"))
        by_start = sorted(chosen, key=lambda row: row["test_from"])
        starts, labels = (np.array([row[name] for row in by_start]) for name in ("test_from", "label"))
        for variant, piece in stitched.items():
            equity.append(_equity_table(symbol, bars, entry.label, variant, piece, cash, starts, labels))
            if variant in ("tuned", "untuned"):
                tables["trades"] += _trade_rows(symbol, entry.label, variant, piece, bars, starts)
        forward += score_nights(
            lake, bars, features, instrument, entry, key, nightly, forward, base=base, progress=progress
        )
        carried = newest(record_of(forward, entry.label, key), int(bars.ts[-1]))
        tables["next_orders"] += next_orders(
            lake, bars, features, instrument, entry, [r for r in nightly if r.get("procedure") == key],
            carried, finer=base is not None,
        )  # fmt: skip
        label = "" if clean else f" ({tuned['label']})"
        headline[f"{entry.label} bps per bar{label}"] = round(tuned["bps_per_bar"], 3)
        headline[f"{entry.label} tuned trades"] = tuned["trades"]
        progress(
            f"{symbol} backtests {entry.label} out of sample {tuned['bars']} bars "
            f"{tuned['bps_per_bar']:.2f} bps per bar {tuned['trades']} trades{label}"
        )
    lake.publish("looks", symbol, look_rows(lake.read("looks", symbol), symbol, looks), record)
    lake.publish("equity", symbol, pa.concat_tables(equity), record)
    forward.sort(key=lambda row: (row["strategy"], row["asof"], row["procedure"]))
    for name, rows in {"forward": forward, **tables}.items():
        beside = {"until_a_fold_closes": lasting} if name == "backtests" else {}
        lake.publish(name, symbol, to_table(name, rows), {**record, **beside})
    return StageResult(
        "backtests",
        symbol,
        len(tables["backtests"]),
        record["result_id"],
        False,
        {"bars": len(bars), **headline},
    )


Account = Callable[[Row, bool, float], Piece]  # (fold row, tuned or untuned, cash before) -> what it did


def _rules_account(features: FeatureSet, instrument: Instrument, entry: Strategy) -> Account:
    strategy = registry.get(entry.strategy)
    execution = execution_of(instrument, entry)

    def trade(row: Row, tuned: bool, cash: float) -> Piece:
        if tuned and row["status"] in NO_TRADE:
            return oos.flat_piece(
                row["fold"], row["test_from"], row["test_to"], cash, status=row["status"], compounded=True
            )
        params = json.loads(row["params"]) if tuned else registry.defaults(strategy)
        return oos.rules_piece(
            features, strategy, params, execution, row["fold"], row["test_from"], row["test_to"], cash,
            open_fold=row["open"],
        )  # fmt: skip

    return trade


def _levels_account(
    lake: Lake, bars: Bars, base: Bars | None, instrument: Instrument, entry: Strategy
) -> Account:
    high, low, model_key = median_forecasts(lake, bars, entry.levels.level)
    strategy = registry.get(entry.strategy)
    fitter = LevelsFitter(bars, high, low, model_key, strategy, entry, instrument, base=base)

    rows_of_span = cache(partial(fitter.problem, max_dropped_share=1.0))  # no forecast: not traded
    done: dict[tuple[object, ...], Piece] = {}  # policies that come to the same thing are run once

    def trade(row: Row, tuned: bool, cash: float) -> Piece:
        start, stop = row["test_from"], row["test_to"]
        if start == stop or (tuned and row["status"] in NO_TRADE):
            return oos.flat_piece(row["fold"], start, stop, cash, status=row["status"], compounded=False)
        offsets = json.loads(row["params"]) if tuned else {"u": 0.0, "v": 0.0}
        u, v = offsets["u"], offsets["v"]
        exit = "close" if row["policy"] == "path" and base is None else row["policy"]
        key = (row["fold"], u, v, exit, cash)  # without finer bars, path is close
        if key not in done:
            done[key] = oos.levels_piece(
                bars, rows_of_span(start, stop), u, v, exit, instrument.cost.slippage_bps, row["fold"],
                start, stop, cash, entry.execution.initial_cash,
            )  # fmt: skip
        return done[key]

    return trade


def _run(account: Account, rows: list[Row], tuned: bool, cash: float) -> list[Piece]:
    pieces = []
    for row in rows:
        pieces.append(account(row, tuned, cash))
        cash = float(pieces[-1].equity[-1]) if len(pieces[-1].equity) else cash
    return pieces


def _compare(
    bars: Bars,
    instrument: Instrument,
    entry: Strategy,
    account: Account,
    rows: list[Row],
    policy: str,
    *,
    headline: bool,
    folds_too: bool = True,
) -> tuple[list[Row], dict[str, Piece]]:
    """Return the rows of ``backtests``, every fold and the stitched ones, and the accounts of all folds.

    The clean folds stitched come first (`STITCHED`); where others exist, all of them follow (`EVERY_FOLD`).
    """
    rows = sorted(rows, key=lambda row: row["fold"])
    cash = entry.execution.initial_cash
    tuned, untuned = _run(account, rows, True, cash), _run(account, rows, False, cash)
    whole = _stitched(bars, instrument, entry, rows, tuned, untuned)
    out: list[Row] = []
    for row, a, b in zip(rows, tuned, untuned, strict=True):
        if folds_too and len(a.equity):
            held_part = oos.part(bars, whole["buy_and_hold"], row["fold"], a.start, a.stop)
            variants = {"tuned": a, "untuned": b, "buy_and_hold": held_part}
            out += _rows(bars, entry, row, variants, row["in_sample"], row["in_sample_untuned"])
    clean = _clean(rows)
    stitched = [(STITCHED, clean, whole)] if clean else []
    if len(clean) < len(rows):
        if clean:
            pieces = (_run(account, clean, is_tuned, cash) for is_tuned in (True, False))
            stitched = [(STITCHED, clean, _stitched(bars, instrument, entry, clean, *pieces))]
        stitched.append((EVERY_FOLD, rows, whole))
    for fold, of, variants in stitched:
        label = next((row["label"] for row in of if row["label"] != CLEAN), CLEAN)
        head = {"fold": fold, "policy": policy, "selected": headline, "label": label}
        means = (_mean(np.array([row[name] for row in of])) for name in ("in_sample", "in_sample_untuned"))
        out += _rows(bars, entry, head, variants, *means)
    return out, {**whole, "matched_hold": oos.matched_hold(bars, whole["tuned"], cash)}


def _clean(rows: list[Row]) -> list[Row]:
    """Return the clean folds, none where they have no test bar yet."""
    clean = [row for row in rows if row["label"] == CLEAN]
    return clean if any(row["test_to"] > row["test_from"] for row in clean) else []


def _stitched(
    bars: Bars, instrument: Instrument, entry: Strategy, rows: list[Row], tuned: list[Piece],
    untuned: list[Piece],
) -> dict[str, Piece]:  # fmt: skip
    """Return the stitched accounts of consecutive folds, and buy and hold on their bars."""
    start, stop = rows[0]["test_from"], rows[-1]["test_to"]
    hold = oos.buy_and_hold(bars, execution_of(instrument, entry), start, stop)
    return {"tuned": oos.stitch(tuned), "untuned": oos.stitch(untuned), "buy_and_hold": hold}


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(np.nan_to_num(values).mean())  # where nothing qualified, nothing was traded


def _rows(
    bars: Bars, entry: Strategy, row: Row, variants: Mapping[str, Piece], in_sample: float, untuned: float
) -> list[Row]:
    """Return one row a variant, the matched hold and no trade among them."""
    notional = entry.execution.initial_cash
    tuned = variants["tuned"]
    no_trade = oos.flat_piece(
        tuned.fold, tuned.start, tuned.stop, tuned.cash, status="no_trade", compounded=tuned.compounded
    )
    every = {**variants, "matched_hold": oos.matched_hold(bars, tuned, notional), "no_trade": no_trade}
    gross = tuned.metrics(bars, notional)["gross_exposure"]
    made = []
    for variant, piece in every.items():
        found = piece.metrics(bars, notional)
        equal = math.nan
        if variant == "untuned" and found["gross_exposure"] > 0:
            equal = found["bps_per_bar"] * gross / found["gross_exposure"]
        made.append(
            {
                "symbol": bars.symbol,
                "strategy": entry.label,
                "fold": row["fold"],
                "policy": row["policy"],
                "variant": variant,
                "start": int(bars.ts[piece.start]),
                "end": int(bars.ts[piece.stop - 1]) + 1,
                "bars": piece.stop - piece.start,
                "label": row["label"],
                "selected": row["selected"],
                "status": piece.status,
                "in_sample_bps_per_bar": {"tuned": in_sample, "untuned": untuned}.get(variant, math.nan),
                "bps_per_bar_equal_exposure": equal,
                "trades": int(found["n_trades"]),
                "annualisation": int(found["annual_days"]),
                **{name: found[name] for name in METRICS},
                **BLANK,
            }
        )
    return made


def _equity_table(
    symbol: str,
    bars: Bars,
    name: str,
    variant: str,
    piece: Piece,
    notional: float,
    starts: Ints,
    labels: npt.NDArray[np.str_],
) -> pa.Table:
    """Return one stitched account as rows of ``equity``; folds have first test bars and labels."""
    count = piece.stop - piece.start
    fold = np.searchsorted(starts, np.arange(piece.start, piece.stop), side="right") - 1
    columns = {
        "symbol": pa.repeat(symbol, count),
        "strategy": pa.repeat(name, count),
        "variant": pa.repeat(variant, count),
        "ts": pa.array(bars.ts[piece.start : piece.stop], pa.timestamp("us")),
        "fold": pa.array(fold),
        "equity": pa.array(piece.equity),
        "position": pa.array(piece.position),
        "drawdown": pa.array(piece.drawdown(notional)),
        "label": pa.array(labels[fold]),
    }
    return pa.table(columns).cast(schema_of("equity"))


def _trade_rows(symbol: str, name: str, variant: str, piece: Piece, bars: Bars, starts: Ints) -> list[Row]:
    fills: dict[int, list[Row]] = {}
    f = {column: values.tolist() for column, values in piece.fills.items()}
    for i, number in enumerate(f["trade"]):
        fills.setdefault(number, []).append(
            {
                "ts": f["ts"][i], "side": "buy" if f["side"][i] > 0 else "sell", "quantity": f["quantity"][i],
                "price": f["price"][i], "fee": f["fee"][i], "reason": piece.reasons[f["reason"][i]],
            }
        )  # fmt: skip
    t = {column: values.tolist() for column, values in piece.trades.items()}
    bar = np.searchsorted(bars.ts, piece.trades["entry_ts"])
    fold = np.searchsorted(starts, bar, side="right") - 1
    return [
        {
            "symbol": symbol, "strategy": name, "variant": variant, "fold": int(fold[i]),
            **{column: values[i] for column, values in t.items()},
            "side": "long" if t["side"][i] > 0 else "short",
            "reason": piece.reasons[t["reason"][i]],
            "fills": fills.get(number, []),
        }
        for i, number in enumerate(t["trade"])
    ]  # fmt: skip
