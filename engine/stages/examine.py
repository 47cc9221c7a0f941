"""What `nightfold check` and `nightfold status` show; nothing is stored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.bars.model import Bars, iso
from engine.config import Settings
from engine.errors import ConfigError, closest
from engine.features.registry import names as feature_names
from engine.lake.leases import is_held
from engine.lake.publish import Lake, rows_of
from engine.sources import FileFormat, Loaded, SymbolSource, load
from engine.stages._prices import current_bars, refuse_too_few
from engine.strategies import registry
from engine.symbol_keys import is_canonical

_MAIN_TABLE = {
    "prices": "bars",
    "features": "features",
    "forecasts": "forecasts",
    "optimizations": "folds",
    "backtests": "backtests",
}


def symbol_data(symbol: str, settings: Settings, data_dir: Path, asof: int | None) -> str:
    """Return one line on a symbol's data, fetched and checked but not stored.

    Raises
    ------
    DataError
        A rule is broken.
    """
    bars, stored, loaded = current_bars(Lake(data_dir), symbol, settings, asof)
    new = len(bars) - (0 if stored is None else len(stored))
    return f"{symbol}: {_said(bars)}, {new} not stored yet, no error{_warned(loaded)}"


def data_file(path: Path, settings: Settings, data_dir: Path) -> str:
    """Return one line on one data file, read and checked as the ``files`` source would.

    Raises
    ------
    ConfigError
        There is no such file, and no symbol of that name either.
    DataError
        A rule is broken, or no strategy has enough bars.
    """
    if not path.is_file():
        near = closest(str(path).upper(), settings.symbols)
        raise ConfigError(f"{path} is neither a file nor a symbol of the settings. {near}")
    key = _key_of(path.resolve(), settings, data_dir)
    known = settings.instrument(key) if key in settings.symbols else None
    form = {} if known is None or known.file is None else known.file.model_dump(exclude={"path"})
    options = SymbolSource(
        file=FileFormat(path=str(path.resolve()), **form),
        calendar="observed" if known is None else known.calendar,
        tick=0.0 if known is None else known.tick,
    )
    frame = settings.prices.frame if known is None else known.frame
    loaded = load("files", key, options, data_dir=data_dir, frame=frame)
    bars = loaded.bars
    refuse_too_few(key, settings, len(bars), frame)
    added = "" if known else f"\n  to use it, write '{_entry(path, key, data_dir)}' under symbols"
    return f"{path}: {_said(bars)}, no error{_warned(loaded)}{added}"


def _key_of(path: Path, settings: Settings, data_dir: Path) -> str:
    """Return the symbol that declares this file, else the key that its name makes."""
    for key, options in settings.symbols.items():
        if options.file is not None and (data_dir / options.file.path).resolve() == path:
            return key
    key = path.stem.upper()
    return key if is_canonical(key) else "KEY"


def _entry(path: Path, key: str, data_dir: Path) -> str:
    """Return the line of nightfold.yaml that makes a file a symbol."""
    found, inbox = path.resolve(), (data_dir / "inbox").resolve()
    if found in (inbox / f"{key}.csv", inbox / f"{key}.parquet"):
        return f"{key}: {{source: files}}"
    return f'{key}: {{source: files, file: {{path: "{found}"}}}}'


def _said(bars: Bars) -> str:
    return f"{len(bars)} bars {iso(int(bars.ts[0]))} to {iso(int(bars.ts[-1]))}"


def _warned(loaded: Loaded) -> str:
    return "".join(f"\n  {warning}" for warning in loaded.warnings)


def strategies() -> Iterator[str]:
    """Yield the registered strategies, each with its parameters."""
    for name in registry.names():
        strategy = registry.get(name)
        yield f"{name} ({strategy.kind}): {(strategy.__doc__ or '').strip().splitlines()[0]}"
        for parameter, declared in strategy.parameters.items():
            yield f"  {parameter}: {declared}"


def features() -> Iterator[str]:
    """Yield the names of the registered features."""
    yield from feature_names()


def status(symbol: str, settings: Settings, data_dir: Path, *, studies: bool) -> Iterator[str]:
    """Yield what the lake holds of a symbol; with ``studies`` also the trials of each study."""
    lake = Lake(data_dir)
    pid = is_held(data_dir, symbol)
    yield f"{symbol}{f' (running, pid {pid})' if pid else ''}"
    for stage, table in _MAIN_TABLE.items():
        rows = lake.read(table, symbol, columns=["symbol"])
        found = "nothing yet" if rows is None else f"{len(rows)} rows, result {lake.result_id(table, symbol)}"
        yield f"  {stage}: {found}"
    bars = lake.read("bars", symbol, columns=["ts"])
    if bars is not None and len(bars):
        yield f"  last bar: {iso(bars['ts'].cast(pa.int64())[-1].as_py())}"
    if not studies:
        return
    for part in lake.parts("trials", symbol):
        by_study: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
        for row in rows_of(lake.read("trials", symbol, part=part)):
            by_study.setdefault((row["strategy"], row["fold"], row["study_id"]), []).append(row)
        for (strategy, fold, study), trials in by_study.items():
            copies = sum(row["duplicate_of"] is not None for row in trials)
            invalid = sum(row["outcome"] == "INVALID_PARAMS" for row in trials)
            tried = [r for r in trials if r["duplicate_of"] is None and r["outcome"] != "INVALID_PARAMS"]
            states = Counter(str(row["state"]) for row in tried)
            values = [row["value"] for row in tried if row["state"] == "COMPLETE" and _feasible(row)]
            best = f"{max(values):.2f}" if values else "none"
            name = "tonight" if fold < 0 else f"fold {fold + 1}"
            yield (
                f"  study {study} {strategy} {name}: told {len(trials)}, tried {len(tried)}, "
                f"pruned {states['PRUNED']}, failed {states['FAIL']}, invalid {invalid}, "
                f"duplicates {copies}, best {best}"
            )


def _feasible(row: dict[str, Any]) -> bool:
    return all(value <= 0 for value in json.loads(row["constraints"]).values())
