"""One study of the ledger by its id: its settings against today's, a trial of it run again, its file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from engine.bars.model import Bars
from engine.config import Settings, Strategy
from engine.errors import ConfigError, LakeError, closest
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical
from engine.search.export import export_study
from engine.search.folds import nightly_window, walk_forward
from engine.search.ledger import from_rows, to_rows
from engine.search.rerun import error_of, rerun
from engine.search.rules_fit import RulesFitter
from engine.search.trial import GATES
from engine.stages._optimizations import study_config
from engine.stages.common import Progress, execution_of, feature_set, purge_of, read_bars
from engine.strategies import registry, user

Row = dict[str, Any]
_COMPARED = (
    "value", "fold_scores", "bars_done", "trades", "signals", "blocked", "fees", "max_drawdown", "sr", "skew",
    "kurt", "trades_hash",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A study as the ledger holds it; ``fold`` is -1 for tonight's fit."""

    study_id: str
    symbol: str
    strategy: str
    fold: int
    rows: list[Row]
    config: dict[str, Any]


def find(lake: Lake, symbols: Sequence[str], study_id: str) -> Study:
    """Return a study of one of the symbols, its trials in order.

    Raises
    ------
    ConfigError
        No ledger holds it.
    LakeError
        An older nightfold wrote it without its settings, or it was cut to a summary.
    """
    for symbol in symbols:
        for part in lake.parts("trials", symbol):
            ids = lake.read("trials", symbol, columns=["study_id"], part=part)
            if ids is None or not pc.any(pc.equal(ids["study_id"], study_id)).as_py():
                continue
            table = lake.read("trials", symbol, part=part)
            assert table is not None  # noqa: S101  (read a moment ago)
            rows = rows_of(table.filter(pc.equal(table["study_id"], study_id)))
            rows.sort(key=lambda row: int(row["trial_number"]))
            if rows[0]["state"] == "SUMMARY":
                raise LakeError(
                    f"study {study_id} of {symbol} is a night before the newest 30, kept as one summary row; "
                    "its trials can no longer be run or written one by one"
                )
            if rows[0].get("config") is None:
                raise LakeError(f"study {study_id} of {symbol} was written without its settings; fit it anew")
            config = json.loads(rows[0]["config"])
            return Study(study_id, symbol, rows[0]["strategy"], rows[0]["fold"], rows, config)
    raise ConfigError(
        f"study {study_id!r} is in no ledger of {', '.join(symbols)}. List those of a symbol: "
        "nightfold status KEY"
    )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flat(below, f"{name}.{key}" if name else key)
    else:
        yield name, value


def changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting of a study that differs, code ids among them."""
    before, after = dict(_flat(then)), dict(_flat(now))
    nothing = "nothing"
    return [
        f"{name}: was {canonical(before[name]) if name in before else nothing}, "
        f"is {canonical(after[name]) if name in after else nothing}"
        for name in sorted({*before, *after})
        if name not in before or name not in after or canonical(before[name]) != canonical(after[name])
    ]


def _fitter(lake: Lake, settings: Settings, study: Study) -> tuple[RulesFitter, Strategy, Bars]:
    """Return what would fit the study's entry today.

    Raises
    ------
    ConfigError
        The entry has left the settings.
    """
    user.load(lake.data_dir)
    entries = {entry.label: entry for entry in settings.entries(study.symbol)}
    if study.strategy not in entries:
        raise ConfigError(
            f"study {study.study_id} is of strategy {study.strategy!r}, which the settings no longer give "
            f"{study.symbol}. {closest(study.strategy, entries)}"
        )
    entry, instrument = entries[study.strategy], settings.instrument(study.symbol)
    bars = read_bars(lake, instrument)
    features = feature_set(lake, bars, instrument)
    strategy = registry.get(entry.strategy)
    fitter = RulesFitter(features, strategy, entry, execution_of(instrument, entry), settings.seed)
    return fitter, entry, bars


def _window(
    lake: Lake, study: Study, fitter: RulesFitter, entry: Strategy, bars: Bars
) -> tuple[int, int] | None:
    """Return the bars [start, stop) that a study trained on, None where they are no longer the same."""
    if study.fold >= 0:
        cut = walk_forward(len(bars), entry.folds, purge_of(entry))
        windows = [(fold.train_from, fold.train_to) for fold in cut if fold.number == study.fold]
    else:
        nights = [
            row for row in rows_of(lake.read("nightly", study.symbol)) if row["study_id"] == study.study_id
        ]
        ts = bars.ts
        windows = [
            (int((ts < row["train_start"]).sum()), int((ts < row["train_end"]).sum())) for row in nights
        ]
        windows.append(nightly_window(len(bars), entry.folds))
    data_id = study.rows[0]["data_id"]
    same = (window for window in windows if fitter.data_id(window[1]) == data_id)
    return next(same, None)


def refuse_other(lake: Lake, settings: Settings, study: Study) -> None:
    """Refuse to go on with a study under other settings, code or bars: that would be another study.

    Raises
    ------
    ConfigError
        Lists what differs.
    """
    fitter, entry, bars = _fitter(lake, settings, study)
    lines = changed(study.config, study_config(fitter, entry))
    if not lines and _window(lake, study, fitter, entry, bars) is None:
        lines = ["data: the bars of its training part are no longer the same"]
    if lines:
        told = "\n  ".join(lines)
        raise ConfigError(
            f"study {study.study_id} of {study.symbol} {study.strategy} was made with other settings; run "
            f"now, it would be another study:\n  {told}\nPut them back, or run without --study"
        )


def state_note(lake: Lake, study: Study) -> str:
    """Return whether a study is finished, with its trials by state; of one not finished, what it is to reach.

    A study that its time limit ended does not go on: then what to do about it.
    """
    who = f"study {study.study_id} of {study.symbol} {study.strategy}"
    fits = [row for table in ("folds", "nightly") for row in rows_of(lake.read(table, study.symbol))]
    ended = [row.get("ended") or "" for row in fits if row["study_id"] == study.study_id]
    if ended and ended[0].startswith("search.timeout"):
        return (
            f"{who} has ended by its time limit ({ended[0]}) and does not go on: the limit is part of it. "
            "Raise search.timeout in the settings and run without --study: the new study begins with the "
            "same trials"
        )
    states = Counter(str(row["state"]) for row in study.rows)
    trials = (
        f"{len(study.rows)} trials ({states['COMPLETE']} complete, {states['PRUNED']} pruned, "
        f"{states['FAIL']} failed)"
    )
    if ended:
        return f"{who} is finished: {trials}" + (f"; ended: {ended[0]}" if ended[0] else "")
    search = study.config["search"]
    return (
        f"{who} is not finished: {trials} so far, with search.screen {search['screen']} and "
        f"search.max_trials {search['max_trials']}; it goes on where it stopped"
    )


def reproduce(lake: Lake, settings: Settings, name: str) -> tuple[list[str], bool]:
    """Run one trial of the ledger again, alone.

    Parameters
    ----------
    lake, settings
        Where it is stored, and the settings as they are now.
    name : str
        ``STUDY/NUMBER``.

    Returns
    -------
    (list of str, bool)
        What was found, for people; whether every stored number is the same to the bit.

    Raises
    ------
    ConfigError
        There is no such trial, or the settings of its study differ from those of now.
    LakeError
        The bars it was run on are no longer the same.
    """
    study_id, _, text = name.partition("/")
    if not text.isdigit():
        raise ConfigError(f"trial {name!r} is no STUDY/NUMBER; expected one such as 0123456789abcdef/17")
    study = find(lake, list(settings.symbols), study_id)
    rows = {row["trial_number"]: row for row in study.rows}
    if int(text) not in rows:
        raise ConfigError(f"study {study_id} has no trial {text}; its trials are 0 to {max(rows)}")
    row = rows[int(text)]
    fitter, entry, bars = _fitter(lake, settings, study)
    lines = changed(study.config, study_config(fitter, entry))
    if [line for line in lines if not line.startswith("code: ")]:
        told = "\n  ".join(lines)
        raise ConfigError(f"study {study_id} was made with other settings; put them back first:\n  {told}")
    window = _window(lake, study, fitter, entry, bars)
    if window is None:
        raise LakeError(
            f"the bars that study {study_id} of {study.symbol} trained on are no longer the same, so its "
            "trials cannot be run again. What changed: nightfold explain"
        )
    said = [f"{study.symbol} {study.strategy} trial {text}: {row['params']}"]
    said += [f"made by other code ({line})" for line in lines]
    if row["duplicate_of"] is not None:
        said.append(f"a duplicate of trial {row['duplicate_of']}, which is run")
        row = rows[row["duplicate_of"]]
    wrong = _compare(fitter, window, row)
    outcome = f"{row['state']} {row['outcome']}, value {row['value']}"
    said.append(f"{outcome}: " + ("not equal: " + "; ".join(wrong) if wrong else "equal, bit for bit"))
    return said, not wrong


def _compare(fitter: RulesFitter, window: tuple[int, int], row: Row) -> list[str]:
    """Run a trial again; return what differs."""
    task = fitter.task(*window)
    (trial,) = from_rows([row], fitter.space)
    if row["outcome"] == "INVALID_PARAMS":
        return ["its parameters are valid now"] if task.valid(trial.config) else []
    if row["outcome"] == "ERROR":
        error = error_of(task, trial)
        return [] if error == row["error"] else [f"error was {row['error']!r}, is {error!r}"]
    (again,) = to_rows([rerun(task, trial)], {})
    return [
        f"{key} was {row[key]!r}, is {again[key]!r}" for key in _COMPARED if not _equal(row[key], again[key])
    ]


def _equal(one: Any, other: Any) -> bool:
    """Say whether two stored values are the same; NaN is stored as null by some readers."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            (a is None) == (b is None) and _equal(a, b) for a, b in zip(one, other, strict=True)
        )
    if one is None or other is None or one != one or other != other:
        return all(value is None or value != value for value in (one, other))
    return bool(one == other)


def export(
    lake: Lake, symbols: Sequence[str], study_id: str, path: Path, progress: Progress = lambda text: None
) -> str:
    """Write a study for optuna-dashboard; return a line that says so.

    ``progress`` is told before how many trials are written, each some 20 ms of Optuna's work.

    Raises
    ------
    ConfigError
        No ledger holds the study, or the file exists.
    LakeError
        As `find`; or the file could not be written.
    """
    study = find(lake, symbols, study_id)
    fold = "tonight" if study.fold < 0 else f"fold {study.fold + 1}"
    progress(f"export writes {len(study.rows)} trials of study {study_id}, some 20 ms each")
    export_study(path, f"{study.symbol} {study.strategy} {fold} {study_id}", study.rows, study.config)
    return f"{path}: {len(study.rows)} trials of study {study_id}; to look at it: optuna-dashboard sqlite:///{path}"


def status_lines(lake: Lake, symbol: str) -> Iterator[str]:
    """Yield one line for each study of a symbol: how many trials came to what, and why it ended early."""
    notes = {
        row["study_id"]: row
        for table in ("nightly", "folds")
        for row in rows_of(lake.read(table, symbol))
        if row.get("ended") or row.get("inert")
    }
    for part in lake.parts("trials", symbol):
        by_study: dict[tuple[str, int, str], list[Row]] = {}
        for row in rows_of(lake.read("trials", symbol, part=part)):
            by_study.setdefault((row["strategy"], row["fold"], row["study_id"]), []).append(row)
        for (strategy, fold, study_id), trials in by_study.items():
            name = "tonight" if fold < 0 else f"fold {fold + 1}"
            yield f"  study {study_id} {strategy} {name}: {_counted(trials)}{_noted(notes.get(study_id, {}))}"


def _counted(trials: Sequence[Row]) -> str:
    copies = sum(row["duplicate_of"] is not None for row in trials)
    invalid = sum(row["outcome"] == "INVALID_PARAMS" for row in trials)
    tried = [r for r in trials if r["duplicate_of"] is None and r["outcome"] != "INVALID_PARAMS"]
    states = Counter(str(row["state"]) for row in tried)
    values = [row["value"] for row in tried if row["state"] == "COMPLETE" and _feasible(row)]
    best = f"{max(values):.2f}" if values else "none"
    text = (
        f"told {len(trials)}, tried {len(tried)}, pruned {states['PRUNED']}, failed {states['FAIL']}, "
        f"invalid {invalid}, duplicates {copies}, best {best}"
    )
    gates = [json.loads(row["blocked"]) for row in tried if row.get("blocked")]
    if gates and not any(row["trades"] for row in tried):
        stopped = ", ".join(f"{gate} {sum(one[gate] for one in gates)}" for gate in GATES)
        text += f"; no trade: {sum(row['signals'] for row in tried)} entry signals, stopped by: {stopped}"
    return text


def _noted(row: Mapping[str, Any]) -> str:
    ended = f"; ended: {row['ended']}" if row.get("ended") else ""
    return ended + (f"; no effect of: {row['inert']}" if row.get("inert") else "")


def _feasible(row: Row) -> bool:
    return all(value <= 0 for value in json.loads(row["constraints"]).values())
