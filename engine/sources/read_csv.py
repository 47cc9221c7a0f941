"""Strict reading of a price file in the declared form: `read_csv` takes bytes, returns rows, guesses nothing.

Every cell is typed by the declared schema; whatever does not fit is refused with its line (header = line 1).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import yaml

from engine.bars.findings import RawBars
from engine.bars.model import Ints
from engine.bars.policy import QUARANTINABLE, Policy, Rejected
from engine.errors import DataError, closest
from engine.sources.base import NUMBERS, FileFormat, Parsed
from engine.sources.refusals import NUMBER, FileReader
from engine.sources.stamps import StampProblem, stamps_to_utc

SCHEMA = "date or timestamp, open, high, low, close, volume, optional symbol"
KNOWN = ("date", "timestamp", *NUMBERS, "symbol")
IGNORED = "ignored: "  # before the name of a column that is not read
MAX_BYTES = 1 << 30
BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(r"\r\n|\n|\r")


def our_names(names: list[str], form: FileFormat) -> list[str]:
    """Return a file's column names with the declared ones in our words, and the ignored ones marked.

    An ignored column may have our name: that of raw prices beside adjusted ones.
    """
    ours = {theirs: name for name, theirs in form.columns.items()}
    return [IGNORED + name if name in form.ignore_columns else ours.get(name, name) for name in names]


def _declaration(reader: FileReader, names: list[str], form: FileFormat) -> str:
    """Return the line of nightfold.yaml that reads a vendor's spelling of our names, or nothing."""
    spelt = {name.strip().lower(): name for name in names}
    stamp = next((name for name in ("date", "timestamp") if name in spelt), None)
    if stamp is None or not set(NUMBERS) <= set(spelt):
        return ""
    plain = FileFormat()
    wanted = {name: getattr(form, name) for name in ("zone", "date_format", "delimiter")}
    wanted = {name: value for name, value in wanted.items() if value != getattr(plain, name)}
    spellings = {name: spelt[name] for name in (stamp, *NUMBERS, "symbol") if spelt.get(name, name) != name}
    others = [name for name in names if name not in spelt.values() or name.strip().lower() not in KNOWN]
    file = {
        "path": form.path or f"inbox/{reader.origin}",
        **wanted,
        "columns": spellings | dict(form.columns),
        "ignore_columns": [*form.ignore_columns, *dict.fromkeys(others)],
    }
    file = {name: value for name, value in file.items() if value}
    line = yaml.safe_dump({"file": file}, default_flow_style=True, sort_keys=False, width=1 << 20)
    return f"declare {line.strip()[1:-1]} for {reader.key} in nightfold.yaml"


def check_columns(
    reader: FileReader,
    names: list[str],
    form: FileFormat,
    unit: str = "line",
    *,
    without_open: bool = False,
) -> str:
    """Return ``date`` or ``timestamp``, or refuse the column names (E01)."""
    read = [name for name in names if not name.startswith(IGNORED)]
    stamps = [name for name in ("date", "timestamp") if name in read]
    unknown = [name for name in read if name not in KNOWN]
    missing = [name for name in NUMBERS if name not in read and not (without_open and name == "open")]
    doubled = sorted({name for name in read if read.count(name) > 1})
    detail = ""
    if unknown:
        missed = missing + ([] if stamps else ["date", "timestamp"])
        detail = f"found column {unknown[0]!r}. {closest(unknown[0].lower(), missed or KNOWN)}"
    elif doubled or len(stamps) > 1:
        detail = f"found column {(doubled or stamps)[0]!r} twice or beside its twin"
    elif missing or not stamps:
        detail = f"found no column {(missing or ['date'])[0]!r}"
    if detail:
        extra = ""
        if unknown and not missing and stamps:
            extra = f", or list it in ignore_columns of {reader.key}'s file in nightfold.yaml"
            if line := _declaration(reader, read, form):
                extra += f": {line}"
        reader.refuse(
            "E01",
            "column missing or unknown",
            detail=f"{detail.rstrip('.')}; expected {SCHEMA}",
            why="columns are never guessed",
            lines=(1,) if unit == "line" else (),
            remedy=(_declaration(reader, read, form) if missing or not stamps else "")
            or f"name the columns of {reader.origin} so{extra}",
        )
    return stamps[0]


def _check_bytes(reader: FileReader, data: bytes) -> None:
    """Refuse bytes that are no whole text file: too large, empty, not UTF-8, NUL, torn (E15, E17, E02)."""
    if len(data) > MAX_BYTES:
        reader.refuse(
            "E15", "file is too large", detail=f"found {len(data)} bytes; expected at most {MAX_BYTES}",
            why="it would not fit into memory beside its checks",
            remedy="bring it as Parquet or in coarser bars",
        )  # fmt: skip
    if not data[:4096].removeprefix(BOM).strip():
        reader.refuse(
            "E17", "too few bars", detail="found an empty file; expected a header line and bars",
            why="there is nothing to test a strategy on", remedy=f"bring {reader.origin} again",
        )  # fmt: skip
    if (at := data.find(b"\0")) >= 0:
        reader.refuse(
            "E15", "file torn", lines=(data.count(b"\n", 0, at) + 1,),
            detail="found a NUL byte; expected text",
            why="a writer that was stopped half-way leaves such blocks",
            remedy=f"bring {reader.origin} again",
        )  # fmt: skip
    try:
        if not data.isascii():
            data.decode("utf-8")
    except UnicodeDecodeError as error:
        reader.refuse(
            "E02", "file is not UTF-8", lines=(data.count(b"\n", 0, error.start) + 1,),
            detail=f"found byte 0x{data[error.start]:02x}; expected UTF-8 text",
            why="text in an unknown encoding cannot be read without guessing",
            remedy=f"save {reader.origin} as UTF-8",
        )  # fmt: skip
    if not data.endswith(b"\n"):
        tail = data.rsplit(b"\n", 1)[-1][-40:].decode("utf-8", "replace")
        reader.refuse(
            "E15", "file torn", lines=(data.count(b"\n") + 1,),
            detail=f"found no newline after {tail!r}; expected one at the file's end",
            why="a last number cut in half would still read as a number",
            remedy=f"bring {reader.origin} again, or end its last line if it is whole",
        )  # fmt: skip


def _rows(data: bytes, delimiter: str, lines: Ints | None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) below the header, the slow way."""
    text = LINE_END.split(data.decode("utf-8-sig"))
    for number, cells in enumerate(csv.reader(text[:-1], delimiter=delimiter), start=1):
        if number > 1:
            yield (number if lines is None else int(lines[number - 2])), cells


def _refuse_cells(
    reader: FileReader, data: bytes, names: list[str], form: FileFormat, error: str, lines: Ints | None
) -> NoReturn:
    """Find the lines that the typed reader refused and name the first three (E01 or E02)."""
    wrong_length: list[tuple[int, int]] = []
    wrong_cell: list[tuple[int, str, str]] = []
    typed = [(i, name) for i, name in enumerate(names) if name in NUMBERS]
    try:
        for line, cells in _rows(data, form.delimiter, lines):
            if len(cells) != len(names):
                wrong_length.append((line, len(cells)))
                continue
            for i, name in typed:
                if not NUMBER.fullmatch(cells[i]):
                    wrong_cell.append((line, name, cells[i]))
                    break
    except csv.Error as broken:  # a cell without an end, say
        error = str(broken)
    if wrong_length:
        reader.refuse(
            "E01", "row has another number of cells", count=len(wrong_length),
            lines=tuple(line for line, _ in wrong_length),
            detail=f"found {wrong_length[0][1]} cells; expected {len(names)}",
            why="values would land in the wrong columns",
        )  # fmt: skip
    if wrong_cell:
        line, name, text = wrong_cell[0]
        reader.refuse(
            "E02", "cell is not a number", count=len(wrong_cell), lines=tuple(bad[0] for bad in wrong_cell),
            detail=f"found {text!r} in column {name} of line {line}; expected a number such as 12.5",
            why="a gap or a text has no price",
        )  # fmt: skip
    reader.refuse(
        "E02", "file cannot be read as typed columns", detail=f"found {error}; expected {SCHEMA}",
        why="nothing is read that does not fit its type",
    )  # fmt: skip


def _header(reader: FileReader, data: bytes, delimiter: str) -> list[str]:
    """Return the names of the first line."""
    first = LINE_END.split(data[: data.find(b"\n") + 1].decode("utf-8-sig"), maxsplit=1)[0]
    names = next(csv.reader([first], delimiter=delimiter), [])
    if len(names) == 1:
        for other in ";\t|,":
            if other != delimiter and other in first:
                reader.refuse(
                    "E01", "column missing or unknown", lines=(1,),
                    detail=f"found one column {first[:60]!r}; expected {SCHEMA}, between {delimiter!r}",
                    why="the delimiter is never guessed",
                    remedy=f"declare file: {{delimiter: {other!r}}} for {reader.key} in nightfold.yaml",
                )  # fmt: skip
    return names


def check_symbol_column(
    reader: FileReader, column: pa.ChunkedArray, numbers: Ints, unit: str = "line"
) -> None:
    """Refuse a file whose symbol column names another symbol (E16)."""
    other = np.asarray(pc.not_equal(column, reader.key).fill_null(True))
    rows = np.flatnonzero(other)
    if len(rows):
        reader.refuse(
            "E16", "file holds another symbol", count=len(rows), unit=unit,
            lines=tuple(numbers[rows].tolist()),
            detail=f"found {column[int(rows[0])].as_py()!r} in column symbol; expected {reader.key}",
            why="two instruments must not become one series",
        )  # fmt: skip


def convert_stamps(
    reader: FileReader,
    column: pa.ChunkedArray,
    form: FileFormat,
    calendar: str,
    numbers: Ints,
    unit: str = "line",
) -> Ints:
    """Return UTC bar opens, int64 microseconds, shape (T,), or refuse the file naming the lines."""
    found = stamps_to_utc(column, form, reader.frame, calendar)
    if isinstance(found, StampProblem):
        reader.refuse(
            found.rule, found.title, count=len(found.rows), unit=unit,
            lines=tuple(numbers[found.rows].tolist()),
            detail=f"found {str(column[int(found.rows[0])].as_py())!r}; expected {found.expected}",
            why=found.why,
            remedy=found.remedy.format(key=reader.key),
        )  # fmt: skip
    return found


def _typed(
    reader: FileReader,
    data: bytes,
    calendar: str,
    form: FileFormat,
    lines: Ints | None,
    *,
    without_open: bool,
) -> RawBars:
    """Read whole text whose rows stand in ``lines`` of the file (None = from line 2 on)."""
    names = our_names(_header(reader, data, form.delimiter), form)
    stamp = check_columns(reader, names, form, without_open=without_open)
    epoch = form.date_format in ("epoch_s", "epoch_ms")
    numbers = [name for name in NUMBERS if name in names]
    types = dict.fromkeys(numbers, pa.float64()) | {stamp: pa.int64() if epoch else pa.string()}
    if "symbol" in names:
        types["symbol"] = pa.string()
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=1 << 22, column_names=names, skip_rows=1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, newlines_in_values=False, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if not data[data.find(b"\n") + 1 :]:
            _no_bars(reader)
        _refuse_cells(reader, data, names, form, str(error), lines)
    if table.num_rows == 0:
        _no_bars(reader)
    found = np.arange(2, table.num_rows + 2, dtype=np.int64) if lines is None else lines
    if "symbol" in types:
        check_symbol_column(reader, table["symbol"], found)
    ts = convert_stamps(reader, table[stamp], form, calendar, found)
    columns = {name: np.ascontiguousarray(table[name].to_numpy()) for name in numbers}
    if "open" not in columns:
        before = np.concatenate([columns["close"][:1], columns["close"][:-1]])
        columns["open"] = np.clip(before, columns["low"], columns["high"])
    return RawBars(reader.origin, "line", ts, **columns, line=found)


def _no_bars(reader: FileReader) -> NoReturn:
    reader.refuse(
        "E17", "too few bars", detail="found a header line and no bar; expected bars",
        why="there is nothing to test a strategy on", remedy=f"bring {reader.origin} again",
    )  # fmt: skip


def read_csv(data: bytes, key: str, frame: str, calendar: str, form: FileFormat, origin: str) -> RawBars:
    """Read a price file in the declared form.

    Parameters
    ----------
    data : bytes
        The whole file: UTF-8 (a BOM is allowed), a header line, one bar per line, a newline at the end.
    key, frame, calendar : str
        As in `Bars`.
    form : FileFormat
        Zone, date format, delimiter, column names and ignored columns as declared.
    origin : str
        The file's name, for messages.

    Returns
    -------
    RawBars
        T rows in the file's order with their line numbers; not yet checked.

    NaN: ``nan`` and ``inf`` are read as such, for E03 to name them.

    Raises
    ------
    DataError
        E01 columns or cells per row, E02 a cell, E08 a stamp's zone, E14 a stamp outside 1900 to 2100,
        E15 torn, E16 another symbol, E17 no bars.
    """
    return read_leniently(data, key, frame, calendar, form, origin, Policy()).rows


def read_leniently(
    data: bytes, key: str, frame: str, calendar: str, form: FileFormat, origin: str, policy: Policy
) -> Parsed:
    """Read a price file as `read_csv` does, with rows set aside or mended where the policy says so.

    Parameters
    ----------
    data, key, frame, calendar, form, origin
        As in `read_csv`.
    policy : Policy
        ``quarantine`` sets aside lines whose cells or stamps cannot be read (E02, E08, E14).

    Returns
    -------
    Parsed
        Rows, lines set aside, and what was mended.

    NaN: as in `read_csv`.

    Raises
    ------
    DataError
        As `read_csv`, for what the policy does not cover.
    """
    reader = FileReader(key, frame, origin)
    _check_bytes(reader, data)
    kept, lines, rejected = data, None, list[Rejected]()
    spare = policy.spare(data.count(b"\n") - 1) if policy.kind == "quarantine" else 0
    if spare and data.count(b"\r") != data.count(b"\r\n"):
        spare = 0  # a row is not a line of its own
    without_open = policy.allows("open_from_prev_close")
    while True:
        reader.lines = ()
        try:
            rows = _typed(reader, kept, calendar, form, lines, without_open=without_open)
            break
        except DataError as error:
            bad = reader.lines
            if error.rule not in QUARANTINABLE or not bad or len(rejected) + len(bad) > spare:
                raise
            text = data.split(b"\n")
            reason, rule = reader.title, error.rule
            rejected += [Rejected(rule, reason, None, n, text[n - 1].decode().rstrip("\r")) for n in bad]
            skipped = {0} | {row.line - 1 for row in rejected}
            left = [i for i in range(len(text) - 1) if i not in skipped]
            kept = b"\n".join([text[0], *(text[i] for i in left), b""])
            lines = np.array(left, dtype=np.int64) + 1
    done: tuple[str, ...] = ()
    if without_open and "open" not in our_names(_header(reader, data, form.delimiter), form):
        done = (f"open_from_prev_close: {len(rows)} bars",)
    return Parsed(rows, rejected=tuple(rejected), repairs=done)
