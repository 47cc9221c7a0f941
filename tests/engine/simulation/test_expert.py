"""A strategy of kind ``bars``: what it is told, what it may say, and what stops it."""

from dataclasses import replace

import numpy as np
import pytest
from bar_functions import made

from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, sweep
from engine.simulation.backtest import workspace_of
from engine.simulation.expert import Expert, run_expert
from engine.strategies import (
    Choice,
    Float,
    Fraction,
    Int,
    Notional,
    Risk,
    Rules,
    Strategy,
    Units,
    atr,
    highest,
    price,
)  # fmt: skip

TICK = 0.01
EXECUTION = Execution(tick=TICK, borrow_bps_year=50.0)


@pytest.fixture(scope="module")
def bars():
    return make_bars(11, 700, tick=TICK, volatility=0.015, dividends=True)


@pytest.fixture(scope="module")
def features(bars):
    return FeatureSet(bars, TICK)


def whole(features, cls, params=None, execution=EXECUTION, **span):
    span = {"start": 0, "stop": len(features.bars), **span}
    return run(features, cls, params or {}, execution, **span)


def same(a, b):
    for name in ("equity", "position"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.trades_hash == b.trades_hash and a.counters == b.counters
    assert repr(a.next_order) == repr(b.next_order)
    for column in a.fills:
        np.testing.assert_array_equal(a.fills[column], b.fills[column])


# ---- the same as rules that say the same ------------------------------------------------------


class Breakout(Strategy):
    """A breakout as rules."""

    name = "breakout"
    parameters = {"n": Int(2, 60, default=20), "k": Float(0.5, 5.0, default=2.0)}

    @staticmethod
    def rules(p):
        top = highest(p.n).lag(1)
        return Rules(
            enter_long=price("close") > top,
            exit_long=price("close") < price("close").lag(3),
            enter_short=price("close") < price("close").lag(9) * 0.97,
            exit_short=price("close") > price("close").lag(2),
            stop=p.k * atr(14),
            targets=((2 * p.k * atr(14), 1.0),),
        )


def _breakout(t, bars, F, p, pos, state, out):
    told = 0
    close = bars[3]
    if t >= 1:
        if close[t] - F[0, t - 1] > 1e-12 * max(close[t], F[0, t - 1]):
            told += 1
    if t >= 3 and close[t] - close[t - 3] < -1e-12 * max(close[t], close[t - 3]):
        told += 4
    if t >= 9 and close[t] - close[t - 9] * 0.97 < -1e-12 * max(close[t], close[t - 9] * 0.97):
        told += 2
    if t >= 2 and close[t] - close[t - 2] > 1e-12 * max(close[t], close[t - 2]):
        told += 8
    if told & 3 and pos[0] == 0.0:
        if np.isnan(F[1, t]):
            out[2] = 0.0
        else:
            out[2], out[3] = F[1, t] * p[1], F[1, t] * (2.0 * p[1])
    return told


@pytest.fixture(scope="module")
def breakout():
    cls = made(_breakout, parameters=Breakout.parameters)
    cls.columns = staticmethod(lambda p: [f"highest.n={p.n}", "atr.n=14"])
    return cls


@pytest.mark.parametrize("execution", [
    EXECUTION,
    replace(EXECUTION, sides="long", fee_bps=11.0, size=Risk(0.02, atr=1.5)),
    replace(EXECUTION, size=Risk(0.01), lot=1.0, level_base="signal_close"),
    replace(EXECUTION, exit_fraction=0.4, max_bars=6, limit_fill="touch", close_at_end=False),
], ids=["default", "long", "risk of the stop", "partial"])  # fmt: skip
@pytest.mark.parametrize("params", [{}, {"n": 7, "k": 1.0}])
def test_a_function_that_says_what_rules_say_fills_the_same(features, breakout, params, execution):
    for span in ({}, {"start": 123, "stop": 610}):
        by_rules = whole(features, Breakout, params, execution, **span)
        by_function = whole(features, breakout, params, execution, **span)
        assert len(by_rules.trades["pnl"]) > 5
        same(by_rules, by_function)
        assert by_rules.metrics == pytest.approx(by_function.metrics, rel=0, abs=0, nan_ok=True)


def test_a_sweep_gives_what_single_runs_give(features, breakout):
    configs = [{"n": n, "k": k} for n in (5, 20, 40) for k in (1.0, 3.0)]
    swept = sweep(features, breakout, configs, EXECUTION, start=50, stop=700)
    for i, params in enumerate(configs):
        alone = run(features, breakout, params, EXECUTION, start=50, stop=700)
        assert swept.trades_hash[i] == alone.trades_hash
        assert swept.final_equity[i] == alone.metrics["final_equity"]
        assert swept.max_drawdown[i] == alone.metrics["max_drawdown"]
    assert len(set(swept.trades_hash)) == len(configs)


# ---- what it is told --------------------------------------------------------------------------


def _tell(t, bars, F, p, pos, state, out):
    """Writes down what it sees, 12 numbers a bar; enters at every 20th bar, exits 7 bars later."""
    at = 12 * int(state[0])
    state[0] += 1
    state[at + 1], state[at + 2], state[at + 3] = t, bars.shape[1], F.shape[1]
    for k in range(6):
        state[at + 4 + k] = pos[k]
    state[at + 10], state[at + 11], state[at + 12] = bars[3, t], F[0, t], p[0] * 100 + p[1] * 10 + p[2]
    out[2] = 5.0
    if t % 40 == 0:
        return 1
    if t % 40 == 20:
        return 2
    return 12 if t % 20 == 7 else 0


@pytest.mark.parametrize("start", [0, 200])
def test_it_sees_the_bars_so_far_and_its_position(features, bars, start):
    kinds = {"a": Int(1, 5, default=2), "b": Float(0, 9, default=0.5), "c": Choice((True, False), True)}
    cls = made(_tell, columns=["atr.n=14"], state_size=12 * 500 + 1, parameters=kinds)
    work = workspace_of(features, EXECUTION, start, start + 500)
    expert = Expert(features, cls, {"a": 3}, work.span)
    work.start(np.zeros(500, dtype=np.uint8), expert.plan, expert.loop)
    work.go(0, None)
    assert expert.memory[0] == 500
    seen = expert.memory[1:].reshape(500, 12)
    t = np.arange(start, start + 500)
    np.testing.assert_array_equal(seen[:, :3], np.column_stack([t, t + 1, t + 1]))
    np.testing.assert_array_equal(
        seen[:, 9:11], np.column_stack([bars.close, features.column("atr.n=14")])[t]
    )
    assert (seen[:, 11] == 3 * 100 + 5 + 1).all()
    position, entry, held, profit, equity, stop = seen[:, 3:9].T
    result = run(
        features, cls, {"a": 3}, replace(EXECUTION, close_at_end=False), start=start, stop=start + 500
    )
    np.testing.assert_array_equal(position, result.position)
    np.testing.assert_array_equal(equity, result.equity)
    flat = position == 0.0
    assert 50 < flat.sum() < 450 and (position < 0).any() and (position > 0).any()
    for told in (entry, held, profit, stop):
        np.testing.assert_array_equal(np.isnan(told), flat)
    np.testing.assert_allclose(profit[~flat], (position * (bars.close[t] - entry))[~flat], rtol=1e-12)
    np.testing.assert_allclose(stop[~flat], (entry - np.sign(position) * 5.0)[~flat], rtol=1e-12)
    entered = np.flatnonzero(~flat & np.append(True, flat[:-1]))
    assert (held[entered] == 0).all() and set(held[~flat]) >= {0.0, 1.0, 2.0, 3.0}


def _nothing(t, bars, F, p, pos, state, out):
    state[0] += 1
    return 0


def test_state_is_new_in_every_run(features):
    cls = made(_nothing, state_size=1)
    work = workspace_of(features, EXECUTION, 0, 50)
    for _ in range(2):
        expert = Expert(features, cls, {}, work.span)
        work.start(np.zeros(50, dtype=np.uint8), expert.plan, expert.loop)
        work.go(0, None)
        assert expert.memory.tolist() == [50.0]


# ---- what it asks for -------------------------------------------------------------------------


def _asks(t, bars, F, p, pos, state, out):
    if t == 20:
        if p[1] != KEEP:
            out[int(p[0])] = p[1]
        return int(p[2])
    if t == 30 and p[0] == 0.0:
        out[0] = p[1]
        return 12
    return 12 if t == 40 else 0


KEEP = 1e6  # leaves what was asked for NaN
ASKS = {"item": Int(0, 4, default=2), "value": Float(-1e6, 1e6, default=KEEP), "bits": Int(0, 15, default=1)}
QUIET = dict(fee_bps=0.0, slippage_bps=0.0, tick=TICK, close_at_end=False)


def _asked(features, item, value, bits=1, **execution):
    cls = made(_asks, parameters=ASKS)
    params = {"item": item, "value": value, "bits": bits}
    return whole(features, cls, params, Execution(**QUIET, **execution), stop=60)


def _reasons(result):
    return [result.reasons[reason] for reason in result.fills["reason"]]


def test_a_share_of_the_position_can_be_left(features):
    result = _asked(features, 0, 0.25)
    q = result.fills["quantity"]
    assert _reasons(result) == ["entry", "signal", "signal"]
    assert q[1] == pytest.approx(0.25 * q[0]) and q[2] == pytest.approx(0.75 * q[0])
    assert (result.position[40:] != 0).sum() == 1  # bar 40 orders the rest, bar 41 is flat


@pytest.mark.parametrize("bits, side", [(1, 1), (2, -1)])
def test_a_stop_and_a_target_are_distances_from_the_fill(features, bars, bits, side):
    near = 0.3 * features.column("atr.n=14")[20]
    stopped, hit = _asked(features, 2, near, bits), _asked(features, 3, near, bits)
    entry = bars.open[21]
    assert stopped.fills["price"][0] == hit.fills["price"][0] == entry
    assert (_reasons(stopped), _reasons(hit)) == (["entry", "stop"], ["entry", "target"])
    assert side * (stopped.fills["price"][1] - entry) <= -near * (1 - 1e-12)
    assert side * (hit.fills["price"][1] - entry) >= near * (1 - 1e-12)


def test_a_limit_is_a_price_good_for_one_bar(features, bars):
    low = round(float(bars.low[21]) + 0.02, 2)
    filled, missed = _asked(features, 1, low), _asked(features, 1, round(float(bars.low[21]) - 5.0, 2))
    assert filled.fills["price"][0] == pytest.approx(low)
    assert not len(missed.fills["ts"]) and missed.counters["limits_expired"] == 1


def test_a_size_replaces_the_number_of_the_settings_size(features):
    half = _asked(features, 4, 0.5)
    assert half.fills["quantity"][0] == pytest.approx(0.5 * _asked(features, 4, KEEP).fills["quantity"][0])
    assert _asked(features, 4, 7.0, size=Units(3.0)).fills["quantity"][0] == 7.0
    asked = _asked(features, 4, 1000.0, size=Notional(50.0))
    assert asked.fills["quantity"][0] * asked.fills["price"][0] == pytest.approx(1000.0)


@pytest.mark.parametrize("item", [1, 2, 3])
def test_a_level_that_is_zero_or_negative_refuses_the_entry(features, item):
    for value in (0.0, -3.0):
        refused = _asked(features, item, value)
        assert refused.counters["refused_levels"] == 1 and not len(refused.fills["ts"])


def test_long_symbols_hear_no_short_entry(features):
    result = _asked(features, 2, KEEP, bits=2, sides="long")
    assert result.counters["signals_short"] == 0 and result.status == "no_signal"


def test_a_ruined_account_is_asked_no_more(features):
    cls = made(_all_in, state_size=1)
    risky = Execution(**{**QUIET, "fee_bps": 9000.0}, initial_cash=1000.0, leverage=50.0, sides="both")
    risky = replace(risky, size=Fraction(40.0))
    work = workspace_of(features, risky, 0, 300)
    expert = Expert(features, cls, {}, work.span)
    work.start(np.zeros(300, dtype=np.uint8), expert.plan, expert.loop)
    work.go(0, None)
    halted = run(features, cls, {}, risky, start=0, stop=300)
    assert halted.status == "halted" and halted.halted_at < 290
    assert expert.memory[0] == halted.halted_at  # bars before the close that ruined it
    assert _reasons(halted)[-1] == "ruin"


def _all_in(t, bars, F, p, pos, state, out):
    state[0] += 1
    return 1 if pos[0] == 0.0 else 0


# ---- the same in pieces -----------------------------------------------------


def _counts(t, bars, F, p, pos, state, out):
    """Its state is what it says: every third close above the one before, out after five bars."""
    if t and bars[3, t] > bars[3, t - 1]:
        state[0] += 1
    if pos[2] >= 5:
        return 12
    out[2] = 3.0
    return 1 + int(state[0]) % 2 if state[0] % 3 == 0 else 0


@pytest.mark.parametrize("chunk", [1, 7, 100, 500])
def test_pieces_come_to_the_same_as_one_run(features, chunk):
    cls = made(_counts, state_size=1)
    calls = []
    at_once = whole(features, cls)
    in_pieces = run(features, cls, {}, EXECUTION, start=0, stop=700, prune_every=chunk,
                    pruning_callback=lambda step, value: calls.append(step))  # fmt: skip
    same(at_once, in_pieces)
    assert calls == list(range(chunk, 700, chunk)) and len(at_once.trades["pnl"]) > 10


def test_it_can_be_pruned(features):
    cls = made(_counts, state_size=1)
    at_once = whole(features, cls)
    cut = run(features, cls, {}, EXECUTION, start=0, stop=700, prune_every=100,
              pruning_callback=lambda step, value: step == 300)  # fmt: skip
    assert (cut.status, cut.pruned_at) == ("pruned", 300)
    np.testing.assert_array_equal(cut.equity, at_once.equity[:300])


def test_saved_state_goes_on_with_the_same_bits(features):
    cls = made(_counts, state_size=1)
    at_once = whole(features, cls)
    work = workspace_of(features, EXECUTION, 0, 700)
    first = Expert(features, cls, {}, work.span)
    work.start(np.zeros(700, dtype=np.uint8), first.plan, first.loop)
    work._run_to(333)
    second = Expert(features, cls, {}, work.span)  # another object, as in another process
    second.memory[:] = first.memory
    work._loop = second.loop
    work._run_to(700)
    work._finish()
    assert work.trades_hash() == at_once.trades_hash
    np.testing.assert_array_equal(work.equity, at_once.equity)


def test_a_run_that_needs_more_room_for_fills_goes_on(features, bars):
    cls = made(_all_in, state_size=1)
    many = replace(EXECUTION, max_bars=0, fee_bps=0.0, slippage_bps=0.0, close_at_end=False)
    result = whole(features, cls, {}, many)
    assert len(result.fills["ts"]) > 1024
    assert result.counters["signals_long"] == (result.position == 0.0).sum()  # none lost, none twice
    work = workspace_of(features, many, 0, 700)
    work._make_records(8)
    run_expert(work, features, cls, {})
    assert work.trades_hash() == result.trades_hash and len(work.fills) == len(result.fills["ts"])
