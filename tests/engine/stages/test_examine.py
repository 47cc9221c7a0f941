"""What `nightfold check FILE` says of files that no symbol, or one with a form of its own, stands for."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from engine.bars.synthetic import make_bars, to_csv
from engine.config import Settings
from engine.errors import ConfigError, DataError
from engine.lake.publish import Lake
from engine.lake.schemas import TABLES
from engine.search.ledger import summary
from engine.stages import examine

BARS = make_bars(3, 60, symbol="SPY")
FOLDS = {"warmup_bars": 10, "train_bars": 20, "test_bars": 5, "inner_folds": 2}
BASE = {
    "symbols": {"AAA": {}},
    "prices": {"source": "files"},
    "strategies": [{"strategy": "trend", "folds": FOLDS}],
}


def settings(**symbols):
    return Settings.model_validate({**BASE, "symbols": symbols or BASE["symbols"]})


def test_a_file_in_the_inbox_needs_one_line(tmp_path):
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "SPY.csv"
    path.write_text(to_csv(BARS))
    said = examine.data_file(path, settings(), tmp_path)
    assert said.startswith(f"{path}: 60 bars 2015-01-02 to ") and ", no error" in said
    assert said.endswith("\n  to use it, write 'SPY: {source: files}' under symbols")


def test_what_a_new_file_is_refused_for_names_the_line_that_its_remedy_needs(tmp_path):
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "SPY.csv"
    path.write_text(to_csv(BARS).replace("date,", ",").replace("open", "Open"))
    with pytest.raises(DataError) as caught:
        examine.data_file(path, settings(), tmp_path)
    assert str(caught.value).startswith("E01 ") and caught.value.rule == "E01"
    assert str(caught.value).endswith(
        "\n  SPY is no symbol of the settings yet: first write 'SPY: {source: files}' under symbols in "
        "nightfold.yaml"
    )
    with pytest.raises(DataError) as known:
        examine.data_file(path, settings(SPY={}), tmp_path)
    assert "no symbol" not in str(known.value)


def test_a_key_whose_file_lies_in_the_inbox_is_told_its_line(tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "SPY.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"write 'SPY: {source: files}' under symbols$"):
        examine.data_file(Path("SPY"), settings(), tmp_path)


@pytest.mark.parametrize(
    ("name", "key"), [("spy.csv", "SPY"), ("my prices, new.txt", "KEY"), ("spy-2.csv", "SPY-2")]
)
def test_the_line_for_any_other_file_makes_it_a_symbol(tmp_path, name, key):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / name).write_text(to_csv(BARS))
    said = examine.data_file(folder / name, settings(), tmp_path / "data")
    line = said.split("write '")[1].removesuffix("' under symbols")
    found = yaml.safe_load(line)
    assert list(found) == [key]
    assert "60 bars" in examine.symbol_data(key, settings(**found), tmp_path / "data", None)


def test_a_declared_file_is_read_in_its_declared_form(tmp_path):
    path = tmp_path / "prices.txt"
    path.write_text(to_csv(BARS).replace(",", ";"))
    form = {"path": "prices.txt", "delimiter": ";"}
    said = examine.data_file(path, settings(SPY={"file": form}), tmp_path)
    assert "60 bars" in said and "to use it" not in said
    with pytest.raises(DataError, match="E01 "):
        examine.data_file(path, settings(), tmp_path)


def test_a_parquet_file_is_read(tmp_path):
    columns = {name: getattr(BARS, name) for name in ("open", "high", "low", "close", "volume")}
    table = pa.table({"date": pa.array(BARS.ts.view("M8[us]").astype("M8[D]")), **columns})
    pyarrow.parquet.write_table(table, tmp_path / "SPY.parquet")
    assert "60 bars" in examine.data_file(tmp_path / "SPY.parquet", settings(), tmp_path)


def test_too_few_bars_for_every_strategy_are_an_error_also_of_a_new_file(tmp_path):
    path = tmp_path / "SPY.csv"
    path.write_text(to_csv(BARS.slice(None, 49)))
    with pytest.raises(
        DataError, match=r"E17 too few bars: SPY 1d, 49 bars\n  found 49; expected at least 50"
    ):
        examine.data_file(path, settings(), tmp_path)
    path.write_text(to_csv(BARS.slice(None, 50)))
    assert "50 bars" in examine.data_file(path, settings(), tmp_path)


def test_strategies_that_a_run_will_leave_out_are_noted_with_both_numbers(tmp_path):
    (tmp_path / "inbox").mkdir()
    path = tmp_path / "inbox" / "AAA.csv"
    path.write_text(to_csv(BARS))
    long = {"strategy": "trend", "name": "patient", "folds": {**FOLDS, "train_bars": 100_000}}
    other = {**long, "name": "of others", "symbols": ["BBB"]}
    raw = {**BASE, "symbols": {"AAA": {}, "BBB": {}}, "strategies": [*BASE["strategies"], long, other]}
    both = Settings.model_validate(raw)
    note = "\n  strategy patient is left out: has 60 bars, needs 100030"  # 10 + 100000 + 4 x 5
    for said in (
        examine.symbol_data("AAA", both, tmp_path, None),
        examine.data_file(path, both, tmp_path),
    ):
        assert said.endswith(", no error" + note) or said.count("left out") == 1 and said.endswith(note)
    assert "left out" not in examine.symbol_data("AAA", settings(), tmp_path, None)


def test_no_such_file_names_the_closest_symbol(tmp_path):
    with pytest.raises(ConfigError, match=r"aab is neither a file nor a symbol .* Closest: AAA\."):
        examine.data_file(Path("aab"), settings(), tmp_path)


def test_warnings_stand_below_the_line(tmp_path):
    bars = make_bars(3, 60, symbol="AAA")
    volume = bars.volume.copy()
    volume[[7, 9]] = 0.0
    (tmp_path / "inbox").mkdir()
    made = type(bars)(**{**{n: getattr(bars, n) for n in bars.__dataclass_fields__}, "volume": volume})
    (tmp_path / "inbox" / "AAA.csv").write_text(to_csv(made))
    first, second = examine.symbol_data("AAA", settings(), tmp_path, None).splitlines()
    assert first.endswith("60 not stored yet, no error")
    count = int(np.sum(volume == 0.0))
    assert second.startswith(f"  W01 zero volume: AAA 1d, {count} bars, first ")


def test_a_study_is_counted_as_the_progress_line_of_its_fit_counts_it(tmp_path):
    kinds = [  # state, outcome, value, duplicate_of
        ("COMPLETE", "VALID", 1.25, None),
        ("COMPLETE", "CONSTRAINT", 9.0, None),
        ("PRUNED", "PRUNED", 3.0, None),
        ("COMPLETE", "ZERO_TRADES_NO_SIGNAL", 0.0, None),
        ("PRUNED", "DUPLICATE", 3.0, 2),
        ("COMPLETE", "DUPLICATE", 1.25, 0),
        ("FAIL", "INVALID_PARAMS", 0.0, None),
        ("FAIL", "INVALID_NUMERIC", float("nan"), None),
    ]
    names = ("state", "outcome", "value", "duplicate_of")
    trials = [dict(zip(names, kind, strict=True)) for kind in kinds]
    for trial in trials:
        trial["constraints"] = json.dumps({"min_trades": 5.0 if trial["outcome"] == "CONSTRAINT" else 0.0})
    known = {"symbol": "AAA", "strategy": "trend", "fold": 0, "study_id": "s1"}
    schema = TABLES["trials"]
    rows = [{**dict.fromkeys(schema.names), **known, **trial} for trial in trials]
    record = {"stage": "optimizations", "symbol": "AAA", "result_id": "r"}
    lake = Lake(tmp_path)
    lake.publish("trials", "AAA", pa.Table.from_pylist(rows, schema=schema), record, part="2016")
    *_, line = examine.status("AAA", settings(), tmp_path, studies=True)
    assert line == (
        "  study s1 trend fold 1: told 8, tried 5, pruned 1, failed 1, invalid 1, duplicates 2, best 1.25"
    )
    run = [SimpleNamespace(**t, feasible=t["outcome"] == "VALID", number=n) for n, t in enumerate(trials)]
    assert summary(run)[:2] == (5, 1)
