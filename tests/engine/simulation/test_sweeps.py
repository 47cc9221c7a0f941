"""A sweep gives the numbers of single runs, bit for bit, however it is cut up."""

import os
import subprocess
import sys
import tracemalloc
from dataclasses import fields, replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, simulate, sweep, sweep_spans
from engine.simulation.metrics import METRICS
from engine.simulation.slots import N_STATE
from engine.simulation.workspace import hash_of, status_of
from engine.strategies.expert import bar_function
from engine.strategies.params import Choice, Float, Int
from engine.strategies.registry import Strategy, check, get
from engine.strategies.rules import (
    Risk,
    Rules,
    Units,
    atr,
    cross_above,
    cross_below,
    evaluate,
    price,
    rsi,
    sma,
)  # fmt: skip

TREND = get("trend")
LENGTH = 1300


class Crossing(Strategy):
    """Averages that cross, with every kind of level; some configs enter by limit orders."""

    name = "crossing"
    parameters = {
        "fast": Int(2, 50, default=5),
        "slow": Int(3, 90, default=20),
        "wide": Float(0.5, 6.0, default=2.0),
        "limit": Choice((True, False), False),
    }
    relations = (("fast", "<", "slow"),)

    @staticmethod
    def rules(p):
        fast, slow = sma("close", p.fast), sma("close", p.slow)
        return Rules(
            enter_long=cross_above(fast, slow) | (rsi(p.fast) < 25),
            enter_short=cross_below(fast, slow) & (rsi(14).lag(1) > 20),
            exit_long=cross_below(fast, slow),
            exit_short=cross_above(fast, slow),
            stop=p.wide * atr(p.fast),
            targets=((p.wide * 1.5 * atr(14), 1.0),),
            trail=p.wide * 2 * atr(14),
            enter_limit=price("close") - 0.05 if p.limit else None,
            size=Risk(0.02, atr=p.wide),
        )


class Branching(Crossing):
    """The same, but it must be asked once for each config."""

    name = "branching"

    @staticmethod
    def rules(p):
        rules = Crossing.rules(p)
        return replace(rules, enter_short=None, size=Units(100.0)) if p.fast > 10 else rules


def draw(cls, count, seed=0):
    rng = np.random.default_rng(seed)
    fast = rng.integers(3, 30, count)
    configs = []
    for n, x, flag in zip(fast.tolist(), rng.random(count).tolist(), rng.random(count) < 0.3, strict=True):
        if cls is TREND:
            own = {"adx_min": 30 * x, "stop_atr": 1 + x, "target_atr": 1 + 3 * x}
        else:
            own = {"wide": 0.5 + 4 * x, "limit": bool(flag)}
        configs.append({"fast": n, "slow": n + 15, **own})
    return configs


EXECUTIONS = {
    "default": Execution(tick=0.01, borrow_bps_year=50.0),
    "reverse": Execution(
        tick=0.01, on_opposite="reverse", leverage=3.0, financing_bps_year=400.0, borrow_bps_year=300.0,
        close_at_end=False, limit_fill="touch", target_in_entry_bar="after_open_entry",
        level_base="signal_close",
    ),
    "long": Execution(
        sides="long", lot=1.0, exit_fraction=0.4, max_bars=9, breakeven_after_first=True,
        limit_improvement=True, cash_rule="refuse", slippage_bps=0.0,
    ),
}  # fmt: skip
E = EXECUTIONS["default"]


@pytest.fixture(scope="module")
def features():
    return FeatureSet(make_bars(5, LENGTH, "1h", dividends=True), 0.01)


def row(result, p):
    """All that a sweep says of one config, as bytes."""
    said = []
    for field in fields(result):
        value = getattr(result, field.name)
        if field.name == "counters":
            said.append(np.array([column[p] for column in value.values()]).tobytes())
        elif isinstance(value, np.ndarray):
            said.append(np.ascontiguousarray(value[p]).tobytes())
        elif field.name == "trades_hash":
            said.append(value[p].encode())
    return b"|".join(said)


def rows(result):
    return [row(result, p) for p in range(len(result.roi))]


def assert_equal_bits(result, p, single):
    for name in METRICS:
        column = result.trades.astype(float) if name == "n_trades" else getattr(result, name)
        assert column[p].tobytes() == np.float64(single.metrics[name]).tobytes(), name
    assert result.trades_hash[p] == single.trades_hash
    assert result.statuses[result.status[p]] == single.status
    assert {name: int(column[p]) for name, column in result.counters.items()} == single.counters
    assert result.pruned_at[p] == (-1 if single.pruned_at is None else single.pruned_at)


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)
@pytest.mark.parametrize("cls", [TREND, Crossing, Branching])
def test_a_sweep_equals_single_runs_bit_for_bit(features, cls, execution):
    configs = draw(cls, 25)
    result = sweep(features, cls, configs, execution, start=100, stop=LENGTH - 50)
    for p, config in enumerate(configs):
        single = run(features, cls, config, execution, start=100, stop=LENGTH - 50)
        assert_equal_bits(result, p, single)
        signals = evaluate(cls.rules(check(cls, config)), features, execution.sides, execution.size)
        ready = simulate(features.bars, signals, execution, start=100, stop=LENGTH - 50)
        assert ready.trades_hash == single.trades_hash and ready.metrics == pytest.approx(
            single.metrics, rel=0, abs=0, nan_ok=True
        )
    assert len(set(result.trades_hash)) > 15
    assert result.trades.max() > 10


@pytest.mark.parametrize("cls", [Crossing, Branching])
def test_neither_order_nor_number_of_configs_nor_threads_change_a_bit(features, cls):
    configs = draw(cls, 60)
    together = rows(sweep(features, cls, configs, E, start=0, stop=LENGTH))
    order = np.random.default_rng(1).permutation(60)
    shuffled = sweep(features, cls, [configs[p] for p in order], E, start=0, stop=LENGTH)
    assert rows(shuffled) == [together[p] for p in order]
    for p in (0, 7, 59):
        assert rows(sweep(features, cls, [configs[p]], E, start=0, stop=LENGTH)) == [together[p]]
    assert rows(sweep(features, cls, configs, E, start=0, stop=LENGTH, threads=2)) == together
    assert rows(sweep(features, cls, configs, E, start=0, stop=LENGTH, threads=99)) == together


def test_one_config_equals_the_same_one_among_a_thousand(features):
    configs = draw(Crossing, 1000)
    many = sweep(features, Crossing, configs, E, start=0, stop=400)
    for p in (0, 500, 999):
        assert row(many, p) == row(sweep(features, Crossing, [configs[p]], E, start=0, stop=400), 0)


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)
@pytest.mark.parametrize("chunk", [1, 7, 100, 500, LENGTH])
def test_chunks_change_no_bit(features, chunk, execution):
    configs = draw(Crossing, 12)
    whole = rows(sweep(features, Crossing, configs, execution, start=30, stop=LENGTH, daily_returns=True))
    cut = sweep(
        features, Crossing, configs, execution, start=30, stop=LENGTH, chunk=chunk, daily_returns=True
    )
    assert rows(cut) == whole


@pytest.mark.parametrize("metrics", ["all", "core"])
@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)
def test_a_state_that_was_saved_goes_on_with_the_same_bits(features, tmp_path, execution, metrics):
    configs = draw(Crossing, 20)

    def part(stop, state=None):
        return sweep(
            features, Crossing, configs, execution, start=60, stop=stop, state=state, metrics=metrics
        )

    whole, state = part(LENGTH), None
    for stop in (61, 200, 201, 900):
        reached = part(stop, state)
        np.save(tmp_path / "state.npy", reached.state)
        state = np.load(tmp_path / "state.npy")
        assert rows(reached) == rows(part(stop))
    assert rows(part(LENGTH, state)) == rows(whole)


def test_two_processes_with_other_hash_seeds_give_the_same_bits():
    code = """
import hashlib
from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.simulation import Execution, sweep
from engine.strategies.registry import get
configs = [{"fast": n, "slow": 40, "adx_min": n / 2} for n in range(3, 30)]
features = FeatureSet(make_bars(5, 600), 0.01)
result = sweep(features, get("trend"), configs, Execution(), start=0, stop=600)
print(hashlib.sha256(result.state.tobytes() + result.sharpe.tobytes()).hexdigest(), *result.trades_hash)
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1 and len(said.pop().split()) == 28


def test_spans_equal_separate_sweeps(features):
    spans = [(50, 200), (200, 350), (350, 600), (600, 600)]
    configs = draw(TREND, 10)
    together = sweep_spans(features, TREND, configs, E, spans)
    for (start, stop), result in zip(spans, together, strict=True):
        alone = sweep(features, TREND, configs, E, start=start, stop=stop)
        assert (result.start, result.stop) == (start, stop)
        assert rows(result) == rows(alone)


def test_bars_after_the_span_change_nothing():
    bars = make_bars(5, 600)
    long, short = FeatureSet(bars, 0.01), FeatureSet(bars.slice(0, 400), 0.01)
    configs = draw(Crossing, 10)
    a = sweep(long, Crossing, configs, E, start=100, stop=400)
    b = sweep(short, Crossing, configs, E, start=100, stop=400)
    assert rows(a) == rows(b)


def test_no_configs_give_empty_columns(features):
    result = sweep(features, TREND, [], E, start=0, stop=100)
    assert result.roi.shape == result.trades.shape == (0,)
    assert result.trades_hash == [] and result.state.shape == (0, N_STATE)


def test_no_bars_give_runs_without_signals(features):
    result = sweep(features, TREND, [{}], E, start=5, stop=5, daily_returns=True)
    assert_equal_bits(result, 0, run(features, TREND, {}, E, start=5, stop=5))
    assert result.daily_returns.shape == (1, 0)


def test_configs_may_be_arrays(features):
    listed = [{"fast": n, "wide": x} for n, x in ((5, 1.0), (8, 2.5), (9, 3.0))]
    arrays = {"fast": np.array([5, 8, 9]), "wide": [1.0, 2.5, 3.0]}
    a = sweep(features, Crossing, listed, E, start=0, stop=500)
    b = sweep(features, Crossing, arrays, E, start=0, stop=500)
    assert rows(a) == rows(b)


def test_daily_returns_are_those_of_the_equity(features):
    configs = draw(Crossing, 6)
    result = sweep(features, Crossing, configs, E, start=40, stop=LENGTH, chunk=97, daily_returns=True)
    day = features.bars.ts[40:LENGTH] // 86_400_000_000
    last = np.append(np.flatnonzero(np.diff(day)), len(day) - 1)
    for p, config in enumerate(configs):
        equity = run(features, Crossing, config, E, start=40, stop=LENGTH).equity[last]
        expected = equity / np.append(E.initial_cash, equity[:-1]) - 1.0
        assert result.daily_returns[p].tobytes() == expected.tobytes()
    assert sweep(features, Crossing, configs, E, start=40, stop=LENGTH).daily_returns is None


CORE = (
    "roi", "cagr", "log_growth", "max_drawdown", "max_drawdown_bars", "calmar", "profit_factor", "win_rate",
    "gross_profit", "fees", "slippage", "financing", "dividends", "trades", "n_obs", "final_equity", "years",
    "annual_days", "status",
)  # fmt: skip


def test_core_metrics_are_those_of_all(features):
    configs = draw(Crossing, 15)
    full = sweep(features, Crossing, configs, E, start=0, stop=LENGTH)
    core = sweep(features, Crossing, configs, E, start=0, stop=LENGTH, metrics="core", chunk=111)
    for name in CORE:
        assert getattr(core, name).tobytes() == getattr(full, name).tobytes(), name
    assert core.trades_hash == full.trades_hash
    left_out = {"sharpe", "sharpe_bar", "sortino", "turnover", "exposure", "skew", "kurt", "sum_r"}
    assert all(np.isnan(getattr(core, name)).all() for name in left_out)
    assert not any(np.isnan(getattr(full, name)).all() for name in left_out)


def test_status_and_hash_are_those_of_the_state(features):
    class Reckless(Crossing):
        @staticmethod
        def rules(p):
            return Rules(enter_long=price("close") > sma("close", p.fast), size=Units(20_000.0))

    marked = Execution(close_at_end=False)
    found = set()
    for cls, configs, execution in (
        (Crossing, draw(Crossing, 30), marked),
        (TREND, [{"adx_min": 60.0}], marked),
        (Crossing, [{}], replace(marked, min_qty=1e9)),
        (Reckless, draw(Crossing, 5), replace(marked, leverage=500.0, slippage_bps=900.0)),
    ):
        result = sweep(features, cls, configs, execution, start=0, stop=300)
        for p, status in enumerate(result.status):
            assert status == status_of(result.state[p])
            assert result.trades_hash[p] == hash_of(result.state[p])
            found.add(result.statuses[status])
    assert found == {"valid", "no_signal", "blocked", "halted"}


def test_a_parameter_that_is_not_declared_is_named(features):
    with pytest.raises(ConfigError, match=r"parameter 'fats' is not declared"):
        sweep(features, TREND, [{"fats": 3}], E, start=0, stop=100)


def test_a_column_that_does_not_exist_names_strategy_and_symbol(features):
    class Misspelt(Crossing):
        name = "misspelt"

        @staticmethod
        def rules(p):
            return Rules(enter_long=sma("clsoe", p.fast) > 1)

    with pytest.raises(
        ConfigError, match=r"^strategy misspelt on TEST with \{'fast': \d+.*Closest: close, low\.$"
    ):
        sweep(features, Misspelt, draw(Crossing, 9), E, start=0, stop=100)


def test_an_impossible_bar_is_refused(features):
    bars = features.bars
    broken = replace(bars, high=np.where(np.arange(LENGTH) == 50, bars.low / 2, bars.high))
    with pytest.raises(DataError, match="E05"):
        sweep(FeatureSet(broken), TREND, [{}], E, start=0, stop=100)


def test_ten_thousand_configs_need_little_memory():
    class Pairs(Strategy):
        name = "pairs"
        parameters = {"fast": Int(2, 201, default=10), "slow": Int(2, 201, default=30)}

        @staticmethod
        def rules(p):
            fast, slow = sma("close", p.fast), sma("close", p.slow)
            return Rules(enter_long=cross_above(fast, slow), exit_long=cross_below(fast, slow))

    features = FeatureSet(make_bars(1, 5000, "1h"), 0.01)
    pairs = [(a, b) for a in range(2, 202) for b in range(a + 1, 202)][::2][:10_000]
    configs = [{"fast": a, "slow": b} for a, b in pairs]
    tracemalloc.start()
    result = sweep(features, Pairs, configs[:9950], E, start=0, stop=5000, metrics="core")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.trades > 0).mean() > 0.9
    assert peak < 60e6  # a table of 8 MB, two states of 6.5 MB each, metrics, and their copies


@bar_function
def follow(t, bars, F, p, pos, state, out):
    state[0] += 1.0
    if bars[3, t] > F[0, t]:
        return 1 if pos[0] <= 0.0 else 0
    return 4 if state[0] > p[0] else 0


class Expert(Strategy):
    name, kind, bar, state_size = "follow", "bars", follow, 1
    parameters = {"wait": Int(0, 500, default=0)}

    @staticmethod
    def columns(p):
        return ["sma.close.n=20"]


def test_a_compiled_strategy_is_swept_config_by_config(features):
    configs = [{"wait": n} for n in (0, 100, 300)]
    result = sweep(features, Expert, configs, E, start=100, stop=600, daily_returns=True)
    for p, config in enumerate(configs):
        single = run(features, Expert, config, E, start=100, stop=600)
        assert_equal_bits(result, p, single)
        total = np.prod(1.0 + result.daily_returns[p]) - 1.0
        assert total == pytest.approx(single.metrics["roi"], rel=1e-9)
    assert len(set(result.trades_hash)) == 3
    both = sweep_spans(features, Expert, configs, E, [(0, 300), (100, 600)])
    assert both[1].trades_hash == result.trades_hash and both[1].sharpe.tobytes() == result.sharpe.tobytes()
    with pytest.raises(ConfigError, match="^strategy follow is of kind bars; on_chunk"):
        sweep(features, Expert, configs, E, start=0, stop=600, on_chunk=lambda *told: np.zeros(3, bool))
