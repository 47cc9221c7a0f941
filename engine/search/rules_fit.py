"""Fit a rules strategy: an Optuna study over the compiled simulator on the inner folds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.config import Strategy, plain
from engine.config_sections import Search
from engine.errors import ConfigError, SearchError
from engine.features.table import FeatureSet
from engine.lake.records import canonical, code_id, digest
from engine.search.fit import Clock, Config, Fit, Progress, bars_sha
from engine.search.folds import inner_spans
from engine.search.inert import inert_parameters
from engine.search.ledger import from_rows, summary
from engine.search.sampling import at
from engine.search.space import Space, Value, make_space
from engine.search.study import HOW, Save, ended, run_study
from engine.search.task import Task, Watch
from engine.search.trial import GATES, SpanResult
from engine.simulation import Execution, SweepResult, sweep
from engine.strategies.params import Params
from engine.strategies.registry import StrategyClass, code_of, defaults, valid
from engine.strategies.sizes import Risk, Size


def _score(result: SweepResult, objective: str) -> npt.NDArray[np.float64]:
    """Return the objective of P configurations on one span, shape (P,): 0 without a trade.

    NaN: where the metric itself is undefined though there were trades.
    """
    given = {
        "log_growth": result.log_growth,
        "roi": 1e4 * result.roi,
        "sharpe": result.sharpe,
        "calmar": result.calmar,
        "profit_per_trade": 1e4 * result.roi / np.maximum(result.trades, 1),
    }[objective]
    return np.where(result.trades == 0, 0.0, given)  # inner folds end flat: no trade, no change


def _span_result(result: SweepResult, initial_cash: float, objective: str) -> SpanResult:
    """Return one sweep in the form that a study adds up."""
    return SpanResult(
        score=_score(result, objective),
        trades=result.trades,
        signals=result.counters["signals_long"] + result.counters["signals_short"],
        gross_profit=result.gross_profit,
        gross_loss=result.gross_profit - result.roi * initial_cash,  # inner folds end flat
        fees=result.fees,
        max_drawdown=result.max_drawdown,
        turnover=result.turnover,
        exposure=result.exposure,
        blocked=np.column_stack([result.counters[gate] for gate in GATES]),
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
        Registered strategy of kind ``rules`` or ``bars``.
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
        self.objective = objective_of(strategy, self.space, entry.search.objective, execution.size)
        refuse_report(entry.search, self.objective, strategy)
        self.config: Config = {
            "strategy": entry.strategy,
            "searched": {name: plain(leaf) for name, leaf in self.space.searched.items()},
            "fixed": self.space.fixed,
            "search": {k: v for k, v in plain(entry.search).items() if k not in HOW},
            "constraints": plain(entry.constraints),
            "inner_folds": entry.folds.inner_folds,
            "execution": asdict(self.execution),
            "objective": self.objective,
            "seed": seed,
            "code": [code_id("engine.search.rules_fit")[0], code_of(strategy)],
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
        """Search the window; the best feasible trial is frozen.

        Raises
        ------
        SearchError
            As `run_study`; or the settings limit the time and there is no clock.
        """
        task = self.task(train_from, train_to)
        out_of_time = _Limit(task.search.timeout_s, clock)
        trials = run_study(
            task, told=from_rows(told, self.space), save=save, progress=progress, out_of_time=out_of_time
        )
        late = f"search.timeout {task.search.timeout} after {len(trials)} trials" if out_of_time.met else ""
        if late:
            progress(f"study {task.study_id} ended: {late}")
        count, pruned, best = summary(trials)
        spans = task.spans
        return [
            Fit(
                policy="",
                params={} if best is None else best.config,
                trial_number=None if best is None else best.number,
                solver=f"optuna:{self.entry.search.sampler}",
                objective=self.objective,
                in_sample=math.nan if best is None else self._growth(best.config, spans),
                in_sample_untuned=self._growth(defaults(self.strategy), spans),
                n_trials=count,
                n_pruned=pruned,
                status="no_candidate" if best is None else "ok",
                selected=True,
                trials=trials,
                ended=late or ended(task, trials),
                inert=", ".join(inert_parameters(trials)),
            )
        ]

    def task(self, train_from: int, train_to: int) -> Task:
        """Return the study of a window."""
        return Task(
            self._evaluate,
            self.space,
            lambda config: valid(self.strategy, config),
            inner_spans(train_from, train_to, self.entry.folds.inner_folds),
            self.entry.search,
            self.entry.constraints,
            self.study_id(train_from, train_to),
            canonical([self.seed, *self._place(train_from, train_to)]),
            self.objective,
        )

    def _growth(self, config: Mapping[str, Value], spans: Sequence[tuple[int, int]]) -> float:
        """Return the mean log growth of one configuration over the inner folds, whatever was maximised."""
        scores = [
            sweep(self.features, self.strategy, [config], self.execution, start=start, stop=stop).log_growth
            for start, stop in spans
        ]
        return math.fsum(float(score[0]) for score in scores) / len(scores)

    def _evaluate(
        self, configs: Sequence[Mapping[str, Value]], start: int, stop: int, watch: Watch | None = None, /
    ) -> SpanResult:
        if watch is None:
            result = sweep(self.features, self.strategy, configs, self.execution, start=start, stop=stop)
        else:
            with warnings.catch_warnings():  # chunks of fewer bars than are fast are the settings' choice
                warnings.simplefilter("ignore", UserWarning)
                result = sweep(
                    self.features, self.strategy, configs, self.execution,
                    start=start, stop=stop, chunk=watch.every, on_chunk=watch.look,
                )  # fmt: skip
        return _span_result(result, self.execution.initial_cash, self.objective)


class _Limit:
    """Says whether a study has used up its time; ``met`` once it has."""

    def __init__(self, seconds: float | None, clock: Clock | None) -> None:
        if seconds is not None and clock is None:
            raise SearchError("search.timeout is set, but no clock was given; expected fit(..., clock=...)")
        self.seconds, self.clock, self.met = seconds, clock, False
        self.began = clock() if clock is not None else 0.0

    def __call__(self) -> bool:
        if self.seconds is not None and self.clock is not None:
            self.met = self.clock() - self.began >= self.seconds
        return self.met


def objective_of(strategy: StrategyClass, space: Space, asked: str, size: Size) -> str:
    """Return the objective of a study: ``auto`` is log growth, or Sharpe where the search could buy leverage.

    That is where a size, or under ``Risk`` without ``atr`` the stop that sets it, differs between the
    ends of a searched parameter, or between its choices: growth would then reward the larger position.
    ``size`` is that of rules that state none.
    """
    if asked != "auto":
        return asked
    return "sharpe" if size_is_searched(strategy, space, size) else "log_growth"


def refuse_report(search: Search, objective: str, strategy: StrategyClass) -> None:
    """Refuse ``search.report`` in bars where the value of a trial is not known at every bar.

    Raises
    ------
    ConfigError
        The objective is none of growth, or the strategy is a function of bars, run one by one.
    """
    if search.report_bars is None:
        return
    if strategy.kind == "bars":
        why = f"strategy {strategy.name} is of kind bars, run one trial after the other"
    elif objective not in ("log_growth", "roi"):
        why = f"objective auto is {objective} here, as a searched parameter sets the size"
    else:
        return
    raise ConfigError(f"search.report {search.report}: {why}. Set search.report: folds")


def size_is_searched(strategy: StrategyClass, space: Space, default: Size) -> bool:
    """Say whether a searched parameter changes the size of a position; of a bar function it may."""
    if strategy.kind == "bars":
        return bool(space.searched)
    middle = {name: at(leaf, 0.5) for name, leaf in space.searched.items()}
    for name, leaf in space.searched.items():
        sizes = set()
        for value in leaf.choices or (at(leaf, 0.0), at(leaf, 0.999999)):
            config = space.config({**middle, name: value})
            if valid(strategy, config):
                rules = strategy.rules(Params(config))
                size = rules.size or default
                by_stop = isinstance(size, Risk) and size.atr is None
                sizes.add((size, rules.stop if by_stop else None))
        if len(sizes) > 1:
            return True
    return False
