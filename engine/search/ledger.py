"""Trials as rows of the lake's ``trials`` table, and what a study's trials come to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.lake.records import canonical
from engine.search.space import Space
from engine.search.trial import GATES, Trial, best_of, blocked_by


def to_rows(trials: Sequence[Trial], common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a trial.

    Parameters
    ----------
    trials : sequence of Trial
        Of one study, in trial order.
    common : mapping
        The columns that all rows share: symbol, strategy, fold, study_id, data_id,
        config_hash, seed; and config, which the first trial of a study alone keeps.
    """
    later = {**common, "config": None}
    return [{"config": None, **(later if trial.number else common), **_row(trial)} for trial in trials]


def from_rows(rows: Sequence[Mapping[str, Any]], space: Space) -> list[Trial]:
    """Return the trials of one study's rows, in trial order: what a study needs to go on after them."""
    return [_trial(row, space) for row in sorted(rows, key=lambda row: row["trial_number"])]


def summary(trials: Sequence[Trial]) -> tuple[int, int, Trial | None]:
    """Return how many distinct configurations ran, how many of them were pruned, and the best trial."""
    run = [t for t in trials if t.duplicate_of is None and t.outcome != "INVALID_PARAMS"]
    return len(run), sum(t.state == "PRUNED" for t in run), best_of(trials)


def _trial(row: Mapping[str, Any], space: Space) -> Trial:
    config = json.loads(row["params"])
    return Trial(
        number=row["trial_number"],
        batch=row["batch_no"],
        chosen={name: config[name] for name in space.searched},
        config=config,
        state=row["state"],
        outcome=row["outcome"],
        value=math.nan if row["value"] is None else row["value"],
        fold_scores=list(row["fold_scores"]),
        pruned_step=row["pruned_step"],
        bars_done=row["bars_done"],
        trades=row["trades"],
        fees=row["fees"],
        max_drawdown=row["max_drawdown"],
        trades_hash=row["trades_hash"],
        constraints=json.loads(row["constraints"]),
        duplicate_of=row["duplicate_of"],
        signals=row["signals"],
        blocked=np.array([json.loads(row["blocked"])[gate] for gate in GATES], np.int64),
        reported={step["bars"]: step["value"] for step in row["reported"]},
        error=row["error"],
    )


def _row(trial: Trial) -> dict[str, Any]:
    sharpe, skew, kurtosis = _shape(trial.moments, trial.bars_done)
    return {
        "trial_number": trial.number,
        "batch_no": trial.batch,
        "state": trial.state,
        "outcome": trial.outcome,
        "params": canonical(trial.config),
        "params_hash": trial.key,
        "trades_hash": trial.trades_hash,
        "value": trial.value,
        "fold_scores": trial.fold_scores,
        "folds_done": len(trial.scores),
        "pruned_step": trial.pruned_step,
        "bars_done": trial.bars_done,
        "trades": trial.trades,
        "fees": trial.fees,
        "max_drawdown": trial.max_drawdown,
        "sr": sharpe,
        "skew": skew,
        "kurt": kurtosis,
        "constraints": canonical(trial.constraints),
        "duplicate_of": trial.duplicate_of,
        "signals": trial.signals,
        "blocked": canonical(blocked_by([trial])),
        "reported": [{"bars": bars, "value": value} for bars, value in trial.reported.items()],
        "error": trial.error,
        "summary": None,
    }


def _shape(moments: np.ndarray[Any, Any], n: int) -> tuple[float, float, float]:
    """Return Sharpe per bar (ddof 1), skewness and kurtosis (biased; normal = 3) of bar returns."""
    if n < 2:
        return math.nan, math.nan, math.nan
    m1, m2, m3, m4 = (float(value) / n for value in moments)
    variance = m2 - m1 * m1
    if variance <= 1e-18:
        return math.nan, math.nan, math.nan
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
    return m1 / math.sqrt(variance * n / (n - 1)), third / variance**1.5, fourth / variance**2
