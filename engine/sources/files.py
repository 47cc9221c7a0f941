"""Source ``files``: the user's own CSV or Parquet file of a symbol, from data/inbox or a declared path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from engine.bars.findings import Finding, RawBars, places
from engine.errors import DataError, closest
from engine.sources.base import NUMBERS, FileFormat, Parsed, RawBatch, Request
from engine.sources.read_csv import (
    check_columns,
    check_symbol_column,
    convert_stamps,
    our_names,
    read_leniently,
)
from engine.sources.refusals import FileReader, require_key, unknown_symbol
from engine.sources.stamps import VENUE_ZONES

PARQUET_MAGIC = b"PAR1"


def read_parquet(data: bytes, key: str, frame: str, calendar: str, form: FileFormat, origin: str) -> RawBars:
    """Read a Parquet price file: the columns of the CSV form, typed.

    Parameters
    ----------
    data : bytes
        The whole file. `date` (date) or `timestamp` (timestamp, with a zone or with a declared one), prices
        and volume floating or integer.
    key, frame, calendar : str
        As in `Bars`.
    form : FileFormat
        Zone of naive stamps, and ignored columns.
    origin : str
        The file's name, for messages.

    Returns
    -------
    RawBars
        T rows in the file's order, counted from 1; not yet checked.

    NaN: an absent value is read as NaN, for E03 to name it.

    Raises
    ------
    DataError
        E01 columns or types, E08 zone, E15 torn, E16 another symbol, E17 no bars.
    """
    reader = FileReader(key, frame, origin)
    if len(data) < 12 or data[:4] != PARQUET_MAGIC or data[-4:] != PARQUET_MAGIC:
        reader.refuse(
            "E15", "file torn", detail="found no Parquet footer; expected PAR1 at both ends",
            why="a file without its footer is not whole", remedy=f"bring {origin} again",
        )  # fmt: skip
    try:
        schema = pyarrow.parquet.read_schema(pa.BufferReader(data))
        theirs = [name for name in schema.names if name not in form.ignore_columns]
        wanted = our_names(theirs, form)
        stamp = check_columns(reader, wanted, form, unit="row")
        table = pyarrow.parquet.read_table(pa.BufferReader(data), columns=theirs, use_threads=False)
        table = table.rename_columns(wanted)
    except (pa.ArrowInvalid, OSError) as error:
        reader.refuse(
            "E15", "file torn", detail=f"found {error}; expected a whole Parquet file",
            why="a file that cannot be read whole is not read in part", remedy=f"bring {origin} again",
        )  # fmt: skip
    for name in NUMBERS:
        if not (
            pa.types.is_floating(table.schema.field(name).type)
            or pa.types.is_integer(table.schema.field(name).type)
        ):
            reader.refuse(
                "E01", "column of another type",
                detail=f"found {name} as {table.schema.field(name).type}; expected double",
                why="numbers in another form are never guessed",
            )  # fmt: skip
    kind = table.schema.field(stamp).type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        reader.refuse(
            "E01", "column of another type", detail=f"found {stamp} as {kind}; expected date or timestamp",
            why="stamps in another form are never guessed",
        )  # fmt: skip
    if table.num_rows == 0 or table[stamp].null_count:
        reader.refuse(
            "E17" if table.num_rows == 0 else "E02",
            "too few bars" if table.num_rows == 0 else "stamp is missing",
            detail=f"found {table.num_rows} rows, {table[stamp].null_count} without stamp; "
            "expected a stamp in each",
            why="a bar without its time is no bar", remedy=f"bring {origin} again",
        )  # fmt: skip
    numbers = np.arange(1, table.num_rows + 1, dtype=np.int64)
    if "symbol" in wanted:
        check_symbol_column(reader, table["symbol"], numbers, "row")
    ts = convert_stamps(reader, table[stamp], form, calendar, numbers, "row")
    columns = {
        name: np.ascontiguousarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))
        for name in NUMBERS
    }
    return RawBars(origin, "row", ts, **columns, line=numbers)


def read_file(data: bytes, request: Request, form: FileFormat, origin: str) -> Parsed:
    """Read a price file by the ending of its name, ``.parquet`` or anything else as CSV."""
    named = (request.key, request.frame, request.options.calendar, form, origin)
    if not origin.lower().endswith(".parquet"):
        return read_leniently(data, *named, request.policy)
    rows = read_parquet(data, *named)
    unit = (pyarrow.parquet.read_schema(pa.BufferReader(data)).metadata or {}).get(b"currency", b"")
    return Parsed(rows, currency=unit.decode("utf-8", "replace"))


class Files:
    """The user's files: one per symbol, read whole, never changed or deleted."""

    name = "files"
    basis: Literal["raw", "split_adjusted"] = "raw"
    stamp: Literal["open", "close"] = "open"
    zone = "UTC"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def path(self, request: Request) -> Path:
        """Return the symbol's one file, or refuse (E16) with the closest names of the inbox."""
        require_key(request)
        declared = request.options.file.path if request.options.file else None
        inbox = self.data_dir / "inbox"
        if declared is not None:
            path = self.data_dir / declared
            if path.is_file():
                return path
            unknown_symbol(
                request, f"found no file {declared}; expected it as declared",
                f"correct file: {{path: ...}} of {request.key} in nightfold.yaml, "
                f"then: nightfold check {request.key}",
            )  # fmt: skip
        found = [p for p in (inbox / f"{request.key}.csv", inbox / f"{request.key}.parquet") if p.is_file()]
        if len(found) == 2:
            unknown_symbol(
                request, f"found {found[0].name} and {found[1].name} in data/inbox; expected one of them",
                f"take one of them out of data/inbox, then: nightfold check {request.key}",
            )  # fmt: skip
        if not found:
            here = sorted(p.stem for p in inbox.glob("*") if p.suffix in (".csv", ".parquet"))
            near = closest(request.key, here) if here else "The folder holds no price file."
            unknown_symbol(
                request, f"found no {request.key}.csv or {request.key}.parquet in data/inbox. {near}",
                f"put the file there, or declare file: {{path: ...}}, then: nightfold check {request.key}",
            )  # fmt: skip
        return found[0]

    def fetch(self, request: Request) -> Iterator[RawBatch]:
        """Yield the file's bytes as one page."""
        path = self.path(request)
        yield RawBatch(
            path.read_bytes(), "parquet" if path.suffix.lower() == ".parquet" else "csv", path.name
        )

    def parse(self, batch: RawBatch, request: Request) -> Parsed:
        """Return the file's rows; stamps without a zone are in that of the declared exchange (W08)."""
        form = request.options.file or FileFormat()
        try:
            return read_file(batch.data, request, form, batch.origin)
        except DataError as error:
            venue = request.options.venue or ""
            zone = VENUE_ZONES.get(venue)
            if error.rule != "E08" or form.zone is not None or zone is None:
                raise
            parsed = read_file(batch.data, request, replace(form, zone=zone), batch.origin)
            rows = parsed.rows
            said = Finding(
                "W08", f"zone {zone} taken from venue {venue}", len(rows), "bar",
                places(rows, np.arange(len(rows))), "", "", "",
            )  # fmt: skip
            return replace(parsed, findings=(*parsed.findings, said))
