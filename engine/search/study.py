"""One Optuna study: batches asked, evaluated over the inner folds, cut, and told in trial order.

The study that the sampler sees is rebuilt from the finished trials before each batch and the
sampler is seeded per batch, so the same inputs give the same trials wherever they run.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine.config_sections import Constraints, Search
from engine.errors import SearchError
from engine.lake.records import digest
from engine.search.pruning import rungs, survivors
from engine.search.space import Space, Value

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True, eq=False)
class SpanResult:
    """What one evaluation of P configurations on one span gives; each array has shape (P,)."""

    log_growth: npt.NDArray[np.float64]  # bps per bar; NaN after ruin
    trades: npt.NDArray[np.int64]
    signals: npt.NDArray[np.int64]  # bars with an entry signal
    gross_profit: npt.NDArray[np.float64]
    gross_loss: npt.NDArray[np.float64]  # a positive number
    fees: npt.NDArray[np.float64]
    max_drawdown: npt.NDArray[np.float64]
    moments: npt.NDArray[np.float64]  # (P, 4): sums of r, r^2, r^3, r^4 over the bars
    trades_hash: Sequence[str]


STARTUP_TRIALS = 10  # drawn at random before the model of TPE has a say
Evaluate = Callable[[Sequence[Mapping[str, Value]], int, int], SpanResult]


@dataclass
class Trial:
    """One configuration and how far it went; a row of the ledger.

    ``state`` is COMPLETE, PRUNED or FAIL; ``outcome`` says why: VALID, CONSTRAINT,
    ZERO_TRADES_NO_SIGNAL, ZERO_TRADES_BLOCKED, PRUNED, INVALID_PARAMS, INVALID_NUMERIC
    or DUPLICATE. ``value`` is the mean of ``fold_scores``, in bps per bar.
    """

    number: int
    batch: int
    chosen: dict[str, Value]
    config: dict[str, Value]
    state: str = "COMPLETE"
    outcome: str = "VALID"
    value: float = math.nan
    fold_scores: list[float] = field(default_factory=list)
    pruned_step: int | None = None
    bars_done: int = 0
    trades: int = 0
    signals: int = 0
    gross_profit: float = 0.0
    gross_loss: float = 0.0
    fees: float = 0.0
    max_drawdown: float = 0.0
    moments: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    span_hashes: list[str] = field(default_factory=list)
    constraints: dict[str, float] = field(default_factory=dict)
    duplicate_of: int | None = None

    @property
    def key(self) -> str:
        """Return the hash of the effective configuration."""
        return digest(self.config, 16)

    @property
    def trades_hash(self) -> str:
        """Return the hash of every fill on every span done."""
        return hashlib.sha256("".join(self.span_hashes).encode()).hexdigest()[:16]

    @property
    def feasible(self) -> bool:
        """Say whether the trial may be chosen."""
        return self.state == "COMPLETE" and all(value <= 0 for value in self.constraints.values())

    def add(self, result: SpanResult, index: int, bars: int) -> None:
        """Add the result of one inner fold."""
        self.fold_scores.append(float(result.log_growth[index]))
        self.value = math.fsum(self.fold_scores) / len(self.fold_scores)
        self.bars_done += bars
        self.trades += int(result.trades[index])
        self.signals += int(result.signals[index])
        self.gross_profit += float(result.gross_profit[index])
        self.gross_loss += float(result.gross_loss[index])
        self.fees += float(result.fees[index])
        self.max_drawdown = max(self.max_drawdown, float(result.max_drawdown[index]))
        self.moments = self.moments + result.moments[index]
        self.span_hashes.append(result.trades_hash[index])


def run_study(
    evaluate: Evaluate,
    space: Space,
    valid: Callable[[Mapping[str, Value]], bool],
    spans: Sequence[tuple[int, int]],
    search: Search,
    constraints: Constraints,
    *,
    study_id: str,
    seeded_by: str,
    progress: Callable[[str], None] | None = None,
) -> list[Trial]:
    """Search one training part.

    Parameters
    ----------
    evaluate : callable
        ``(configs, start, stop) -> SpanResult`` over the bars [start, stop).
    space : Space
        What is searched; with nothing to search one trial is run.
    valid : callable
        Whether a configuration meets the strategy's declared relations.
    spans : sequence of (int, int)
        Inner folds, bar indices; each starts flat.
    search, constraints : Search, Constraints
        Settings of the study.
    study_id : str
        Names the study in messages.
    seeded_by : str
        With the batch's number it seeds every draw.
    progress : callable, optional
        Told one line a batch.

    Returns
    -------
    list of Trial
        In trial order; deterministic for the same arguments.

    Raises
    ------
    SearchError
        The best trial, run again alone, does not give the same scores.
    """
    trials: list[Trial] = []
    total = search.max_trials if space.searched else 1
    while len(trials) < total:
        batch_no = len(trials) // search.batch
        size = min(search.batch, total - len(trials))
        chosen = _ask(space, search, trials, size, seeded_by, batch_no)
        batch = [
            Trial(len(trials) + i, batch_no, params, space.config(params)) for i, params in enumerate(chosen)
        ]
        _evaluate_batch(evaluate, valid, spans, search, constraints, batch, trials)
        trials += batch
        if progress is not None and total >= 100 and len(trials) % 100 < size:
            progress(f"trials {len(trials)}/{total}")
    best = best_of(trials)
    if best is not None:
        again = [float(evaluate([best.config], start, stop).log_growth[0]) for start, stop in spans]
        if again != best.fold_scores:
            raise SearchError(
                f"study {study_id}: trial {best.number} run alone gives {again}, in its batch "
                f"{best.fold_scores}. Results must not depend on the batch; report this as a defect"
            )
    return trials


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the feasible complete trial of the highest value (ties: the first), or None."""
    feasible = [trial for trial in trials if trial.feasible]
    return max(feasible, key=lambda trial: (trial.value, -trial.number), default=None)


def _evaluate_batch(
    evaluate: Evaluate,
    valid: Callable[[Mapping[str, Value]], bool],
    spans: Sequence[tuple[int, int]],
    search: Search,
    constraints: Constraints,
    batch: list[Trial],
    earlier: list[Trial],
) -> None:
    first = {trial.key: trial for trial in reversed(earlier) if trial.duplicate_of is None}
    live: dict[int, Trial] = {}
    copies: list[Trial] = []
    for trial in batch:
        if not valid(trial.config):
            trial.state, trial.outcome = "FAIL", "INVALID_PARAMS"
        elif trial.key in first:
            copies.append(trial)
        else:
            first[trial.key] = live[trial.number] = trial
    fold_bars = min(stop - start for start, stop in spans)
    cuts = rungs(len(spans), fold_bars, len(batch)) if search.pruner == "halving" else []
    for step, (start, stop) in enumerate(spans, 1):
        running = list(live.values())
        if not running:
            break
        result = evaluate([trial.config for trial in running], start, stop)
        for index, trial in enumerate(running):
            trial.add(result, index, stop - start)
        if step in cuts:
            means = [-math.inf if _doomed(trial, constraints) else trial.value for trial in running]
            kept = survivors(list(live), means)
            for number in set(live) - set(kept):
                live[number].state, live[number].outcome, live[number].pruned_step = "PRUNED", "PRUNED", step
            live = {number: live[number] for number in kept}
    for trial in batch:
        if trial.fold_scores:
            _classify(trial, constraints)
    for trial in copies:
        true = first[trial.key]
        trial.state, trial.value, trial.outcome = true.state, true.value, "DUPLICATE"
        trial.fold_scores, trial.pruned_step = list(true.fold_scores), true.pruned_step
        trial.constraints, trial.duplicate_of = dict(true.constraints), true.number


def _doomed(trial: Trial, limits: Constraints) -> bool:
    """Say whether a trial breaks a constraint that more folds cannot mend; it is cut first."""
    too_many = limits.max_trades is not None and trial.trades > limits.max_trades
    return too_many or (limits.max_drawdown is not None and trial.max_drawdown > limits.max_drawdown)


def _classify(trial: Trial, limits: Constraints) -> None:
    if not math.isfinite(trial.value):
        trial.state, trial.outcome = "FAIL", "INVALID_NUMERIC"
        return
    done = trial.state == "COMPLETE"
    # a pruned trial is judged only by what more folds could not mend
    if limits.min_trades is not None:
        trial.constraints["min_trades"] = float(limits.min_trades - trial.trades) if done else 0.0
    if limits.max_trades is not None:
        trial.constraints["max_trades"] = float(trial.trades - limits.max_trades)
    if limits.min_profit_factor is not None:
        short = limits.min_profit_factor * trial.gross_loss - trial.gross_profit
        trial.constraints["min_profit_factor"] = short if done else 0.0
    if limits.max_drawdown is not None:
        trial.constraints["max_drawdown"] = trial.max_drawdown - limits.max_drawdown
    if not done:
        return
    if trial.trades == 0:
        trial.outcome = "ZERO_TRADES_BLOCKED" if trial.signals else "ZERO_TRADES_NO_SIGNAL"
    elif not trial.feasible:
        trial.outcome = "CONSTRAINT"


def _ask(
    space: Space, search: Search, told: list[Trial], size: int, seeded_by: str, batch_no: int
) -> list[dict[str, Value]]:
    """Return the next parameters to try, from a sampler of this batch's own seed."""
    if not space.searched:
        return [{}]
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    key = hashlib.sha256(f"{seeded_by}:{batch_no}".encode()).digest()
    batch_seed = int.from_bytes(key[:4], "little")
    distributions = space.distributions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: Any
        if search.sampler == "random":
            sampler = optuna.samplers.RandomSampler(seed=batch_seed)
        else:
            sampler = optuna.samplers.TPESampler(
                seed=batch_seed, multivariate=True, constant_liar=True, n_startup_trials=STARTUP_TRIALS
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_frozen(trial, distributions) for trial in told if trial.state != "FAIL"])
        return [dict(study.ask(distributions).params) for _ in range(size)]


def _frozen(trial: Trial, distributions: dict[str, Any]) -> FrozenTrial:
    import optuna

    complete = trial.state == "COMPLETE"
    steps = np.cumsum(trial.fold_scores) / np.arange(1, len(trial.fold_scores) + 1)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED,
        value=trial.value if complete else None,
        params=dict(trial.chosen),
        distributions=distributions,
        intermediate_values={step: float(value) for step, value in enumerate(steps, 1)},
        constraints=dict(trial.constraints) or None,
    )
