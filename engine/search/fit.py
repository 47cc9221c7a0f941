"""What a fit is: one training window in, frozen parameters out. The two kinds of strategy share it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.bars.model import Bars
from engine.lake.records import arrays_sha
from engine.search.space import Value
from engine.search.study import Save
from engine.search.trial import Trial

Progress = Callable[[str], None]
Clock = Callable[[], float]
"""Seconds from any moment on; ``search.timeout`` needs one."""
Config = dict[str, Any]


@dataclass(frozen=True)
class Fit:
    """Frozen parameters of one training window.

    Parameters
    ----------
    policy : str
        Exit rule of a levels strategy, empty for others.
    params : dict
        The effective configuration; empty where nothing is to be traded.
    trial_number : int or None
        Of the chosen trial in the ledger; None for a solver.
    solver : str
        ``optuna:<sampler>``, or the solver of a levels strategy.
    objective : str
        What was maximised; ``smoothed`` or ``sup`` for a levels strategy.
    in_sample, in_sample_untuned : float
        Growth on the training window, bps per bar, whatever was maximised; untuned = declared defaults
        or zero offsets.
        NaN where nothing qualified.
    n_trials, n_pruned : int
        Distinct configurations evaluated (a solver: candidates looked at), and how many were cut.
    status : str
        ``ok``, ``abstain``, ``empty`` or ``no_candidate``; all but ``ok`` trade nothing.
    selected : bool
        The policy chosen on the training window.
    trials : list of Trial
        Rows for the ledger; empty for a solver.
    regret : float
        What a levels fit earns less than the raw exact optimum of its window, bps per bar; NaN for others.
    ended : str
        Why a study ended before its trials were used up; empty where it did not.
    inert : str
        Parameters whose values made no difference to the trades, joined by commas.
    """

    policy: str
    params: dict[str, Value]
    trial_number: int | None
    solver: str
    objective: str
    in_sample: float
    in_sample_untuned: float
    n_trials: int
    n_pruned: int
    status: str
    selected: bool
    trials: list[Trial] = field(default_factory=list)
    regret: float = math.nan
    ended: str = ""
    inert: str = ""


class Fitter(Protocol):
    """Fits one strategy entry of one symbol on any training window.

    ``config`` is everything but the data that may change a fit, as plain JSON values.
    """

    config: Config

    def study_id(self, train_from: int, train_to: int) -> str:
        """Return the id of the fit on [train_from, train_to): everything that may change its outcome."""
        ...

    def data_id(self, train_to: int) -> str:
        """Return the hash of all data up to the end of the window."""
        ...

    def fit(
        self,
        train_from: int,
        train_to: int,
        progress: Progress,
        *,
        told: Sequence[Mapping[str, Any]] = (),
        save: Save | None = None,
        clock: Clock | None = None,
    ) -> list[Fit]:
        """Return one fit a policy, exactly one of them selected.

        ``told`` are the ledger's rows of this very study, left by a run that was killed; ``save``
        is given finished trials now and then; ``clock`` is what a time limit is measured by. A solver
        needs none of them.
        """
        ...


def bars_sha(bars: Bars, stop: int) -> str:
    """Return the hash of the first ``stop`` bars: recursive features start at the first one."""
    names = ("ts", "open", "high", "low", "close", "volume", "adj", "dividend")
    return arrays_sha({name: getattr(bars, name)[:stop] for name in names})
