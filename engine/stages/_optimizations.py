"""Stage ``optimizations``: one fit per strategy and outer fold, and tonight's fit on the newest window."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from engine.bars.model import Bars
from engine.config import Settings, Strategy, plain
from engine.lake.publish import Lake, rows_of
from engine.lake.records import canonical, digest, make_record
from engine.search.fit import Clock, Fit, Fitter
from engine.search.folds import Fold, nightly_window, walk_forward
from engine.search.levels_fit import LevelsFitter
from engine.search.rules_fit import RulesFitter
from engine.search.study import SAVE_BARS
from engine.search.trial import Trial, why_none
from engine.stages._studies import Job, Window, fit_in_processes
from engine.stages._trials import TONIGHT, TrialLedger, lost_studies, old_nights
from engine.stages.common import (
    CLEAN,
    Progress,
    StageResult,
    base_bars_of,
    execution_of,
    feature_set,
    finer_terms,
    forecast_label,
    held,
    median_forecasts,
    procedure,
    procedure_hash,
    purge_of,
    read_bars,
    refuse_stale,
    to_table,
    too_short_for,
    unchanged,
)
from engine.strategies import registry

_FIT_COLUMNS = (
    "policy", "params", "study_id", "trial_number", "solver", "objective", "in_sample", "in_sample_untuned",
    "regret", "n_trials", "n_pruned", "status", "selected", "ended", "inert",
)  # fmt: skip


def optimizations(
    lake: Lake, symbol: str, settings: Settings, progress: Progress, *, clock: Clock | None = None
) -> StageResult:
    """Fit every strategy of a symbol on every outer fold; fits already in the lake are kept.

    ``clock`` gives seconds, for studies whose time the settings limit.

    Raises
    ------
    LakeError
        The stages before have not run, or the disk refuses.
    SearchError
        A study or solver cannot go on.
    """
    instrument = settings.instrument(symbol)
    entries = settings.entries(symbol)
    base = base_bars_of(lake, symbol, settings)
    lost = lost_studies(lake, symbol, [e.label for e in entries if e.folds.reoptimize == "nightly"])
    record = make_record(
        __name__,
        symbol,
        inputs={table: lake.result_id(table, symbol) or "" for table in ("bars", "features", "forecasts")},
        params={
            "instrument": instrument.trading(),
            "entries": [procedure(entry) for entry in entries],
            "forecasts": settings.forecasts.inferred(),
            "seed": settings.seed,
            **finer_terms(lake, instrument, base),
        },
    )
    tables = ["folds", "nightly"]
    if held(lake, tables, symbol, record["result_id"]) and not lost:
        return unchanged(lake, "optimizations", "folds", symbol, record["result_id"])

    refuse_stale(lake, symbol, {"features": "features", "forecasts": "forecasts"})
    bars = read_bars(lake, instrument)
    features = feature_set(lake, bars, instrument)
    work = _Work(symbol, bars, lake, settings.seed, record, clock, lost)
    if lost:
        years = ", ".join(sorted(set(lost.values())))
        progress(
            f"{symbol} optimizations the trials of {years} are lost: studies in force are run anew, those of "
            "earlier nights are not counted any more"
        )
    left_out = too_short_for(entries, len(bars))
    for entry in entries:
        if entry.label in left_out:
            progress(f"{symbol} optimizations {entry.label} left out: {left_out[entry.label]}")
            continue
        purge = purge_of(entry)
        strategy = registry.get(entry.strategy)
        fitter: Fitter
        if strategy.kind != "levels":
            fitter = RulesFitter(features, strategy, entry, execution_of(instrument, entry), settings.seed)
        else:
            high, low, model_key = median_forecasts(lake, bars, entry.levels.level)
            device = settings.devices.device
            fitter = LevelsFitter(
                bars, high, low, model_key, strategy, entry, instrument, settings.seed, device, base
            )
        work.fit_entry(entry, fitter, purge, progress, procedure_hash(entry, instrument, settings))
    warnings = work.warnings()
    for what, where in warnings.items():
        progress(f"{symbol} optimizations {what}: {where}")
    new_trials = work.publish()
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
            **warnings,
        },
    )


class _Work:
    """Rows of the stage's tables: those found in the lake by their study_id, and the new ones."""

    def __init__(
        self, symbol: str, bars: Bars, lake: Lake, seed: int, record: Mapping[str, Any],
        clock: Clock | None = None, lost: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.symbol, self.bars, self.lake, self.seed, self.record = symbol, bars, lake, seed, dict(record)
        self.clock = clock
        self.ledger = TrialLedger(lake, bars, record)
        self.folds: list[dict[str, Any]] = []
        self.nightly = rows_of(lake.read("nightly", symbol))
        self.fits_new = self.pruned = self._unpublished = 0
        self._label_of = forecast_label(lake, symbol)
        known: dict[str, dict[str, dict[str, Any]]] = {}  # study_id -> policy -> fit
        for row in [*rows_of(lake.read("folds", symbol)), *self.nightly]:
            if row["study_id"] in lost:
                continue
            known.setdefault(row["study_id"], {})[row["policy"]] = {
                name: row.get(name)
                for name in _FIT_COLUMNS  # an older row may lack the newest column
            }
        self._known = {study_id: list(fits.values()) for study_id, fits in known.items()}

    def fit_entry(
        self, entry: Strategy, fitter: Fitter, purge: int, progress: Progress, made_by: str
    ) -> None:
        """Fit all outer folds of an entry, then tonight's window."""
        cut = walk_forward(len(self.bars), entry.folds, purge)
        windows = [
            Window(
                fold.number,
                fold.train_from,
                fold.train_to,
                f"{entry.label} fold {fold.number + 1}/{len(cut)}",
            )
            for fold in cut
        ]
        nightly = entry.folds.reoptimize == "nightly"
        if nightly:
            windows.append(
                Window(TONIGHT, *nightly_window(len(self.bars), entry.folds), f"{entry.label} tonight")
            )
        study_id = cache(fitter.study_id)  # each one hashes all bars before it
        self._fit_missing(entry, fitter, study_id, windows, progress)
        for fold in cut:
            common = self._fold_columns(entry, fold, purge)
            fits = self._known[study_id(fold.train_from, fold.train_to)]
            self.folds += [{**fit, **common} for fit in fits]
        if nightly:
            _, start, stop, _ = windows[-1]
            asof = int(self.bars.ts[-1])
            common = {
                "symbol": self.symbol,
                "strategy": entry.label,
                "asof": asof,
                "train_start": self._stamp(start),
                "train_end": self._end(stop),
                "procedure": made_by,
                "model_key": fitter.config.get("model_key", ""),
            }
            others = [row for row in self.nightly if (row["strategy"], row["asof"]) != (entry.label, asof)]
            self.nightly = others + [{**fit, **common} for fit in self._known[study_id(start, stop)]]

    def _fit_missing(
        self,
        entry: Strategy,
        fitter: Fitter,
        id_of: Callable[[int, int], str],
        windows: Sequence[Window],
        progress: Progress,
    ) -> None:
        """Fit the windows that the lake has no fit for; each window once, an outer fold's first."""
        missing: dict[str, Window] = {}
        for window in windows:
            study_id = id_of(window.start, window.stop)
            if study_id not in self._known:
                missing.setdefault(study_id, window)
        jobs = [Job(window, self.ledger.told(study_id, window.stop)) for study_id, window in missing.items()]
        if entry.search.mode == "subprocess":
            done: Iterable[list[Fit]] = fit_in_processes(
                fitter, jobs, entry.search.max_concurrent, self.lake.data_dir, self.clock
            )
        else:
            done = (self._fit_here(entry, fitter, job, progress) for job in jobs)
        for (study_id, window), fits in zip(missing.items(), done, strict=True):
            self.fits_new += 1
            if fits[0].trials:
                self.pruned += fits[0].n_pruned
                self._keep(fits[0].trials, self._trial_columns(entry, fitter, window), window.stop)
                none = fits[0].status == "no_candidate"
                best = f"none; no trial qualified: {why_none(fits[0].trials)}" if none else ""
                progress(
                    f"{self.symbol} optimizations {window.label} tried {fits[0].n_trials} "
                    f"pruned {fits[0].n_pruned} best {best or f'{fits[0].in_sample:.2f}'}"
                )
            self._known[study_id] = [_fit_columns(fit, study_id) for fit in fits]

    def _keep(self, trials: Sequence[Trial], common: Mapping[str, Any], train_to: int) -> None:
        """Add a finished study to the ledger; what is worth some ten seconds of work is published at once."""
        self.ledger.add(trials, common, train_to)
        self._unpublished += sum(trial.bars_done for trial in trials)
        if self._unpublished >= SAVE_BARS:
            self.ledger.publish()
            self._unpublished = 0

    def _fit_here(self, entry: Strategy, fitter: Fitter, job: Job, progress: Progress) -> list[Fit]:
        """Fit one window in this process; a long study is saved on its way."""
        window = job.window

        def save(trials: Sequence[Trial]) -> None:
            self.ledger.add(trials, self._trial_columns(entry, fitter, window), window.stop)
            self.ledger.publish()

        return fitter.fit(window.start, window.stop, progress, told=job.told, save=save, clock=self.clock)

    def _trial_columns(self, entry: Strategy, fitter: Fitter, window: Window) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "strategy": entry.label,
            "fold": window.fold,
            "study_id": fitter.study_id(window.start, window.stop),
            "data_id": fitter.data_id(window.stop),
            "config_hash": digest(fitter.config, 16),
            "config": canonical(study_config(fitter, entry)),
            "seed": self.seed,
        }

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
            "label": self._label(entry, fold),
        }

    def _label(self, entry: Strategy, fold: Fold) -> str:
        """Return whether a forecaster's training may have held the test bars: `forecast_label`.

        A rules strategy reads no forecast, and the local forecaster never saw later bars.
        """
        if registry.get(entry.strategy).kind != "levels":
            return CLEAN
        return self._label_of(int(self.bars.ts[fold.test_from - 1]))  # as-of bar of the first forecast

    def _stamp(self, index: int) -> int:
        """Return the stamp of a bar; one past the end is just after the last bar's."""
        ts = self.bars.ts
        return int(ts[index]) if index < len(ts) else int(ts[-1]) + 1

    def _end(self, index: int) -> int:
        """Return the stamp just after a span's last bar; bars that come later do not change it."""
        return int(self.bars.ts[index - 1]) + 1

    def warnings(self) -> dict[str, str]:
        """Return what a user should know of the studies in force: parameters without effect, early ends."""
        asof = int(self.bars.ts[-1])
        tonight = [row for row in self.nightly if row["asof"] == asof]
        by_entry: dict[str, dict[str, dict[str, Any]]] = {}
        for row in [*self.folds, *tonight]:
            by_entry.setdefault(row["strategy"], {})[row["study_id"]] = row
        found: dict[str, str] = {}
        for name, studies in by_entry.items():
            inert = [word for row in studies.values() for word in (row["inert"] or "").split(", ") if word]
            late = [row["ended"] for row in studies.values() if row["ended"]]
            for word in sorted(set(inert)):
                found[f"inert parameter: {name} {word}"] = (
                    "its values made no difference to the trades of trials in "
                    f"{inert.count(word)} of {len(studies)} studies"
                )
            if late:
                found[f"ended early: {name}"] = f"{len(late)} of {len(studies)} studies, the last: {late[-1]}"
        return found

    def publish(self) -> int:
        """Publish the ledger first, what points into it after; return the number of new trials."""
        self.ledger.publish(old_nights(self.nightly, self.folds))
        self.lake.publish("nightly", self.symbol, to_table("nightly", self.nightly), self.record)
        self.lake.publish("folds", self.symbol, to_table("folds", self.folds), self.record)
        return self.ledger.added


def study_config(fitter: Fitter, entry: Strategy) -> dict[str, Any]:
    """Return the settings of a study as the ledger keeps them."""
    return {**fitter.config, "folds": plain(entry.folds)}


def _fit_columns(fit: Fit, study_id: str) -> dict[str, Any]:
    row = {name: getattr(fit, name) for name in _FIT_COLUMNS if name != "study_id"}
    return {**row, "params": canonical(fit.params), "study_id": study_id}
