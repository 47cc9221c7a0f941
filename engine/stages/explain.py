"""Where a stored number comes from, and whether it can be made again: `nightfold explain`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.bars.model import COLUMNS, iso
from engine.bars.resample import resample
from engine.config import Settings
from engine.errors import ConfigError, LakeError, closest
from engine.lake.paths import ALL_SYMBOLS, history_folder, made_by, table_path
from engine.lake.publish import Lake
from engine.lake.schemas import TABLES
from engine.stages import _backtests, _forecasts
from engine.stages._prices import load_whole
from engine.stages.chain import run_stage
from engine.stages.coarse import source_table
from engine.stages.common import PER_SYMBOL, read_bars
from engine.stages.revised import NETWORK_SOURCES

STAGE_TABLES = {
    "prices": ("base_bars", "bars"),
    "features": ("features",),
    "forecasts": _forecasts.TABLES,
    "optimizations": ("folds", "nightly", "trials"),
    "backtests": _backtests.TABLES,
    "leaderboard": ("champions",),
}
# tables to which a night adds rows: what earlier nights added is not made again
GROWING = frozenset({"forecasts", "forecast_inputs", "trials", "nightly"})
WRITTEN_ONCE = "forward"  # its rows depend on the nights that ran, each with the code and prices of its time


@dataclass(frozen=True)
class Result:
    """One stored result: which table and symbol hold it, and its record."""

    table: str
    key: str
    record: dict[str, Any]
    place: str


def _records(lake: Lake) -> Iterator[Result]:
    """Yield every current table's record, then those of older generations."""
    root = lake.data_dir / "lake"
    for table in TABLES:
        for path in sorted((root / table).glob("*.parquet")):
            yield Result(table, path.stem, lake.record(table, path.stem) or {}, "current")
        for folder in sorted((root / table).glob("*/")):
            for part in lake.parts(table, folder.name):
                record = lake.record(table, folder.name, part) or {}
                yield Result(table, folder.name, record, f"current, part {part}")
    for path in sorted(root.glob(".history/*/*/*.parquet")):
        metadata = pq.read_schema(path).metadata or {}
        if record := json.loads(metadata.get(b"nightfold.record", b"{}")):
            yield Result(
                path.parts[-3], path.parts[-2], record, f"generation {int(path.stem)}, replaced since"
            )


def find(lake: Lake, what: str) -> list[Result]:
    """Return the stored tables of a result's id (or its first 6 digits or more), or of a symbol.

    Raises
    ------
    ConfigError
        The lake holds no such result.
    """
    every = list(_records(lake))
    found = [one for one in every if one.key == what and one.place.startswith("current")]
    if not found and len(what) >= 6:
        found = [one for one in every if str(one.record.get("result_id", "")).startswith(what)]
        found = [one for one in found if one.place.startswith("current")] or found
    if not found:
        known = {one.key for one in every} - {ALL_SYMBOLS}
        hint = closest(what, known) if known else "It holds nothing yet: nightfold run"
        raise ConfigError(f"the lake holds no result {what!r}, and no symbol of that name. {hint}")
    return found


def tree(lake: Lake, what: str) -> list[str]:
    """Return a result's inputs down to the files they came from, one line each, indented by depth."""
    lines: list[str] = []
    said: set[str] = set()
    for one in find(lake, what):
        _branch(lake, one, 0, lines, said)
    return lines


def _branch(lake: Lake, one: Result, depth: int, lines: list[str], said: set[str]) -> None:
    record, pad = one.record, "  " * depth
    identity = str(record.get("result_id", ""))
    lines.append(f"{pad}{one.table} {one.key}: result {identity} ({one.place})")
    if identity in said:
        return
    said.add(identity)
    made = [f"stage {record.get('stage')}", f"content {record['content_sha'][:12]}"]
    if "code_id" in record:
        libraries = " ".join(f"{name} {version}" for name, version in record["libs"].items())
        made += [f"code {record['code_id']}", libraries]
    lines.append(f"{pad}  {', '.join(made)}")
    for repair in record.get("repairs", ()):
        lines.append(f"{pad}  repaired {repair}")
    if "source" in record:
        lines.append(f"{pad}  source {record['source']} {record.get('currency', '')}".rstrip())
        for sha in record.get("raw", ()):
            kept = sorted((lake.data_dir / "raw").glob(f"*/{one.key}/*-{sha[:12]}.*"))
            lines.append(f"{pad}  raw sha256 {sha}{f' {kept[0]}' if kept else ''}")
    for name, wanted in record.get("inputs", {}).items():
        table, key = (name, one.key) if name in TABLES else ("backtests", name)
        below = _held(lake, table, key, wanted)
        if below is None:
            lines.append(f"{pad}  {table} {key}: result {wanted} (no longer in the lake)")
        else:
            _branch(lake, below, depth + 1, lines, said)


def _held(lake: Lake, table: str, key: str, result_id: str) -> Result | None:
    record = lake.record(table, key)
    if record is not None and record["result_id"] == result_id:
        return Result(table, key, record, "current")
    for path in sorted(history_folder(lake.data_dir, table, key).glob("*.parquet"), reverse=True):
        older = json.loads((pq.read_schema(path).metadata or {}).get(b"nightfold.record", b"{}"))
        if older.get("result_id") == result_id:
            return Result(table, key, older, f"generation {int(path.stem)}, replaced since")
    return None


def compare(lake: Lake, first: str, second: str) -> list[str]:
    """Return what differs between the records of two results, one line each."""
    a, b = (find(lake, what)[0].record for what in (first, second))
    lines = []
    for name in sorted({*a, *b} - {"record_sha"}):
        if a.get(name) != b.get(name):
            lines.append(f"{name}: {a.get(name)!r} / {b.get(name)!r}")
    return lines or ["the records are equal"]


def verify(lake: Lake, what: str, settings: Settings) -> tuple[list[str], bool]:
    """Make a result again from its stored inputs and compare every table, bit by bit.

    The work is done in a folder of its own; the lake is only read. Tables that grow night by night are
    made for tonight: each row made must be stored with the same bits.

    Parameters
    ----------
    lake : Lake
        Where the result is.
    what : str
        A result's id or a symbol (then each of its stages).
    settings : Settings
        As they are now; a result of other settings or code cannot be made again.

    Returns
    -------
    (list of str, bool)
        One line for each table, and whether all are equal.

    Raises
    ------
    ConfigError
        The lake holds no such result.
    LakeError
        The result is not current, or rests on decisions of earlier nights.
    """
    found = find(lake, what)
    if not all(one.place.startswith("current") for one in found):
        raise LakeError(f"result {what} was replaced since; only current results can be made again")
    stages = {(one.key, str(one.record["stage"])) for one in found if one.table != "quarantine"}
    lines, equal = list[str](), True
    for key, stage in sorted(stages, key=lambda pair: (pair[0], [*PER_SYMBOL, "leaderboard"].index(pair[1]))):
        if key == ALL_SYMBOLS:
            raise LakeError(
                f"result {what} is the leaderboard's: it follows from the decisions of earlier nights. "
                f"Explain one of its inputs: {', '.join(sorted(found[0].record['inputs']))}"
            )
        if key not in settings.symbols:
            raise ConfigError(f"symbol {key!r} is not in the settings. {closest(key, settings.symbols)}")
        for line, same in (
            _prices(lake, key, settings) if stage == "prices" else _again(lake, key, stage, settings)
        ):
            lines.append(line)
            equal &= same
    return lines, equal


def _prices(lake: Lake, key: str, settings: Settings) -> Iterator[tuple[str, bool]]:
    """Read a symbol's source again, its kept replies where it is a network's, and compare the bars."""
    instrument = settings.instrument(key)
    table = source_table(instrument)
    stored, record = read_bars(lake, instrument.as_read(), table), lake.record(table, key) or {}
    bars, shas = load_whole(lake, settings, key, record)
    if shas != record.get("raw"):
        yield f"{table} {key}: NOT EQUAL: its source has changed, sha256 {', '.join(shas)}", False
        return
    at = np.searchsorted(stored.ts, bars.ts)
    inside = at < len(stored)
    shared = bars.ts[inside]
    if not len(shared) or not np.array_equal(stored.ts[at[inside]], shared):
        yield f"{table} {key}: NOT EQUAL: other stamps", False
        return
    for name in COLUMNS:
        wrong = np.flatnonzero(getattr(stored, name)[at[inside]] != getattr(bars, name)[inside])
        network = instrument.source in NETWORK_SOURCES
        if network and name == "dividend":
            wrong = wrong[wrong > 0]  # the first bar of a reply cannot know an ex-date before it
        if len(wrong):
            yield f"{table} {key}: NOT EQUAL: {name} at {iso(int(shared[wrong[0]]))}", False
            return
    older = len(stored) - len(shared)
    more = f", {older} older ones from replies before" if older else ""
    yield f"{table} {key}: equal, {len(shared)} bars read again{more}", True
    if instrument.base_frame is not None:
        made, held = resample(stored, instrument.frame).bars, read_bars(lake, instrument)
        other = [n for n in ("ts", *COLUMNS) if not np.array_equal(getattr(made, n), getattr(held, n))]
        if other:
            yield f"bars {key}: NOT EQUAL: {other[0]} differs from what the base bars make", False
        else:
            yield f"bars {key}: equal, {len(made)} bars made of {len(stored)} again", True


def _again(lake: Lake, key: str, stage: str, settings: Settings) -> Iterator[tuple[str, bool]]:
    """Run a stage on a copy of its inputs; yield (line, equal) for each of its tables."""
    with TemporaryDirectory() as folder:
        other = Lake(Path(folder))
        for earlier in PER_SYMBOL[: PER_SYMBOL.index(stage)]:
            for table in STAGE_TABLES[earlier]:
                for part in lake.parts(table, key) if table == "trials" else [""]:
                    _copy(lake, other, table, key, part)
        if stage == "backtests":
            _copy(lake, other, WRITTEN_ONCE, key)  # tonight's orders follow from what it holds
        made = run_stage(stage, other, key, settings, lambda _: None, asof=None)
        for table in STAGE_TABLES[stage]:
            for part in other.parts(table, key) if table == "trials" else [""]:
                was, now = lake.record(table, key, part), other.record(table, key, part)
                name = f"{table} {key}{f' {part}' if part else ''}"
                if table == WRITTEN_ONCE and was is not None:
                    rows = lake.need(table, key, stage).num_rows
                    yield f"{name}: {rows} rows, each written once in its night; not made again", True
                    continue
                if was is None or now is None:
                    yield f"{name}: NOT EQUAL: {'not stored' if was is None else 'not made again'}", False
                elif was["result_id"] != made.result_id and table != "trials":
                    differs = [n for n in ("code_id", "libs", "params", "inputs") if was.get(n) != now.get(n)]
                    yield (
                        (
                            f"{name}: NOT EQUAL: {' and '.join(differs)} differ from those that made it. "
                            f"Bring it up to date: {made_by(key)}"
                        ),
                        False,
                    )
                elif was["content_sha"] == now["content_sha"]:
                    yield f"{name}: equal, bit by bit", True
                else:
                    yield _difference(
                        name, table, lake.read(table, key, part=part), other.read(table, key, part=part)
                    )


def _copy(lake: Lake, other: Lake, table: str, key: str, part: str = "") -> None:
    """Copy one file of a table, where there is one."""
    source, copy = (table_path(one.data_dir, table, key, part) for one in (lake, other))
    if source.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def _difference(name: str, table: str, stored: pa.Table | None, made: pa.Table | None) -> tuple[str, bool]:
    """Return the first difference of two tables; of a growing one, whether each row made is stored."""
    old, new = ([] if rows is None else rows.to_pylist() for rows in (stored, made))
    if table in GROWING:
        known = {repr(sorted(row.items())) for row in old}
        lost = [row for row in new if repr(sorted(row.items())) not in known]
        if not lost:
            return f"{name}: equal, {len(new)} rows made again, {len(old) - len(new)} of earlier nights", True
        return f"{name}: NOT EQUAL: {len(lost)} of {len(new)} rows, first {lost[0]}", False
    if len(old) != len(new):
        return f"{name}: NOT EQUAL: {len(old)} rows stored, {len(new)} made", False
    for number, (before, now) in enumerate(zip(old, new, strict=True)):
        for column, value in before.items():
            if repr(value) != repr(now[column]):
                text = f"{name}: NOT EQUAL: {column} of row {number} was {value!r}, now {now[column]!r}"
                return text, False
    return f"{name}: equal, bit by bit", True
