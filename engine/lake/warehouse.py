"""The warehouse: a DuckDB file that holds nothing but views over the lake's Parquet files."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pyarrow as pa

from engine.errors import LakeError
from engine.lake.files import replace_atomically, write_text
from engine.lake.schemas import TABLES


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


def _view(data_dir: Path, table: str) -> str:
    """Return the SQL of one view: over the files there are, else typed and empty."""
    folder = (data_dir / "lake" / table).resolve()
    pattern = "*/*.parquet" if table == "trials" else "*.parquet"
    if any(folder.glob(pattern)):
        source = f"{_as_pattern(folder)}/{pattern}".replace("'", "''")
        return f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{source}', union_by_name=true);"  # noqa: S608
    columns = ", ".join(f'NULL::{_sql_type(f.type)} AS "{f.name}"' for f in TABLES[table])
    return f"CREATE VIEW {table} AS SELECT {columns} WHERE false;"


def refresh(data_dir: Path) -> Path:
    """Make ``warehouse.duckdb`` anew where its views changed; return its path.

    The file is replaced whole, so a reader that has it open goes on undisturbed:
    ``duckdb -readonly data/warehouse.duckdb "select * from features where symbol = 'AAPL'"``.
    It can be deleted at will.
    """
    path = data_dir / "warehouse.duckdb"
    sql = "\n".join(_view(data_dir, table) for table in TABLES)
    made_from = data_dir / "cache" / "warehouse.sql"
    if path.exists() and made_from.exists() and made_from.read_text() == sql:
        return path

    def write(temporary: Path) -> None:
        try:
            with duckdb.connect(str(temporary)) as connection:
                connection.execute(sql)
        except duckdb.Error as error:  # of the disk; the views' text is sound
            raise LakeError(f"{path} was not made: {error}") from error
        except RuntimeError as error:  # DuckDB's word for a Ctrl-C in the middle of a statement
            if "interrupted" not in str(error).lower():
                raise
            raise KeyboardInterrupt from error

    replace_atomically(path, write, name="warehouse")
    write_text(made_from, sql)
    return path


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
    lake = (data_dir / "lake").resolve()
    allowed = ", ".join("'{}'".format(name.replace("'", "''")) for name in (str(lake), _as_pattern(lake)))
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
            "enable_external_file_cache=false",  # a file replaced meanwhile is read anew
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
        except duckdb.Error as error:
            raise LakeError(f"the query failed: {error}") from error
