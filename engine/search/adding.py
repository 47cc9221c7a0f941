"""Add what a configuration did on one inner fold to its trial, and run a trial again alone."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from engine.errors import SimulationError
from engine.search.task import Bools, Task, Watch
from engine.search.trial import SpanResult, Trial


def add(trial: Trial, result: SpanResult, index: int, bars: int, *, whole: bool = True) -> None:
    """Add the result of one inner fold, in order of time.

    Parameters
    ----------
    trial : Trial
        Filled in.
    result, index : SpanResult, int
        Of the fold, and the configuration's row in it.
    bars : int
        Bars that it ran.
    whole : bool
        Whether that is the whole fold; the score of a part is none.
    """
    if whole:
        trial.fold_scores.append(float(result.score[index]))
        trial.value = math.fsum(trial.scores) / len(trial.scores)
    before, trial.bars_done = trial.bars_done, trial.bars_done + bars
    trial.trades += int(result.trades[index])
    trial.signals += int(result.signals[index])
    trial.gross_profit += float(result.gross_profit[index])
    trial.gross_loss += float(result.gross_loss[index])
    trial.fees += float(result.fees[index])
    trial.max_drawdown = max(trial.max_drawdown, float(result.max_drawdown[index]))
    for name in ("turnover", "exposure"):
        mean = (getattr(trial, name) * before + float(getattr(result, name)[index]) * bars) / trial.bars_done
        setattr(trial, name, mean)
    trial.blocked = trial.blocked + result.blocked[index]
    trial.moments = trial.moments + result.moments[index]
    both = (trial.trades_hash + result.trades_hash[index]).encode()
    trial.trades_hash = hashlib.sha256(both).hexdigest()[:16]


def running_value(objective: str, scores: list[float], bars: int, value: float, fold_bars: int) -> float:
    """Return the value of a trial ``bars`` into a fold, on the scale of its final value.

    The mean score of the folds done and of the part, which counts by its share of a fold: at a
    fold's end it is the mean of the fold scores.

    Parameters
    ----------
    objective : str
        ``log_growth`` or ``roi``.
    scores : list of float
        Of the folds done.
    bars, fold_bars : int
        Bars done in this fold, and its length.
    value : float
        Equity / initial cash - 1 there, an open position at the close.

    NaN: none; a ruined account is -inf.
    """
    if objective == "roi":
        part = 1e4 * value
    else:
        part = 1e4 * math.log1p(value) / fold_bars if value > -1.0 else -math.inf
    return (math.fsum(scores) + part) / (len(scores) + bars / fold_bars)


def rerun(task: Task, trial: Trial) -> Trial:
    """Run the configuration of a trial again, alone, on the bars that the trial was run on.

    Parameters
    ----------
    task : Task
        Its study.
    trial : Trial
        One that was run: ``fold_scores`` and ``bars_done`` say how far.
    """
    again = Trial(trial.number, trial.batch, trial.chosen, trial.config)
    for fold, (start, stop) in enumerate(task.spans):
        if trial.fold_scores[fold : fold + 1] == [None]:
            again.fold_scores.append(None)
            continue
        part = min(trial.bars_done - again.bars_done, stop - start)
        if part == stop - start:
            add(again, task.evaluate([trial.config], start, stop), 0, part)
        elif part > 0:
            seen: list[float] = []

            def look(done: int, value: npt.NDArray[np.float64], alive: Bools) -> Bools:
                seen.append(float(value[0]))  # noqa: B023  (called before the next fold begins)
                return alive

            result = task.evaluate([trial.config], start, stop, Watch(part, look))
            again.value = running_value(task.objective, again.scores, part, seen[0], stop - start)
            add(again, result, 0, part, whole=False)
    return again


def error_of(task: Task, trial: Trial) -> str | None:
    """Return what the strategy raises with a trial's parameters, None where it runs or they are invalid."""
    if not task.valid(trial.config):
        return None
    try:
        for start, stop in task.spans:
            task.evaluate([trial.config], start, stop)
    except SimulationError as error:
        return str(error)
    return None
