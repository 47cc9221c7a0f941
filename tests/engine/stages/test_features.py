import numpy as np

from engine.features.table import FeatureSet
from engine.stages.common import read_bars

SYMBOL = "ALFA"


def test_stored_columns_are_those_computed_from_the_bars(small_lake):
    bars = read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))
    stored, made = small_lake.table("features"), FeatureSet(bars, 0.01)
    assert stored.num_columns > 8
    for name in stored.column_names[2:]:
        np.testing.assert_array_equal(stored[name].to_numpy(), made.column(name))
    assert stored["ts"].equals(small_lake.table("bars")["ts"])


def test_another_tick_makes_the_columns_anew_and_another_cost_does_not(early):
    early.change(costs={"stock": {"slippage_bps": 4.0}})
    assert early.chain()["features"].unchanged
    early.change(symbols={SYMBOL: {"tick": 0.05}})
    assert not early.chain()["features"].unchanged
