import os
import subprocess
import sys

import duckdb
import pytest

from engine.errors import LakeError
from engine.lake.publish import Lake
from engine.lake.schemas import TABLES, schema_of
from engine.lake.warehouse import query, refresh


def types(data_dir, table):
    return [row[:2] for row in query(data_dir, f"describe {table}")[1]]


@pytest.mark.parametrize("table", TABLES)
def test_a_view_of_no_file_is_empty_and_typed_as_one_of_a_file(tmp_path, record, table):
    empty = types(tmp_path, table)
    assert query(tmp_path, f"select count(*) from {table}")[1] == [(0,)]
    part = "2012" if table == "trials" else ""
    Lake(tmp_path).publish(table, "AAPL", schema_of(table).empty_table(), record(), part)
    assert types(tmp_path, table) == empty and [name for name, _ in empty] == schema_of(table).names


def test_every_table_is_a_view_and_nothing_else_is(full_lake):
    assert {name for (name,) in query(full_lake.data_dir, "show tables")[1]} == set(TABLES)


def test_views_show_every_symbol(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    assert query(lake.data_dir, "select count(*) n from bars")[1] == [(20,)]
    lake.publish("bars", "IBM", bars(30, symbol="IBM"), record())
    names, rows = query(
        lake.data_dir, "select symbol, count(*) as n from bars group by symbol order by symbol"
    )
    assert names == ["symbol", "n"] and rows == [("AAPL", 20), ("IBM", 30)]


def test_stamps_are_utc_whatever_the_zone_of_the_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.lake.warehouse import query; "
        "print(query(Path(sys.argv[1]), 'select cast(to_timestamp(0) as varchar)')[1][0][0])"
    )
    environ = {**os.environ, "TZ": "America/New_York"}
    call = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(call, env=environ, capture_output=True, text=True, check=True)
    assert found.stdout == "1970-01-01 00:00:00+00\n"


def test_unchanged_views_leave_the_file_untouched(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    path = refresh(lake.data_dir)
    before = path.stat()
    lake.publish("bars", "IBM", bars(30), record())  # another symbol: the same views
    refresh(lake.data_dir)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    lake.publish(
        "features", "AAPL", bars(20).select(["symbol", "ts"]), record()
    )  # a table's first file: another view
    refresh(lake.data_dir)
    assert path.stat().st_ino != before.st_ino


def test_a_deleted_warehouse_is_made_again(full_lake):
    rows = query(full_lake.data_dir, "select * from bars order by ts")[1]
    (full_lake.data_dir / "warehouse.duckdb").unlink()
    assert query(full_lake.data_dir, "select * from bars order by ts")[1] == rows


def test_a_torn_warehouse_is_named_with_its_remedy(full_lake):
    path = refresh(full_lake.data_dir)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        LakeError, match=r"warehouse\.duckdb cannot be opened .*Remove it and any \.wal file beside it"
    ):
        query(full_lake.data_dir, "select 1")


def test_a_warehouse_that_cannot_be_written_is_a_refusal(tmp_path):
    (tmp_path / "data").write_text("a file where the folder belongs")
    with pytest.raises(LakeError):
        refresh(tmp_path / "data")


def test_a_folder_with_signs_of_a_pattern_is_no_pattern(tmp_path, bars, record):
    lake = Lake(tmp_path / "it's [a] *test")
    lake.publish("bars", "AAPL", bars(20), record())
    assert query(lake.data_dir, "select count(*) from bars")[1] == [(20,)]


@pytest.mark.parametrize(
    "sql",
    [
        "select 1", "  SELECT close FROM bars LIMIT 1;", "with x as (select 1 a) select * from x",
        "from bars limit 1", "values (1)", "describe bars", "show tables", "summarize bars",
        "-- a comment\nselect 1",
        "select b.close from bars b join features f using (symbol, ts) where symbol = 'AAPL'",
        "select unnest(fills) from trades",
    ],
)  # fmt: skip
def test_one_select_is_answered(full_lake, sql):
    names, rows = query(full_lake.data_dir, sql)
    assert names and isinstance(rows, list)


HOSTILE = """
-- nothing
select 1; select 2
select 1; drop view bars
selec 1
select nothing from bars
copy (select 1) to '{lake}/bars/EVIL.parquet' (format parquet)
copy bars to '{lake}/x.csv'
explain analyze copy (select 1) to '{lake}/bars/EVIL.csv'
explain copy (select 1) to '{lake}/x.csv'
export database '{lake}/x'
import database '{lake}'
attach '{lake}/x.duckdb'
attach ':memory:' as m
detach warehouse
use memory
set threads = 1
set enable_external_access = true
reset threads
set lock_configuration = false
pragma database_list
pragma enable_profiling
install httpfs
load httpfs
create table x (a int)
create temp table x (a int)
create or replace view bars as select 1
create macro f(x) as x
create secret s (type s3)
insert into bars values (1)
delete from bars
update bars set close = 1
drop view bars
alter view bars rename to b
truncate bars
begin
vacuum
checkpoint
call pragma_version()
prepare p as select 1
execute p
call enable_logging()
select * from read_text('/etc/passwd')
select * from read_csv('/etc/passwd')
select * from '/etc/passwd'
select * from read_blob('{lake}/../../../../../etc/passwd')
select * from glob('/etc/*')
select * from read_parquet('/etc/*')
select * from read_csv('https://127.0.0.1:9/a.csv')
select * from duckdb_secrets() where getenv('HOME') is not null
select getenv('HOME')
from query('copy (select 1) to ''{lake}/x.csv''')
select * from sniff_csv('/etc/passwd')
with x as (delete from bars returning *) select * from x
select * from sqlite_scan('/etc/passwd', 'x')
select * from enable_logging(storage='file', storage_path='{lake}/log')
""".splitlines()  # the first of them is empty


@pytest.fixture(scope="module")
def quiet_lake(tmp_path_factory):
    """A lake that no test may write to."""
    lake = Lake(tmp_path_factory.mktemp("quiet"))
    rows = schema_of("bars").empty_table()
    lake.publish("bars", "AAPL", rows, {"result_id": "x"})
    refresh(lake.data_dir)
    return lake


@pytest.mark.parametrize("sql", HOSTILE)
def test_everything_else_is_refused_and_writes_nothing(quiet_lake, sql):
    def files():
        return {
            p: (p.stat().st_mtime_ns, p.stat().st_size) for p in quiet_lake.data_dir.rglob("*") if p.is_file()
        }

    before = files()
    with pytest.raises(LakeError, match="expected exactly one SELECT|SQL not understood|the query failed"):
        query(quiet_lake.data_dir, sql.format(lake=quiet_lake.data_dir / "lake"))
    assert files() == before


WRITER = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from engine.lake.publish import Lake
from engine.lake.warehouse import refresh
lake = Lake(Path(sys.argv[1]))
n = 500
print("ready", flush=True)
number = 0
while True:
    number += 1
    values = np.full(n, float(number))
    rows = pa.table({"symbol": ["AAPL"] * n, "ts": pa.array(np.arange(n), pa.timestamp("us")),
                     **{c: values for c in ("open", "high", "low", "close", "volume", "adj", "dividend")}})
    lake.publish("bars", "AAPL", rows, {"result_id": str(number)})
    refresh(lake.data_dir)
"""


def test_queries_answer_whole_tables_while_another_process_publishes(lake):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(lake.data_dir)], stdout=subprocess.PIPE)
    seen = set()
    try:
        assert writer.stdout.readline() == b"ready\n"
        path = lake.data_dir / "warehouse.duckdb"
        while not path.exists():
            assert writer.poll() is None
        with duckdb.connect(str(path), read_only=True) as held:  # opened once, as a notebook would
            held.execute("SET enable_external_file_cache = false")  # as docs/data-contract.md says
            while len(seen) < 40:
                assert writer.poll() is None
                held.execute("select count(*), count(distinct close), min(close) from bars")
                rows, kinds, close = held.fetchone()
                assert (rows, kinds) == (500, 1)
                seen.add(close)
        for _ in range(20):
            assert query(lake.data_dir, "select count(*), count(distinct close) from bars")[1] == [(500, 1)]
    finally:
        writer.kill()
        writer.communicate()


def test_another_program_in_another_folder_reads_the_views(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    read = "print(duckdb.connect(sys.argv[1], read_only=True).sql('from bars').fetchall()[0][0])"
    call = [sys.executable, "-c", f"import duckdb, sys; {read}", str(refresh(lake.data_dir))]
    assert subprocess.run(call, cwd=os.sep, capture_output=True, text=True, check=True).stdout == "AAPL\n"


def test_an_interrupt_in_the_middle_of_a_statement_is_an_interrupt(tmp_path, monkeypatch):
    """DuckDB raises RuntimeError for it, which would read as a defect."""

    class Interrupted:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def execute(self, _):
            raise RuntimeError("Query interrupted")

    monkeypatch.setattr(duckdb, "connect", lambda _: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        refresh(tmp_path)
    assert not (tmp_path / "warehouse.duckdb").exists()
