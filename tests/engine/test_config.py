from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.config import Settings, Strategy, data_path, plain
from engine.config_data import Symbol
from engine.config_sections import Cost, Leaf


def settings(**keys):
    return Settings.model_validate({"symbols": {"AAPL": {}, "BTC-USD": {"class": "crypto"}}, **keys})


def test_the_defaults_are_the_documented_strategies():
    assert [entry.label for entry in settings().strategies] == [
        "levels_entry_exit",
        "levels_always_on",
        "trend",
    ]


@pytest.mark.parametrize(
    ("key", "field", "expected"),
    [
        ("AAPL", "class_", "stock"),
        ("AAPL", "source", "sample"),
        ("AAPL", "frame", "1d"),
        ("AAPL", "calendar", "observed"),
        ("AAPL", "sides", "both"),
        ("AAPL", "tick", 0.01),
        ("AAPL", "lot", 0.0),
        ("AAPL", "start", None),
        ("AAPL", "provider_symbol", "AAPL"),
        ("AAPL", "cost", Cost(fee_bps=5, slippage_bps=2, borrow_bps_year=50, financing_bps_year=0)),
        ("BTC-USD", "calendar", "24/7"),
        ("BTC-USD", "sides", "long"),
        ("BTC-USD", "tick", 0.0),
        ("BTC-USD", "cost", Cost(fee_bps=15, slippage_bps=5, borrow_bps_year=0, financing_bps_year=0)),
    ],
)
def test_a_symbols_open_options_come_from_its_class_and_the_file(key, field, expected):
    assert getattr(settings().instrument(key), field) == expected


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("source", "files", "source"),
        ("frame", "1h", "frame"),
        ("start", "2012-01-31", "start"),
        ("provider_symbol", "XBT/USDT", "provider_symbol"),
        ("venue", "kraken", "venue"),
        ("calendar", "24/7", "calendar"),
        ("sides", "long", "sides"),
        ("tick", 0.0, "tick"),
        ("tick", 0.05, "tick"),
        ("lot", 1.0, "lot"),
    ],
)
def test_a_symbols_own_option_wins(option, value, field):
    own = settings(symbols={"A": {option: value}}).instrument("A")
    assert getattr(own, field) == (date(2012, 1, 31) if option == "start" else value)


def test_a_symbols_own_cost_replaces_that_cost_alone():
    own = settings(symbols={"A": {"fee_bps": 0, "borrow_bps_year": 9}}).instrument("A").cost
    assert own == Cost(fee_bps=0, slippage_bps=2, borrow_bps_year=9, financing_bps_year=0)


def test_symbols_follow_the_files_prices_and_costs():
    found = settings(
        prices={"source": "files", "frame": "1h", "start": "2010-01-01"}, costs={"stock": {"fee_bps": 1}}
    ).instrument("AAPL")
    assert (found.source, found.frame, found.start, found.cost.fee_bps) == (
        "files",
        "1h",
        date(2010, 1, 1),
        1,
    )


def test_where_prices_come_from_does_not_count_as_trading():
    base = settings().instrument("AAPL").trading()
    moved = settings(symbols={"AAPL": {"source": "files", "start": "2001-01-01", "file": {"path": "x.csv"}}})
    assert moved.instrument("AAPL").trading() == base
    for option in (
        {"frame": "1h"},
        {"sides": "long"},
        {"tick": 0},
        {"lot": 1},
        {"fee_bps": 1},
        {"calendar": "24/7"},
    ):
        assert settings(symbols={"AAPL": option}).instrument("AAPL").trading() != base, option


def test_an_entrys_keys_replace_the_files_key_by_key():
    found = settings(
        folds={"test_bars": 50, "min_folds": 7},
        levels={"level": 0.3, "bounds": {"high": [-0.1, 0.1], "low": [-0.2, 0.2]}},
        strategies=[
            {"strategy": "trend", "folds": {"test_bars": 20}, "levels": {"bounds": {"high": [0, 0.5]}}}
        ],
    ).entries("AAPL")[0]
    assert (found.folds.test_bars, found.folds.min_folds, found.folds.train_bars) == (20, 7, 1000)
    assert found.levels.level == 0.3
    assert (found.levels.bounds.high, found.levels.bounds.low) == ((0, 0.5), (-0.2, 0.2))


@pytest.mark.parametrize(
    ("file", "entry", "expected"),
    [
        (0.5, {"absolute": 0.004}, {"absolute": 0.004}),
        ({"absolute": 0.004}, 0.5, 0.5),
        ({"absolute": 0.004}, {"absolute": 0.002}, {"absolute": 0.002}),
        ({"absolute": 0.004}, None, {"absolute": 0.004}),
    ],
)
def test_an_entry_may_take_the_other_form_of_the_smoothing(file, entry, expected):
    levels = {} if entry is None else {"smoothing": entry}
    found = settings(levels={"smoothing": file}, strategies=[{"strategy": "trend", "levels": levels}])
    assert plain(found.entries("AAPL")[0].levels)["smoothing"] == expected


def test_an_entry_may_set_a_key_back_to_its_default():
    found = settings(folds={"test_bars": 50}, strategies=[{"strategy": "trend", "folds": {"test_bars": 125}}])
    assert found.entries("AAPL")[0].folds.test_bars == 125


@pytest.mark.parametrize(
    ("file", "entry", "message"),
    [
        (
            {"folds": {"inner_folds": 90}},
            {"folds": {"train_bars": 80}},
            "inner_folds 90 is more than train_bars 80",
        ),
        ({"search": {"max_trials": 20}}, {"search": {"batch": 30}}, "batch 30 is more than max_trials 20"),
    ],
)
def test_sections_that_are_sound_alone_and_not_together_are_refused_at_the_entry(file, entry, message):
    with pytest.raises(ValidationError) as caught:
        settings(**file, strategies=[{"strategy": "trend"}, {"strategy": "trend", "name": "b", **entry}])
    (error,) = caught.value.errors()
    assert error["loc"] == ("strategies", 1, next(iter(entry)))
    assert error["msg"].startswith(message)


def test_entries_are_those_of_the_symbol():
    made = settings(
        strategies=[{"strategy": "trend"}, {"strategy": "trend", "name": "coins", "symbols": ["BTC-USD"]}]
    )
    assert [entry.label for entry in made.entries("AAPL")] == ["trend"]
    assert [entry.label for entry in made.entries("BTC-USD")] == ["trend", "coins"]


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        settings().seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        settings().folds.test_bars = 1


def test_plain_settings_read_back_equal():
    made = settings(prices={"start": "2010-01-01"}, asof="2013-03-01", folds={"purge_bars": 5})
    assert Settings.model_validate(plain(made)) == made


@pytest.mark.parametrize(
    "leaf",
    [
        {"type": "int", "low": 5, "high": 60},
        {"type": "int", "low": 20, "high": 200, "step": 5},
        {"type": "int", "low": 3, "high": 3},
        {"type": "int", "low": 1, "high": 100, "log": True},
        {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1},
        {"type": "float", "low": 0.001, "high": 10.0, "log": True},
        {"type": "categorical", "choices": ["a", "b"]},
        {"type": "fixed", "value": 0},
        {"type": "fixed", "value": False},
    ],
)
def test_accepts_a_sound_leaf(leaf):
    assert Leaf.model_validate(leaf).type == leaf["type"]


@pytest.mark.parametrize(
    ("asof", "sound"), [("2013-03-01", True), ("2013-03-01T21:00Z", True), ("soon", False)]
)
def test_asof_is_an_iso_time(asof, sound):
    if sound:
        assert settings(asof=asof).asof == asof
    else:
        with pytest.raises(ValidationError, match="'soon' is no ISO time"):
            settings(asof=asof)


def test_a_relative_data_folder_lies_beside_the_settings(tmp_path):
    assert data_path(settings(), tmp_path / "nightfold.yaml") == tmp_path / "data"
    assert data_path(settings(data_dir="/elsewhere"), tmp_path / "nightfold.yaml") == Path("/elsewhere")


def test_a_label_is_the_name_or_the_strategy():
    assert Strategy(strategy="trend").label == "trend"
    assert Strategy(strategy="trend", name="slow").label == "slow"


def test_a_symbol_is_given_its_class_by_the_key_class():
    assert Symbol.model_validate({"class": "crypto"}).class_ == "crypto"
    with pytest.raises(ValidationError):
        Symbol.model_validate({"class_": "crypto"})
