"""Run a trial again alone, and what its value is on the way through an inner fold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from engine.errors import SimulationError
from engine.search.tally import Tally
from engine.search.task import Bools, Task, Watch
from engine.search.trial import Trial


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
    tally = Tally([again], [stop - start for start, stop in task.spans])
    left = trial.bars_done
    for fold, (start, stop) in enumerate(task.spans):
        part = 0 if trial.fold_scores[fold : fold + 1] == [None] else min(left, stop - start)
        left -= part
        if part == stop - start:
            tally.add(fold, [again], task.evaluate([trial.config], start, stop))
            tally.score([again])
        elif part > 0:
            seen: list[float] = []

            def look(done: int, value: npt.NDArray[np.float64], alive: Bools) -> Bools:
                seen.append(float(value[0]))  # noqa: B023  (called before the next fold begins)
                return alive

            result = task.evaluate([trial.config], start, stop, Watch(part, look))
            again.value = running_value(task.objective, again.scores, part, seen[0], stop - start)
            tally.add(fold, [again], result, {again.number: part})
    tally.close([again])
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
