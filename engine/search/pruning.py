"""Which trials of a batch go on after an inner fold: successive halving, a paired race, Optuna's pruners.

Halving cuts on the current mean score, not by the median of the best value so far (Optuna's
MedianPruner): on cumulative returns that rule compares early peaks and loses the best trial more
often than not. Source: Jamieson & Talwalkar 2016; where it cuts, and that it runs the inner folds
first that tell most about the mean of all, are choices (docs/search.md).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.search.space import Space
from engine.search.trial import Trial

MIN_FOLDS, MIN_BARS, MIN_BATCH = 3, 300, 9
LARGE_BATCH = 64  # a smaller one is cut less sharply at first, and runs no probes
PROBES, MOST_PROBES = 8, 32  # trials run on all inner folds to learn the order of the folds
SHRINKAGE = 0.5  # of the probes' covariances towards 0; so few trials say little about 32 folds
RACE_FOLDS, RACE_SHARE, RACE_T = 5, 0.25, -2.0  # at -1.5, so many looks lost the best in a fifth of sweeps


def rungs(inner_folds: int, fold_bars: int, batch: int) -> list[int]:
    """Return after how many inner folds a batch is cut: about 1/8, 1/4 and 1/2 of them.

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
        The first holds at least 3 folds and 300 bars, each other 2 folds more than the one before.
        Empty where halving is off: a batch under 9 trials, or under 4 folds.
    """
    if batch < MIN_BATCH or inner_folds < MIN_FOLDS + 1:
        return []
    first = max(MIN_FOLDS, math.ceil(inner_folds / 8), math.ceil(MIN_BARS / max(fold_bars, 1)))
    second = max(math.ceil(inner_folds / 4), first + 2)
    third = max(math.ceil(inner_folds / 2), second + 2)
    return [rung for rung in (first, second, third) if rung < inner_folds]


def bar_rungs(bars: int, batch: int) -> list[int]:
    """Return after how many scored bars a batch is cut, where trials report by bars.

    Parameters
    ----------
    bars : int
        Scored bars of a complete trial.
    batch : int
        Trials evaluated together.

    Returns
    -------
    list of int
        An eighth and three eighths of the bars, as with many inner folds; at least 300 bars, and a
        sixteenth between the two. Empty for a batch under 9 trials.
    """
    if batch < MIN_BATCH:
        return []
    first = max(MIN_BARS, math.ceil(bars / 8))
    second = max(math.ceil(3 * bars / 8), first + math.ceil(bars / 16))
    return [rung for rung in (first, second) if rung < bars]


def survivors(live: Sequence[int], means: Sequence[float], share: float) -> list[int]:
    """Return which trials go on: the better ones by mean score, at least one, in the order given.

    Parameters
    ----------
    live : sequence of int
        Trial numbers still running.
    means : sequence of float
        Mean score so far of each; a tie goes to the lower trial number.
    share : float
        Of them that goes on, rounded down.

    NaN: ranks last.
    """
    keep = max(1, math.floor(len(live) * share))
    ranked = sorted(
        zip(live, means, strict=True),
        key=lambda pair: (-pair[1] if pair[1] == pair[1] else math.inf, pair[0]),
    )
    kept = {number for number, _ in ranked[:keep]}
    return [number for number in live if number in kept]


def share_kept(rung: int, batch: int) -> float:
    """Return the share that goes on at a rung, counted from 0: half; of a large batch first 3/8."""
    return 3 / 8 if rung == 0 and batch >= LARGE_BATCH else 1 / 2


def probe_count(batch: int) -> int:
    """Return how many trials of a batch are run on all inner folds before the others.

    None of a small batch, else the power of two up to a 25th of it, 8 to 32: the first points of a
    Sobol sequence lie evenly where their number is a power of two.
    """
    if batch < LARGE_BATCH:
        return 0
    return min(max(1 << max(batch // 25, 1).bit_length() - 1, PROBES), MOST_PROBES)


def fold_order(scores: Sequence[Sequence[float]]) -> list[int]:
    """Return the inner folds in the order in which they tell most about the mean of all.

    Each next fold is the one after which the scores of the folds still to come have the least
    variance among the trials, added up. A trial's early mean then ranks it nearly as its last one.

    Parameters
    ----------
    scores : float, shape (trials, folds)
        Fold scores of trials that ran on all folds. Fewer than 8 finite rows: order of time.
    """
    told = np.array(scores, dtype=np.float64)
    folds = told.shape[1]
    told = told[np.isfinite(told).all(axis=1)]
    if len(told) < PROBES:
        return list(range(folds))
    gaps = told - told.mean(axis=0)
    # no matrix product: its last bits would depend on the machine's linear algebra
    covariance = (gaps[:, :, None] * gaps[:, None, :]).sum(axis=0)
    covariance *= np.where(np.eye(folds, dtype=bool), 1.0, 1.0 - SHRINKAGE)
    left, order = list(range(folds)), []
    while left:
        among = covariance[np.ix_(left, left)]
        explained = 2 * among.sum(axis=1) - np.diag(among)  # variance that goes with each fold
        order.append(left.pop(int(np.argmax(explained))))
    return order


def known_scores(earlier: Sequence[Trial]) -> list[list[float]]:
    """Return the fold scores of the first trials of a study that ran on all inner folds, at most 32."""
    whole = [t.scores for t in earlier if t.state == "COMPLETE" and t.duplicate_of is None]
    return whole[:MOST_PROBES]


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
        After 5 folds and a quarter of them: mean(d) / (sd(d, ddof 1) / sqrt(k)) < -2 for
        d = trial - incumbent; with sd = 0 whether mean(d) < 0. NaN: loses.
    """
    k = len(scores)
    if k < max(RACE_FOLDS, RACE_SHARE * len(incumbent)):
        return False
    gaps = [a - b for a, b in zip(scores, incumbent, strict=False)]
    mean = math.fsum(gaps) / k
    sd = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / (k - 1))
    return not (mean >= 0 if sd == 0 else mean / (sd / math.sqrt(k)) >= RACE_T)


class OptunaJudge:
    """One of Optuna's own pruners, asked after every inner fold, or report by bars.

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
    last_step : int
        Inner folds of a training part, or its scored bars where trials report by bars.
    seed : int
        Of this batch.
    """

    def __init__(self, name: str, space: Space, earlier: Sequence[Trial], last_step: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: dict[str, tuple[Any, dict[str, Any]]] = {
                "median": (optuna.pruners.MedianPruner, {}),
                "percentile": (optuna.pruners.PercentilePruner, {"percentile": 25.0}),
                "sha": (optuna.pruners.SuccessiveHalvingPruner, {}),
                "hyperband": (optuna.pruners.HyperbandPruner, {"max_resource": last_step}),
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
            if trial.ran and trial.outcome != "ERROR":
                self.prunes(trial, ask_at_every_step=True)
                self.close(trial)

    def prunes(self, trial: Trial, *, ask_at_every_step: bool = False) -> bool:
        """Report a trial's newest value and return whether it is to stop there."""
        if trial.number not in self._asked:
            self._study.enqueue_trial(dict(trial.chosen))
            self._asked[trial.number] = self._study.ask(self._space.distributions())
        asked, stop = self._asked[trial.number], False
        values = dict(enumerate(trial.scores, 1)) if self._by_fold else trial.steps()
        for step, value in list(values.items())[0 if ask_at_every_step else -1 :]:
            asked.report(value, step)
            stop = asked.should_prune()
        return bool(stop)

    def close(self, trial: Trial) -> None:
        """Tell how a trial ended."""
        import optuna

        state = optuna.trial.TrialState[trial.state]
        value = trial.value if trial.state == "COMPLETE" else None
        self._study.tell(self._asked[trial.number], value, state)
