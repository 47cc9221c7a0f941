"""Each check passes on a sound lake and finds the defect that it is there for."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.errors import LakeError
from engine.features import registry
from engine.stages import verify
from engine.stages.common import PER_SYMBOL

SYMBOL = "ALFA"


def _replace(bench, table, column, change):
    """Publish a table again with one column changed."""
    rows = bench.table(table)
    values = change(rows[column].to_numpy(zero_copy_only=False).copy())
    index = rows.schema.get_field_index(column)
    rows = rows.set_column(index, column, pa.array(values, rows.schema.field(column).type))
    bench.lake.publish(table, SYMBOL, rows, {"result_id": "changed"})


def _check(bench, function):
    return function(bench.lake, SYMBOL, bench.settings)


@pytest.mark.parametrize("stage", PER_SYMBOL)
def test_all_checks_pass_on_what_the_stages_made(small_lake, stage):
    assert verify.CHECKS[stage]
    for function in verify.CHECKS[stage]:
        check = function(small_lake.lake, SYMBOL, small_lake.settings)
        assert check.passed, check.note
        assert check.name == function.__name__
    verify.refuse_failed(small_lake.first[stage], small_lake.lake, small_lake.settings)


def _at(position, value):
    def change(column):
        column[position] = value
        return column

    return change


@pytest.mark.parametrize(
    "column, change, rule",
    [
        ("close", _at(100, np.nan), "E03"),
        ("low", _at(100, 0.0), "E04"),
        ("low", _at(100, 1e6), "E05"),
        ("high", _at(100, 0.01), "E05"),
        ("volume", _at(100, -1.0), "E10"),
        ("ts", lambda ts: ts[::-1], "E07"),
    ],
)
def test_an_impossible_bar_is_found(early, column, change, rule):
    _replace(early, "bars", column, change)
    check = _check(early, verify.bars_pass_the_error_rules)
    assert not check.passed and check.blocking and f"'{rule}'" in check.note


def test_a_stored_feature_that_knows_the_next_bar_is_found(early):
    _replace(early, "features", "sma.close.n=20", lambda x: np.append(x[1:], np.nan))
    check = _check(early, verify.features_know_no_later_bar)
    assert not check.passed and check.blocking
    assert "sma.close.n=20 at bar" in check.note and "rsi" not in check.note


@pytest.fixture
def peeking_feature(monkeypatch):
    """A registered feature that reads the close of the next bar."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))

    @registry.feature("peek", code_version=1, inputs=("close",), first_valid=lambda p: 0, window=lambda p: 1)
    def peek(close):
        return np.append(close[1:], close[-1])


def test_a_feature_computed_with_look_ahead_is_found_by_the_chain_s_check(early, peeking_feature):
    early.change(features={"columns": ["sma.close.n=20", "peek"]})
    result = early.chain()["features"]
    with pytest.raises(
        LakeError, match=r"ALFA features: check features_know_no_later_bar failed .*peek at bar"
    ):
        verify.refuse_failed(result, early.lake, early.settings)


def test_crossed_and_falling_quantiles_are_found(early):
    for change in (lambda x: -x, _at(40, 9.0), _at(41, -9.0)):
        _replace(early, "forecasts", "value", change)
        assert not _check(early, verify.forecasts_are_ordered).passed


def test_an_incomplete_forecast_is_found(early):
    early.lake.publish("forecasts", SYMBOL, early.table("forecasts").slice(1), {"result_id": "changed"})
    check = _check(early, verify.forecasts_are_ordered)
    assert not check.passed and "complete False" in check.note


def test_a_model_proven_worse_warns_and_blocks_nothing(early):
    _replace(early, "forecast_quality", "verdict", lambda x: np.array(["loses"] * len(x)))
    check = _check(early, verify.forecasts_against_baselines)
    assert (check.passed, check.blocking) == (False, False)
    assert "close step 1" in check.note
    verify.refuse_failed(early.chain()["forecasts"], early.lake, early.settings)


@pytest.mark.parametrize(
    "column, shift, found",
    [("train_to", 1, True), ("test_from", -1, True), ("purge_bars", 1, True), ("test_to", 1, True),
     ("train_to", -1, False), ("test_to", -1, False)],
)  # fmt: skip
def test_a_test_bar_in_training_or_in_two_tests_is_found(early, column, shift, found):
    _replace(
        early, "folds", column, lambda x: np.where(early.table("folds")["fold"].to_numpy() == 2, x + shift, x)
    )
    check = _check(early, verify.no_test_bar_in_training)
    assert check.passed != found
    assert ("fold" in check.note.split("wrong:")[1]) == found


def test_a_lost_trade_is_found(early):
    trades = early.table("trades")
    one = pc.and_(pc.equal(trades["strategy"], "trend"), pc.equal(trades["trade"], 3))
    early.lake.publish("trades", SYMBOL, trades.filter(pc.invert(one)), {"result_id": "changed"})
    check = _check(early, verify.trades_sum_to_the_change_of_equity)
    assert not check.passed and check.blocking and check.metadata["largest_gap"] > 1e-9


def test_equity_outside_its_test_span_is_found(early):
    _replace(early, "equity", "fold", lambda x: np.where(x == 2, 3, x))
    check = _check(early, verify.results_are_out_of_sample)
    assert not check.passed and "outside the test span" in check.note


def test_a_blocking_check_stops_the_symbol_with_its_name(early):
    result = early.chain()["features"]
    _replace(early, "features", "atr.n=14", lambda x: np.append(x[1:], np.nan))
    with pytest.raises(LakeError, match=r"check features_know_no_later_bar failed .* nightfold doctor"):
        verify.refuse_failed(result, early.lake, early.settings)


@pytest.mark.parametrize("strategy, copies", [("trend", 2), ("levels_always_on", 0), ("levels_always_on", 2)])
def test_a_fold_with_no_or_two_chosen_fits_is_found(early, strategy, copies):
    """Also the open fold, whose test span may still be empty."""
    rows = early.table("folds")
    last = max(r["fold"] for r in rows.to_pylist() if r["strategy"] == strategy)
    mine = pc.and_(pc.equal(rows["strategy"], strategy), pc.equal(rows["fold"], last))
    mine = pc.and_(mine, rows["selected"])
    changed = pa.concat_tables([rows.filter(pc.invert(mine)), *[rows.filter(mine)] * copies])
    early.lake.publish("folds", SYMBOL, changed, {"result_id": "changed"})
    check = _check(early, verify.no_test_bar_in_training)
    assert not check.passed and f"{strategy} fold {last}: {copies} fits chosen" in check.note
