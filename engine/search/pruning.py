"""Which trials of a batch go on after an inner fold: successive halving, a paired race, Optuna's pruners.

Halving cuts on the current mean score, not by the median of the best value so far (Optuna's
MedianPruner): on cumulative returns that rule compares early peaks and loses the best trial more
often than not. Source: Jamieson & Talwalkar 2016; rungs of at least 3 folds and 300 bars are a choice.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from engine.search.space import Space
from engine.search.trial import Trial

MIN_FOLDS, MIN_BARS, MIN_BATCH = 3, 300, 9
LARGE_BATCH = 64  # from here on a third goes on; in smaller batches that lost more (docs/search.md)
RACE_FOLDS, RACE_T = 5, -1.5


def rungs(inner_folds: int, fold_bars: int, batch: int) -> list[int]:
    """Return after how many inner folds a batch is cut.

    Parameters
    ----------
    inner_folds : int
        Folds of a training part.
    fold_bars : int
        Bars of one inner fold.
    batch : int
        Trials evaluated together.

    Returns
    -------
    list of int
        Empty where halving is off: a batch under 9 trials, or under 4 folds.
    """
    if batch < MIN_BATCH or inner_folds < MIN_FOLDS + 1:
        return []
    first = max(MIN_FOLDS, math.ceil(inner_folds / 8), math.ceil(MIN_BARS / max(fold_bars, 1)))
    second = max(math.ceil(3 * inner_folds / 8), first + 2)
    return [rung for rung in (first, second) if rung < inner_folds]


def survivors(live: Sequence[int], means: Sequence[float], batch: int) -> list[int]:
    """Return which trials go on: the better half (of a large batch: third), at least one, in the order given.

    Parameters
    ----------
    live : sequence of int
        Trial numbers still running.
    means : sequence of float
        Mean score so far of each; a tie goes to the lower trial number.
    batch : int
        Trials that began together.

    NaN: ranks last.
    """
    keep = max(1, len(live) // (3 if batch >= LARGE_BATCH else 2))
    ranked = sorted(
        zip(live, means, strict=True),
        key=lambda pair: (-pair[1] if pair[1] == pair[1] else math.inf, pair[0]),
    )
    kept = {number for number, _ in ranked[:keep]}
    return [number for number in live if number in kept]


def loses_race(scores: Sequence[float], incumbent: Sequence[float]) -> bool:
    """Say whether a trial lies surely behind the incumbent on the same inner folds.

    Parameters
    ----------
    scores : sequence of float
        Fold scores of the trial so far.
    incumbent : sequence of float
        Fold scores of the best feasible complete trial, at least as many.

    Returns
    -------
    bool
        After 5 folds: mean(d) / (sd(d, ddof 1) / sqrt(k)) < -1.5 for d = trial - incumbent; with
        sd = 0 whether mean(d) < 0. NaN: loses.
    """
    k = len(scores)
    if k < RACE_FOLDS:
        return False
    gaps = [a - b for a, b in zip(scores, incumbent, strict=False)]
    mean = math.fsum(gaps) / k
    sd = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / (k - 1))
    return not (mean >= 0 if sd == 0 else mean / (sd / math.sqrt(k)) >= RACE_T)


class OptunaJudge:
    """One of Optuna's own pruners, asked after every inner fold.

    Its study is built anew for each batch by telling it the earlier trials' scores in their order,
    so that a study that goes on after a kill is judged as if it had never stopped.

    Parameters
    ----------
    name : str
        ``median``, ``percentile`` (25), ``sha``, ``hyperband`` or ``wilcoxon``.
    space : Space
        What is searched.
    earlier : sequence of Trial
        Trials of the batches before.
    inner_folds : int
        Folds of a training part.
    seed : int
        Of this batch.
    """

    def __init__(
        self, name: str, space: Space, earlier: Sequence[Trial], inner_folds: int, seed: int
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: dict[str, tuple[Any, dict[str, Any]]] = {
                "median": (optuna.pruners.MedianPruner, {}),
                "percentile": (optuna.pruners.PercentilePruner, {"percentile": 25.0}),
                "sha": (optuna.pruners.SuccessiveHalvingPruner, {}),
                "hyperband": (optuna.pruners.HyperbandPruner, {"max_resource": inner_folds}),
                "wilcoxon": (optuna.pruners.WilcoxonPruner, {}),
            }
            kind, options = made[name]
            pruner = kind(**options)
        sampler = optuna.samplers.RandomSampler(seed=seed)
        # hyperband hashes the study's name, which must not be a random one
        self._study = optuna.create_study(
            study_name="trials", direction="maximize", sampler=sampler, pruner=pruner
        )
        self._by_fold = name == "wilcoxon"  # it compares the scores of single folds
        self._space = space
        self._asked: dict[int, Any] = {}
        for trial in earlier:
            if trial.fold_scores and trial.duplicate_of is None:
                self.prunes(trial, ask_at_every_fold=True)
                self.close(trial)

    def prunes(self, trial: Trial, *, ask_at_every_fold: bool = False) -> bool:
        """Report a trial's newest fold and return whether it is to stop there."""
        if trial.number not in self._asked:
            self._study.enqueue_trial(dict(trial.chosen))
            self._asked[trial.number] = self._study.ask(self._space.distributions())
        asked, scores, stop = self._asked[trial.number], trial.fold_scores, False
        for step in range(1 if ask_at_every_fold else len(scores), len(scores) + 1):
            asked.report(scores[step - 1] if self._by_fold else math.fsum(scores[:step]) / step, step)
            stop = asked.should_prune()
        return bool(stop)

    def close(self, trial: Trial) -> None:
        """Tell how a trial ended."""
        import optuna

        state = optuna.trial.TrialState[trial.state]
        value = trial.value if trial.state == "COMPLETE" else None
        self._study.tell(self._asked[trial.number], value, state)
