import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.forecasts import store
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.keys import model_key, spec_json
from engine.forecasts.local import local_spec
from engine.lake.schemas import schema_of

TS = np.arange(1, 11, dtype=np.int64) * 86_400_000_000


def inputs(key, as_of, hashes, status="ok"):
    rows = [
        {"symbol": "A", "model_key": key, "as_of": int(t), "input_hash": h, "status": status, "reason": "",
         "device": "cpu", "dtype": "fp64", "n_clamped": 0, "n_repaired": 0, "in_pretraining": False}
        for t, h in zip(as_of, hashes, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema_of("forecast_inputs"))


def forecasts(key, as_of, value=0.0, horizon=1, levels=(0.1, 0.5)):
    values = np.full((len(as_of), horizon, 3, len(levels)), value, dtype=np.float32)
    return store.forecast_rows("A", key, np.array(as_of, dtype=np.int64), values, levels)


def test_as_of_bars_need_history_and_may_have_a_start():
    assert store.eligible(TS, 4, None).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert store.eligible(TS, 4, int(TS[7])).tolist() == [7, 8, 9]
    assert store.eligible(TS, 11, None).tolist() == []
    assert store.eligible(TS[:0], 1, None).tolist() == []


def test_missing_are_those_without_a_row_of_the_same_model_and_input():
    hashes = [f"h{i}" for i in range(10)]
    stored = pa.concat_tables([
        inputs("m", TS[[3, 4]], ["h3", "h4"]),
        inputs("m", TS[[5]], ["older"]),
        inputs("other", TS[[6]], ["h6"]),
    ])  # fmt: skip
    positions = np.arange(3, 8)
    assert store.missing(positions, TS, hashes, stored, "m").tolist() == [5, 6, 7]
    assert store.missing(positions, TS, hashes, None, "m").tolist() == [3, 4, 5, 6, 7]


def test_a_skipped_or_rejected_row_is_not_inferred_again():
    stored = inputs("m", TS[:2], ["h0", "h1"], "rejected")
    assert store.missing(np.arange(2), TS, ["h0", "h1"], stored, "m").tolist() == []


def test_rows_carry_the_declared_columns_in_key_order():
    values = np.arange(2 * 2 * 3 * 2, dtype=np.float32).reshape(2, 2, 3, 2)
    table = store.forecast_rows("A", "m", TS[:2], values, (0.1, 0.5))
    assert table.schema == schema_of("forecasts")
    rows = table.to_pylist()
    keys = [(r["as_of"], r["step"], r["field"], r["level"]) for r in rows]
    assert keys == sorted(keys) and len(set(keys)) == 24
    for row in rows:
        i = int(np.searchsorted(TS, np.datetime64(row["as_of"], "us").astype(np.int64)))
        v, q = ("high", "low", "close").index(row["field"]), 0 if row["level"] < 0.3 else 1
        assert row["value"] == values[i, row["step"] - 1, v, q]


def test_new_rows_replace_those_of_the_same_model_and_as_of():
    old = pa.concat_tables([forecasts("m", TS[:3], 1.0), forecasts("n", TS[:3], 2.0)])
    merged = store.merge_forecasts(old, forecasts("m", TS[2:4], 9.0), inputs("m", TS[2:4], ["a", "b"]))
    assert [store.matrix(merged, "m", 1, "high", 0.5, TS)[i] for i in range(4)] == [1.0, 1.0, 9.0, 9.0]
    assert store.matrix(merged, "n", 1, "high", 0.5, TS)[:3].tolist() == [2.0, 2.0, 2.0]
    assert merged.num_rows == old.num_rows + 6


def test_a_rejected_answer_takes_the_old_rows_with_it():
    old = forecasts("m", TS[:3], 1.0)
    merged = store.merge_forecasts(old, old.slice(0, 0), inputs("m", TS[[1]], ["b"], "rejected"))
    assert (
        np.isnan(store.matrix(merged, "m", 1, "low", 0.5, TS)).tolist() == [False, True, False] + [True] * 7
    )


def test_merging_into_nothing_keeps_the_new_rows():
    new, new_inputs = forecasts("m", TS[:2]), inputs("m", TS[:2], ["a", "b"])
    assert store.merge_forecasts(None, new, new_inputs).equals(new)
    assert store.merge_inputs(None, new_inputs).equals(new_inputs)


def test_merged_inputs_hold_one_row_per_model_and_as_of():
    merged = store.merge_inputs(inputs("m", TS[:3], "abc"), inputs("m", TS[1:4], "xyz"))
    assert merged["input_hash"].to_pylist() == ["a", "x", "y", "z"]


def test_the_order_of_merging_does_not_matter():
    one, two = forecasts("m", TS[:2], 1.0), forecasts("m", TS[2:4], 2.0)
    in_one, in_two = inputs("m", TS[:2], "ab"), inputs("m", TS[2:4], "cd")
    assert store.merge_forecasts(one, two, in_two).equals(store.merge_forecasts(two, one, in_one))
    assert store.merge_inputs(in_one, in_two).equals(store.merge_inputs(in_two, in_one))


def test_the_reader_puts_each_forecast_at_its_as_of_bar():
    table = forecasts("m", TS[[2, 5]], 0.25, horizon=2)
    found = store.matrix(table, "m", 2, "close", 0.1, TS)
    assert found.dtype == np.float64
    assert np.flatnonzero(~np.isnan(found)).tolist() == [2, 5]
    assert found[5] == 0.25


def test_the_reader_ignores_as_of_bars_that_are_no_longer_there():
    table = forecasts("m", [int(TS[2]) + 1, int(TS[9]) + 7], 0.25)
    assert np.isnan(store.matrix(table, "m", 1, "close", 0.1, TS)).all()


def test_the_reader_gives_nothing_for_another_model_step_or_level():
    table = forecasts("m", TS)
    for key, step, level in (("n", 1, 0.5), ("m", 2, 0.5), ("m", 1, 0.7)):
        assert np.isnan(store.matrix(table, key, step, "high", level, TS)).all()


def test_the_reader_finds_every_default_level():
    table = forecasts("m", TS[:1], 0.5, levels=DEFAULT_LEVELS)
    assert all(store.matrix(table, "m", 1, "low", level, TS)[0] == 0.5 for level in DEFAULT_LEVELS)


def test_refuses_an_unknown_field():
    with pytest.raises(ConfigError, match="forecast field 'open' is not known. Known: high, low, close."):
        store.selection("m", 1, "open", 0.5)


def test_the_model_row_names_the_first_answered_as_of_and_no_cut_off():
    spec = local_spec("1d", "observed", 1, (0.1, 0.5))
    key = model_key(spec)
    merged = pa.concat_tables([inputs(key, TS[:1], "a", "skipped"), inputs(key, TS[1:3], "bc")])
    (row,) = store.model_row("A", spec, merged).to_pylist()
    assert row["first_as_of"] == np.datetime64(int(TS[1]), "us").item()
    assert (row["model_key"], row["spec"], row["knowledge_cutoff"], row["cutoff_status"]) == (
        key, spec_json(spec), None, "none",
    )  # fmt: skip
