"""Stage ``optimizations``: one fit per strategy and outer fold, and tonight's fit on the newest window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from engine.bars.model import Bars, iso
from engine.config import Settings, Strategy, plain
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical, digest, make_record
from engine.search.fit import Fit, Fitter
from engine.search.folds import Fold, bars_needed, nightly_window, walk_forward
from engine.search.ledger import to_rows
from engine.search.levels_fit import LevelsFitter
from engine.search.rules_fit import RulesFitter
from engine.stages.common import (
    Progress,
    StageResult,
    execution_of,
    feature_set,
    held,
    median_forecasts,
    procedure,
    purge_of,
    read_bars,
    refuse_stale,
    to_table,
    unchanged,
)
from engine.strategies import registry

_FIT_COLUMNS = (
    "policy", "params", "study_id", "trial_number", "solver", "objective", "in_sample", "in_sample_untuned",
    "regret", "n_trials", "n_pruned", "status", "selected",
)  # fmt: skip
TONIGHT = -1  # column `fold` of the trials of tonight's fits


def optimizations(lake: Lake, symbol: str, settings: Settings, progress: Progress) -> StageResult:
    """Fit every strategy of a symbol on every outer fold; fits already in the lake are kept.

    Raises
    ------
    LakeError
        The stages before have not run, or the disk refuses.
    SearchError
        A study or solver cannot go on.
    """
    instrument = settings.instrument(symbol)
    entries = settings.entries(symbol)
    record = make_record(
        __name__,
        symbol,
        inputs={table: lake.result_id(table, symbol) or "" for table in ("bars", "features", "forecasts")},
        params={
            "instrument": instrument.trading(),
            "entries": [procedure(entry) for entry in entries],
            "forecasts": plain(settings.forecasts),
            "seed": settings.seed,
        },
    )
    tables = ["folds", "nightly"]
    if held(lake, tables, symbol, record["result_id"]):
        return unchanged(lake, "optimizations", "folds", symbol, record["result_id"])

    refuse_stale(lake, symbol, {"features": "features", "forecasts": "forecasts"})
    bars = read_bars(lake, instrument)
    features = feature_set(lake, bars, instrument)
    work = _Work(symbol, bars, lake, settings.seed)
    left_out: dict[str, str] = {}
    for entry in entries:
        purge = purge_of(entry)
        needed = bars_needed(entry.folds, purge)
        if len(bars) < needed:
            left_out[entry.label] = f"has {len(bars)} bars, needs {needed}"
            progress(f"{symbol} optimizations {entry.label} left out: {left_out[entry.label]}")
            continue
        strategy = registry.get(entry.strategy)
        fitter: Fitter
        if strategy.kind == "rules":
            fitter = RulesFitter(features, strategy, entry, execution_of(instrument, entry), settings.seed)
        else:
            high, low, model_key = median_forecasts(lake, bars, entry.levels.level)
            device = settings.devices.device
            fitter = LevelsFitter(
                bars, high, low, model_key, strategy, entry, instrument, settings.seed, device
            )
        work.fit_entry(entry, fitter, purge, progress)
    new_trials = work.publish(record)
    return StageResult(
        "optimizations",
        symbol,
        len(work.folds),
        record["result_id"],
        False,
        {
            "bars": len(bars),
            "folds": len({(row["strategy"], row["fold"]) for row in work.folds}),
            "fits_new": work.fits_new,
            "trials_new": new_trials,
            "trials_pruned": work.pruned,
            "solvers": ", ".join(sorted({row["solver"] for row in work.folds})),
            **{f"left out: {name}": why for name, why in left_out.items()},
        },
    )


class _Work:
    """Rows of the stage's tables: those found in the lake by their study_id, and the new ones."""

    def __init__(self, symbol: str, bars: Bars, lake: Lake, seed: int) -> None:
        self.symbol, self.bars, self.lake, self.seed = symbol, bars, lake, seed
        self.folds: list[dict[str, Any]] = []
        self.nightly = rows_of(lake.read("nightly", symbol))
        self.trials: dict[str, list[dict[str, Any]]] = {}  # by year part, new ones only
        self.fits_new = self.pruned = 0
        known: dict[str, dict[str, dict[str, Any]]] = {}  # study_id -> policy -> fit
        for row in [*rows_of(lake.read("folds", symbol)), *self.nightly]:
            known.setdefault(row["study_id"], {})[row["policy"]] = {
                name: row.get(name)
                for name in _FIT_COLUMNS  # an older row may lack the newest column
            }
        self._known = {study_id: list(fits.values()) for study_id, fits in known.items()}

    def fit_entry(self, entry: Strategy, fitter: Fitter, purge: int, progress: Progress) -> None:
        """Fit all outer folds of an entry, then tonight's window."""
        cut = walk_forward(len(self.bars), entry.folds, purge)
        for fold in cut:
            common = self._fold_columns(entry, fold, purge)
            label = f"{entry.label} fold {fold.number + 1}/{len(cut)}"
            fits = self._fit(entry, fitter, fold.number, fold.train_from, fold.train_to, label, progress)
            self.folds += [{**fit, **common} for fit in fits]
        if entry.folds.reoptimize == "nightly":
            start, stop = nightly_window(len(self.bars), entry.folds)
            asof = int(self.bars.ts[-1])
            fits = self._fit(entry, fitter, TONIGHT, start, stop, f"{entry.label} tonight", progress)
            common = {
                "symbol": self.symbol,
                "strategy": entry.label,
                "asof": asof,
                "train_start": self._stamp(start),
                "train_end": self._end(stop),
            }
            others = [row for row in self.nightly if (row["strategy"], row["asof"]) != (entry.label, asof)]
            self.nightly = others + [{**fit, **common} for fit in fits]

    def _fit(
        self,
        entry: Strategy,
        fitter: Fitter,
        fold: int,
        start: int,
        stop: int,
        label: str,
        progress: Progress,
    ) -> list[dict[str, Any]]:
        """Return the rows of one fit, one a policy: from the lake by its study_id, else fitted now."""
        study_id = fitter.study_id(start, stop)
        if study_id not in self._known:
            fits = fitter.fit(start, stop, progress)
            self.fits_new += 1
            self._keep_trials(entry, fitter, fits[0], fold, study_id, stop)
            if fits[0].trials:
                progress(
                    f"{self.symbol} optimizations {label} tried {fits[0].n_trials} "
                    f"pruned {fits[0].n_pruned} best {fits[0].in_sample:.2f}"
                )
            self._known[study_id] = [_fit_columns(fit, study_id) for fit in fits]
        return self._known[study_id]

    def _fold_columns(self, entry: Strategy, fold: Fold, purge: int) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "strategy": entry.label,
            "fold": fold.number,
            "scheme": entry.folds.scheme,
            "train_start": self._stamp(fold.train_from),
            "train_end": self._end(fold.train_to),
            "test_start": self._stamp(fold.test_from),
            "test_end": self._end(fold.test_to),
            "train_from": fold.train_from,
            "train_to": fold.train_to,
            "test_from": fold.test_from,
            "test_to": fold.test_to,
            "purge_bars": purge,
            "open": fold.open,
            "label": "clean",  # neither a rules strategy nor the local forecaster ever saw later bars
        }

    def _stamp(self, index: int) -> int:
        """Return the stamp of a bar; one past the end is just after the last bar's."""
        ts = self.bars.ts
        return int(ts[index]) if index < len(ts) else int(ts[-1]) + 1

    def _end(self, index: int) -> int:
        """Return the stamp just after a span's last bar; bars that come later do not change it."""
        return int(self.bars.ts[index - 1]) + 1

    def _keep_trials(
        self, entry: Strategy, fitter: Fitter, fit: Fit, fold: int, study_id: str, train_to: int
    ) -> None:
        if not fit.trials:
            return
        self.pruned += fit.n_pruned
        common = {
            "symbol": self.symbol,
            "strategy": entry.label,
            "fold": fold,
            "study_id": study_id,
            "data_id": fitter.data_id(train_to),
            "config_hash": digest(fitter.config, 16),
            "seed": self.seed,
        }
        year = iso(int(self.bars.ts[train_to - 1]))[:4]
        self.trials.setdefault(year, []).extend(to_rows(fit.trials, common))

    def publish(self, record: Mapping[str, Any]) -> int:
        """Publish the ledger first, what points into it after; return the number of new trials."""
        count = 0
        for year, rows in sorted(self.trials.items()):
            old = self.lake.read("trials", self.symbol, part=year)
            new = to_table("trials", rows)
            if old is not None:
                known = set(old["study_id"].to_pylist())
                fresh = [study not in known for study in new["study_id"].to_pylist()]
                new = pa.concat_tables([old, new.filter(pa.array(fresh))])
            self.lake.publish("trials", self.symbol, new, dict(record), part=year)
            count += len(rows)
        self.lake.publish("nightly", self.symbol, to_table("nightly", self.nightly), dict(record))
        self.lake.publish("folds", self.symbol, to_table("folds", self.folds), dict(record))
        return count


def _fit_columns(fit: Fit, study_id: str) -> dict[str, Any]:
    row = {name: getattr(fit, name) for name in _FIT_COLUMNS if name != "study_id"}
    return {**row, "params": canonical(fit.params), "study_id": study_id}
