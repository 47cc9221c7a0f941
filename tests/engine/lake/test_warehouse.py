import os
import shutil
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest

from engine.errors import LakeError
from engine.lake import faults
from engine.lake.publish import Lake
from engine.lake.schemas import TABLES, schema_of
from engine.lake.snapshots import snapshots
from engine.lake.warehouse import query, refresh


def types(data_dir, table):
    return [row[:2] for row in query(data_dir, f"describe {table}")[1]]


@pytest.mark.parametrize("table", TABLES)
def test_a_view_of_no_file_is_empty_and_typed_as_one_of_a_file(tmp_path, record, table):
    empty = types(tmp_path, table)
    assert query(tmp_path, f"select count(*) from {table}")[1] == [(0,)]
    part = "2012" if table == "trials" else ""
    Lake(tmp_path).publish(table, "AAPL", schema_of(table).empty_table(), record(), part)
    joined = ["is_champion"] if table == "next_orders" else []
    assert types(tmp_path, table) == empty
    assert [name for name, _ in empty] == schema_of(table).names + joined


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


def test_next_orders_say_whose_the_champion_is(tmp_path, record):
    """Joined in the view: the leaderboard decides after the orders are written."""
    lake = Lake(tmp_path)

    def publish(table, key, **columns):
        schema = schema_of(table)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        full = [{name: row.get(name) for name in schema.names} for row in rows]
        lake.publish(table, key, pa.Table.from_pylist(full, schema=schema), record())

    ask = "select strategy, is_champion from next_orders order by symbol, strategy"
    for key in ("A", "B"):
        publish("next_orders", key, symbol=[key] * 2, strategy=["levels", "trend"])
    assert query(tmp_path, ask)[1] == [("levels", False), ("trend", False)] * 2
    publish("champions", "_all", symbol=["A", "A", "B"], strategy=["trend", "levels", "trend"],
            in_force=[False, True, False])  # fmt: skip
    assert query(tmp_path, ask)[1] == [("levels", True)] + [("trend", False), ("levels", False)] + [
        ("trend", False)
    ]


def test_stamps_are_utc_whatever_the_zone_of_the_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from engine.lake.warehouse import query; "
        "print(query(Path(sys.argv[1]), 'select cast(to_timestamp(0) as varchar)')[1][0][0])"
    )
    environ = {**os.environ, "TZ": "America/New_York"}
    call = [sys.executable, "-c", code, str(tmp_path)]
    found = subprocess.run(call, env=environ, capture_output=True, text=True, check=True)
    assert found.stdout == "1970-01-01 00:00:00+00\n"


def test_unchanged_tables_leave_the_file_untouched(lake, bars, record):
    lake.publish("bars", "AAPL", bars(20), record())
    path = refresh(lake.data_dir)
    before = path.stat()
    lake.publish("bars", "AAPL", bars(20), record())  # the same rows: no file is written
    refresh(lake.data_dir)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    lake.publish("bars", "AAPL", bars(21), record())
    refresh(lake.data_dir)
    assert path.stat().st_ino != before.st_ino


def test_a_deleted_warehouse_is_made_again(full_lake):
    rows = query(full_lake.data_dir, "select * from bars order by ts")[1]
    (full_lake.data_dir / "warehouse.duckdb").unlink()
    assert query(full_lake.data_dir, "select * from bars order by ts")[1] == rows


def test_a_torn_warehouse_is_made_anew(full_lake):
    path = refresh(full_lake.data_dir)
    path.write_bytes(path.read_bytes()[:100])
    assert query(full_lake.data_dir, "select count(*) from bars")[1] == [(50,)]
    assert path.with_name("warehouse.user-1.duckdb").stat().st_size == 100


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


def test_an_unknown_table_names_the_closest_ones(quiet_lake):
    with pytest.raises(LakeError, match=r"no table 'BAR'\. Closest: bars.*: show tables, describe bars$"):
        query(quiet_lake.data_dir, "select * from BAR")


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
from engine.lake import faults
from engine.lake.publish import Lake
from engine.lake.warehouse import refresh
lake = Lake(Path(sys.argv[1]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    n = 500 + number % 7
    values = np.full(n, float(number))
    rows = pa.table({"symbol": ["AAPL"] * n, "ts": pa.array(np.arange(n), pa.timestamp("us")),
                     **{c: values for c in ("open", "high", "low", "close", "volume", "adj", "dividend")}})
    lake.publish("bars", "AAPL", rows, {"result_id": str(number)})
    refresh(lake.data_dir)
"""


LOOK = "select count(*), count(distinct close), min(close) from bars"


def test_queries_answer_whole_tables_while_another_process_publishes(lake):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(lake.data_dir)], stdout=subprocess.PIPE)
    seen, held = set(), None
    try:
        assert writer.stdout.readline() == b"ready\n"
        path = lake.data_dir / "warehouse.duckdb"
        while not path.exists():
            assert writer.poll() is None
        held = in_a_process(path)  # opened once, as a notebook would
        was = held(LOOK)
        while len(seen) < 12:
            assert writer.poll() is None
            assert held(LOOK) == was  # all tables as they were when it was opened
            with duckdb.connect(str(path), read_only=True) as fresh:
                rows, kinds, close = fresh.execute(LOOK).fetchone()
            assert (rows, kinds) == (500 + int(close) % 7, 1)  # a mixture has another count
            seen.add(close)
        held(None)
        for _ in range(20):
            ((rows, kinds, close),) = query(lake.data_dir, LOOK)[1]
            assert (rows, kinds) == (500 + int(close) % 7, 1)
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


# snapshots


def publish(lake, bars, record, n):
    lake.publish("bars", "AAPL", bars(n), record(params=n))
    return refresh(lake.data_dir)


def test_a_connection_held_through_200_publishes_answers_every_time(lake, bars, record):
    path = publish(lake, bars, record, 1)
    held = in_a_process(path, "select count(*) from bars")
    for n in range(2, 202):
        lake.publish("bars", "AAPL", bars(n), record(params=n))
        if n % 20 == 0:
            refresh(lake.data_dir)
            assert held("select count(*), sum(close) is not null from bars") == "1, True"
    assert query(lake.data_dir, "select count(*) from bars")[1] == [(201,)]
    assert len(snapshots(lake.data_dir)) == 4  # the one held, and the newest three
    held(None)
    publish(lake, bars, record, 300)
    assert len(snapshots(lake.data_dir)) == 3


def in_a_process(path, *sql, read_only=True):
    """Open a DuckDB file in another process; the returned function asks it, or with None kills it."""
    code = (
        "import duckdb, sys\nc = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'True')\n"
        "print('open', flush=True)\nfor line in sys.stdin:\n"
        "    print(*(c.execute(line).fetchone() or ['done']), sep=', ', flush=True)"
    )
    call = [sys.executable, "-c", code, str(path), str(read_only)]
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"

    def ask(text):
        if text is None:
            process.kill()
            process.communicate()
            return None
        process.stdin.write(text + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    for text in sql:
        ask(text)
    return ask


@pytest.mark.parametrize("how", ["killed with a log beside it", "closed", "still open"])
def test_what_a_user_wrote_into_the_warehouse_is_kept_and_costs_nobody_anything(lake, bars, record, how):
    path, told = publish(lake, bars, record, 20), []
    if how == "closed":
        with duckdb.connect(str(path)) as connection:
            connection.execute("create table mine as select 42 as x")
    else:
        user = in_a_process(path, "create table mine as select 42 as x", read_only=False)
        if how.startswith("killed"):
            user(None)
            assert path.with_name("warehouse.duckdb.wal").exists()
    refresh(lake.data_dir, told.append)
    aside = path.with_name("warehouse.user-1.duckdb")
    assert told == [
        f"warehouse: somebody wrote into warehouse.duckdb; it is {aside.name} now, and warehouse.duckdb is "
        f"made anew. The views of {aside.name} show the lake as it was, until you delete it"
    ]
    assert not path.with_name("warehouse.duckdb.wal").exists()
    with duckdb.connect(str(path), read_only=True) as fresh:
        assert fresh.execute("select count(*) from bars").fetchone() == (20,)
        assert "mine" not in [name for (name,) in fresh.execute("show tables").fetchall()]
    if how == "still open":
        assert user("select x from mine") == "42"
        user(None)
    with duckdb.connect(str(aside)) as theirs:
        assert theirs.execute("select x from mine").fetchone() == (42,)
    told.clear()
    assert refresh(lake.data_dir, told.append) == path and told == []


def test_a_run_killed_at_any_point_of_a_refresh_leaves_a_warehouse_that_opens(lake, bars, record):
    publish(lake, bars, record, 20)
    for at, name in enumerate(["after_tmp", "after_fsync", "after_replace", "after_dirsync"], 21):
        lake.publish("bars", "AAPL", bars(at), record(params=at))

        class Killed(BaseException):
            pass

        def listen(hit, name=name):
            if hit == f"warehouse.{name}":
                raise Killed

        faults.listener = listen
        try:
            with pytest.raises(Killed):
                refresh(lake.data_dir)
        finally:
            faults.listener = None
        with duckdb.connect(str(lake.data_dir / "warehouse.duckdb"), read_only=True) as reader:
            assert reader.execute("select count(*) from bars").fetchone()[0] in (at - 1, at)
        assert query(lake.data_dir, "select count(*) from bars")[1] == [(at,)]


def test_a_snapshot_that_is_gone_is_taken_again(lake, bars, record):
    publish(lake, bars, record, 20)
    shutil.rmtree(lake.data_dir / "cache")
    assert query(lake.data_dir, "select count(*) from bars")[1] == [(20,)]
