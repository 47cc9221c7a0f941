"""One trial of a study: what was run, how far it went, how it ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.config_sections import Constraints
from engine.lake.records import digest
from engine.search.space import Value

# what may block an entry
GATES = ("conflicts", "orders_refused", "refused_levels", "signals_unfilled", "limits_expired")


@dataclass(frozen=True, eq=False)
class SpanResult:
    """What one evaluation of P configurations on one span gives; each array has shape (P,)."""

    score: npt.NDArray[np.float64]  # the objective; NaN where it is undefined
    trades: npt.NDArray[np.int64]
    signals: npt.NDArray[np.int64]  # bars with an entry signal
    gross_profit: npt.NDArray[np.float64]
    gross_loss: npt.NDArray[np.float64]  # a positive number
    fees: npt.NDArray[np.float64]
    max_drawdown: npt.NDArray[np.float64]
    turnover: npt.NDArray[np.float64]  # a year, both sides
    exposure: npt.NDArray[np.float64]
    blocked: npt.NDArray[np.int64]  # (P, 5): entries that each of GATES stopped
    moments: npt.NDArray[np.float64]  # (P, 4): sums of r, r^2, r^3, r^4 over the bars
    trades_hash: Sequence[str]


@dataclass
class Trial:
    """One configuration and how far it went; a row of the ledger.

    ``state`` is COMPLETE, PRUNED or FAIL; ``outcome`` says why: VALID, CONSTRAINT,
    ZERO_TRADES_NO_SIGNAL, ZERO_TRADES_BLOCKED, PRUNED, INVALID_PARAMS, INVALID_NUMERIC, ERROR
    or DUPLICATE. ``fold_scores`` holds the inner folds in order of time, None where one was not run
    (None at the end is left out); ``value`` is the mean of those that were, in units of the objective;
    of a trial that was cut inside a fold the value reported there. ``reported`` holds what was reported
    after so many scored bars, where the study reports by bars; ``error`` is what the strategy raised.
    """

    number: int
    batch: int
    chosen: dict[str, Value]
    config: dict[str, Value]
    state: str = "COMPLETE"
    outcome: str = "VALID"
    value: float = math.nan
    fold_scores: list[float | None] = field(default_factory=list)
    pruned_step: int | None = None
    bars_done: int = 0
    trades: int = 0
    signals: int = 0
    gross_profit: float = 0.0
    gross_loss: float = 0.0
    fees: float = 0.0
    max_drawdown: float = 0.0
    turnover: float = 0.0  # mean over the bars done
    exposure: float = 0.0
    blocked: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(GATES), np.int64))
    moments: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    trades_hash: str = ""  # of every fill on every span done
    constraints: dict[str, float] = field(default_factory=dict)
    duplicate_of: int | None = None
    reported: dict[int, float] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self) -> None:
        """Name the effective configuration once."""
        self.key = digest(self.config, 16)

    @property
    def scores(self) -> list[float]:
        """Return the scores of the inner folds that were run, in order of time."""
        return [score for score in self.fold_scores if score is not None]

    @property
    def feasible(self) -> bool:
        """Say whether the trial may be chosen."""
        return self.state == "COMPLETE" and all(value <= 0 for value in self.constraints.values())

    @property
    def ran(self) -> bool:
        """Say whether it was run: an invalid one and a duplicate were not."""
        return self.bars_done > 0

    def steps(self) -> dict[int, float]:
        """Return the values on the way: after so many scored bars, or inner folds in order of time."""
        if self.reported:
            return self.reported
        scores = self.scores
        return {k: math.fsum(scores[:k]) / k for k in range(1, len(scores) + 1)}

    def copy_of(self, true: Trial) -> None:
        """Take over what an earlier trial of the same configuration gave."""
        self.state, self.value, self.outcome = true.state, true.value, "DUPLICATE"
        self.fold_scores, self.pruned_step = list(true.fold_scores), true.pruned_step
        self.reported, self.error = dict(true.reported), true.error
        self.constraints, self.duplicate_of = dict(true.constraints), true.number
        self.trades_hash = true.trades_hash


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the feasible complete trial of the highest value (ties: the first), or None."""
    feasible = [trial for trial in trials if trial.feasible]
    return max(feasible, key=lambda trial: (trial.value, -trial.number), default=None)


def why_none(trials: Sequence[Trial]) -> str:
    """Return why none of a study's trials may be chosen: how often each constraint was broken, most first.

    Of the trials that ran to the end; where none broke one, how the trials ended. Copies do not count.
    """
    own = [trial for trial in trials if trial.duplicate_of is None]
    whole = [trial for trial in own if trial.state == "COMPLETE"]
    broken = Counter(name for trial in whole for name, value in trial.constraints.items() if value > 0)
    if not broken:
        ends = Counter(trial.outcome for trial in own).most_common()
        return "no trial came to a valid end: " + ", ".join(f"{outcome} {count}" for outcome, count in ends)
    (name, count), *others = broken.most_common()
    said = [f"{name} broken by {count} of {len(whole)} that ran to the end"]
    return ", ".join(said + [f"{name} by {count}" for name, count in others])


def doomed(trial: Trial, limits: Constraints) -> bool:
    """Say whether a trial breaks a constraint that more folds cannot mend; it is cut first."""
    too_many = limits.max_trades is not None and trial.trades > limits.max_trades
    return too_many or (limits.max_drawdown is not None and trial.max_drawdown > limits.max_drawdown)


def classify(trial: Trial, limits: Constraints) -> None:
    """Set the constraints (met: <= 0) and the outcome of a trial that ran."""
    if not math.isfinite(trial.value):
        trial.state, trial.outcome = "FAIL", "INVALID_NUMERIC"
        return
    done = trial.state == "COMPLETE"
    if any(math.isnan(excess) for _, excess, _ in _excesses(trial, limits)):  # after ruin, say
        trial.state, trial.outcome = "FAIL", "INVALID_NUMERIC"
        return
    for name, excess, mendable in _excesses(trial, limits):
        # a pruned trial is judged only by what more folds could not mend
        trial.constraints[name] = excess if done or not mendable else 0.0
    if not done:
        return
    if trial.trades == 0:
        trial.outcome = "ZERO_TRADES_BLOCKED" if trial.signals else "ZERO_TRADES_NO_SIGNAL"
    elif not trial.feasible:
        trial.outcome = "CONSTRAINT"


def _excesses(trial: Trial, limits: Constraints) -> list[tuple[str, float, bool]]:
    """Return (constraint, number that must be <= 0, whether more folds may mend it) of those asked for."""
    found: list[tuple[str, float, bool]] = []
    if limits.min_trades is not None:
        found.append(("min_trades", float(limits.min_trades - trial.trades), True))
    if limits.max_trades is not None:
        found.append(("max_trades", float(trial.trades - limits.max_trades), False))
    if limits.min_profit_factor is not None:
        short = limits.min_profit_factor * trial.gross_loss - trial.gross_profit
        found.append(("min_profit_factor", short, True))
    if limits.max_drawdown is not None:
        found.append(("max_drawdown", trial.max_drawdown - limits.max_drawdown, False))
    if limits.max_fees_pct is not None:
        found.append(("max_fees_pct", trial.fees - limits.max_fees_pct * trial.gross_profit, True))
    if limits.max_turnover is not None:
        found.append(("max_turnover", trial.turnover - limits.max_turnover, True))
    if limits.max_exposure is not None:
        found.append(("max_exposure", trial.exposure - limits.max_exposure, True))
    return found


def blocked_by(trials: Sequence[Trial]) -> Mapping[str, int]:
    """Return how often each gate stopped an entry, over all trials."""
    total = np.sum([trial.blocked for trial in trials], axis=0)
    return dict(zip(GATES, map(int, total), strict=True))
