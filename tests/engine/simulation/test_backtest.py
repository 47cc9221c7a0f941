"""Results of a run: the order for the next open, determinism, records, statuses."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, SimulationError
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, simulate, workspace_of
from engine.simulation.backtest import strategy_signals
from engine.strategies.registry import get
from engine.strategies.rules import Notional, Risk, Rules, Signals, Units, sma

QUIET = (100.0, 101.0, 99.0, 100.0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_the_next_order_is_the_order_that_one_more_bar_fills(random_case, seed):
    bars, signals, execution, start, stop = random_case(seed)
    assume(start < stop < len(bars))
    traded = bars.volume[start : stop + 1]
    assume(traded[-1] > 0 and traded[:-1].any())  # the added bar trades, and changes no rule of those before
    order = simulate(bars, signals, execution, start=start, stop=stop).next_order
    after = simulate(bars, signals, execution, start=start, stop=stop + 1)
    new = after.fills["ts"] == bars.ts[stop]
    at_open = [
        (after.reasons[reason], side, quantity)
        for reason, side, quantity in zip(
            after.fills["reason"][new], after.fills["side"][new], after.fills["quantity"][new], strict=True
        )
        if after.reasons[reason] in ("entry", "signal", "reverse", "ruin")
    ]
    if order.action == "enter":
        refused = after.counters["orders_refused"] + after.counters["limits_expired"] > 0
        entries = [fill for fill in at_open if fill[0] == "entry"]
        assert [side for _, side, _ in entries] == [order.side] or (refused and not entries)
        assert order.reverses == any(reason == "reverse" for reason, _, _ in at_open)
        if entries and signals.size_kind == 2 and after.counters["orders_cut"] == 0 and order.quantity:
            assert order.quantity <= entries[0][2] * (1 + 1e-12)
    elif order.action == "exit":
        assert at_open == [(order.reason, -order.side, order.quantity)]
    else:
        assert at_open == []


def test_the_next_order_holds_with_the_levels_of_the_next_bar(case):
    order = case.simulate(
        [(100.0, 104.0, 99.0, 103.0)], stop=5.0, trail=5.0, targets=((10.0, 1.0),)
    ).next_order  # fmt: skip
    assert (order.action, order.quantity) == ("hold", 1.0)
    assert (order.stop, order.target) == (case.price(99.0), case.price(110.0))


def test_the_next_order_ignores_the_forced_close(case):
    kept = case.simulate([QUIET], stop=5.0)
    closed = case.simulate([QUIET], stop=5.0, close_at_end=True)
    assert closed.position[-1] == 0.0
    assert kept.next_order.action == "hold"
    assert repr(kept.next_order) == repr(closed.next_order)


def test_the_next_order_exits_or_reverses(case):
    leaving = case.simulate([QUIET], bits={1: 4}).next_order
    assert (leaving.action, leaving.quantity, leaving.reason) == ("exit", 1.0, "signal")
    turning = case.simulate([QUIET], bits={1: 2}, on_opposite="reverse").next_order
    assert (turning.action, turning.reverses, turning.side) == ("enter", True, -leaving.side)


def test_there_is_no_next_order_while_flat_without_a_signal(case):
    order = case.simulate([QUIET], bits={0: 0}).next_order
    assert (order.action, order.side, order.quantity) == ("none", 0, 0.0)


@pytest.fixture(scope="module")
def features():
    return FeatureSet(make_bars(5, 400), 0.01)


def test_run_is_simulate_on_the_strategys_signals(features):
    execution = Execution(tick=0.01)
    signals = strategy_signals(features, get("trend"), {"fast": 5, "slow": 20}, execution)
    a = run(features, get("trend"), {"fast": 5, "slow": 20}, execution, start=50, stop=400)
    b = simulate(features.bars, signals, execution, start=50, stop=400)
    assert a.trades_hash == b.trades_hash
    assert len(a.trades["pnl"]) > 3
    assert a.equity.tobytes() == b.equity.tobytes()


def test_sides_long_never_sells_short(features):
    params = {"fast": 5, "slow": 20, "adx_min": 0.0}
    both = run(features, get("trend"), params, Execution(), start=50, stop=400)
    long = run(features, get("trend"), params, Execution(sides="long"), start=50, stop=400)
    assert (both.trades["side"] == -1).any()
    assert (long.trades["side"] == 1).all()


def test_a_levels_strategy_has_no_rules_to_run(features):
    with pytest.raises(ConfigError, match="strategy levels_entry_exit on TEST .* has no rules"):
        run(features, get("levels_entry_exit"), {}, Execution(), start=0, stop=400)


def test_without_records_the_metrics_stay(random_case):
    bars, signals, execution, start, stop = random_case(4)
    full = simulate(bars, signals, execution, start=start, stop=stop)
    bare = simulate(bars, signals, execution, start=start, stop=stop, record=False)
    assert len(full.fills["ts"]) > 0
    assert len(bare.equity) == len(bare.fills["ts"]) == len(bare.trades["pnl"]) == 0
    assert np.array(list(bare.metrics.values())).tobytes() == np.array(list(full.metrics.values())).tobytes()
    assert bare.trades_hash == full.trades_hash


def test_a_run_of_no_bars(random_case):
    bars, signals, execution, _, _ = random_case(4)
    result = simulate(bars, signals, execution, start=1, stop=1)
    assert (result.status, len(result.equity), result.next_order.action) == ("no_signal", 0, "none")
    assert result.metrics["roi"] == 0.0


def test_a_result_is_not_changed_by_the_next_run(random_case):
    bars, signals, execution, start, stop = random_case(4)
    first = simulate(bars, signals, execution, start=start, stop=stop)
    kept = first.equity.tobytes(), first.trades["pnl"].tobytes()
    simulate(bars, signals, Execution(fee_bps=500.0), start=start, stop=stop)
    assert (first.equity.tobytes(), first.trades["pnl"].tobytes()) == kept


def test_equity_that_overflows_is_a_status_not_an_exception(case):
    result = case.simulate([QUIET, QUIET], size=(2, 1e308), leverage=1e304, initial_cash=1e308)
    assert result.status == "invalid_numeric"
    assert np.isnan(result.equity[-1]) and np.isnan(result.metrics["roi"])


@pytest.mark.parametrize(
    ("signals", "text"),
    [
        (Signals(np.zeros(3, np.uint8)), "signals hold 3 bars; expected at least 10"),
        (Signals(np.zeros(10, np.uint8), size_value=0.0), "size value was 0.0"),
        (Signals(np.zeros(10, np.uint8), size_kind=4), "size kind was 4"),
        (Signals(np.zeros(10, np.uint8), size_kind=1), "risk without a distance"),
        (Signals(np.zeros(10, np.uint8), targets=((np.ones(10), 0.0),)), "target shares were"),
    ],
)
def test_signals_that_no_run_can_use_are_refused(signals, text):
    with pytest.raises(SimulationError, match=text):
        simulate(make_bars(1, 10), signals, Execution(), start=0, stop=10)


PARAMS = {"fast": 5, "slow": 20, "adx_min": 0.0}


def everything(result):
    """All that a result holds, as bytes."""
    tables = [*result.fills.values(), *result.trades.values(), np.array(list(result.metrics.values()))]
    return (
        [column.tobytes() for column in (result.equity, result.position, *tables)],
        result.counters, result.trades_hash, result.status, repr(result.next_order),
    )  # fmt: skip


def test_the_pruning_callback_is_told_the_return_so_far_and_changes_nothing(features):
    execution = Execution(tick=0.01)
    told = []
    plain = run(features, get("trend"), PARAMS, execution, start=20, stop=400)
    heard = run(
        features, get("trend"), PARAMS, execution, start=20, stop=400,
        pruning_callback=lambda step, value: told.append((step, value)),
    )  # fmt: skip
    assert told == [(step, plain.equity[step - 1] / 100_000.0 - 1.0) for step in (100, 200, 300)]
    assert everything(heard) == everything(plain)
    assert heard.pruned_at is None


@pytest.mark.parametrize(
    ("every", "told"), [(200, [200]), (1, list(range(1, 400))), (399, [399]), (400, []), (1000, [])]
)
def test_the_last_bar_is_no_step(features, every, told):
    steps = []
    run(
        features, get("trend"), PARAMS, Execution(), start=0, stop=400, prune_every=every,
        pruning_callback=lambda step, value: steps.append(step),
    )  # fmt: skip
    assert steps == told


def test_true_stops_the_run_there_and_forces_nothing(features):
    execution = Execution(tick=0.01)
    whole = run(features, get("trend"), PARAMS, execution, start=20, stop=400)
    part = run(features, get("trend"), PARAMS, Execution(tick=0.01, close_at_end=False), start=20, stop=220)
    pruned = run(
        features, get("trend"), PARAMS, execution, start=20, stop=400,
        pruning_callback=lambda step, value: step == 200,
    )  # fmt: skip
    assert (pruned.status, pruned.pruned_at) == ("pruned", 200)
    assert pruned.equity.tobytes() == whole.equity[:200].tobytes()
    assert everything(pruned)[0] == everything(part)[0]
    assert pruned.reasons[pruned.trades["reason"][-1]] == "open"


def test_an_exception_of_the_callback_arrives_unchanged(features):
    broken = OSError("storage")

    def callback(step, value):
        raise broken

    with pytest.raises(OSError, match="storage") as caught:
        run(features, get("trend"), PARAMS, Execution(), start=0, stop=400, pruning_callback=callback)
    assert caught.value is broken


def test_prune_every_must_be_at_least_one_bar(features):
    with pytest.raises(ConfigError, match="prune_every was 0; expected a number of bars >= 1"):
        run(features, get("trend"), PARAMS, Execution(), start=0, stop=400, prune_every=0)


def test_a_workspace_is_reused_without_a_trace_of_the_run_before(features):
    execution = Execution(tick=0.01)
    work = workspace_of(features, execution, 20, 400)
    fresh = run(features, get("trend"), PARAMS, execution, start=20, stop=400)
    run(
        features, get("trend"), {"fast": 3}, execution, start=20, stop=400, workspace=work,
        pruning_callback=lambda step, value: True,
    )  # fmt: skip
    first = run(features, get("trend"), PARAMS, execution, start=20, stop=400, workspace=work)
    kept = first.trades["pnl"].tobytes()
    assert everything(first) == everything(fresh)
    run(features, get("trend"), {"fast": 3}, execution, start=20, stop=400, workspace=work)
    assert first.trades["pnl"].tobytes() == kept


def test_a_workspace_of_something_else_is_refused(features):
    work = workspace_of(features, Execution(), 20, 400)
    for execution, start in ((Execution(), 21), (Execution(fee_bps=1.0), 20)):
        with pytest.raises(ConfigError, match=r"the workspace is of TEST, bars \[20, 400\)"):
            run(features, get("trend"), PARAMS, execution, start=start, stop=400, workspace=work)


def test_a_strategy_without_a_size_takes_that_of_the_settings(features):
    class Plain:
        @staticmethod
        def rules(p):
            return Rules(enter_long=sma("close", 3) > sma("close", 9), exit_long=sma("close", 3) < 0)

    Plain.name, Plain.kind, Plain.parameters, Plain.relations = "plain", "rules", {}, ()

    def first(size):
        execution = Execution(size=size, slippage_bps=0.0)
        result = run(features, Plain, {}, execution, start=20, stop=60)
        signals = strategy_signals(features, Plain, {}, execution)
        again = simulate(features.bars, signals, execution, start=20, stop=60)
        assert everything(result) == everything(again)
        return result.fills["quantity"][0], result.fills["price"][0], result.fills["ts"][0]

    assert first(Units(7.0))[0] == 7.0
    quantity, price, _ = first(Notional(500.0))
    assert quantity == pytest.approx(500.0 / price)
    quantity, price, ts = first(Risk(0.001, atr=2.0))
    signal = int(np.searchsorted(features.bars.ts, ts)) - 1
    assert quantity == pytest.approx(100.0 / (2.0 * features.column("atr.n=14")[signal]))
    for ask in (strategy_signals, lambda *a: run(*a, start=20, stop=60)):
        with pytest.raises(ConfigError, match="takes the stop's distance, but there is no stop"):
            ask(features, Plain, {}, Execution(size=Risk(0.01)))


PROGRAM = """
from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation import Execution, run
from engine.strategies.registry import get
result = run(FeatureSet(make_bars(5, 400), 0.01), get("trend"), {}, Execution(), start=0, stop=400)
print(result.trades_hash, result.metrics)
"""


def test_two_processes_with_different_hash_seeds_agree():
    printed = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1] != ""


def test_importing_the_package_loads_no_compiler():
    program = "import sys, engine.simulation; print('numba' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"


ONE_SIGNATURE = """
import numpy as np
from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, simulate, warm
from engine.simulation import account, fills, inputs, kernel, metrics, signals
from engine.strategies.registry import get
from engine.strategies.rules import Signals

warm()
simulate(make_bars(1, 30), Signals(np.ones(30, np.uint8)), Execution(), start=3, stop=20)
run(FeatureSet(make_bars(1, 300), 0.01), get("trend"), {}, Execution(), start=3, stop=200)
print(max(len(function.signatures) for function in (
    kernel.bar_loop, kernel.finish_run, account.accumulate, fills.order_quantity, metrics.summarise,
    inputs._broken_rows, signals.signal_bits,
)))
"""


def test_warm_compiles_every_kernel_once():
    """A second signature would be compiled in the middle of a run; other tests call pieces otherwise."""
    shown = subprocess.run([sys.executable, "-c", ONE_SIGNATURE], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "1"
