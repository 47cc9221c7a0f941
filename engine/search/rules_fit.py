"""Fit a rules strategy: an Optuna study over the compiled simulator on the inner folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from engine.config import Strategy, plain
from engine.features.table import FeatureSet
from engine.lake.records import canonical, code_id, digest
from engine.search.fit import Config, Fit, Progress, bars_sha
from engine.search.folds import inner_spans
from engine.search.ledger import summary
from engine.search.space import Value, make_space
from engine.search.study import SpanResult, run_study
from engine.simulation import Execution, SweepResult, sweep
from engine.strategies.registry import StrategyClass, defaults, valid

OBJECTIVE = "log_growth"


def _span_result(result: SweepResult, initial_cash: float) -> SpanResult:
    """Return one sweep in the form that a study adds up."""
    return SpanResult(
        log_growth=result.log_growth,
        trades=result.trades,
        signals=result.counters["signals_long"] + result.counters["signals_short"],
        gross_profit=result.gross_profit,
        gross_loss=result.gross_profit - result.roi * initial_cash,  # inner folds end flat
        fees=result.fees,
        max_drawdown=result.max_drawdown,
        moments=_raw_moments(result),
        trades_hash=result.trades_hash,
    )


def _raw_moments(result: SweepResult) -> npt.NDArray[np.float64]:
    """Return sums of r, r^2, r^3, r^4 over the bars, shape (P, 4), from mean, variance, skew, kurtosis."""
    n = np.maximum(result.n_obs, 1).astype(np.float64)
    m1, m2 = result.sum_r / n, result.sumsq_r / n
    variance = np.maximum(m2 - m1**2, 0.0)
    third = np.nan_to_num(result.skew) * variance**1.5
    fourth = np.nan_to_num(result.kurt) * variance**2
    m3 = third + 3 * m1 * m2 - 2 * m1**3
    m4 = fourth + 4 * m1 * m3 - 6 * m1**2 * m2 + 3 * m1**4
    return np.column_stack([m * n for m in (m1, m2, m3, m4)])


class RulesFitter:
    """Fits one rules strategy of one symbol.

    Parameters
    ----------
    features : FeatureSet
        Over the symbol's whole series; each value is known at the close of its bar.
    strategy : StrategyClass
        Registered strategy of kind ``rules``.
    entry : Strategy
        Its entry in the settings, resolved.
    execution : Execution
        Fill and cost settings of the symbol.
    seed : int
        Seeds every draw.

    Raises
    ------
    ConfigError
        A parameter is not declared or lies outside its declaration.
    """

    def __init__(
        self, features: FeatureSet, strategy: StrategyClass, entry: Strategy, execution: Execution, seed: int
    ) -> None:
        self.features, self.strategy, self.entry, self.seed = features, strategy, entry, seed
        self.execution = replace(execution, close_at_end=True)  # every inner fold ends flat
        self.space = make_space(strategy.parameters, entry.parameters, search_all=entry.search.search_all)
        self.config: Config = {
            "strategy": entry.strategy,
            "searched": {name: plain(leaf) for name, leaf in self.space.searched.items()},
            "fixed": self.space.fixed,
            "search": plain(entry.search),
            "constraints": plain(entry.constraints),
            "inner_folds": entry.folds.inner_folds,
            "execution": {k: v for k, v in vars(self.execution).items()},
            "objective": OBJECTIVE,
            "seed": seed,
            "code": [code_id(module)[0] for module in ("engine.search.rules_fit", strategy.__module__)],
        }

    def data_id(self, train_to: int) -> str:
        """Return the hash of all bars up to the end of the window."""
        return bars_sha(self.features.bars, train_to)[:20]

    def study_id(self, train_from: int, train_to: int) -> str:
        """Return the id of the study on [train_from, train_to)."""
        place = self._place(train_from, train_to)
        return digest({"place": place, "config": self.config, "data": self.data_id(train_to)}, 16)

    def _place(self, train_from: int, train_to: int) -> list[str | int]:
        """Return what names a study's draws, so that neither new code nor a corrected bar redraws them."""
        ts = self.features.bars.ts
        return [self.features.bars.symbol, self.entry.label, int(ts[train_from]), int(ts[train_to - 1])]

    def fit(self, train_from: int, train_to: int, progress: Progress) -> list[Fit]:
        """Search the window; the best feasible trial is frozen."""
        spans = inner_spans(train_from, train_to, self.entry.folds.inner_folds)
        trials = run_study(
            self._evaluate,
            self.space,
            lambda config: valid(self.strategy, config),
            spans,
            self.entry.search,
            self.entry.constraints,
            study_id=self.study_id(train_from, train_to),
            seeded_by=canonical([self.seed, *self._place(train_from, train_to)]),
            progress=progress,
        )
        untuned = [self._evaluate([defaults(self.strategy)], *span).log_growth[0] for span in spans]
        count, pruned, best = summary(trials)
        return [
            Fit(
                policy="",
                params={} if best is None else best.config,
                trial_number=None if best is None else best.number,
                solver=f"optuna:{self.entry.search.sampler}",
                objective=OBJECTIVE,
                in_sample=math.nan if best is None else best.value,
                in_sample_untuned=float(np.mean(untuned)),
                n_trials=count,
                n_pruned=pruned,
                status="no_candidate" if best is None else "ok",
                selected=True,
                trials=trials,
            )
        ]

    def _evaluate(self, configs: Sequence[Mapping[str, Value]], start: int, stop: int) -> SpanResult:
        result = sweep(self.features, self.strategy, configs, self.execution, start=start, stop=stop)
        return _span_result(result, self.execution.initial_cash)
