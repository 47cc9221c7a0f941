"""An account that goes on from a position: in steps as in one run, and what a switch of parameters keeps."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation import Execution, run
from engine.simulation.carry import Account, carry_on
from engine.strategies.expert import bar_function
from engine.strategies.params import Int
from engine.strategies.registry import Strategy
from engine.strategies.rules import Fraction, Rules, atr, ema

CASH, FIRST = 100_000.0, 150
EXECUTION = Execution(tick=0.01, borrow_bps_year=50.0, initial_cash=CASH)


def _strategy(name, kind="rules", **attributes):
    return type(name, (Strategy,), {"kind": kind, "name": name, "code": "", **attributes})


def _averages(p):
    fast, slow = ema("close", p.fast), ema("close", p.slow)
    return Rules(
        enter_long=fast > slow, enter_short=fast < slow, exit_long=fast < slow, exit_short=fast > slow,
        stop=3.0 * atr(14), trail=4.0 * atr(14), targets=((2.0 * atr(14), 0.5), (4.0 * atr(14), 1.0)),
        size=Fraction(0.9),
    )  # fmt: skip


AVERAGES = _strategy(
    "averages", parameters={"fast": Int(2, 50, default=5), "slow": Int(5, 200, default=30)},
    rules=staticmethod(_averages),
)  # fmt: skip


@pytest.fixture(scope="module")
def features():
    made = make_bars(4, 420, volatility=0.02, dividends=True)
    return FeatureSet(replace(made, volume=np.ones(len(made))), 0.01)


def _in_steps(features, strategy, params, execution, step, *, memory_from=0):
    account, path, costs = Account(CASH), [], 0.0
    stops = [*range(FIRST + step, len(features.bars) - 1, step), len(features.bars) - 1]
    for at, last in zip([FIRST, *stops], stops, strict=False):
        told = carry_on(features, strategy, params, execution, account, at=at, stop=at + 1,
                        memory_from=memory_from)  # fmt: skip
        done = carry_on(features, strategy, params, execution, account, at=at, stop=last + 1,
                        memory_from=memory_from)  # fmt: skip
        assert told.before == told.equity == done.before
        path.append(done.equity)
        costs, account = costs + done.costs, done.account
    return path, costs, stops, done


@pytest.mark.parametrize("step", [1, 7, 400])
@pytest.mark.parametrize("changes", [{}, {"on_opposite": "reverse"}, {"max_bars": 9, "lot": 1.0}], ids=str)
def test_in_steps_with_the_same_parameters_it_is_one_run_bit_for_bit(features, step, changes):
    execution = replace(EXECUTION, **changes)
    path, costs, stops, last = _in_steps(features, AVERAGES, {}, execution, step)
    whole = run(
        features, AVERAGES, {}, replace(execution, close_at_end=False), start=FIRST, stop=len(features.bars)
    )
    assert len(whole.trades["trade"]) >= 10
    assert path == whole.equity[np.array(stops) - FIRST].tolist()
    paid = [whole.trades[name].sum() for name in ("fees", "slippage", "financing")]
    assert costs == pytest.approx(sum(paid), rel=1e-9)
    for name, value in vars(whole.next_order).items():
        assert value == pytest.approx(getattr(last.order, name), nan_ok=True), name
    assert last.account.position == whole.position[-1]


def test_a_switch_of_parameters_keeps_the_orders_of_the_position_and_asks_the_new_signals(features):
    """Stop and target stay; the exit is the new averages'; nothing is closed by the switch itself."""
    at, kept, left = FIRST + 20, 0, 0
    for at in range(FIRST + 20, FIRST + 120, 4):
        before = carry_on(features, AVERAGES, {}, EXECUTION, Account(CASH), at=FIRST, stop=at + 1).account
        if before.position == 0.0:
            continue
        other = {"fast": 40, "slow": 120}
        order = carry_on(features, AVERAGES, other, EXECUTION, before, at=at, stop=at + 1).order
        fast, slow = (features.column(f"ema.close.n={other[name]}")[at] for name in ("fast", "slow"))
        leaves = fast < slow if before.position > 0 else fast > slow
        assert order.action == ("exit" if leaves else "hold") and order.quantity == abs(before.position)
        done = carry_on(features, AVERAGES, other, EXECUTION, before, at=at, stop=at + 2)
        if leaves:
            assert (done.account.position, done.fills) == (0.0, 1)
            left += 1
        elif done.fills == 0:
            assert (order.stop, order.target) == (before.stop, before.target)
            assert (done.account.entry_ts, done.account.target) == (before.entry_ts, before.target)
            assert (done.account.stop - before.stop) * np.sign(before.position) >= 0  # it may trail
            kept += 1
    assert kept >= 3 and left >= 3


def test_without_parameters_what_is_held_is_sold_at_the_next_open(features):
    bars = features.bars
    for at in range(200, 260):
        held = carry_on(features, AVERAGES, {}, EXECUTION, Account(CASH), at=FIRST, stop=at + 1).account
        if held.position > 0:
            break
    done = carry_on(features, AVERAGES, None, EXECUTION, held, at=at, stop=at + 10)
    assert (done.account.position, done.fills) == (0.0, 1)
    price = bars.open[at + 1] * (1 - EXECUTION.slippage_bps / 1e4)
    paid = held.position * bars.dividend[at + 1]
    fee = EXECUTION.fee_bps / 1e4 * held.position * price
    assert done.account.cash == pytest.approx(held.cash + held.position * price + paid - fee, rel=1e-12)
    assert carry_on(features, AVERAGES, None, EXECUTION, Account(CASH), at=at, stop=at + 10).equity == CASH


def test_an_account_that_is_used_up_trades_no_more(features):
    gone = Account(-5.0, halted=True)
    done = carry_on(features, AVERAGES, {}, EXECUTION, gone, at=FIRST, stop=FIRST + 100)
    assert (done.account, done.fills, done.order.action) == (gone, 0, "none")
    short = Account(
        1000.0, position=-100.0, initial=100.0, entry_price=10.0, base=10.0, extreme=10.0,
        signal_ts=int(features.bars.ts[FIRST - 1]), entry_ts=int(features.bars.ts[FIRST]), halted=True,
    )  # fmt: skip
    done = carry_on(features, AVERAGES, {}, EXECUTION, short, at=FIRST, stop=FIRST + 3)
    assert done.account.position == 0.0 and done.account.halted and done.before < 0


@bar_function
def _counts(t, bars, F, p, pos, state, out):
    state[0] += 1.0
    if pos[0] == 0.0:
        return 1 if state[0] % 5.0 == 0.0 else 0
    return 4 if pos[2] >= p[0] else 0


@pytest.mark.slow  # compiles a function
def test_a_bar_function_is_told_the_position_and_remembers_its_own_past(features):
    counts = _strategy(
        "counts", "bars", parameters={"hold": Int(1, 50, default=7)}, bar=_counts, state_size=1,
        columns=staticmethod(lambda p: []),
    )  # fmt: skip
    path, _, stops, last = _in_steps(features, counts, {}, EXECUTION, 3, memory_from=FIRST - 50)
    assert path != sorted(path) and last.account.cash != CASH
    account = Account(CASH)
    for at in range(FIRST, FIRST + 60):
        asked = carry_on(features, counts, {}, EXECUTION, account, at=at, stop=at + 1, memory_from=FIRST - 50)
        calls = at - (FIRST - 50) + 1  # every bar since then once, this one included
        if account.position == 0.0:
            assert asked.order.action == ("enter" if calls % 5 == 0 else "none")
        else:
            age = at - int(np.searchsorted(features.bars.ts, account.entry_ts))
            assert asked.order.action == ("exit" if age >= 7 else "hold")
        done = carry_on(features, counts, {}, EXECUTION, account, at=at, stop=at + 2, memory_from=FIRST - 50)
        account = done.account
    assert math.isnan(account.stop)
