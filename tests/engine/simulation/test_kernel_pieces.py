"""Runs in pieces and runs without a skipped bar have the bits of a whole run; the levels evaluator agrees."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.simulation import Execution, levels, simulate, slots
from engine.simulation.account import accumulate, add_drawdown, start_run
from engine.simulation.inputs import prepare
from engine.simulation.kernel import bar_loop, finish_run, plain_loop
from engine.simulation.metrics import METRICS, summarise
from engine.simulation.slots import LONG, SHORT, Book
from engine.simulation.workspace import plan_of
from engine.strategies.rules import Signals


def in_pieces(case, cuts, loop=bar_loop):
    """Run a case over the given pieces of its span; return all that a run leaves, as bytes."""
    bars, signals, execution, start, stop = case
    span, plan, n = prepare(bars, execution, start, stop), plan_of(signals, start, stop), stop - start
    bits = np.array(signals.bits[start:stop])
    book = Book(np.empty(n), np.empty(n), np.empty((4 * n + 64, 7)), np.empty((2 * n + 34, 14)), True)
    state, core, out = np.empty(slots.N_STATE), np.empty(slots.N_STATE), np.empty(len(METRICS))
    start_run(state, span.settings)
    core[:] = state
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    for t0, t1 in zip(edges[:-1], edges[1:], strict=True):
        code = loop(
            span.columns, span.events, bits, plan, span.settings, book, np.array(state), t0, t0
        )  # a piece of no bars changes nothing
        code = loop(span.columns, span.events, bits, plan, span.settings, book, state, t0, t1)
        assert code in (slots.DONE, slots.NOT_FINITE)
        state = np.array(np.frombuffer(state.tobytes()))  # saved and read back
        if t1 == n:
            finish_run(span.columns, span.settings, book, state, n, execution.close_at_end)
        accumulate(book.equity, book.position, span.columns[slots.CLOSE], span.day_start, state, t0, t1)
        add_drawdown(book.equity, core, t0, t1)
    summarise(state, execution.initial_cash, span.years, span.annual_days, False, out)
    fills, trades = int(state[slots.N_FILLS]), int(state[slots.N_TRADES])
    state[slots.T_NEXT] = core[slots.T_NEXT] = n
    for slot in (
        slots.PEAK,
        slots.LOWEST,
        slots.DRAWDOWN,
        slots.DRAWDOWN_BARS,
        slots.BARS,
        slots.LAST_EQUITY,
    ):
        assert np.array_equal(core[slot], state[slot], equal_nan=True)
    return [
        a.tobytes()
        for a in (book.equity, book.position, book.fills[:fills], book.trades[:trades], out, state)
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([1, 7, 33, 100, 500]))
def test_row_20_pieces_of_any_size_have_the_bits_of_a_whole_run(random_case, seed, step):
    case = random_case(seed)
    assert in_pieces(case, range(step, 500, step)) == in_pieces(case, [])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_skipping_quiet_bars_changes_no_bit(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    rare = np.array(signals.bits)
    rare[np.random.default_rng(seed).random(len(rare)) < 0.9] = 0  # longer quiet stretches
    for bits in (signals.bits, rare):
        case = bars, replace(signals, bits=bits), execution, start, stop
        assert in_pieces(case, []) == in_pieces(case, [], plain_loop)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), step=st.integers(1, 60))
def test_pieces_and_skipping_change_no_bit_in_many_cases(random_case, seed, step):
    case = random_case(seed)
    whole = in_pieces(case, [])
    assert in_pieces(case, range(step, 500, step)) == whole == in_pieces(case, [], plain_loop)


@pytest.mark.parametrize("leg", ["long", "short"])
@pytest.mark.parametrize("seed", range(5))
def test_a_limit_entry_out_at_the_close_earns_what_the_levels_evaluator_says(leg, seed):
    bars, rng = make_bars(seed, 400, volatility=0.01), np.random.default_rng(seed)
    ticks = np.rint(bars.close / 0.01)
    low = (ticks - rng.integers(0, 200, 400)) * 0.01  # limits on the tick
    high = (ticks + rng.integers(0, 200, 400)) * 0.01
    rows = levels.problem(
        bars, np.log(high / bars.close), np.log(low / bars.close), 1, 400, objective="always_on",
        side="maxdiff", sides="both", fee_bps=5.0, slippage_bps=0.0, fee_mode="per_side",
        fill="through:1", tick=0.01,
    )  # fmt: skip
    told = levels.bar_net(rows, 0.0, 0.0, "close")
    filled, gross = (told.long, told.long_gross) if leg == "long" else (told.short, told.short_gross)
    costs = told.long_costs if leg == "long" else told.short_costs
    tradable = low < high  # a crossed forecast trades nothing
    bits = np.where(tradable, LONG if leg == "long" else SHORT, 0).astype(np.uint8)
    signals = Signals(bits, size_kind=slots.UNITS, size_value=1.0, limit=low if leg == "long" else high)
    execution = Execution(max_bars=0, tick=0.01, fee_bps=5.0, slippage_bps=0.0)
    result = simulate(bars, signals, execution, start=0, stop=400)
    bar = np.searchsorted(bars.ts, result.trades["entry_ts"])
    assert bar.tolist() == rows.index[filled].tolist()
    assert len(bar) > 50
    base = bars.close[bar - 1]  # one unit = 1 / base of the evaluator's notional
    entry, out = result.trades["entry_price"], result.trades["exit_price"]
    assert result.trades["side"] * (out - entry) / base == pytest.approx(gross[filled], abs=1e-12)
    bound = 5e-4 * (abs(entry / base - 1.0) + abs(out / base - 1.0)) + 1e-12
    assert (abs(result.trades["fees"] / base - costs[filled]) <= bound).all()
