import numpy as np
import pytest

from engine.errors import LakeError
from engine.simulation import Execution
from engine.stages.common import (
    default_columns,
    execution_of,
    feature_set,
    median_forecasts,
    procedure,
    purge_of,
    read_bars,
    to_table,
)
from engine.strategies import registry
from engine.strategies.sizes import Fraction, Notional, Risk, Units

SYMBOL = "ALFA"


def _entry(bench, name="trend"):
    return next(e for e in bench.settings.entries(SYMBOL) if e.strategy == name)


def test_stored_bars_come_back_as_they_were_made(small_lake, alfa):
    made, read = alfa(925), read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))
    assert (read.symbol, read.frame, read.calendar) == (SYMBOL, "1d", "observed")
    for name in ("ts", "open", "high", "low", "close", "volume", "adj"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    np.testing.assert_allclose(read.dividend, made.dividend, rtol=1e-12)


def test_stored_features_are_read_and_others_computed(small_lake):
    instrument = small_lake.settings.instrument(SYMBOL)
    features = feature_set(small_lake.lake, read_bars(small_lake.lake, instrument), instrument)
    stored = small_lake.table("features")["rsi.n=14"].to_numpy()
    np.testing.assert_array_equal(features.column("rsi.n=14"), stored)
    assert len(features.column("ema.close.n=7")) == 925


def test_forecasts_stand_at_the_bar_that_issued_them(small_lake):
    bars = read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))
    high, low, key = median_forecasts(small_lake.lake, bars, 0.5)
    rows = [r for r in small_lake.rows("forecasts") if r["field"] == "high" and r["level"] == 0.5]
    by_stamp = {np.datetime64(r["as_of"], "us").astype(int): r["value"] for r in rows}
    assert {r["model_key"] for r in rows} == {key}
    assert [by_stamp.get(int(ts)) for ts in bars.ts] == [None if np.isnan(x) else x for x in high]
    assert np.isfinite(high[249:]).all() and np.isnan(high[:100]).all()
    assert (low[249:] < high[249:]).all()


CHANGES = [
    ({}, dict(tick=0.01, borrow_bps_year=50.0)),
    ({"costs": {"stock": {"fee_bps": 9.0}}}, dict(tick=0.01, borrow_bps_year=50.0, fee_bps=9.0)),
    ({"symbols": {SYMBOL: {"slippage_bps": 3.0, "lot": 1.0, "sides": "long"}}},
     dict(tick=0.01, borrow_bps_year=50.0, slippage_bps=3.0, lot=1.0, sides="long")),
    ({"symbols": {SYMBOL: {"class": "crypto"}}},
     dict(sides="long", fee_bps=15.0, slippage_bps=5.0)),
    ({"execution": {"on_opposite": "reverse", "leverage": 2.0, "limit_fill": "touch", "min_qty": 3.0,
                    "cash_rule": "refuse", "level_base": "signal_close", "initial_cash": 500.0,
                    "target_in_entry_bar": "after_open_entry", "fill_on_zero_volume": True,
                    "limit_improvement": True, "breakeven_after_first": True, "exit_fraction": 0.5,
                    "max_bars": 7}},
     dict(tick=0.01, borrow_bps_year=50.0, on_opposite="reverse", leverage=2.0, limit_fill="touch",
          min_qty=3.0, cash_rule="refuse", level_base="signal_close", initial_cash=500.0,
          target_in_entry_bar="after_open_entry", fill_on_zero_volume=True, limit_improvement=True,
          breakeven_after_first=True, exit_fraction=0.5, max_bars=7)),
    *(({"execution": {"size": given}}, dict(tick=0.01, borrow_bps_year=50.0, size=size)) for given, size in [
        ({"fraction": 0.5}, Fraction(0.5)), ({"risk": 0.02}, Risk(0.02)),
        ({"risk": 0.02, "atr": 3.0}, Risk(0.02, atr=3.0)),
        ({"units": 5.0}, Units(5.0)), ({"notional": 900.0}, Notional(900.0))]),
    ({"execution": {"on_opposite": "reverse"}, "symbols": {SYMBOL: {"sides": "long"}}},
     dict(tick=0.01, borrow_bps_year=50.0, sides="long", on_opposite="hold")),
]  # fmt: skip


@pytest.mark.parametrize("change, expected", CHANGES, ids=[str(c) for c, _ in CHANGES])
def test_every_execution_setting_reaches_the_simulation(bench, tmp_path, change, expected):
    one = bench(tmp_path / "data")
    one.change(**change)
    instrument = one.settings.instrument(SYMBOL)
    assert execution_of(instrument, _entry(one)) == Execution(**expected)


@pytest.mark.parametrize(
    "holding, setting, purge", [(None, "auto", 0), (7, "auto", 7), (7, 9, 9), (None, 3, 3)]
)
def test_the_purge_is_the_longest_holding_unless_it_is_set(small_lake, monkeypatch, holding, setting, purge):
    entry = _entry(small_lake)
    entry = entry.model_copy(update={"folds": entry.folds.model_copy(update={"purge_bars": setting})})
    monkeypatch.setattr(registry.get("trend"), "holding_bars", holding)
    assert purge_of(entry) == purge


def test_a_procedure_is_its_settings_and_code_but_not_its_symbols_or_promotion(small_lake):
    entry = _entry(small_lake)
    assert procedure(entry.model_copy(update={"symbols": ("X",), "promotion": None})) == procedure(entry)
    assert procedure(entry.model_copy(update={"name": "other"})) != procedure(entry)
    assert procedure(entry)["code"] != procedure(_entry(small_lake, "levels_always_on"))["code"]


def test_columns_of_the_strategies_defaults_are_stored_too(small_lake):
    names = default_columns(small_lake.settings, SYMBOL)
    assert {"ema.close.n=20", "ema.close.n=100", "adx.n=14", "atr.n=14"} <= set(names)
    stored = small_lake.table("features").column_names
    assert stored[:2] == ["symbol", "ts"] and {"ema.close.n=100", "bollinger.close.n=20.k=2:upper"} <= set(
        stored
    )


def test_bars_that_are_not_there_name_the_stage(bench, tmp_path):
    one = bench(tmp_path / "data")
    with pytest.raises(LakeError, match=r"table bars of ALFA is not in .* nightfold run ALFA --stage prices"):
        read_bars(one.lake, one.settings.instrument(SYMBOL))


def test_rows_become_the_declared_columns():
    row = {"symbol": "A", "strategy": "s", "variant": "tuned", "ts": 5, "fold": 0, "equity": 1.0}
    table = to_table("equity", [{**row, "position": 0.0, "drawdown": 0.0, "label": "clean"}])
    assert str(table.schema.field("ts").type) == "timestamp[us]"
