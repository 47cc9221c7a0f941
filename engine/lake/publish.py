"""Read and publish the tables of the lake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import LakeError
from engine.lake import leases
from engine.lake.files import link_generation, replace_atomically
from engine.lake.paths import history_folder, table_path
from engine.lake.paths import made_by as command
from engine.lake.records import canonical, content_sha, digest
from engine.lake.schemas import schema_of

_FOOTER_KEY = b"nightfold.record"
SCHEMA = 1  # version of the tables' columns and of the record; another one is refused (E19)
WITHOUT_HISTORY = ("trials", "quarantine")  # they only ever grow
UNREADABLE = (pa.ArrowException, OSError, ValueError)  # what pyarrow raises at a torn or changed file


@dataclass(frozen=True)
class Lake:
    """The tables below one data folder.

    Parameters
    ----------
    data_dir : Path
        All that is written lies under it.
    keep_generations : int, >= 1
        Files of a table that were replaced, kept in its history.
    """

    data_dir: Path
    keep_generations: int = 3

    def record(self, table: str, key: str, part: str = "") -> dict[str, Any] | None:
        """Return the record of the current file, or None where there is none."""
        path = table_path(self.data_dir, table, key, part)
        if not path.exists():
            return None
        try:
            record = _record_in(pq.read_schema(path))
        except (*UNREADABLE, KeyError, TypeError) as error:
            raise LakeError(
                f"{path} is torn or was not written by nightfold ({error}). "
                f"Mend it: nightfold doctor --repair, then: {command(key)}"
            ) from error
        _refuse_unknown(record, path)
        return record

    def result_id(self, table: str, key: str) -> str | None:
        """Return the id of the current file's result, or None where there is none."""
        record = self.record(table, key)
        return None if record is None else str(record["result_id"])

    def read(
        self, table: str, key: str, columns: Sequence[str] | None = None, part: str = ""
    ) -> pa.Table | None:
        """Return one table of one symbol, or None where it was never published."""
        path = table_path(self.data_dir, table, key, part)
        if not path.exists():
            return None
        try:
            file = pq.ParquetFile(path)
            record = _record_in(file.schema_arrow)
            _refuse_unknown(record, path)
            return file.read(columns=list(columns) if columns is not None else None)
        except (*UNREADABLE, KeyError, TypeError) as error:
            raise LakeError(
                f"{path} cannot be read ({error}). Mend it: nightfold doctor --repair, then: {command(key)}"
            ) from error

    def need(self, table: str, key: str, made_by: str) -> pa.Table:
        """Return a table that must be there.

        Raises
        ------
        LakeError
            It was never published; names the stage that makes it.
        """
        found = self.read(table, key)
        if found is None:
            raise LakeError(
                f"table {table} of {key} is not in {self.data_dir / 'lake'}. "
                f"Run the stage before: nightfold run {key} --stage {made_by}"
            )
        return found

    def parts(self, table: str, key: str) -> list[str]:
        """Return the part names (years) of a table kept in parts, sorted."""
        folder = table_path(self.data_dir, table, key, "0").parent
        return sorted(path.stem for path in folder.glob("*.parquet"))

    def publish(self, table: str, key: str, rows: pa.Table, record: dict[str, Any], part: str = "") -> bool:
        """Replace one table of one symbol, whole.

        Parameters
        ----------
        table, key, part : str
            Which file.
        rows : pyarrow.Table
            Columns and types as declared in `engine.lake.schemas`.
        record : dict
            From `engine.lake.records.make_record`; stored in the file's footer.

        Returns
        -------
        bool
            False where the file already holds the same rows under the same record.

        Raises
        ------
        LakeError
            The columns differ from the declaration, or the disk refuses.
        """
        rows = conform(table, rows)
        full = {**record, "schema": SCHEMA, "table": table, "content_sha": content_sha(rows)}
        full["record_sha"] = digest(full)
        path = table_path(self.data_dir, table, key, part)
        if path.exists() and self.record(table, key, part) == json.loads(canonical(full)):
            return False
        stamped = rows.replace_schema_metadata({_FOOTER_KEY: canonical(full).encode()})

        def confirm_and_keep() -> None:
            leases.confirm(self.data_dir, key)
            if table not in WITHOUT_HISTORY:
                folder = history_folder(self.data_dir, table, key)
                link_generation(path, folder, self.keep_generations, table)

        replace_atomically(
            path, lambda temporary: write_parquet(stamped, temporary), name=table, before=confirm_and_keep
        )
        return True


def _record_in(schema: pa.Schema) -> dict[str, Any]:
    return dict(json.loads((schema.metadata or {})[_FOOTER_KEY]))


def _refuse_unknown(record: dict[str, Any], path: Path) -> None:
    """Raise E19 for a table of a schema version that this nightfold does not know."""
    version = record.get("schema", SCHEMA)
    if version != SCHEMA:
        raise LakeError(
            f"E19 table written by an unknown schema version: {path} has version {version!r}; "
            f"expected {SCHEMA}. Read it with the nightfold that wrote it, or name another data_dir"
        )


def rows_of(table: pa.Table | None) -> list[dict[str, Any]]:
    """Return a table as rows, stamps as int64 microseconds."""
    if table is None:
        return []
    for index, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(index, column.name, table[column.name].cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def conform(table: str, rows: pa.Table) -> pa.Table:
    """Return rows in the declared column order and types.

    Raises
    ------
    LakeError
        A column is missing, undeclared or of a type that does not fit.
    """
    declared = schema_of(table)
    missing = [name for name in declared.names if name not in rows.column_names]
    extra = [name for name in rows.column_names if name not in declared.names]
    if missing or (extra and table != "features"):
        raise LakeError(f"table {table}: missing {missing}, undeclared {extra}; see engine/lake/schemas.py")
    for name in extra:
        declared = declared.append(pa.field(name, pa.float64()))
    try:
        return rows.select(declared.names).cast(declared)
    except pa.ArrowException as error:
        raise LakeError(f"table {table}: {error}; see the types in engine/lake/schemas.py") from error


def write_parquet(rows: pa.Table, path: Path | pa.BufferOutputStream) -> None:
    """Write a table in the lake's form."""
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    # fixed options: the same rows give the same bytes on every machine
    pq.write_table(rows, path, compression="zstd", row_group_size=131_072, use_dictionary=texts)
