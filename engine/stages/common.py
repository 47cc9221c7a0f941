"""What the stages share: their result, and their inputs as the engine wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engine.bars.inside import inside
from engine.bars.model import Bars
from engine.config import Instrument, Settings, Strategy, plain
from engine.config_sections import PositionSize
from engine.errors import LakeError
from engine.features.table import BAR_COLUMNS, FeatureSet
from engine.forecasts.store import median_forecasts as median_forecasts  # what stages read
from engine.forecasts.store import seen_until
from engine.lake.bars import base_bars_of as base_bars_of  # what stages read
from engine.lake.bars import read_bars as read_bars
from engine.lake.publish import Lake
from engine.lake.records import digest
from engine.lake.schemas import schema_of
from engine.search.fit import bars_sha
from engine.search.folds import bars_needed
from engine.search.study import HOW
from engine.simulation import Execution, adjusted_tick
from engine.strategies import registry
from engine.strategies.sizes import Fraction, Notional, Risk, Size, Units

Progress = Callable[[str], None]
PER_SYMBOL = ("prices", "features", "forecasts", "optimizations", "backtests")
STAGES = (*PER_SYMBOL, "leaderboard")
CLEAN, CONTAMINATED, UNKNOWN = "clean", "contaminated", "unknown"  # labels of `forecast_label`


@dataclass(frozen=True)
class StageResult:
    """What a stage did.

    Parameters
    ----------
    stage, symbol : str
        Which stage, of which symbol (empty for the leaderboard).
    rows : int
        Rows of the stage's main table.
    result_id : str
        Hash of inputs, code and settings.
    unchanged : bool
        The lake already held that id; nothing was computed.
    metadata : dict
        Plain numbers and texts for people.
    seconds : float
        Filled by whoever ran the stage; never stored in the lake.
    """

    stage: str
    symbol: str
    rows: int
    result_id: str
    unchanged: bool
    metadata: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def held(lake: Lake, tables: Sequence[str], symbol: str, result_id: str) -> bool:
    """Say whether every table already holds this result."""
    return all(lake.result_id(table, symbol) == result_id for table in tables)


def unchanged(lake: Lake, stage: str, table: str, symbol: str, result_id: str) -> StageResult:
    """Return the result of a stage that found its work done."""
    rows, bars = (lake.read(name, symbol, columns=["symbol"]) for name in (table, "bars"))
    counts = {"bars": 0 if bars is None else len(bars)}
    return StageResult(stage, symbol, 0 if rows is None else len(rows), result_id, True, counts)


def to_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table of the declared columns; stamps are int64 microseconds or datetimes."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema_of(name))


def refuse_stale(lake: Lake, symbol: str, made_by: Mapping[str, str]) -> None:
    """Refuse tables that were made from other inputs than those the lake holds now.

    Only a stage run by itself can meet them; a chain brings each table up to date in turn.

    Raises
    ------
    LakeError
        Names the table, what it rests on, and the stage to run again.
    """
    for table, stage in made_by.items():
        record = lake.record(table, symbol) or {"inputs": {}}
        for name, was in record["inputs"].items():
            if lake.result_id(name, symbol) != was:
                raise LakeError(
                    f"table {table} of {symbol} was made from {name} {was}, the lake now holds "
                    f"{lake.result_id(name, symbol)}. Make it anew: nightfold run {symbol} --stage {stage}"
                )


def finer_terms(lake: Lake, instrument: Instrument, base: Bars | None) -> dict[str, str]:
    """Return what finer bars add to the params of a record: their frame and the hash of those in use.

    Those behind the last bar are in nobody's use yet, so that they change no result.
    """
    if base is None:
        return {}
    stops = inside(read_bars(lake, instrument), base)[1]
    return {"finer": f"{base.frame} {bars_sha(base, int(stops[-1]))}"}


def refuse_other_finer(lake: Lake, symbol: str, terms: Mapping[str, str]) -> None:
    """Refuse fits that read other finer bars than those the lake holds now; ``terms`` of `finer_terms`.

    Raises
    ------
    LakeError
        Names the stage to run again.
    """
    record = lake.record("folds", symbol) or {"params": {}}
    if record["params"].get("finer") != terms.get("finer"):
        raise LakeError(
            f"the fits of {symbol} read other finer bars than those the lake now holds in base_bars. "
            f"Fit anew: nightfold run {symbol} --stage optimizations"
        )


def refuse_edited(lake: Lake, symbol: str, entries: Sequence[Strategy]) -> None:
    """Refuse fits that another version of a strategy's own file made.

    Only a stage run by itself can meet them; a chain fits anew first.

    Raises
    ------
    LakeError
        Names the strategy and the stage to run again.
    """
    record = lake.record("folds", symbol) or {"params": {"entries": []}}
    made = {was["name"] or was["strategy"]: was for was in record["params"]["entries"]}
    for entry in entries:
        was, now = made.get(entry.label, {}), terms(entry)
        if was.get("strategy_file") != now.get("strategy_file") and was:
            raise LakeError(
                f"the fits of {entry.label} on {symbol} were made by another version of its file. "
                f"Fit it anew: nightfold run {symbol} --stage optimizations"
            )


def feature_set(lake: Lake, bars: Bars, instrument: Instrument) -> FeatureSet:
    """Return the features of a symbol, the stored columns read and any other computed when asked for."""
    stored = lake.need("features", instrument.key, "features")
    features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
    for name in stored.column_names[2:]:
        features.preload(name, stored[name].to_numpy())
    return features


def forecast_label(lake: Lake, symbol: str, key: str | None = None) -> Callable[[int], str]:
    """Return what a forecast's as-of stamp (microseconds UTC) says of its result.

    ``contaminated``: the model's training may have held the bars that followed. ``unknown``: nobody
    states when its training ended, so that it is held for all it was asked. Else ``clean``.
    ``key``: as in `median_forecasts`.
    """
    models, inputs = (lake.read(table, symbol) for table in ("forecast_models", "forecast_inputs"))
    if models is None or inputs is None or not len(models):
        return lambda as_of: CLEAN
    key = key or str(models["model_key"][0])
    rows = [row for row in models.to_pylist() if row["model_key"] == key]
    seen = seen_until(inputs, key)
    tainted = UNKNOWN if rows and rows[0]["cutoff_status"] == UNKNOWN else CONTAMINATED
    return lambda as_of: CLEAN if seen is None or as_of > seen else tainted


def execution_of(instrument: Instrument, entry: Strategy) -> Execution:
    """Return the fill and cost settings of one strategy entry on one symbol."""
    settings: dict[str, Any] = plain(entry.execution)
    if instrument.sides == "long":
        settings["on_opposite"] = "hold"  # there is no other side to turn to
    settings["size"] = size_of(entry.execution.size)
    traded: dict[str, Any] = {"tick": instrument.tick, "lot": instrument.lot, "sides": instrument.sides}
    return Execution(**settings, **traded, **plain(instrument.cost))


def size_of(given: PositionSize) -> Size:
    """Return a size of the settings in the strategies' own form."""
    if given.risk is not None:
        return Risk(given.risk, atr=given.atr)
    if given.units is not None:
        return Units(given.units)
    return Fraction(given.fraction) if given.fraction is not None else Notional(given.notional or 0.0)


def procedure(entry: Strategy) -> dict[str, Any]:
    """Return what may change an entry's numbers, its strategy's code among it, as plain JSON values.

    Which symbols trade it and what promotes it change no number.
    """
    return {**terms(entry), "code": registry.code_of(registry.get(entry.strategy))}


def terms(entry: Strategy) -> dict[str, Any]:
    """Return what the user chose that may change an entry's numbers, as plain JSON values.

    A strategy's file is the user's choice like a setting: edited, it is another procedure.
    """
    chosen = {name: value for name, value in plain(entry).items() if name not in ("symbols", "promotion")}
    chosen["search"] = {name: value for name, value in chosen["search"].items() if name not in HOW}
    own = registry.get(entry.strategy).code
    return {**chosen, "strategy_file": own} if own else chosen


def procedure_hash(entry: Strategy, instrument: Instrument, settings: Settings) -> str:
    """Return the id of a procedure: what the user chose, and the code of a strategy file of his own.

    What a strategy trades by is part of it, the forecaster of a levels strategy too. New code of the engine
    makes no new procedure.
    """
    strategy = registry.get(entry.strategy)
    chosen: list[Any] = [terms(entry), instrument.trading(), settings.seed]
    if strategy.kind == "levels":
        chosen.append(settings.forecasts.inferred())
    own = getattr(strategy, "code", "")
    return digest([*chosen, own] if own else chosen, 16)


def procedures(symbol: str, settings: Settings) -> dict[str, str]:
    """Return the hash of the procedure of each entry of a symbol, by the entry's name."""
    instrument = settings.instrument(symbol)
    return {e.label: procedure_hash(e, instrument, settings) for e in settings.entries(symbol)}


def purge_of(entry: Strategy) -> int:
    """Return the bars dropped between training and test of an entry."""
    if entry.folds.purge_bars != "auto":
        return int(entry.folds.purge_bars)
    return registry.get(entry.strategy).holding_bars or 0


def too_short_for(entries: Sequence[Strategy], bars: int) -> dict[str, str]:
    """Return the strategies that so many bars are too few for, with both numbers."""
    needs = {entry.label: bars_needed(entry.folds, purge_of(entry)) for entry in entries}
    return {name: f"has {bars} bars, needs {needed}" for name, needed in needs.items() if bars < needed}


def default_columns(settings: Settings, symbol: str) -> list[str]:
    """Return the stored feature columns of a symbol: the settings' and those of its strategies' defaults."""
    names = list(settings.features.columns)
    for entry in settings.entries(symbol):
        strategy = registry.get(entry.strategy)
        names += [name for name in registry.columns_of(strategy, {}, symbol) if name not in BAR_COLUMNS]
    return names
