"""Vendors' stamps to UTC bar opens: `stamps_to_utc` converts by the one declared format, or says why not."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.checks import FIRST_US, LAST_US
from engine.bars.model import Ints
from engine.sources.base import FileFormat

DAY_US = 86_400_000_000
ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
HAS_ZONE = re.compile(r".{10}.*(?:Z|[+-]\d\d(?::?\d\d)?)", re.ASCII)
SLASHED = r"^(\d\d?)([/.-])(\d\d?)[/.-](\d{4})((?:[ T]\d\d:\d\d.*)?)$"  # either order, by declaration
VENUE_ZONES = {
    "XNYS": "America/New_York", "XNAS": "America/New_York", "ARCX": "America/New_York",
    "XTSE": "America/Toronto", "XLON": "Europe/London", "XPAR": "Europe/Paris", "XAMS": "Europe/Amsterdam",
    "XETR": "Europe/Berlin", "XFRA": "Europe/Berlin", "XSWX": "Europe/Zurich", "XTKS": "Asia/Tokyo",
    "XHKG": "Asia/Hong_Kong", "XSES": "Asia/Singapore", "XNSE": "Asia/Kolkata", "XASX": "Australia/Sydney",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class StampProblem:
    """Why stamps are refused: rule, title, the rows (int64, shape (K,)), what was expected, why, remedy."""

    rule: str
    title: str
    rows: Ints
    expected: str
    why: str
    remedy: str


def _form(text: str) -> str:
    """Return ``date``, ``local`` (time without zone), ``zoned``, or ``unknown``."""
    if not ISO.fullmatch(text):
        return "unknown"
    if len(text) == 10:
        return "date"
    return "zoned" if HAS_ZONE.fullmatch(text) else "local"


def _turned(column: pa.ChunkedArray, day_first: bool) -> pa.ChunkedArray:
    """Return D/M/YYYY or M/D/YYYY text as ISO text; what has another form becomes unreadable."""
    day, month = (r"\1", r"\3") if day_first else (r"\3", r"\1")
    iso = pc.replace_substring_regex(column, SLASHED, rf"\4-0{month}-0{day}\5")
    iso = pc.replace_substring_regex(iso, r"^(\d{4})-0(\d\d)", r"\1-\2")  # three digits: it had two
    iso = pc.replace_substring_regex(iso, r"^(\d{4}-\d\d)-0(\d\d)", r"\1-\2")
    fits = pc.match_substring_regex(column, SLASHED)
    return iso if pc.all(fits).as_py() else pc.if_else(fits, iso, "another form")


def _unreadable(texts: list[str], form: str) -> StampProblem:
    """Find the rows that are no ISO stamp of the file's one form, the slow way."""
    kind = pa.timestamp("us", "UTC" if form == "zoned" else None)

    def bad(text: str) -> bool:
        if form == "unknown" or _form(text) != form:
            return True
        try:
            pa.scalar(text).cast(kind)
        except pa.ArrowInvalid:
            return True
        return False

    if form == "unknown" and len(known := {_form(text) for text in texts} - {"unknown"}) == 1:
        form = known.pop()  # the first row alone is odd
        kind = pa.timestamp("us", "UTC" if form == "zoned" else None)
    rows = np.array([i for i, text in enumerate(texts) if bad(text)], dtype=np.int64)
    return StampProblem(
        "E02", "stamp is not a date of the declared form", rows,
        "YYYY-MM-DD, or YYYY-MM-DD HH:MM[:SS] with Z or an offset, the same form in every row",
        "01/02/2024 is January to some and February to others; nothing is guessed",
        "write ISO dates, or declare file: {{date_format: day_first}}, month_first, epoch_s or epoch_ms "
        "for {key} in nightfold.yaml",
    )  # fmt: skip


def _localise(naive: pa.ChunkedArray, zone: str) -> Ints | StampProblem:
    """Return UTC microseconds of local stamps, or the rows that a change of the clock doubles or skips."""
    try:
        early = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
        late = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="latest")
    except (pa.ArrowInvalid, OSError):
        return StampProblem(
            "E08", "declared zone is not known", np.array([0], dtype=np.int64),
            f"an IANA zone such as America/New_York where zone is {zone!r}",
            "a stamp without a known zone is no time",
            "correct file: {{zone: ...}} of {key} in nightfold.yaml",
        )  # fmt: skip
    first, second = (np.asarray(column.cast(pa.int64())) for column in (early, late))
    rows = np.flatnonzero(first != second)
    if len(rows):
        return StampProblem(
            "E08", "local time occurs twice or never", rows,
            f"a time that occurs once in {zone}",
            "the clock was changed in that hour; which bar it is cannot be known",
            "bring the file of {key} in UTC",
        )  # fmt: skip
    return first


def _naive(stamps: pa.ChunkedArray, zone: str | None, daily_session: bool) -> Ints | StampProblem:
    """Return UTC microseconds of stamps that carry a time of day and no zone."""
    if zone is None:
        return StampProblem(
            "E08", "stamp without zone", np.arange(len(stamps), dtype=np.int64),
            "a stamp with Z or an offset, or a declared zone",
            "the same hour is another moment in each zone",
            "declare file: {{zone: America/New_York}} (or the zone it is) for {key} in nightfold.yaml",
        )  # fmt: skip
    local = np.asarray(stamps.cast(pa.int64()))
    if daily_session and bool(np.all(local % DAY_US == 0)):
        return local  # midnight of the session's date, wherever that is
    return _localise(stamps, zone)


def _text(column: pa.ChunkedArray, zone: str | None, daily_session: bool) -> Ints | StampProblem:
    """Return UTC microseconds of ISO text, one form in all rows."""
    form = _form(column[0].as_py())
    lengths = pc.min_max(pc.binary_length(column)).as_py()
    one_form = lengths == {"min": 10, "max": 10} if form == "date" else lengths["min"] >= 16
    try:
        if form == "unknown" or not one_form:
            return _unreadable(column.to_pylist(), form)
        stamps = column.cast(pa.timestamp("us", "UTC" if form == "zoned" else None))
    except pa.ArrowInvalid:
        return _unreadable(column.to_pylist(), form)
    if form == "local":
        return _naive(stamps, zone, daily_session)
    return np.asarray(stamps.cast(pa.int64()))


def _typed(column: pa.ChunkedArray, zone: str | None, daily_session: bool) -> Ints | StampProblem:
    """Return UTC microseconds of Parquet dates or timestamps."""
    try:
        stamps = column.cast(pa.timestamp("us", getattr(column.type, "tz", None) and "UTC"))
    except pa.ArrowInvalid:
        return StampProblem(
            "E02", "stamp finer than a microsecond", np.array([0], dtype=np.int64), "whole microseconds",
            "it would be cut", "bring the file of {key} in microseconds",
        )  # fmt: skip
    if pa.types.is_date(column.type) or column.type.tz is not None:
        return np.asarray(stamps.cast(pa.int64()))
    return _naive(stamps, zone, daily_session)


def stamps_to_utc(
    column: pa.ChunkedArray, form: FileFormat, frame: str, calendar: str
) -> Ints | StampProblem:
    """Convert a column of stamps by its declared format.

    Parameters
    ----------
    column : pyarrow column, shape (T,), T >= 1
        Text (``iso``), int64 (``epoch_s``, ``epoch_ms``), or the dates or timestamps of a Parquet file.
    form : FileFormat
        Date format, and the zone of stamps that carry none.
    frame, calendar : str
        As in `Bars`: a dated daily bar stands at 00:00 UTC of its date.

    Returns
    -------
    int64 array, shape (T,), microseconds UTC
        Or the `StampProblem` that forbids it.

    NaN: none.
    """
    daily_session = frame == "1d" and calendar != "24/7"
    scale = 1
    if pa.types.is_integer(column.type):
        scale = 1_000_000 if form.date_format == "epoch_s" else 1_000
        ts = np.asarray(column)
    else:
        convert = _text if pa.types.is_string(column.type) else _typed
        if form.date_format in ("day_first", "month_first") and convert is _text:
            column = _turned(column, form.date_format == "day_first")
        found = convert(column, form.zone, daily_session)
        if isinstance(found, StampProblem):
            return found
        ts = found
    rows = np.flatnonzero((ts < FIRST_US // scale) | (ts >= LAST_US // scale))
    if len(rows):
        return StampProblem(
            "E14", "stamp outside 1900 to 2100", rows, f"{form.date_format} stamps between 1900 and 2100",
            "seconds and milliseconds since 1970 are easily taken for each other",
            "declare the right file: {{date_format: ...}} for {key} in nightfold.yaml",
        )  # fmt: skip
    ts = ts if scale == 1 else ts * scale
    midnights = scale == 1 and len(ts) > 1 and not ts[1] % DAY_US and not np.any(ts % DAY_US)
    dates = pa.types.is_date(column.type) or midnights
    if frame != "1d" and dates:
        return StampProblem(
            "E08", "stamp without time of day", np.arange(len(ts), dtype=np.int64),
            f"date and time for {frame} bars", "all bars of a day would carry one stamp",
            "bring the file with times, or set frame: 1d for {key} in nightfold.yaml",
        )  # fmt: skip
    rows = np.flatnonzero(ts % DAY_US) if daily_session else np.empty(0, dtype=np.int64)
    if len(rows):
        return StampProblem(
            "E09", "daily stamp with a time of day", rows, "the session's date",
            "a daily bar stands for a whole session, known at its close",
            "write the dates alone, or set the frame of {key} in nightfold.yaml",
        )  # fmt: skip
    return ts
