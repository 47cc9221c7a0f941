"""`nightfold explain`: what a stored number was made from, and that it can be made again bit by bit."""

import pytest

from engine.errors import ConfigError, LakeError
from engine.stages import explain
from engine.stages.common import PER_SYMBOL

SYMBOL = "ALFA"


def test_the_tree_of_a_result_ends_at_the_file_it_was_read_from(small_lake):
    import hashlib

    identity = small_lake.lake.result_id("backtests", SYMBOL)
    lines = explain.tree(small_lake.lake, identity)
    sha = hashlib.sha256((small_lake.data_dir / "inbox/ALFA.csv").read_bytes()).hexdigest()
    assert lines[0] == f"backtests ALFA: result {identity} (current)" or identity in lines[0]
    assert any(f"raw sha256 {sha}" in line for line in lines)
    for table in ("bars", "features", "forecasts", "folds"):
        inner = small_lake.lake.result_id(table, SYMBOL)
        assert any(f"{table} ALFA: result {inner} (current)" in line for line in lines)
    assert explain.tree(small_lake.lake, identity[:6]) == lines


def test_every_stage_of_a_symbol_is_made_again_bit_by_bit(full):
    before = full.stamps()
    lines, equal = explain.verify(full.lake, SYMBOL, full.settings)
    assert equal and not any("NOT" in line for line in lines)
    tables = {line.split()[0] for line in lines}
    made = {table for stage in PER_SYMBOL for table in explain.STAGE_TABLES[stage]}
    assert tables == made - {"base_bars"}  # of symbols with a base_frame: test_coarse.py
    assert full.stamps() == before


def test_a_night_later_the_growing_tables_hold_what_is_made_again(early, alfa):
    early.write(alfa(len(early.table("bars")) + 1))
    early.chain()
    for table in ("forecasts", "nightly"):
        lines, equal = explain.verify(early.lake, early.lake.result_id(table, SYMBOL), early.settings)
        assert equal, lines
    (nightly,) = [line for line in lines if line.startswith("nightly ")]
    assert nightly == "nightly ALFA: equal, 5 rows made again, 5 of earlier nights"
    lines, equal = explain.verify(early.lake, early.lake.result_id("forward", SYMBOL), early.settings)
    assert equal, lines  # the orders too, which follow from the position of the record
    assert "forward ALFA: 3 rows, each written once in its night; not made again" in lines


def test_a_number_that_was_altered_is_found_with_its_column(full):
    rows = full.table("folds")
    at = rows.column_names.index("in_sample")
    values = rows["in_sample"].to_pylist()
    values[2] = 123.0
    record = full.lake.record("folds", SYMBOL)
    kept = {
        name: record[name] for name in record if name not in ("record_sha", "content_sha", "table", "schema")
    }
    full.lake.publish("folds", SYMBOL, rows.set_column(at, "in_sample", [values]), kept)
    lines, equal = explain.verify(full.lake, record["result_id"], full.settings)
    (wrong,) = [line for line in lines if "NOT" in line]
    assert not equal and wrong.startswith("folds ALFA: NOT EQUAL: in_sample of row 2 was 123.0, now ")


def test_another_file_or_other_settings_are_said(full, alfa):
    identity = full.lake.result_id("bars", SYMBOL)
    full.write(alfa(900))
    lines, equal = explain.verify(full.lake, identity, full.settings)
    assert not equal and lines[0].startswith("bars ALFA: NOT EQUAL: its source has changed, sha256 ")
    full.change(features={"columns": ["sma.close.n=30"]})
    lines, equal = explain.verify(full.lake, full.lake.result_id("features", SYMBOL), full.settings)
    assert not equal and "params differ from those that made it" in lines[0]


def test_what_differs_between_two_results(full):
    first, second = (full.lake.result_id(table, SYMBOL) for table in ("features", "forecasts"))
    lines = explain.compare(full.lake, first, second)
    assert {"stage", "params", "table"} <= {line.split(":")[0] for line in lines}
    assert explain.compare(full.lake, first, first) == ["the records are equal"]


def test_a_replaced_result_is_found_in_the_history_and_not_made_again(early, alfa):
    old = early.lake.result_id("bars", SYMBOL)
    early.write(alfa(len(early.table("bars")) + 1))
    early.chain()
    assert "(generation 1, replaced since)" in explain.tree(early.lake, old)[0]
    with pytest.raises(LakeError, match=f"result {old} was replaced since"):
        explain.verify(early.lake, old, early.settings)


def test_unknown_results_name_the_closest(small_lake):
    with pytest.raises(ConfigError, match=r"no result 'ALFB', and no symbol of that name\. Closest: ALFA\."):
        explain.tree(small_lake.lake, "ALFB")
