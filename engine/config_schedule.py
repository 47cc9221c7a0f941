"""The nightly run of the Dagster daemon: when it starts, five cron fields in a time zone."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator

from engine.config_data import Section

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of a month, in a leap year
_FIELDS = (  # name, lowest, highest, names of the values from the lowest on
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),  # 0 and 7 are Sunday
)
_ITEM = re.compile(r"(?:\*|([0-9a-z]+)(?:-([0-9a-z]+))?)(?:/([0-9]+))?")


def _cron(text: str) -> str:
    """Return a cron expression that Dagster's daemon takes too; what only some crons know is refused."""
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{text!r} has {len(fields)} of the five fields minute, hour, day of month, month, day of week; "
            "expected one such as '0 2 * * 2-6'"
        )
    values = [_values(field, *form) for field, form in zip(fields, _FIELDS, strict=True)]
    if min(values[2]) > max(_LONGEST[month - 1] for month in values[3]):
        raise ValueError(f"{text!r} never comes: no month in {fields[3]!r} has a day in {fields[2]!r}")
    return text


def _values(field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    """Return the values of a field: a list of ``*``, ``a`` or ``a-b`` (also over the end) with /step."""
    found: set[int] = set()
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match is None or (item == "*" and item != field):
            raise ValueError(
                f"{name} {field!r} is no cron field; expected *, a number, a-b, */n, a-b/n, or a list of "
                "them with commas"
            )
        first, last, step = match.groups()
        start = low if first is None else _value(first, field, name, low, high, names)
        stop = high if last is None else _value(last, field, name, low, high, names)
        if last is not None and start == stop:  # the daemon would take it as the whole field
            raise ValueError(f"{name} {field!r}: {item} is a range of one; write {first}")
        if first is not None and last is None and step is None:
            stop = start
        if step is not None and not 1 <= int(step) <= stop:  # such as every 90 minutes: it would be hourly
            raise ValueError(f"{name} {field!r}: step {step} is not from 1 to {stop}, the end of its range")
        whole = range(start, stop + 1) if start <= stop else [*range(start, high + 1), *range(low, stop + 1)]
        found.update(whole[:: int(step or 1)])
    return found


def _value(text: str, field: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    """Return one number of a field, written as such or as a name."""
    value = low + names.index(text) if text in names else int(text) if text.isdigit() else -1
    if not low <= value <= high:
        named = f", or {names[0]} to {names[-1]}" if names else ""
        raise ValueError(f"{name} {field!r}: {text} is outside {low} to {high}{named}")
    return value


def _zone(name: str) -> str:
    """Return the name of a time zone that this machine's time zone data hold."""
    try:
        zoneinfo.ZoneInfo(name)
        return name
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # a path, or a folder such as America
        near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), n=3, cutoff=0.5)
    hint = f"Closest: {', '.join(near)}." if near else "Known are those of the IANA time zone database."
    raise ValueError(f"{name!r} is no time zone; expected one such as America/New_York or UTC. {hint}")


class Schedule(Section):
    """The nightly run of the Dagster daemon."""

    enabled: bool = True
    cron: Annotated[str, AfterValidator(_cron)] = "0 2 * * 2-6"  # the nights after Monday to Friday
    timezone: Annotated[str, AfterValidator(_zone)] = "America/New_York"
