"""Stored accounts against the tables they come from."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from engine.features.table import FeatureSet
from engine.lake.publish import rows_of
from engine.search.rules_fit import RulesFitter
from engine.simulation import run
from engine.stages.common import execution_of, median_forecasts, read_bars
from engine.strategies import registry
from engine.validation import out_of_sample as oos

SYMBOL, CASH = "ALFA", 100_000.0
VARIANTS = ("tuned", "untuned", "buy_and_hold", "matched_hold", "no_trade")


@pytest.fixture(scope="module")
def bars(small_lake):
    return read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))


def _account(bench, name, variant, column="equity"):
    table = bench.table("equity")
    keep = pc.and_(pc.equal(table["strategy"], name), pc.equal(table["variant"], variant))
    return table.filter(keep)[column].to_numpy()


def test_the_stitched_account_is_one_direct_run_a_fold(small_lake, bars):
    """From the fold table's parameters alone, features computed anew."""
    entry = next(e for e in small_lake.settings.entries(SYMBOL) if e.strategy == "trend")
    execution = execution_of(small_lake.settings.instrument(SYMBOL), entry)
    features, trend, cash, path = FeatureSet(bars, 0.01), registry.get("trend"), CASH, []
    for fold in (r for r in rows_of(small_lake.table("folds")) if r["strategy"] == "trend"):
        one = replace(execution, initial_cash=cash, close_at_end=not fold["open"])
        done = run(
            features, trend, json.loads(fold["params"]), one, start=fold["test_from"], stop=fold["test_to"]
        )
        path.append(done.equity)
        cash = float(done.equity[-1])
    np.testing.assert_array_equal(_account(small_lake, "trend", "tuned"), np.concatenate(path))


def test_no_trial_runs_on_a_test_bar_and_the_frozen_parameters_run_there_once(
    small_lake, tmp_path, monkeypatch
):
    """Counted at the simulator: which bars the search of each fold runs on, what runs on its test bars."""
    other = small_lake.copy_to(tmp_path / "data")
    for name in ("folds", "nightly", "trials", "backtests"):
        shutil.rmtree(tmp_path / "data" / "lake" / name)
    searched, tested, window = {}, [], []
    real_fit, real_evaluate, real_run = RulesFitter.fit, RulesFitter._evaluate, oos.run

    def fit(self, start, stop, *args, **kwargs):
        window[:] = [start, stop]
        return real_fit(self, start, stop, *args, **kwargs)

    def evaluate(self, configs, start, stop, *watch):
        searched.setdefault(tuple(window), set()).update(range(start, stop))
        return real_evaluate(self, configs, start, stop, *watch)

    def counted(features, strategy, params, execution, *, start, stop):
        tested.append((start, stop, json.dumps(dict(params), sort_keys=True)))
        return real_run(features, strategy, params, execution, start=start, stop=stop)

    monkeypatch.setattr(RulesFitter, "fit", fit)
    monkeypatch.setattr(RulesFitter, "_evaluate", evaluate)
    monkeypatch.setattr(oos, "run", counted)
    other.chain()
    folds = [row for row in other.rows("folds") if row["strategy"] == "trend"]
    untuned = json.dumps(registry.defaults(registry.get("trend")), sort_keys=True)
    expected = []
    for row in folds:
        window = row["train_from"], row["train_to"]
        assert searched[window] == set(range(*window)) and max(searched[window]) < row["test_from"]
        frozen = json.dumps(json.loads(row["params"]), sort_keys=True)
        expected += [(row["test_from"], row["test_to"], params) for params in (frozen, untuned)]
    assert len(folds) > 5 and sorted(tested) == sorted(e for e in expected if e[0] < e[1])


@pytest.mark.parametrize("name", ["trend", "levels_entry_exit", "levels_always_on"])
@pytest.mark.parametrize("variant", ["tuned", "untuned"])
def test_trades_and_their_fills_add_up_to_the_change_of_equity(small_lake, name, variant):
    path = _account(small_lake, name, variant)
    trades = [r for r in small_lake.rows("trades") if (r["strategy"], r["variant"]) == (name, variant)]
    assert len(trades) > 10
    assert sum(r["pnl"] for r in trades) == pytest.approx(path[-1] - CASH, abs=1e-9 * CASH)
    for row in trades:
        assert sum(fill["fee"] for fill in row["fills"]) == pytest.approx(row["fees"], rel=1e-9)
        assert row["fills"][0]["side"] == ("buy" if row["side"] == "long" else "sell")


def test_the_profit_of_a_trade_is_that_of_its_fills(small_lake):
    for row in small_lake.rows("trades"):
        if row["strategy"] != "trend" or row["reason"] == "open":
            continue
        money = sum(
            f["quantity"] * f["price"] * (-1 if f["side"] == "buy" else 1) - f["fee"] for f in row["fills"]
        )
        assert row["pnl"] == pytest.approx(money + row["dividends"] - row["financing"], abs=1e-6)


def test_the_profit_of_a_levels_trade_is_that_of_its_prices(small_lake):
    seen = set()
    for row in small_lake.rows("trades"):
        if row["strategy"] == "trend":
            continue
        side = 1 if row["side"] == "long" else -1
        moved = side * row["quantity"] * (row["exit_price"] - row["entry_price"])
        assert row["pnl"] == pytest.approx(moved - row["fees"], abs=1e-9)
        first, last = row["fills"]
        assert (first["price"], last["price"]) == (row["entry_price"], row["exit_price"])
        seen.add((row["strategy"], row["side"]))
    assert len(seen) == 4


def test_every_fold_stands_beside_all_that_it_must_beat(small_lake):
    for name, policies, folds in (("trend", [""], 7), ("levels_always_on", ["path", "close"], 14)):
        for policy in policies:
            rows = [r for r in small_lake.rows("backtests") if (r["strategy"], r["policy"]) == (name, policy)]
            assert [(r["fold"], r["variant"]) for r in rows] == [
                (fold, variant) for fold in [*range(folds), -1] for variant in VARIANTS
            ]


def test_the_stitched_row_is_that_of_its_account(small_lake, bars):
    for row in small_lake.rows("backtests"):
        if row["fold"] != -1 or not row["selected"] or row["variant"] == "no_trade":
            continue
        path = _account(small_lake, row["strategy"], row["variant"])
        assert row["bars"] == len(path) == 275
        assert row["roi"] == pytest.approx(path[-1] / CASH - 1, rel=1e-12)
        if row["strategy"] == "trend":
            assert row["bps_per_bar"] == pytest.approx(1e4 * np.log(path[-1] / CASH) / 275, rel=1e-9)
        elif row["variant"] in ("tuned", "untuned"):
            assert row["bps_per_bar"] == pytest.approx(1e4 * (path[-1] / CASH - 1) / 275, rel=1e-9)


def test_buy_and_hold_runs_through_all_folds_on_the_same_bars(small_lake, bars):
    path = _account(small_lake, "trend", "buy_and_hold")
    position = _account(small_lake, "trend", "buy_and_hold", "position")
    assert len(set(position.tolist())) == 1
    assert path[0] == pytest.approx(position[0] * bars.close[650], rel=1e-9)
    received = np.cumsum(bars.dividend[650:] * (np.arange(275) > 0))[-1] * position[0]
    assert received > 0
    assert path[-1] == pytest.approx(position[0] * bars.close[-1] + received, rel=1e-9)
    np.testing.assert_array_equal(path, _account(small_lake, "levels_always_on", "buy_and_hold"))


def test_dividends_of_buy_and_hold_stand_in_the_fold_that_received_them(small_lake):
    rows = [r for r in small_lake.rows("backtests")
            if (r["strategy"], r["variant"]) == ("trend", "buy_and_hold")]  # fmt: skip
    folds = [r["dividends"] for r in rows if r["fold"] >= 0]
    assert sum(x > 0 for x in folds) >= 3
    assert sum(folds) == pytest.approx(rows[-1]["dividends"], rel=1e-9)
    assert [r["fees"] > 0 for r in rows] == [True] + [False] * 6 + [True]


def test_equal_exposure_scales_the_untuned_row_only(small_lake):
    for row in small_lake.rows("backtests"):
        assert (row["bps_per_bar_equal_exposure"] is not None) <= (row["variant"] == "untuned")
    rows = {
        r["variant"]: r for r in small_lake.rows("backtests") if (r["strategy"], r["fold"]) == ("trend", -1)
    }
    scale = rows["tuned"]["gross_exposure"] / rows["untuned"]["gross_exposure"]
    assert rows["untuned"]["bps_per_bar_equal_exposure"] == pytest.approx(
        rows["untuned"]["bps_per_bar"] * scale
    )


def test_drawdown_is_from_the_highest_equity_so_far(small_lake):
    path, drawdown = (_account(small_lake, "trend", "tuned", c) for c in ("equity", "drawdown"))
    np.testing.assert_allclose(drawdown, 1 - path / np.maximum.accumulate(np.maximum(path, CASH)), atol=1e-15)


@pytest.mark.parametrize("name", ["trend", "levels_entry_exit", "levels_always_on"])
def test_the_deepest_drawdown_of_the_account_is_that_of_its_row(small_lake, name):
    for variant in ("tuned", "untuned", "buy_and_hold", "matched_hold"):
        row = next(r for r in small_lake.rows("backtests") if r["selected"]
                   and (r["strategy"], r["fold"], r["variant"]) == (name, -1, variant))  # fmt: skip
        deepest = _account(small_lake, name, variant, "drawdown").max()
        assert deepest == pytest.approx(row["max_drawdown"], rel=1e-9, abs=1e-15), variant
        assert deepest > 0 or variant == "matched_hold"


def test_a_fold_without_a_candidate_trades_nothing_and_says_so(early):
    early.change(constraints={"min_trades": 24})
    early.chain()
    folds = {r["fold"]: r["status"] for r in early.rows("folds") if r["strategy"] == "trend"}
    flat = [k for k, status in folds.items() if status == "no_candidate"]
    assert flat and len(flat) < len(folds)
    table = early.rows("equity")
    for fold in flat:
        path = {r["equity"] for r in table
                if (r["strategy"], r["variant"], r["fold"]) == ("trend", "tuned", fold)}  # fmt: skip
        assert len(path) == 1
        row = next(r for r in early.rows("backtests")
                   if (r["strategy"], r["fold"], r["variant"]) == ("trend", fold, "tuned"))  # fmt: skip
        assert (row["status"], row["trades"], row["roi"]) == ("no_candidate", 0, 0.0)


class TestNextOrders:
    def test_every_strategy_says_what_it_would_do_at_the_next_open(self, small_lake, bars):
        rows = rows_of(small_lake.table("next_orders"))
        assert {row["strategy"] for row in rows} == {"trend", "levels_entry_exit", "levels_always_on"}
        assert {row["asof"] for row in rows} == {int(bars.ts[-1])}

    def test_levels_are_tonights_offsets_on_the_last_forecast(self, small_lake, bars):
        high, low, _ = median_forecasts(small_lake.lake, bars, 0.5)
        fit = next(
            r for r in small_lake.rows("nightly") if r["strategy"] == "levels_always_on" and r["selected"]
        )
        offsets, close = json.loads(fit["params"]), bars.close[-1]
        orders = {r["side"]: r for r in small_lake.rows("next_orders") if r["strategy"] == "levels_always_on"}
        buy = close * (1 + min(np.expm1(low[-1]) + offsets["v"], 0.0))
        sell = close * (1 + max(np.expm1(high[-1]) + offsets["u"], 0.0))
        assert orders["long"]["limit"] == pytest.approx(np.floor(buy * 100) / 100, abs=1e-9)
        assert orders["short"]["limit"] == pytest.approx(np.ceil(sell * 100) / 100, abs=1e-9)
        for row in orders.values():
            assert row["quantity_per_100k"] == pytest.approx(1e5 / close, rel=1e-12)
            assert (row["type"], row["valid_for"], row["action"]) == ("limit", "next_bar", "enter")

    def test_rules_enter_with_the_size_that_the_next_open_would_give(self, early_lake):
        """At bar 888 tonight's trend goes long: 1 % of 100,000 at 2 ATR, or all the cash."""
        row = next(r for r in early_lake.rows("next_orders") if r["strategy"] == "trend")
        fit = next(r for r in early_lake.rows("nightly") if r["strategy"] == "trend")
        bars = read_bars(early_lake.lake, early_lake.settings.instrument(SYMBOL))
        atr = FeatureSet(bars, 0.01).column("atr.n=14")[-1]
        assert (row["action"], row["side"], row["type"], row["valid_for"]) == (
            "enter", "long", "market", "next_open"
        )  # fmt: skip
        price = bars.close[-1] * 1.0002
        size = min(1000 / (2 * atr), CASH / (price * 1.0005))
        assert row["quantity_per_100k"] == pytest.approx(size, rel=1e-9)
        params = json.loads(fit["params"])
        stop, target = price - params["stop_atr"] * atr, price + params["target_atr"] * atr
        assert row["stop"] == pytest.approx(np.ceil(stop * 100) / 100, abs=1e-9)  # sales: up to the tick
        assert row["target"] == pytest.approx(np.ceil(target * 100) / 100, abs=1e-9)

    def test_no_candidate_says_why_there_is_no_order(self, early):
        early.change(constraints={"min_trades": 10_000})
        early.chain()
        row = next(r for r in early.rows("next_orders") if r["strategy"] == "trend")
        assert (row["action"], row["note"], row["quantity_per_100k"]) == ("none", "no trial qualified", 0.0)


def test_the_stage_counts_the_trades_of_the_leaderboard_by_strategy(early_lake):
    found = early_lake.first["backtests"].metadata
    for row in early_lake.rows("backtests"):
        if row["fold"] == -1 and row["variant"] == "tuned" and row["selected"]:
            assert found[f"{row['strategy']} tuned trades"] == row["trades"] > 0
    assert "trades" not in found
