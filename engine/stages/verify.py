"""What must hold of a stage's result, checked on what was stored: the asset checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.config import Settings
from engine.errors import LakeError
from engine.features.table import FeatureSet
from engine.lake.publish import Lake, rows_of
from engine.simulation import adjusted_tick
from engine.stages.common import StageResult, read_bars

SAMPLED_BARS = 4  # bars at which the truncation check recomputes every stored feature


@dataclass(frozen=True)
class Check:
    """One check of one stage's result.

    Parameters
    ----------
    name : str
        As shown in the web UI.
    passed : bool
        Whether it holds.
    blocking : bool
        A failure stops the symbol; others are warnings.
    note : str
        What was found, in one line.
    metadata : dict
        Plain numbers and texts.
    """

    name: str
    passed: bool
    blocking: bool
    note: str
    metadata: dict[str, Any] = field(default_factory=dict)


CheckFunction = Callable[[Lake, str, Settings], Check]


def bars_pass_the_error_rules(lake: Lake, symbol: str, settings: Settings) -> Check:
    """Stored bars are finite, positive, ordered, and each lies inside its own range."""
    bars = read_bars(lake, settings.instrument(symbol))
    prices = np.stack([bars.open, bars.high, bars.low, bars.close])
    slack = adjusted_tick(bars, settings.instrument(symbol).tick) + 1e-6 * bars.close
    broken = {
        "E03": int((~np.isfinite(prices)).sum()),
        "E04": int((prices <= 0).sum()),
        "E05": int(
            (
                (bars.high < prices[[0, 3]].max(axis=0) - slack)
                | (bars.low > prices[[0, 3]].min(axis=0) + slack)
            ).sum()
        ),
        "E07": int((np.diff(bars.ts) <= 0).sum()),
        "E10": int((bars.volume < 0).sum()),
    }
    found = {rule: count for rule, count in broken.items() if count}
    note = f"{len(bars)} bars, broken rules: {found or 'none'}"
    return Check("bars_pass_the_error_rules", not found, True, note, {"bars": len(bars)})


def features_know_no_later_bar(lake: Lake, symbol: str, settings: Settings) -> Check:
    """Each stored feature at bar t is the same, bit for bit, when the bars after t are unknown."""
    instrument = settings.instrument(symbol)
    bars = read_bars(lake, instrument)
    stored = lake.need("features", symbol, "features")
    tick = adjusted_tick(bars, instrument.tick)
    different: list[str] = []
    for t in np.linspace(len(bars) // 2, len(bars) - 2, SAMPLED_BARS).astype(int):
        cut = FeatureSet(bars.slice(0, int(t) + 1), tick)
        for name in stored.column_names[2:]:
            if not np.array_equal(cut.column(name)[-1:], stored[name].to_numpy()[t : t + 1], equal_nan=True):
                different.append(f"{name} at bar {t}")
    note = f"{SAMPLED_BARS} bars x {stored.num_columns - 2} columns, different: {different[:3] or 'none'}"
    return Check("features_know_no_later_bar", not different, True, note)


def forecasts_are_ordered(lake: Lake, symbol: str, settings: Settings) -> Check:
    """At every level low <= close <= high, and quantiles rise with the level."""
    rows = lake.need("forecasts", symbol, "forecasts")
    key = lake.need("forecast_models", symbol, "forecasts")["model_key"][0]
    rows = rows.filter(pc.equal(rows["model_key"], key))  # another model may have other levels
    order = ("model_key", "as_of", "step", "field", "level")
    rows = rows.sort_by([(name, "ascending") for name in order])
    levels = len(pc.unique(rows["level"]))
    values = rows["value"].to_numpy()
    whole = levels > 0 and len(values) % (3 * levels) == 0
    crossed = falling = 0
    if whole:
        cube = values.reshape(-1, 3, levels)  # fields in alphabetical order: close, high, low
        crossed = int(((cube[:, 2] > cube[:, 0]) | (cube[:, 0] > cube[:, 1])).any(axis=1).sum())
        falling = int((np.diff(cube, axis=2) < 0).any(axis=(1, 2)).sum())
    note = f"{len(values)} values, crossed {crossed}, falling {falling}, complete {whole}"
    return Check("forecasts_are_ordered", whole and not crossed and not falling, True, note)


def forecasts_against_baselines(lake: Lake, symbol: str, settings: Settings) -> Check:
    """The model is not proven worse than historical simulation; a warning, not an error."""
    rows = lake.need("forecast_quality", symbol, "forecasts").to_pylist()
    loses = [f"{row['field']} step {row['step']}" for row in rows if row["verdict"] == "loses"]
    numbers = {
        f"skill vs FHS {row['field']} step {row['step']}": row["skill_fhs"]
        for row in rows
        if np.isfinite(row["skill_fhs"])
    }
    return Check("forecasts_against_baselines", not loses, False, f"loses: {loses or 'none'}", numbers)


def no_test_bar_in_training(lake: Lake, symbol: str, settings: Settings) -> Check:
    """Test spans do not overlap, each begins after its training and purge, one fit is chosen a fold."""
    rows = rows_of(lake.need("folds", symbol, "optimizations"))
    wrong = []
    last_end: dict[tuple[str, str], int] = {}
    chosen: dict[tuple[str, int], int] = {}
    for row in sorted(rows, key=lambda row: (row["strategy"], row["policy"], row["fold"])):
        key = (row["strategy"], row["policy"])
        clear = (
            row["train_to"] + row["purge_bars"] <= row["test_from"] and row["train_end"] <= row["test_start"]
        )
        if not clear or row["test_from"] < last_end.get(key, 0):
            wrong.append(f"{row['strategy']} fold {row['fold']}")
        last_end[key] = row["test_to"]
        fold = (row["strategy"], row["fold"])
        chosen[fold] = chosen.get(fold, 0) + row["selected"]
    wrong += [f"{name} fold {fold}: {n} fits chosen" for (name, fold), n in chosen.items() if n != 1]
    return Check(
        "no_test_bar_in_training", not wrong, True, f"{len(rows)} folds, wrong: {wrong[:3] or 'none'}"
    )


def trades_sum_to_the_change_of_equity(lake: Lake, symbol: str, settings: Settings) -> Check:
    """The profits of all trades, each from its own fills, add up to the change of equity."""
    equity = lake.need("equity", symbol, "backtests")
    trades = lake.need("trades", symbol, "backtests")
    worst, where = 0.0, ""
    for entry in settings.entries(symbol):
        cash = entry.execution.initial_cash
        for variant in ("tuned", "untuned"):
            path = equity.filter(_is(equity, entry.label, variant))["equity"].to_numpy()
            pnl = trades.filter(_is(trades, entry.label, variant))["pnl"].to_numpy()
            if len(path):
                gap = abs(float(np.sum(pnl)) - (path[-1] - cash)) / cash
                worst, where = max((worst, where), (gap, f"{entry.label} {variant}"))
    note = f"largest gap {worst:.1e} of the initial cash {where}".strip()
    return Check(
        "trades_sum_to_the_change_of_equity", bool(worst <= 1e-9), True, note, {"largest_gap": float(worst)}
    )


def results_are_out_of_sample(lake: Lake, symbol: str, settings: Settings) -> Check:
    """Every bar of every reported account lies in its fold's test span, after that fold's training."""
    equity = lake.need("equity", symbol, "backtests")
    ts = equity["ts"].cast(pa.int64()).to_numpy()
    coded, fold = equity["strategy"].combine_chunks().dictionary_encode(), equity["fold"].to_numpy()
    codes = {name: code for code, name in enumerate(coded.dictionary.to_pylist())}
    names = coded.indices.to_numpy()  # numbers are compared, not texts: this runs every night
    seen = 0
    for row in rows_of(lake.need("folds", symbol, "optimizations")):
        if row["selected"]:
            mine = (names == codes.get(row["strategy"], -1)) & (fold == row["fold"])
            inside = (ts >= row["test_start"]) & (ts < row["test_end"]) & (ts >= row["train_end"])
            seen += int((mine & inside).sum())
    note = f"{len(ts)} rows of equity, {len(ts) - seen} outside the test span of their fold"
    return Check("results_are_out_of_sample", seen == len(ts), True, note, {"rows": len(ts)})


def _is(table: pa.Table, name: str, variant: str) -> pa.Array:
    return pc.and_(pc.equal(table["strategy"], name), pc.equal(table["variant"], variant))


CHECKS: dict[str, tuple[CheckFunction, ...]] = {
    "prices": (bars_pass_the_error_rules,),
    "features": (features_know_no_later_bar,),
    "forecasts": (forecasts_are_ordered, forecasts_against_baselines),
    "optimizations": (no_test_bar_in_training,),
    "backtests": (trades_sum_to_the_change_of_equity, results_are_out_of_sample),
}


def refuse_failed(result: StageResult, lake: Lake, settings: Settings) -> None:
    """Run the checks of a stage's result.

    Raises
    ------
    LakeError
        A blocking check failed; the stages after must not use the result.
    """
    for function in CHECKS.get(result.stage, ()):
        check = function(lake, result.symbol, settings)
        if check.blocking and not check.passed:
            raise LakeError(
                f"{result.symbol} {result.stage}: check {check.name} failed ({check.note}). "
                f"Look for damage with nightfold doctor; this is a defect where it finds none"
            )
