"""The compiled part of a sweep: many configs of one program, run over the same bars in chunks.

A chunk of bars is run by every config before the next chunk begins, so that its prices and
features stay in the processor's cache; what a config knows between two chunks is its state. Each
config is computed alone by the functions of a single run, so that neither the number of configs
nor their order nor the size of the chunks changes a bit.
Axes: T bars of the span, P configs of the sweep, Q configs of one program, D days, M metrics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from engine.bars.model import Floats, Ints
from engine.simulation.account import accumulate, add_drawdown
from engine.simulation.inputs import Bytes
from engine.simulation.kernel import bar_loop, finish_run
from engine.simulation.metrics import summarise
from engine.simulation.signals import WIDTH, write_bits
from engine.simulation.slots import CASH_0, CLOSE, CLOSE_AT_END, LAST_EQUITY, T_NEXT, Book, Plan
from engine.strategies.program import Program

_compiled = njit(cache=True, nogil=True, error_model="numpy")


class Block(NamedTuple):
    """The arrays of a `Program`, as the compiled code takes them."""

    configs: Ints
    code: Ints
    rows: Ints
    constants: Floats
    level_rows: Ints
    level_lags: Ints
    level_scales: Floats
    level_offsets: Floats
    shares: Floats
    size_kind: int
    size_values: Floats


class Course(NamedTuple):
    """What all configs run over.

    Parameters
    ----------
    table : float64 array, shape (R, W)
        Feature columns of the whole series.
    first : int
        Column of the table at the span's bar 0.
    columns, events, day_start, settings, annual_days
        As in `inputs.Span`.
    day_of : int64 array, shape (T,)
        Number of the UTC date of each bar, from 0.
    core : bool
        Only the metrics that need no bar returns.
    """

    table: Floats
    first: int
    columns: Floats
    events: Bytes
    day_start: Bytes
    settings: Floats
    annual_days: float
    day_of: Ints
    core: bool


class Outcome(NamedTuple):
    """What is written, one row per config of the sweep.

    Parameters
    ----------
    states : float64 array, shape (P, N_STATE)
        To go on with.
    ended : float64 array, shape (P, N_STATE)
        After the end of the run, an open trade booked.
    metrics : float64 array, shape (P, M)
    days : float64 array, shape (P, D), or (P, 0) where not asked for
        Equity at the last bar of each UTC date.
    """

    states: Floats
    ended: Floats
    metrics: Floats
    days: Floats


def block_of(program: Program) -> Block:
    """Return a program's arrays."""
    return Block(*(getattr(program, name) for name in Block._fields))


@_compiled
def _account(course: Course, book: Book, s: Floats, t0: int, t1: int) -> None:
    """Add bars [t0, t1) to the sums."""
    if course.core:
        add_drawdown(book.equity, s, t0, t1)
    else:
        accumulate(book.equity, book.position, course.columns[CLOSE], course.day_start, s, t0, t1)


@_compiled
def _note_days(course: Course, equity: Floats, before: float, days: Floats, p: int, t0: int, t1: int) -> None:
    """Write the equity of each day that ends before one of the bars [t0, t1) begins a new one."""
    for t in range(t0, t1):
        if course.day_start[t] != 0:
            days[p, course.day_of[t] - 1] = before if t == t0 else equity[t - 1]


@_compiled
def _end(
    course: Course, book: Book, outcome: Outcome, p: int, done: int, todo: int, years: float, close_out: bool
) -> None:
    """End a run after ``done`` bars, those from ``todo`` on not yet in its account."""
    last = outcome.ended[p]
    finish_run(course.columns, course.settings, book, last, done, close_out)
    _account(course, book, last, todo, done)
    cash, core = course.settings[CASH_0], course.core
    summarise(last, cash, years, course.annual_days, core, outcome.metrics[p])
    if outcome.days.shape[1] > 0:
        outcome.days[p, course.day_of[done - 1]] = last[LAST_EQUITY]


@_compiled
def _end_here(course: Course, book: Book, outcome: Outcome, p: int, todo: int, years: float) -> None:
    """End config p after its last bar; the state to go on with is that before anything is forced."""
    s, last, n = outcome.states[p], outcome.ended[p], len(book.equity)
    last[:] = s
    _account(course, book, s, todo, n)
    close_out = course.settings[CLOSE_AT_END] != 0.0
    _end(course, book, outcome, p, n, todo, years, close_out)


@_compiled
def run_block(
    block: Block, chosen: Ints, course: Course, outcome: Outcome, chunk: int, start: int, stop: int,
    years: float, pruned: bool,
) -> None:  # fmt: skip
    """Run configs of one program from where their states stand up to bar ``stop`` of the span.

    Or, with ``pruned``, end them where they stand: nothing is forced, an open position is marked.

    Parameters
    ----------
    block, course, outcome
        As above; ``outcome`` is written.
    chosen : int64 array
        Which configs of the block.
    chunk : int
        Bars that all configs run before the next chunk begins.
    start, stop : int
        The earliest bar at which a state stands, and the last bar + 1; at T the runs end.
    years : float
        Length of the span, or of its part up to where pruned configs end.
    pruned : bool
        ``start`` = ``stop`` is where they end.
    """
    n = course.columns.shape[1]
    equity, position, bits = np.empty(n), np.empty(n), np.empty(n, np.uint8)
    book = Book(equity, position, np.empty((0, 7)), np.empty((0, 14)), False)
    values, bytes_ = np.empty((2, WIDTH)), np.empty((block.rows.shape[1] // 4 + 1, WIDTH), np.uint8)
    # taken out of their tuples once: each time costs as much as ten bars
    configs, code, rows, constants = block.configs, block.code, block.rows, block.constants
    table, first, columns, events = course.table, course.first, course.columns, course.events
    settings, states, note_days = course.settings, outcome.states, outcome.days.shape[1] > 0
    close, day_start, core = columns[CLOSE], course.day_start, course.core
    if pruned:
        for k in chosen:
            outcome.ended[configs[k]] = states[configs[k]]
            _end(course, book, outcome, configs[k], stop, stop, years, False)
        return
    t1 = start
    while True:
        t1 = min(t1 + chunk, stop)
        for k in chosen:
            p = configs[k]
            s = states[p]
            t0 = int(s[T_NEXT])
            if t0 < t1:
                write_bits(code, constants, rows, k, table, first, t0, t1, bits, values, bytes_)
                plan = Plan(
                    table, block.level_rows[k], block.level_scales[k], block.level_offsets[k],
                    block.level_lags[k], first, block.shares[k], block.size_kind, block.size_values[k],
                )  # fmt: skip
                bar_loop(columns, events, bits, plan, settings, book, s, t0, t1)
                s[T_NEXT] = t1
                if note_days:
                    _note_days(course, equity, s[LAST_EQUITY], outcome.days, p, t0, t1)
            todo = max(t0, t1 - 1) if t1 == n else t1  # the end may change the last bar's equity
            if core:
                add_drawdown(equity, s, t0, todo)
            else:
                accumulate(equity, position, close, day_start, s, t0, todo)
            if t1 == n:
                _end_here(course, book, outcome, p, todo, years)
        if t1 == stop:
            return
