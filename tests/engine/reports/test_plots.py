"""Figures: only what the lake holds is drawn, and axes stay readable on real ranges."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.reports import plots
from engine.reports.results import Curve, load


@pytest.fixture(scope="module")
def results(example_lake):
    return load(example_lake, "AAPL")


def test_equity_shows_four_variants_twice_and_tuned_on_top(results):
    figure = plots.equity_figure(results, "trend")
    names = [trace.name for trace in figure.data]
    assert sorted(names) == sorted(["Tuned", "Untuned", "Matched hold", "Buy and hold"] * 2)
    assert names[-1] == "Tuned"
    assert figure.layout.yaxis.type == "log"


def test_parameters_are_one_step_line_each_with_the_fit_of_tonight(results):
    figure = plots.parameters_figure(results, "trend")
    names = ("adx_min", "fast", "slow", "stop_atr", "target_atr")
    assert [note.text for note in figure.layout.annotations] == list(names)
    assert [trace.line.shape for trace in figure.data[::2]] == ["hv"] * 5
    assert [trace.name for trace in figure.data[1::2]] == ["Tonight's fit"] * 5


def _levels(results, statuses, offsets):
    """Return results of one levels strategy whose folds have the given statuses and high offsets."""
    base = [row for row in results.folds if row["strategy"] == "levels_entry_exit" and row["selected"]]
    made = [
        {**row, "status": status, "params": json.dumps({"u": u, "v": -0.001 * i})}
        for i, (row, status, u) in enumerate(zip(base, statuses, offsets, strict=False))
    ]
    return replace(results, folds=made, nightly=[{**made[0], "asof": made[-1]["test_end"]}])


def test_a_fold_that_traded_nothing_is_a_gap_and_a_lone_fold_a_line(results):
    statuses, u = ("abstain", "ok", "abstain", "ok"), (0.01, 0.02, 0.03, 0.025)
    figure = plots.parameters_figure(_levels(results, statuses, u), "levels_entry_exit")
    high = figure.data[0]
    assert list(high.y) == [None, None, 0.02, 0.02, None, None, 0.025, 0.025]
    assert high.x[2] < high.x[3] <= high.x[6] < high.x[7]
    assert all(trace.mode == "lines" for trace in figure.data)  # tonight's fit abstains too: no diamond
    assert plots.parameters_figure(_levels(results, ["abstain"] * 5, u), "levels_entry_exit") is None


@pytest.mark.parametrize("u", [0.03, 0.0, -0.03])
def test_a_parameter_that_never_moves_has_an_axis_around_it(results, u):
    figure = plots.parameters_figure(_levels(results, ["ok"] * 5, [u] * 5), "levels_entry_exit")
    low, high = figure.layout.yaxis.range
    assert low < u < high and high - low <= 0.01
    assert figure.layout.yaxis2.range is None  # moves: plotly finds its range


def test_the_begin_of_the_test_bars_is_named_in_the_legend_not_over_the_prices(results):
    some = replace(results, trades=results.trades.slice(0, 0))
    figure = plots.price_figure(some, "trend")
    assert [trace.name for trace in figure.data] == ["Close", "Out-of-sample from here"]
    assert {note.text for note in figure.layout.annotations} == {"Price, log scale"}
    first = min(row["test_start"] for row in results.chosen_folds("trend"))
    assert set(figure.data[1].x) == {np.datetime64(first, "ms").astype(float)}


def test_gap_has_one_pair_per_fold(results):
    figure = plots.gap_figure(results, "trend")
    rows = results.per_fold("trend")
    np.testing.assert_allclose(figure.data[1].y, [row["in_sample_bps_per_bar"] for row in rows])
    np.testing.assert_allclose(figure.data[2].y, [row["bps_per_bar"] for row in rows])


def test_nothing_to_draw_gives_no_figure(results):
    bare = replace(results, bars=None, folds=(), backtests=())
    assert plots.price_figure(bare, "trend") is None
    assert plots.parameters_figure(bare, "trend") is None
    assert plots.gap_figure(bare, "trend") is None


def test_many_trades_open_the_view_on_the_latest(results):
    few = plots.price_figure(results, "levels_entry_exit")
    assert few.layout.xaxis.range is None
    table = results.trades
    while len(table) < 3000:
        table = pa.concat_tables([table, table])
    many = replace(results, trades=table)
    figure = plots.price_figure(many, "levels_entry_exit")
    marks = sum(len(trace.x) for trace in figure.data if trace.mode == "markers" and "entry" in trace.name)
    assert marks == plots.MOST_MARKED
    assert figure.layout.xaxis.range is not None


def test_account_that_lost_all_leaves_the_log_axis():
    equity = np.array([100.0, 50.0, 1.0, -20.0, 30.0])
    curve = Curve(np.arange(5), equity, np.zeros(5))
    np.testing.assert_array_equal(curve.drawable(), [100.0, 50.0, np.nan, np.nan, np.nan])
    whole = Curve(np.arange(2), equity[:2], np.zeros(2))
    np.testing.assert_array_equal(whole.drawable(), equity[:2])


def test_drawdown_axis_ends_at_all_of_it(results):
    equity = results.equity
    place = equity.column_names.index("drawdown")
    deep = replace(results, equity=equity.set_column(place, "drawdown", pa.array([8.0] * len(equity))))
    assert plots.equity_figure(deep, "trend").layout.yaxis2.range[0] == pytest.approx(-1.05)


def test_log_ticks_stay_apart_over_decades():
    assert plots._log_axis(300.0, 600.0)["dtick"] is None
    assert plots._log_axis(6.0, 700.0)["dtick"] == "D2"
    assert plots._log_axis(1.0, 1e5)["dtick"] == 1
