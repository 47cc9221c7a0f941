"""The warehouse: a DuckDB file that holds nothing but views over a snapshot of the lake's Parquet files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from engine.errors import LakeError, closest
from engine.lake.files import link, replace_atomically, write_text
from engine.lake.schemas import TABLES
from engine.lake.snapshots import (
    WAREHOUSE,
    alone,
    folder_of,
    is_open,
    pattern,
    snapshots,
    sweep,
    tables_of,
    take,
)


def _sql_type(kind: pa.DataType) -> str:
    """Return the DuckDB type that a Parquet column of this type is read as."""
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{field.name} {_sql_type(field.type)}' for field in kind)})"
    return _SQL_TYPES[kind]


_SQL_TYPES = {
    pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.float32(): "FLOAT", pa.int64(): "BIGINT",
    pa.int16(): "SMALLINT", pa.bool_(): "BOOLEAN", pa.timestamp("us"): "TIMESTAMP", pa.date32(): "DATE",
}  # fmt: skip


def _as_pattern(folder: Path) -> str:
    """Return a folder's name so that no part of it is taken for a pattern."""
    return re.sub(r"([\[*?])", r"[\1]", str(folder))


def _view(snapshot: Path, table: str) -> str:
    """Return the SQL of one view: over the files there are, else typed and empty."""
    folder = (snapshot / table).resolve()
    if any(folder.glob(pattern(table))):
        source = f"{_as_pattern(folder)}/{pattern(table)}".replace("'", "''")
        rows = f"SELECT * FROM read_parquet('{source}', union_by_name=true)"  # noqa: S608
    else:
        columns = ", ".join(f'NULL::{_sql_type(f.type)} AS "{f.name}"' for f in TABLES[table])
        rows = f"SELECT {columns} WHERE false"  # noqa: S608
    if table == "next_orders":  # the leaderboard, which decides, runs after the orders are written
        held = "c.in_force AND c.symbol = o.symbol AND c.strategy = o.strategy"
        champion = f"EXISTS (SELECT 1 FROM champions c WHERE {held})"  # noqa: S608
        rows = f"SELECT *, {champion} AS is_champion FROM ({rows}) o"  # noqa: S608
    return f"CREATE VIEW {table} AS {rows};"


def _views(snapshot: Path) -> str:
    names = sorted(TABLES, key=lambda table: table == "next_orders")  # its view reads that of champions
    return "\n".join(_view(snapshot, table) for table in names)


def _state(path: Path) -> str:
    """Return what changes when somebody writes into a file."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _is_current(data_dir: Path, path: Path) -> bool:
    """Say whether the file is ours, untouched, and shows the tables as they are."""
    there = snapshots(data_dir)
    try:
        return (
            bool(there)
            and path.samefile(there[-1] / WAREHOUSE)
            and not _was_written(data_dir, path)
            and (there[-1] / "made").read_text() == f"{_state(path)}\n{_views(there[-1])}"
            and tables_of(there[-1]) == tables_of(data_dir / "lake")
        )
    except OSError:  # one of them is not there
        return False


def _was_written(data_dir: Path, path: Path) -> bool:
    """Say whether a user wrote into the file, or may do so now."""
    if Path(f"{path}.wal").exists() or is_open(path, writing=True):
        return True
    for folder in snapshots(data_dir):
        inside, made = folder / WAREHOUSE, folder / "made"
        if path.exists() and inside.exists() and path.samefile(inside):
            return made.exists() and made.read_text().split("\n")[0] != _state(path)
    return False


def _set_aside(path: Path, tell: Callable[[str], None]) -> None:
    """Move a file that a user wrote into out of the way, with its log of changes."""
    number = 1
    while (aside := path.with_name(f"warehouse.user-{number}.duckdb")).exists():
        number += 1
    for suffix in ("", ".wal"):
        if Path(f"{path}{suffix}").exists():
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    tell(
        f"warehouse: somebody wrote into {path.name}; it is {aside.name} now, and {path.name} is made anew. "
        f"The views of {aside.name} show the lake as it was, until you delete it"
    )


def refresh(data_dir: Path, tell: Callable[[str], None] = lambda text: None) -> Path:
    """Make ``warehouse.duckdb`` anew where a table changed; return its path.

    The file is replaced whole, and what its views read stays as it is while it is open. A reader sees all
    tables as they were when it opened the file:
    ``duckdb -readonly data/warehouse.duckdb "select * from features where symbol = 'AAPL'"``.
    It can be deleted at will. One that a user wrote into is kept under another name.

    Parameters
    ----------
    data_dir : Path
        Of the lake.
    tell : callable
        Told where a user's file was moved.

    Raises
    ------
    LakeError
        The disk refuses.
    """
    path = data_dir / WAREHOUSE
    if _is_current(data_dir, path):
        return path
    with alone(data_dir):
        if _is_current(data_dir, path):  # another process has made it in the meantime
            return path
        if _was_written(data_dir, path):
            _set_aside(path, tell)
        snapshot = take(data_dir)
        inside, sql = snapshot / WAREHOUSE, _views(snapshot)
        _make(inside, sql)
        write_text(snapshot / "made", f"{_state(inside)}\n{sql}")
        replace_atomically(path, lambda temporary: link(inside, temporary), name="warehouse")
        sweep(data_dir)
    return path


def _make(path: Path, sql: str) -> None:
    try:
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"BEGIN;\n{sql}\nCOMMIT;")  # one write to the disk, not one a view
    except duckdb.Error as error:  # of the disk; the views' text is sound
        raise LakeError(f"{path} was not made: {error}") from error
    except RuntimeError as error:  # DuckDB's word for a Ctrl-C in the middle of a statement
        if "interrupted" not in str(error).lower():
            raise
        raise KeyboardInterrupt from error


def query(data_dir: Path, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """Run one SELECT over the views, read-only; return column names and rows.

    Raises
    ------
    LakeError
        The text is not exactly one SELECT, or DuckDB refuses it.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise LakeError(f"SQL not understood: {error}") from error
    # EXPLAIN ANALYZE runs what it explains, COPY included
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise LakeError("expected exactly one SELECT; the warehouse is read-only")
    path = refresh(data_dir)
    shown = folder_of(data_dir).resolve()
    allowed = ", ".join("'{}'".format(name.replace("'", "''")) for name in (str(shown), _as_pattern(shown)))
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise LakeError(
            f"{path} cannot be opened ({error}). "
            "Remove it and any .wal file beside it; the next query makes it anew"
        ) from error
    with connection:
        for setting in (
            "TimeZone='UTC'",
            f"allowed_directories=[{allowed}]",
            "enable_external_access=false",
            "autoload_known_extensions=false",
            "autoinstall_known_extensions=false",
            "lock_configuration=true",
        ):
            connection.execute(f"SET {setting}")
        try:
            result = connection.execute(sql)
            return [column[0] for column in result.description], result.fetchall()
        except duckdb.CatalogException as error:
            unknown = re.search(r"Table with name (\w+) does not exist", str(error))
            if unknown is None:
                raise LakeError(f"the query failed: {error}") from error
            near = closest(unknown[1].lower(), TABLES)
            raise LakeError(
                f"the warehouse has no table {unknown[1]!r}. {near} "
                "List all, or the columns of one: show tables, describe bars"
            ) from error
        except duckdb.Error as error:
            raise LakeError(f"the query failed: {error}") from error
