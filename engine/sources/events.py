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
from engine.errors import ConfigError, closest
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
    _, date, kind, value, note = cells
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
    until = 0
    if kind == "scale":
        last = _date_us(note.strip().removeprefix("until="))
        if last is None or last < ts:
            reader.refuse(
                "E02", "scale without its last date", lines=where,
                detail=f"found note {note!r}; expected until=YYYY-MM-DD, not before {date}",
                why="a block without an end would scale the whole series",
            )  # fmt: skip
        until = last
    return Event(ts, kind, float(value), f"{reader.origin} line {line}", until)


def parse_event(kind: str, text: str) -> tuple[str, str, str]:
    """Return (date, value, note) of an event written as on the command line.

    Parameters
    ----------
    kind : {"split", "scale", "verified_move"}
        What ``text`` says.
    text : str
        ``2:1@2005-02-28``, ``100@2020-01-02..2020-01-15``, or a date.

    Raises
    ------
    ConfigError
        The text has another form.

    >>> parse_event("split", "2:1@2005-02-28"), parse_event("scale", "100@2020-01-02..2020-01-15")
    (('2005-02-28', '2', ''), ('2020-01-02', '100', 'until=2020-01-15'))
    """
    value, _, dates = text.rpartition("@")
    date, _, last = dates.partition("..")
    new, _, old = value.partition(":")
    known = all(NUMBER.fullmatch(part) and 0.0 < float(part) < float("inf") for part in (new, old or "1"))
    sound = {
        "split": known and not last,
        "scale": known and not old and _date_us(last) is not None and last >= date,
        "verified_move": not value and not last,
    }[kind]
    if not sound or _date_us(date) is None:
        form = {"split": "2:1@2005-02-28", "scale": "100@2020-01-02..2020-01-15"}.get(kind, "2005-02-28")
        raise ConfigError(f"{text!r} is no {kind.replace('_', ' ')}; expected a form such as {form}")
    if kind == "verified_move":
        return date, "", ""
    return date, f"{float(new) / float(old or 1):.15g}", f"until={last}" if kind == "scale" else ""


def declared_event(text: str) -> Event:
    """Return the event of a repair of the settings, such as ``adjust:2:1@2005-02-28``.

    Raises
    ------
    ConfigError
        The text has another form.
    """
    name, _, rest = text.partition(":")
    kind = {"adjust": "split", "scale": "scale"}[name]
    return as_event(kind, rest, "prices.repairs in nightfold.yaml")


def as_event(kind: str, text: str, place: str) -> Event:
    """Return the event of a text that `parse_event` takes; ``place`` names where it was read.

    Raises
    ------
    ConfigError
        The text has another form.
    """
    date, value, note = parse_event(kind, text)
    ts, until = _date_us(date), _date_us(note.removeprefix("until="))
    return Event(ts or 0, kind, float(value or 0.0), place, until or 0)


def with_event(text: str, key: str, kind: str, date: str, value: str, note: str) -> str:
    """Return the text of an event table with one more row; a row of that date and kind is replaced."""
    lines = text.splitlines() or [",".join(COLUMNS)]
    head = f"{key},{date},{kind},"
    return "\n".join([line for line in lines if not line.startswith(head)] + [f"{head}{value},{note}"]) + "\n"


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
    rows = sorted(
        f"{event.ts},{event.kind},{event.value!r}" + (f",{event.until}" if event.until else "")
        for event in events
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
