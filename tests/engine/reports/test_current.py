"""Orders are current only where the fit that made them is one of the settings of now."""

import pytest

from engine.lake.publish import Lake
from engine.reports.current import current_orders
from engine.reports.leaderboard import index_page
from engine.reports.results import load

DAY = 86_400_000_000
LEFT_OUT = "AAA trend: settings changed since its last fit; run nightfold run AAA"


@pytest.fixture
def lake(example, tmp_path):
    """Two strategies with an order each; trend has a fit of an earlier night too, of other settings."""
    lake = Lake(tmp_path)

    def row(strategy, day, **values):
        return {
            "symbol": "AAA",
            "strategy": strategy,
            "policy": "",
            "asof": example.when(day * DAY),
            **values,
        }

    fits = [row(name, 16000, **example.FIT) for name in ("trend", "mean")]
    example.publish(lake, "folds", "AAA", [])
    example.publish(lake, "nightly", "AAA", [row("trend", 15999, selected=True, procedure="old"), *fits])
    orders = [row(name, 16000, action="none", note=f"quiet {name}") for name in ("trend", "mean")]
    example.publish(lake, "next_orders", "AAA", orders)
    return lake


@pytest.mark.parametrize(
    "now, shown, said",
    [
        ({"trend": "p", "mean": "p"}, ["trend", "mean"], []),
        ({"trend": "other", "mean": "p"}, ["mean"], [LEFT_OUT]),
        ({"trend": "old", "mean": "p"}, ["mean"], [LEFT_OUT]),  # an earlier night's fit made no order here
        ({"mean": "p"}, ["mean"], [LEFT_OUT]),
        ({}, [], [LEFT_OUT, LEFT_OUT.replace("trend", "mean")]),
    ],
)
def test_orders_of_other_settings_are_left_out_with_a_line(lake, now, shown, said):
    orders, lines = current_orders(lake, "AAA", now)
    assert [row["strategy"] for row in orders] == shown
    assert lines == said


def test_orders_of_fits_that_were_made_again_are_left_out_even_where_the_new_ones_are_of_now(lake, example):
    """The stage of the fits alone was run: table nightly no longer holds what the orders rest on."""
    table = lake.read("folds", "AAA")
    lake.publish("folds", "AAA", table, {**lake.record("folds", "AAA"), "result_id": "anew"})
    orders, lines = current_orders(lake, "AAA", {"trend": "p", "mean": "p"})
    assert orders == []
    assert lines[0] == "AAA trend: fitted anew since its last orders; run nightfold run AAA"


def test_the_first_page_shows_current_orders_and_the_line(lake):
    one = load(lake, "AAA", procedures={"mean": "p"})
    page = index_page([one], asof_us=None, confidence=0.95, sample_symbols=())
    assert "quiet mean" in page and "quiet trend" not in page and LEFT_OUT in page
    none = load(lake, "AAA", procedures={})
    page = index_page([none], asof_us=None, confidence=0.95, sample_symbols=())
    assert "quiet mean" not in page and LEFT_OUT in page and "No order is known yet" not in page
