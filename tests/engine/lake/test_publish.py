import errno
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import LakeError
from engine.lake import publish
from engine.lake.publish import Lake, rows_of
from engine.lake.schemas import TABLES, schema_of


def bytes_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_published_is_read_back(lake, bars, record):
    rows = bars(20)
    assert lake.publish("bars", "AAPL", rows, record()) is True
    assert lake.read("bars", "AAPL").replace_schema_metadata(None) == rows
    assert lake.read("bars", "AAPL", ["ts", "close"]).column_names == ["ts", "close"]
    assert lake.result_id("bars", "AAPL") == record()["result_id"]
    stored = lake.record("bars", "AAPL")
    assert {key: stored[key] for key in record()} == record() and stored["table"] == "bars"


def test_what_was_never_published_is_none(lake):
    assert lake.read("bars", "AAPL") is lake.record("bars", "AAPL") is lake.result_id("bars", "AAPL") is None
    assert lake.parts("trials", "AAPL") == [] and rows_of(lake.read("bars", "AAPL")) == []


def test_a_needed_table_that_is_not_there_names_the_stage_that_makes_it(lake):
    with pytest.raises(LakeError) as caught:
        lake.need("bars", "AAPL", "prices")
    assert str(caught.value) == (
        f"table bars of AAPL is not in {lake.data_dir / 'lake'}. "
        "Run the stage before: nightfold run AAPL --stage prices"
    )


def test_equal_content_is_not_written_again(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    path = lake.data_dir / "lake/bars/AAPL.parquet"
    before = path.stat()
    again = pa.concat_tables([bars(20).slice(0, 7), bars(20).slice(7)])  # other chunks, same rows
    assert lake.publish("bars", "AAPL", again, record()) is False
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("change", ["rows", "record"])
def test_other_rows_or_another_record_are_written(lake, bars, record, change):
    lake.publish("bars", "AAPL", bars(20), record())
    rows = bars(20, seed=1) if change == "rows" else bars(20)
    assert lake.publish("bars", "AAPL", rows, record(params={"x": change})) is True
    assert lake.read("bars", "AAPL").replace_schema_metadata(None) == rows
    assert lake.record("bars", "AAPL")["params"] == {"x": change}


def test_the_same_rows_give_the_same_bytes(tmp_path, bars, record):
    rows = bars(1000)
    chunked = pa.concat_tables([rows.slice(0, 333), rows.slice(333)])
    for name, table in (("a", rows), ("b", chunked)):
        Lake(tmp_path / name).publish("bars", "AAPL", table, record())
    assert bytes_below(tmp_path / "a") == bytes_below(tmp_path / "b")


def test_columns_are_stored_in_the_declared_order_and_types(lake, bars, record):
    rows = bars(5)
    shuffled = rows.select(rows.column_names[::-1])
    index = shuffled.column_names.index("volume")
    shuffled = shuffled.set_column(index, "volume", pa.array(range(5), pa.int32()))
    lake.publish("bars", "AAPL", shuffled, record())
    assert lake.read("bars", "AAPL").schema.remove_metadata() == schema_of("bars")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda t: t.drop_columns("open"),
            r"table bars: missing \['open'\], undeclared \[\]; see engine/lake/schemas.py",
        ),
        (lambda t: t.append_column("x", t["open"]), r"table bars: missing \[\], undeclared \['x'\]"),
        (
            lambda t: t.rename_columns(["sym", *t.column_names[1:]]),
            r"missing \['symbol'\], undeclared \['sym'\]",
        ),
        (
            lambda t: t.set_column(2, "open", pa.array(["a"] * 5)),
            "table bars: .*; see the types in engine/lake/schemas.py",
        ),
    ],
)
def test_wrong_columns_are_refused_and_nothing_is_written(lake, bars, record, spoil, message):
    with pytest.raises(LakeError, match=message):
        lake.publish("bars", "AAPL", spoil(bars(5)), record())
    assert not (lake.data_dir / "lake").exists()


def test_features_may_hold_further_numbers(lake, bars, record):
    rows = bars(5).select(["symbol", "ts"]).append_column("rsi.n=14", pa.array(range(5), pa.int64()))
    lake.publish("features", "AAPL", rows, record())
    assert lake.read("features", "AAPL").schema.field("rsi.n=14").type == pa.float64()


def test_an_undeclared_table_is_refused_with_the_closest(lake, bars, record):
    with pytest.raises(LakeError, match="table 'bar' is not declared. Closest: bars"):
        lake.publish("bar", "AAPL", bars(5), record())


def test_parts_are_files_of_their_own(lake, record):
    rows = schema_of("trials").empty_table()
    for year in ("2013", "2011"):
        lake.publish("trials", "AAPL", rows, record(params=year), year)
    assert lake.parts("trials", "AAPL") == ["2011", "2013"]
    assert lake.read("trials", "AAPL", part="2013").num_rows == 0
    assert lake.record("trials", "AAPL", "2011")["params"] == "2011"


@pytest.mark.parametrize("table", TABLES)
def test_each_table_can_be_empty(lake, record, table):
    rows = schema_of(table).empty_table()
    assert lake.publish(table, "AAPL", rows, record()) and not lake.publish(table, "AAPL", rows, record())
    assert rows_of(lake.read(table, "AAPL")) == []


def test_rows_carry_stamps_as_microseconds(lake, bars, record):
    lake.publish("bars", "AAPL", bars(3), record())
    assert [row["ts"] for row in rows_of(lake.read("bars", "AAPL"))] == [0, 86_400_000_000, 172_800_000_000]


def torn(raw):
    return raw[: len(raw) // 2]


def foreign(_):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "spoil", [torn, foreign, lambda raw: b"", lambda raw: raw[:-1], lambda raw: b"x" + raw[:-1]]
)
@pytest.mark.parametrize(
    ("table", "key", "command"),
    [("bars", "AAPL", "nightfold run AAPL"), ("champions", "_all", "nightfold run --stage leaderboard")],
)
def test_a_torn_file_is_named_with_the_command_that_makes_it_again(full_lake, spoil, table, key, command):
    path = full_lake.data_dir / "lake" / table / f"{key}.parquet"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(LakeError) as caught:
        full_lake.record(table, key)
    assert str(caught.value).startswith(f"{path} is torn or was not written by nightfold (")
    assert str(caught.value).endswith(f"Mend it: nightfold doctor --repair, then: {command}")
    if spoil is not foreign:
        with pytest.raises(LakeError, match="cannot be read .*Mend it: nightfold doctor --repair"):
            full_lake.read(table, key)


def test_a_disk_that_fills_up_leaves_the_old_table(lake, bars, record, monkeypatch):
    lake.publish("bars", "AAPL", bars(20), record())
    before = bytes_below(lake.data_dir)

    def full(rows, path, **options):
        path.write_bytes(b"PAR1 and then no more")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish.pq, "write_table", full)
    with pytest.raises(
        LakeError, match="was not written: No space left on device. What was there before is untouched"
    ):
        lake.publish("bars", "AAPL", bars(30), record())
    assert bytes_below(lake.data_dir) == before


WRITER = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from engine.lake.publish import Lake
lake = Lake(Path(sys.argv[1]))
n = 3000
print("ready", flush=True)
seed = 0
while True:
    seed += 1
    values = np.full(n, float(seed))
    rows = pa.table({"symbol": ["AAPL"] * n, "ts": pa.array(np.arange(n), pa.timestamp("us")),
                     **{c: values for c in ("open", "high", "low", "close", "volume", "adj", "dividend")}})
    lake.publish("bars", "AAPL", rows, {"result_id": str(seed), "params": seed})
"""


def whole(rows):
    """Return the number of the publish that made these rows; every row and the footer must say the same."""
    number = json.loads(rows.schema.metadata[b"nightfold.record"])["params"]
    assert rows.num_rows == 3000 and rows["open"].unique().to_pylist() == [number]
    assert rows["close"].unique().to_pylist() == [number]
    return number


def start_writer(lake):
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(lake.data_dir)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    return child


def test_a_reader_sees_an_old_or_a_new_table_whole_whenever_the_writer_is_killed(lake):
    for kill in range(6):
        writer = start_writer(lake)
        seen = set()
        try:
            while len(seen) < 3 + kill:
                assert writer.poll() is None
                rows = lake.read("bars", "AAPL")
                if rows is not None:
                    seen.add(whole(rows))
        finally:
            writer.kill()
            writer.communicate()
        after = lake.read("bars", "AAPL")
        whole(after)
        assert lake.record("bars", "AAPL")["content_sha"] == publish.content_sha(after)


def test_a_file_left_by_a_killed_writer_is_no_table(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    (lake.data_dir / "lake/bars/.AAPL.parquet.123.tmp").write_bytes(b"half")
    assert lake.read("bars", "AAPL").num_rows == 20
    assert lake.publish("bars", "AAPL", bars(21), record())
