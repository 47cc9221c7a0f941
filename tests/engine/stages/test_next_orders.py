"""Orders of the last bar: raw prices where a split is known, holders, and a bar without a forecast."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.features.table import FeatureSet
from engine.lake.publish import rows_of
from engine.simulation import adjusted_tick
from engine.stages.common import read_bars
from engine.stages.next_orders import next_orders, on_tick
from engine.strategies import registry
from engine.strategies.trend import Trend

SYMBOL = "ALFA"
NAMES = ("trend", "levels_entry_exit", "levels_always_on")
PRICES = ("open", "high", "low", "close")


@pytest.fixture(scope="module")
def bars(early_lake):
    return read_bars(early_lake.lake, early_lake.settings.instrument(SYMBOL))


@pytest.fixture(scope="module")
def orders(early_lake):
    """Rows of ``next_orders`` on other bars, from the newest fits of the early lake."""

    def ask(bars, name, settings=None, **fit):
        settings = settings or early_lake.settings
        entry = next(e for e in settings.entries(SYMBOL) if e.label == name)
        instrument = settings.instrument(SYMBOL)
        nightly = [{**row, "asof": int(bars.ts[-1]), **fit} for row in rows_of(early_lake.table("nightly"))]
        features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
        return next_orders(early_lake.lake, bars, features, instrument, entry, nightly)

    return ask


def _split(bars, factor):
    """The same raw prices when a split after the last bar is known: all bars on its basis."""
    columns = {name: getattr(bars, name) / factor for name in (*PRICES, "dividend")}
    return replace(bars, **columns, volume=bars.volume * factor, adj=bars.adj * factor)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2.0, 0.25])
def test_a_split_known_after_the_last_bar_leaves_raw_prices_and_shares(orders, bars, name, factor):
    before, after = orders(bars, name), orders(_split(bars, factor), name)
    assert before and [row["action"] for row in before] == ["enter"] * len(before)
    for old, new in zip(before, after, strict=True):
        for key, value in old.items():
            known = pytest.approx(value, rel=1e-9, nan_ok=True) if isinstance(value, float) else value
            assert new[key] == known, key
        price = old["limit"] if name != "trend" else old["stop"]
        assert 0.8 < price / (bars.close[-1] * bars.adj[-1]) < 1.2


def test_targets_of_levels_are_raw_too(orders, bars):
    one, two = (
        orders(x, "levels_always_on", policy="target", status="ok", params=json.dumps({"u": 0.0, "v": 0.0}))
        for x in (bars, _split(bars, 2.0))
    )
    assert len(one) >= 2
    assert [row["target"] for row in two] == pytest.approx([row["target"] for row in one], rel=1e-9)
    assert all(np.isfinite(row["target"]) for row in one)


def test_the_note_for_holders_is_the_exit_rule_at_the_last_close(orders, bars, early_lake):
    """Trend leaves a long where its fast average is below the slow one, a short where it is above."""
    nightly = next(row for row in early_lake.rows("nightly") if row["strategy"] == "trend")
    params = {**json.loads(nightly["params"]), "adx_min": 25.0}
    averages = [FeatureSet(bars, 0.01).column(f"ema.close.n={params[name]:g}") for name in ("fast", "slow")]
    seen = set()
    for t in range(400, len(bars), 5):
        above = bool(averages[0][t] > averages[1][t])
        (row,) = orders(bars.slice(None, t + 1), "trend", params=json.dumps(params))
        long, short = ("keep it", "buy back at the open") if above else ("sell at the open", "keep it")
        assert row["note"].endswith(f"holding long: {long}, holding short: {short}")
        if row["action"] == "enter":
            assert row["side"] == ("long" if above else "short")
        seen.add((above, row["action"]))
    assert seen == {(True, "enter"), (True, "none"), (False, "enter"), (False, "none")}


def test_a_long_only_symbol_has_no_word_on_shorts(orders, bars, early_lake, bench, tmp_path):
    one = bench(tmp_path / "data")
    one.change(symbols={SYMBOL: {"sides": "long"}})
    (row,) = orders(bars, "trend", one.settings)
    assert "holding long: " in row["note"] and "short" not in row["note"]


@pytest.mark.parametrize("gone, kept", [("short", "long"), ("long", "short")])
def test_a_strategy_that_never_takes_a_side_has_no_word_on_it(orders, bars, monkeypatch, gone, kept):
    class OneSided(Trend):
        @staticmethod
        def rules(p):
            return replace(Trend.rules(p), **{f"enter_{gone}": None})

    monkeypatch.setitem(registry._STRATEGIES, "trend", OneSided)
    (row,) = orders(bars, "trend")
    assert f"holding {kept}: " in row["note"] and f"holding {gone}" not in row["note"]


@pytest.mark.parametrize("name", NAMES)
def test_prices_of_orders_lie_on_the_tick_and_a_stop_loses_no_more(
    orders, bars, early_lake, name, bench, tmp_path
):
    """Buys are rounded down, sales up, stop and target being on the other side of the entry."""
    finest = bench(tmp_path / "data")
    finest.change(symbols={SYMBOL: {"tick": 0}})  # unknown: as they were computed
    tick = early_lake.settings.instrument(SYMBOL).tick
    shown = list(zip(orders(bars, name), orders(bars, name, finest.settings), strict=True))
    seen = set()
    for row, exact in shown:
        for key in ("limit", "stop", "target"):
            if np.isnan(exact[key]):
                assert np.isnan(row[key])
                continue
            seen.add(key)
            buys = (row["side"] == "long") == (key == "limit")
            steps = row[key] / tick
            assert abs(steps - round(steps)) < 1e-6 and row[key] == round(row[key], 2)
            moved = row[key] - exact[key]
            assert -tick < moved <= 1e-9 if buys else -1e-9 <= moved < tick
    assert seen == ({"stop", "target"} if name == "trend" else {"limit"})


def test_a_price_on_the_tick_stays_whatever_its_size():
    for steps in (1, 3, 47_179, 61_234_567):
        price = steps * 0.01
        for noise in (-1e-16, 0.0, 1e-16):
            for buy in (True, False):
                assert on_tick(price * (1 + noise), 0.01, buy=buy) == round(price, 2)
    assert on_tick(471.78454885953454, 0.01, buy=False) == 471.79
    assert on_tick(471.78454885953454, 0.01, buy=True) == 471.78
    assert on_tick(471.78454885953454, 0.0, buy=True) == 471.78454885953454
    assert np.isnan(on_tick(float("nan"), 0.01, buy=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_last_bar_without_a_forecast_gives_no_order_and_no_failure(orders, alfa, name):
    rows = orders(alfa(889), name, status="ok")  # the lake has forecasts of 888 bars
    assert rows
    if name == "trend":
        assert "forecast" not in rows[0]["note"]
        return
    for row in rows:
        assert (row["action"], row["quantity_per_100k"]) == ("none", 0.0)
        assert row["note"] == "no forecast was stored for the last bar"
        assert np.isnan([row["limit"], row["stop"], row["target"]]).all()


def test_without_tonights_fit_nothing_is_said(orders, bars):
    assert orders(bars, "trend", asof=0) == []


def test_the_position_of_the_record_is_turned_by_two_orders_or_held(
    orders, bars, early_lake, bench, tmp_path
):
    """Tonight's trend goes long; the record holds a short, or a long of another night."""
    one = bench(tmp_path / "data")
    one.change(execution={"on_opposite": "reverse"})
    instrument = one.settings.instrument(SYMBOL)
    entry = next(e for e in one.settings.entries(SYMBOL) if e.label == "trend")
    nightly = rows_of(early_lake.table("nightly"))
    known = FeatureSet(bars, adjusted_tick(bars, instrument.tick))

    def ask(position):
        close = float(bars.close[-1])
        account = {
            "cash": 1e5 - position * close, "position": position, "initial": abs(position), "base": close,
            "entry_price": close, "extreme": close, "stop": close - position / 10, "target": None,
            "trail": None, "signal_ts": int(bars.ts[-3]), "entry_ts": int(bars.ts[-2]),
        }  # fmt: skip
        row = {"end": int(bars.ts[-1]) + 1, "equity": 1e5, "carried": json.dumps(account)}
        return next_orders(early_lake.lake, bars, known, instrument, entry, nightly, row)

    leave, enter = ask(-50.0)
    assert (leave["action"], leave["side"], leave["type"]) == ("exit", "short", "market")
    assert (enter["action"], enter["side"]) == ("enter", "long") and enter["quantity_per_100k"] > 0
    assert leave["quantity_per_100k"] == pytest.approx(50.0)
    (held,) = ask(50.0)
    assert (held["action"], held["side"], held["type"], held["quantity_per_100k"]) == (
        "hold",
        "long",
        "",
        50.0,
    )
    assert held["stop"] == pytest.approx(bars.close[-1] - 5.0) and np.isnan(held["target"])
    day = np.datetime_as_string(np.datetime64(int(bars.ts[-2]), "us"), "D")
    assert held["note"].startswith(f"held since {day} in the forward record; holding long: keep it")
