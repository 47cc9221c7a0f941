"""A sweep gives the numbers of single runs, bit for bit."""

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.simulation import Execution, run, sweep, sweep_spans
from engine.simulation.metrics import METRICS
from engine.strategies.registry import get

TREND = get("trend")
CONFIGS = [
    {"fast": fast, "slow": fast + 15, "adx_min": adx_min, "stop_atr": 1.5, "target_atr": target}
    for fast, adx_min, target in [
        (3, 5.0, 2.0),
        (5, 10.0, 3.0),
        (8, 0.0, 1.0),
        (20, 60.0, 4.0),
        (13, 15.0, 2.5),
    ]
]
EXECUTION = Execution(tick=0.01, borrow_bps_year=50.0)


@pytest.fixture(scope="module")
def features():
    return FeatureSet(make_bars(5, 600, dividends=True), 0.01)


def assert_equal_bits(result, p, single):
    for name in METRICS:
        column = result.trades.astype(float) if name == "n_trades" else getattr(result, name)
        assert column[p].tobytes() == np.float64(single.metrics[name]).tobytes(), name
    assert result.trades_hash[p] == single.trades_hash
    assert result.statuses[result.status[p]] == single.status
    assert {name: int(column[p]) for name, column in result.counters.items()} == single.counters


def test_a_sweep_equals_single_runs_bit_for_bit(features):
    result = sweep(features, TREND, CONFIGS, EXECUTION, start=100, stop=550)
    for p, config in enumerate(CONFIGS):
        assert_equal_bits(result, p, run(features, TREND, config, EXECUTION, start=100, stop=550))
    assert len(set(result.trades_hash)) > 3


def test_order_and_number_of_configs_change_nothing(features):
    forward = sweep(features, TREND, CONFIGS, EXECUTION, start=0, stop=600)
    backward = sweep(features, TREND, CONFIGS[::-1], EXECUTION, start=0, stop=600)
    assert forward.trades_hash == backward.trades_hash[::-1]
    assert forward.sharpe.tobytes() == backward.sharpe[::-1].tobytes()


def test_spans_equal_separate_sweeps(features):
    spans = [(50, 200), (200, 350), (350, 600)]
    together = sweep_spans(features, TREND, CONFIGS, EXECUTION, spans)
    for (start, stop), result in zip(spans, together, strict=True):
        alone = sweep(features, TREND, CONFIGS, EXECUTION, start=start, stop=stop)
        assert (result.start, result.stop) == (start, stop)
        assert result.trades_hash == alone.trades_hash
        assert result.log_growth.tobytes() == alone.log_growth.tobytes()


def test_bars_after_the_span_change_nothing():
    bars = make_bars(5, 600)
    long, short = FeatureSet(bars, 0.01), FeatureSet(bars.slice(0, 400), 0.01)
    a = sweep(long, TREND, CONFIGS, EXECUTION, start=100, stop=400)
    b = sweep(short, TREND, CONFIGS, EXECUTION, start=100, stop=400)
    assert a.trades_hash == b.trades_hash
    assert a.sharpe.tobytes() == b.sharpe.tobytes()


def test_no_configs_give_empty_columns(features):
    result = sweep(features, TREND, [], EXECUTION, start=0, stop=100)
    assert result.roi.shape == result.trades.shape == (0,)
    assert result.trades_hash == []


def test_a_parameter_that_is_not_declared_is_named(features):
    with pytest.raises(ConfigError, match=r"parameter 'fats' is not declared"):
        sweep(features, TREND, [{"fats": 3}], EXECUTION, start=0, stop=100)
