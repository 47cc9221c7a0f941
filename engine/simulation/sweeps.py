"""Many configs of one strategy: `sweep` over one span, `sweep_spans` over several (inner folds).

The loop and the metrics are those of a single run, each config alone, so the numbers are equal
bit for bit whatever the number of configs, their order, the chunks or the threads.
Axes: P configs, T bars of the span, D UTC dates, M metrics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.bars.model import Floats, Ints
from engine.errors import ConfigError, closest
from engine.features.table import FeatureSet, owned
from engine.simulation import slots
from engine.simulation.account import start_run
from engine.simulation.expert import run_expert
from engine.simulation.inputs import Execution, Span, prepare, years_between
from engine.simulation.lockstep import Block, Course, block_of, run_block
from engine.simulation.sweep_result import SweepResult, outcome_of, result_of
from engine.simulation.workspace import Workspace
from engine.strategies.configs import Configs, config_list
from engine.strategies.program import Names, compile_configs
from engine.strategies.registry import StrategyClass

Bools = npt.NDArray[np.bool_]
OnChunk = Callable[[int, Floats, Bools], npt.ArrayLike]
LEVELS = ("all", "core")
CALLED = 500  # bars of a chunk with on_chunk; with fewer, calling costs more than stopping saves
QUIET = 8192  # and without


@dataclass(frozen=True)
class _Batch:
    """Configs written for the compiled code, with their feature columns."""

    blocks: tuple[Block, ...]
    table: Floats
    count: int


def _batch(features: FeatureSet, strategy: StrategyClass, configs: Configs, execution: Execution) -> _Batch:
    """Compile configs and compute the columns that they read."""
    listed = config_list(configs)
    names = Names()
    programs = compile_configs(
        strategy,
        listed,
        names,
        sides=execution.sides,
        size=execution.size,
        symbol=features.bars.symbol,
    )
    table, rows = features.table_rows(list(names))
    table = owned(table)
    row_of = np.array([rows[name] for name in names] + [-1], dtype=np.int64)  # row -1 stays -1
    for program in programs:
        program.rows[:, 0::2] = row_of[program.rows[:, 0::2]]
        program.level_rows[:] = row_of[program.level_rows]
    return _Batch(tuple(map(block_of, programs)), table, len(listed))


@dataclass(frozen=True, eq=False)
class _Options:
    """How to run, as in `sweep`."""

    chunk: int
    on_chunk: OnChunk | None
    daily_returns: bool
    threads: int
    state: Floats | None
    metrics: str

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("chunk", "threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} was {value!r}; expected a whole number >= 1")
        if self.metrics not in LEVELS:
            raise ConfigError(f"metrics was {self.metrics!r}. {closest(self.metrics, LEVELS)}")
        if self.state is not None and self.daily_returns:
            raise ConfigError("daily_returns were asked for with a state; expected a run from its first bar")


def _run(batch: _Batch, span: Span, options: _Options) -> SweepResult:
    """Run one batch over one span."""
    group = _Lockstep(batch, span, options)
    with ThreadPoolExecutor(options.threads) as pool:
        if options.on_chunk is not None:
            group.ask(options.on_chunk, pool)
        group.run_to(span.stop - span.start, pool)
    return result_of(span, group.outcome, group.pruned_at, options.daily_returns)


class _Lockstep:
    """One batch over one span: states, results, and the configs that still run."""

    def __init__(self, batch: _Batch, span: Span, options: _Options) -> None:
        self.batch, self.span, self.options = batch, span, options
        state, core, daily = options.state, options.metrics == "core", options.daily_returns
        bars = span.stop - span.start
        day_of = np.cumsum(span.day_start, dtype=np.int64)
        days = int(day_of[-1]) + 1 if daily and bars else 0
        count = batch.count
        self.course = Course(
            batch.table, span.start, span.columns, span.events, span.day_start, span.settings,
            span.annual_days, day_of, core,
        )  # fmt: skip
        self.outcome = outcome_of(count, days)
        if state is None:
            fresh = np.empty(slots.N_STATE)
            start_run(fresh, span.settings)
            self.outcome.states[:] = fresh
        else:
            _check_state(state, count, bars, core)
            self.outcome.states[:] = state
        self.pruned_at = np.full(count, -1, dtype=np.int64)
        self.done = int(self.outcome.states[:, slots.T_NEXT].min(initial=bars))

    def _pieces(self) -> list[tuple[Block, Ints]]:
        """Return the configs that still run, split among the threads."""
        pieces = []
        for block in self.batch.blocks:
            running = np.flatnonzero(self.pruned_at[block.configs] < 0)
            pieces += [(block, part) for part in np.array_split(running, self.options.threads) if len(part)]
        return pieces

    def run_to(self, stop: int, pool: ThreadPoolExecutor) -> None:
        """Run the configs that still run up to a bar of the span."""

        def run(piece: tuple[Block, Ints]) -> None:
            run_block(
                *piece, self.course, self.outcome, self.options.chunk, self.done, stop, self.span.years, False
            )

        pieces = self._pieces()
        list(pool.map(run, pieces) if self.options.threads > 1 else map(run, pieces))
        self.done = stop

    def stop(self, stopped: Bools) -> None:
        """End configs after the bars done."""
        span = self.span
        ts = span.bars.ts[span.start : span.start + self.done]
        years = years_between(ts, span.bars.frame, span.bars.calendar)
        for block in self.batch.blocks:
            chosen = np.flatnonzero(stopped[block.configs])
            run_block(block, chosen, self.course, self.outcome, 1, self.done, self.done, years, True)
        self.pruned_at[stopped] = self.done

    def ask(self, on_chunk: OnChunk, pool: ThreadPoolExecutor) -> None:
        """Run chunk by chunk, asking after each which configs to stop."""
        states, cash = self.outcome.states, self.span.settings[slots.CASH_0]
        first = (self.done // self.options.chunk + 1) * self.options.chunk
        for step in range(first, self.span.stop - self.span.start, self.options.chunk):
            self.run_to(step, pool)
            alive = (self.pruned_at < 0) & (states[:, slots.BROKEN_BAR] < 0.0)
            if not alive.any():
                return
            value = states[:, slots.LAST_EQUITY] / cash - 1.0
            asked = np.asarray(on_chunk(step, value, alive.copy()))
            if asked.shape != alive.shape or asked.dtype != np.bool_:
                raise ConfigError(
                    f"on_chunk returned {asked.dtype} of shape {asked.shape}; expected one bool per config, "
                    f"shape {alive.shape}: True stops it"
                )
            self.stop(asked & alive)


def _check_state(state: Floats, count: int, bars: int, core: bool) -> None:
    """Refuse a state that this run cannot go on from."""
    if state.shape != (count, slots.N_STATE):
        raise ConfigError(
            f"state had shape {state.shape}, expected {(count, slots.N_STATE)}, a row per config"
        )
    if (state[:, slots.T_NEXT] >= max(bars, 1)).any():
        raise ConfigError(
            f"state stands after {int(state[:, slots.T_NEXT].max())} bars of a span of {bars}; expected a "
            "later stop"
        )
    begun = state[:, slots.BARS] > 0.0
    if (begun & ((state[:, slots.SAME_BARS] == 0.0) != core)).any():
        raise ConfigError(
            "state holds the sums of other metrics; expected those of the run that it comes from "
            f"(metrics was {LEVELS[not core]!r})"
        )


def _spans(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Configs,
    execution: Execution,
    spans: Sequence[tuple[int, int]],
    options: _Options,
) -> list[SweepResult]:
    """Run configs over several spans."""
    if strategy.kind == "bars":
        listed = config_list(configs)
        return [
            _experts(features, strategy, listed, prepare(features.bars, execution, *span), options)
            for span in spans
        ]
    batch = _batch(features, strategy, configs, execution)
    return [_run(batch, prepare(features.bars, execution, *span), options) for span in spans]


def _experts(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Sequence[Mapping[str, Any]],
    span: Span,
    options: _Options,
) -> SweepResult:
    """Run configs of a strategy of kind ``bars``, one after the other."""
    if options.on_chunk is not None or options.state is not None:
        raise ConfigError(
            f"strategy {strategy.name} is of kind bars; on_chunk and state are for those of kind rules. "
            "Expected a sweep without them, or run(..., pruning_callback=...) for one config"
        )
    work = Workspace(span)
    bars = span.stop - span.start
    ends = np.append(np.flatnonzero(span.day_start) - 1, bars - 1) if bars else np.empty(0, np.int64)
    outcome = outcome_of(len(configs), len(ends) if options.daily_returns else 0)
    for p, params in enumerate(configs):
        run_expert(work, features, strategy, params, 1, None)
        outcome.states[p], outcome.ended[p] = work.last, work.state
        work.summarise(outcome.metrics[p])
        if options.daily_returns:
            outcome.days[p] = work.equity[ends]
    return result_of(span, outcome, np.full(len(configs), -1), options.daily_returns)


def sweep_spans(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Configs,
    execution: Execution,
    spans: Sequence[tuple[int, int]],
    *,
    metrics: str = "all",
    daily_returns: bool = False,
    threads: int = 1,
) -> list[SweepResult]:
    """Run P configs over several spans; they are compiled, and their columns computed, once.

    Parameters
    ----------
    features, strategy, configs, execution, metrics, daily_returns, threads
        As in `sweep`.
    spans : sequence of (start, stop)
        Half-open ranges of bar indices; each starts flat with the initial cash.

    Returns
    -------
    list of SweepResult
        One per span, in their order.

    Raises
    ------
    ConfigError, DataError, SimulationError
        As in `sweep`.

    NaN: as in `engine.simulation.run`.
    """
    options = _Options(QUIET, None, daily_returns, threads, None, metrics)
    return _spans(features, strategy, configs, execution, spans, options)


def sweep(
    features: FeatureSet,
    strategy: StrategyClass,
    configs: Configs,
    execution: Execution,
    *,
    start: int,
    stop: int,
    chunk: int | None = None,
    on_chunk: OnChunk | None = None,
    daily_returns: bool = False,
    threads: int = 1,
    state: Floats | None = None,
    metrics: str = "all",
) -> SweepResult:
    """Run P configs over [start, stop), each as `engine.simulation.run` does.

    Parameters
    ----------
    features : FeatureSet
        Columns of the whole series.
    strategy : StrategyClass
        A registered class of kind ``rules``; of kind ``bars`` without ``on_chunk`` and ``state``,
        one config after the other.
    configs : sequence of mappings, length P, or mapping of str to P values
        Parameters; those left out have their defaults.
    execution : Execution
        Settings of fills, size and costs.
    start, stop : int
        Half-open range of bar indices. The first bar is flat: decisions from its close on.
    chunk : int, >= 1, or None
        Bars that all configs run before the next chunk begins, and before each call of
        ``on_chunk``. None: 500 with ``on_chunk``; without, as many as are fast. The numbers are the
        same whatever the chunk.
    on_chunk : callable (step, value, alive) -> stop, or None
        Called after each chunk while bars remain: step = bars done, value = equity / initial cash
        - 1 of each config, float64 (P,), alive = which still run, bool (P,). Returns which to stop,
        bool (P,): status ``pruned``, nothing forced, metrics of the part. Its exceptions pass
        through unchanged.
    daily_returns : bool
        Also return the daily returns of each config.
    threads : int, >= 1
        Threads that share the configs.
    state : float64 array, shape (P, N_STATE), or None
        ``SweepResult.state`` of the same configs, execution and start, to go on from where it
        stands. A config that was pruned goes on as well.
    metrics : {"all", "core"}
        ``core`` leaves out the metrics of returns, exposure and turnover, and is faster.

    Returns
    -------
    SweepResult

    Raises
    ------
    ConfigError
        As in `engine.simulation.run`; or an option or a state that cannot be used, or an answer of
        ``on_chunk`` that is no bool per config.
    DataError
        A bar of the span is impossible.
    SimulationError
        The strategy raised, or returned no rules.

    NaN: as in `engine.simulation.run`.
    """
    if chunk is None:
        chunk = QUIET if on_chunk is None else CALLED
    options = _Options(chunk, on_chunk, daily_returns, threads, state, metrics)
    if on_chunk is not None and chunk < CALLED:
        warnings.warn(
            f"chunk was {chunk} with on_chunk; below {CALLED} bars the calls cost more than they save",
            stacklevel=2,
        )
    return _spans(features, strategy, configs, execution, [(start, stop)], options)[0]
