"""Configs in lockstep: `on_chunk` is told of all of them and may stop some."""

import re
from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, sweep
from engine.simulation.metrics import METRICS
from engine.simulation.slots import N_STATE, T_NEXT
from engine.strategies.registry import get
from engine.strategies.rules import Rules, Units, price

Trend = get("trend")
E = Execution(tick=0.01, borrow_bps_year=50.0)
LENGTH = 1300


class Branching(Trend):
    """It must be asked once for each config."""

    @staticmethod
    def rules(p):
        rules = Trend.rules(p)
        return replace(rules, enter_short=None) if p.fast > 10 else rules


def draw(cls, count):
    rng = np.random.default_rng(0)
    fast, x = rng.integers(3, 30, count).tolist(), rng.random(count).tolist()
    return [
        {"fast": n, "slow": n + 15, "adx_min": 20 * y, "target_atr": 1 + y}
        for n, y in zip(fast, x, strict=True)
    ]


@pytest.fixture(scope="module")
def features():
    return FeatureSet(make_bars(5, LENGTH, "1h", dividends=True), 0.01)


def row(result, p):
    """What a sweep says of one config, as bytes."""
    names = [name for name in METRICS if name != "n_trades"]
    numbers = [getattr(result, name)[p] for name in (*names, "trades", "status", "pruned_at")]
    numbers += [column[p] for column in result.counters.values()]
    days = b"" if result.daily_returns is None else result.daily_returns[p].tobytes()
    return (
        np.array(numbers, float).tobytes() + result.state[p].tobytes() + days + result.trades_hash[p].encode()
    )


def rows(result):
    return [row(result, p) for p in range(len(result.roi))]


def assert_equal_bits(result, p, single):
    for name in METRICS:
        column = result.trades.astype(float) if name == "n_trades" else getattr(result, name)
        assert column[p].tobytes() == np.float64(single.metrics[name]).tobytes(), name
    assert result.trades_hash[p] == single.trades_hash
    assert result.statuses[result.status[p]] == single.status
    assert result.pruned_at[p] == (-1 if single.pruned_at is None else single.pruned_at)


class Recorder:
    """An ``on_chunk`` that keeps what it is told and stops what it was told to."""

    def __init__(self, stops=None):
        self.calls, self.stops = [], stops or {}

    def __call__(self, step, value, alive):
        self.calls.append((step, value, alive))
        stop = np.zeros(len(value), bool)
        stop[self.stops.get(step, [])] = True
        return stop


def test_a_callback_that_stops_nothing_changes_no_bit(features):
    configs, recorder = draw(Trend, 20), Recorder()
    told = sweep(features, Trend, configs, E, start=10, stop=LENGTH, on_chunk=recorder, chunk=500)
    assert rows(told) == rows(sweep(features, Trend, configs, E, start=10, stop=LENGTH))
    assert [step for step, _, _ in recorder.calls] == [500, 1000]
    for step, value, alive in recorder.calls:
        assert alive.tolist() == [True] * 20
        for p, config in enumerate(configs):
            single = run(features, Trend, config, E, start=10, stop=LENGTH)
            assert value[p] == single.equity[step - 1] / E.initial_cash - 1.0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cls", [Trend, Branching])
def test_a_stopped_config_ends_as_a_pruned_run(features, cls, threads):
    configs = draw(cls, 20)
    recorder = Recorder({500: [3, 4, 19], 1000: [3, 0]})
    told = sweep(
        features, cls, configs, E, start=10, stop=LENGTH, on_chunk=recorder, threads=threads,
        daily_returns=True,
    )  # fmt: skip
    plain = sweep(features, cls, configs, E, start=10, stop=LENGTH, daily_returns=True)
    at = {3: 500, 4: 500, 19: 500, 0: 1000}
    assert recorder.calls[1][2].tolist() == [p not in (3, 4, 19) for p in range(20)]
    assert recorder.calls[1][1][3] == recorder.calls[0][1][3]  # its value stays
    for p, config in enumerate(configs):
        if p not in at:
            assert row(told, p) == row(plain, p)
            continue
        single = run(
            features, cls, config, E, start=10, stop=LENGTH, prune_every=500,
            pruning_callback=lambda step, value, p=p: step == at[p],
        )  # fmt: skip
        assert single.status == "pruned"
        assert_equal_bits(told, p, single)
        days = told.daily_returns[p]
        known = np.flatnonzero(~np.isnan(days))
        assert known.tolist() == list(range(len(known))) and 0 < len(known) < len(days)
        assert np.prod(1.0 + days[known]) == pytest.approx(1.0 + told.roi[p], rel=1e-12)


def test_a_pruned_config_can_go_on(features):
    configs = draw(Trend, 8)
    told = sweep(features, Trend, configs, E, start=0, stop=1100, on_chunk=Recorder({500: [2], 1000: [5]}))
    assert told.state[:, T_NEXT].tolist() == [1100, 1100, 500, 1100, 1100, 1000, 1100, 1100]
    on = sweep(features, Trend, configs, E, start=0, stop=LENGTH, state=told.state)
    assert rows(on) == rows(sweep(features, Trend, configs, E, start=0, stop=LENGTH))


def test_all_stopped_ends_the_sweep(features):
    recorder = Recorder({500: range(5)})
    told = sweep(features, Trend, draw(Trend, 5), E, start=0, stop=LENGTH, on_chunk=recorder)
    assert [step for step, _, _ in recorder.calls] == [500]
    assert told.pruned_at.tolist() == [500] * 5
    assert {told.statuses[k] for k in told.status} == {"pruned"}
    assert told.n_obs.tolist() == [500.0] * 5


def test_an_exception_of_the_callback_arrives_unchanged(features):
    error = KeyError("storage is broken")

    def broken(step, value, alive):
        raise error

    with pytest.raises(KeyError) as caught:
        sweep(features, Trend, draw(Trend, 5), E, start=0, stop=LENGTH, on_chunk=broken)
    assert caught.value is error


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            None,
            "on_chunk returned object of shape (); expected one bool per config, shape (3,): True stops it",
        ),
        (
            [True],
            "on_chunk returned bool of shape (1,); expected one bool per config, shape (3,): True stops it",
        ),
        (
            [0, 1, 0],
            "on_chunk returned int64 of shape (3,); expected one bool per config, shape (3,): True stops it",
        ),
    ],
)
def test_an_answer_that_is_no_bool_per_config_is_refused(features, answer, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        sweep(features, Trend, draw(Trend, 3), E, start=0, stop=LENGTH, on_chunk=lambda *told: answer)


def test_short_chunks_with_a_callback_are_warned_of(features):
    configs, recorder = draw(Trend, 3), Recorder()
    with pytest.warns(UserWarning, match="^chunk was 100 with on_chunk; below 500 bars the calls cost more"):
        told = sweep(features, Trend, configs, E, start=0, stop=350, chunk=100, on_chunk=recorder)
    assert [step for step, _, _ in recorder.calls] == [100, 200, 300]
    assert rows(told) == rows(sweep(features, Trend, configs, E, start=0, stop=350))


def test_an_equity_that_is_not_finite_ends_that_config_only(features):
    class Huge(Trend):
        @staticmethod
        def rules(p):
            return Rules(enter_long=price("close").lag(p.fast) > 0, size=Units(p.stop_atr * 0.5e308))

    execution, recorder = Execution(leverage=1e305), Recorder({500: [0, 1]})
    configs = [{"fast": n} for n in (3, 4, 50)]
    told = sweep(features, Huge, configs, execution, start=600, stop=LENGTH, on_chunk=recorder)
    assert not recorder.calls
    for p, config in enumerate(configs):
        single = run(features, Huge, config, execution, start=600, stop=LENGTH)
        assert single.status == "invalid_numeric"
        assert_equal_bits(told, p, single)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk was 0; expected a whole number >= 1"),
        ({"chunk": 2.0}, "chunk was 2.0; expected a whole number >= 1"),
        ({"threads": True}, "threads was True; expected a whole number >= 1"),
        ({"metrics": "cor"}, "metrics was 'cor'. Closest: core."),
        (
            {"state": np.zeros((2, 3))},
            f"state had shape (2, 3), expected (1, {N_STATE}), a row per config",
        ),
        (
            {"state": "stop", "daily_returns": True},
            "daily_returns were asked for with a state; expected a run from its first bar",
        ),
        (
            {"state": "stop"},
            "state stands after 300 bars of a span of 300; expected a later stop",
        ),
        (
            {"state": "earlier", "metrics": "core"},
            "state holds the sums of other metrics; expected those of the run that it comes from "
            "(metrics was 'all')",
        ),
    ],
)
def test_options_that_cannot_be_used_are_refused(features, options, message):
    if isinstance(options.get("state"), str):
        stop = {"stop": 300, "earlier": 200}[options["state"]]
        options = {**options, "state": sweep(features, Trend, [{}], E, start=0, stop=stop).state}
    with pytest.raises(ConfigError) as caught:
        sweep(features, Trend, [{}], E, start=0, stop=300, **options)
    assert str(caught.value) == message
