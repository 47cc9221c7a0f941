"""Splits, dividends and verified moves: `read_events` reads a symbol's rows, `events_sha` names them."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.bars.splits import KINDS, Event
from engine.errors import closest
from engine.sources.refusals import NUMBER, FileReader

COLUMNS = ["symbol", "date", "kind", "value", "note"]


def _date_us(text: str) -> int | None:
    """Return a YYYY-MM-DD date as microseconds UTC at 00:00, or None."""
    if len(text) != 10 or not text.isascii():
        return None
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return None
    return int(np.datetime64(text, "us").astype(np.int64))


def _event(reader: FileReader, line: int, cells: list[str]) -> Event:
    """Return the event of one row of this symbol, or refuse the row."""
    _, date, kind, value, _ = cells
    where = (line,)
    ts = _date_us(date)
    if ts is None:
        reader.refuse(
            "E02", "date of an event cannot be read", lines=where,
            detail=f"found {date!r}; expected YYYY-MM-DD",
            why="an event on a wrong day moves prices that did not move",
        )  # fmt: skip
    if kind not in KINDS:
        reader.refuse(
            "E02", "kind of an event is not known", lines=where,
            detail=f"found {kind!r}. {closest(kind, KINDS)}",
            why="an event that is not understood would be left out",
        )  # fmt: skip
    if kind == "verified_move":
        if value.strip():
            reader.refuse(
                "E02", "a verified_move has no value", lines=where,
                detail=f"found {value!r}; expected nothing",
                why="only the date says that the jump is real",
            )  # fmt: skip
        return Event(ts, kind, 0.0, f"{reader.origin} line {line}")
    if not NUMBER.fullmatch(value):
        reader.refuse(
            "E02", "value of an event is not a number", lines=where,
            detail=f"found {value!r}; expected new shares per old for a split, cash per share for a dividend",
            why="prices would be scaled by nothing",
        )  # fmt: skip
    return Event(ts, kind, float(value), f"{reader.origin} line {line}")


def read_events(path: Path, key: str, frame: str) -> tuple[Event, ...]:
    """Return a symbol's events, oldest first; an absent file holds none.

    Parameters
    ----------
    path : Path
        A file with the header ``symbol,date,kind,value,note``.
    key, frame : str
        As in `Bars`; rows of other symbols are not looked at beyond their number of cells.

    Returns
    -------
    tuple of Event
        Values not yet compared with prices: `engine.bars.splits.adjust` does that.

    Raises
    ------
    DataError
        E01 columns, E02 a cell or a doubled row, each with its line.
    """
    if not path.exists():
        return ()
    reader = FileReader(key, frame, path.name)
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    except UnicodeDecodeError:
        reader.refuse(
            "E02", "file is not UTF-8", detail="found bytes that are no text; expected UTF-8",
            why="text in an unknown encoding cannot be read without guessing",
            remedy=f"save {path.name} as UTF-8",
        )  # fmt: skip
    if not rows or rows[0] != COLUMNS:
        reader.refuse(
            "E01", "column missing or unknown", lines=(1,),
            detail=f"found {','.join(rows[0]) if rows else 'nothing'!r}; expected {','.join(COLUMNS)}",
            why="columns are never guessed",
        )  # fmt: skip
    found: dict[tuple[int, str], Event] = {}
    for line, cells in enumerate(rows[1:], start=2):
        if cells and len(cells) != len(COLUMNS):
            reader.refuse(
                "E01", "row has another number of cells", lines=(line,),
                detail=f"found {len(cells)} cells; expected {len(COLUMNS)}: {','.join(COLUMNS)}",
                why="values would land in the wrong columns",
            )  # fmt: skip
        if not cells or cells[0] != key:
            continue
        event = _event(reader, line, cells)
        if (event.ts, event.kind) in found:
            reader.refuse(
                "E02", "event given twice", lines=(line,),
                detail=f"found {cells[2]} of {cells[1]} also in {found[event.ts, event.kind].place}; "
                "expected one row",
                why="it would be applied twice",
            )  # fmt: skip
        found[event.ts, event.kind] = event
    return tuple(sorted(found.values(), key=lambda event: (event.ts, event.kind)))


def combine(own: Sequence[Event], vendors: Sequence[Event]) -> tuple[Event, ...]:
    """Return the user's and the vendor's events; of two of one kind and date the user's counts."""
    found = {(event.ts, event.kind): event for event in (*vendors, *own)}
    return tuple(sorted(found.values(), key=lambda event: (event.ts, event.kind)))


def events_sha(events: Sequence[Event]) -> str:
    """Return the sha256 of a symbol's own events, independent of their order, lines and notes."""
    rows = sorted(f"{event.ts},{event.kind},{event.value!r}" for event in events)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
