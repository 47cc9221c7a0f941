"""Run a batch whose trials are looked at every so many scored bars: ``search.report: bars:N``.

For long series, where an inner fold is a long way to run a hopeless trial. What is reported is the
value of the trial so far on one scale over the folds; the last report of a trial that was not cut
is its value, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from engine.search import sampling
from engine.search.pruning import OptunaJudge, bar_rungs, share_kept, survivors
from engine.search.rerun import running_value
from engine.search.tally import Tally
from engine.search.task import Bools, Task, Watch
from engine.search.trial import Trial, doomed

Cut = Callable[[int, Sequence[Trial]], Sequence[int]]


def run_by_bars(task: Task, running: list[Trial], batch: int, earlier: Sequence[Trial]) -> None:
    """Run trials over the inner folds, looked at after every N bars of a fold and at its end.

    Parameters
    ----------
    task : Task
        With ``search.report`` in bars.
    running : list of Trial
        Those of the batch that are to be run; filled in.
    batch : int
        Trials of the batch, duplicates and invalid ones included.
    earlier : sequence of Trial
        Of the batches before.
    """
    cut, done, ran = _pruner(task, batch, earlier), 0, running
    tally = Tally(running, [stop - start for start, stop in task.spans])
    for fold, (start, stop) in enumerate(task.spans):
        if not running:
            break
        bars_of = _run_fold(task, tally, running, fold, done, cut)
        for trial in running:
            if trial.number in bars_of:
                step = done + bars_of[trial.number]
                trial.state, trial.outcome, trial.pruned_step = "PRUNED", "PRUNED", step
        running = [trial for trial in running if trial.number not in bars_of]
        done += stop - start
    tally.close(ran)


def _run_fold(
    task: Task, tally: Tally, running: Sequence[Trial], fold: int, done: int, cut: Cut
) -> dict[int, int]:
    """Run trials over one fold; return the bars after which each was cut, by number."""
    bars_of: dict[int, int] = {}
    start, stop = task.spans[fold]
    length = stop - start

    def look(bars: int, value: npt.NDArray[np.float64], alive: Bools) -> Bools:
        looked = [trial for trial, runs in zip(running, alive, strict=True) if runs]
        for trial, gain in zip(looked, value[alive].tolist(), strict=True):
            trial.value = running_value(task.objective, trial.scores, bars, gain, length)
            trial.reported[done + bars] = trial.value
        bars_of.update(dict.fromkeys(cut(done + bars, looked), bars))
        return np.array([trial.number in bars_of for trial in running])

    every = task.search.report_bars
    assert every is not None  # noqa: S101  (its callers asked)
    result = task.evaluate([trial.config for trial in running], start, stop, Watch(every, look))
    whole = [trial for trial in running if trial.number not in bars_of]
    tally.add(fold, running, result, bars_of)
    tally.score(whole)
    for trial in whole:
        trial.reported[done + length] = trial.value
    if done + length < task.bars:
        bars_of.update(dict.fromkeys(cut(done + length, whole), length))
    return bars_of


def _pruner(task: Task, batch: int, earlier: Sequence[Trial]) -> Cut:
    """Return the function that names the trials to stop after so many scored bars."""
    name = task.search.pruner
    if name == "halving":
        cuts = bar_rungs(task.bars, batch)
        left = list(cuts)

        def halve(step: int, running: Sequence[Trial]) -> Sequence[int]:
            if not left or step < left[0] or not running:
                return []
            left[:] = [rung for rung in left if rung > step]
            share = share_kept(len(cuts) - len(left) - 1, batch)
            means = [-float("inf") if doomed(t, task.constraints) else t.value for t in running]
            numbers = [trial.number for trial in running]
            return sorted(set(numbers) - set(survivors(numbers, means, share)))

        return halve
    seed = sampling.batch_seed(task.seeded_by, earlier[-1].batch + 1 if earlier else 0)
    judge = OptunaJudge(name.removeprefix("optuna:"), task.space, earlier, task.bars, seed)
    return lambda step, running: [trial.number for trial in running if judge.prunes(trial)]
