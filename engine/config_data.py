"""The settings of symbols, prices and the inbox, and the types that all sections share."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from engine.errors import closest

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
List = Field(strict=False)  # YAML lists become tuples; their items stay strict


def _day(value: object) -> object:
    """Return a date written as text; YAML dates are read as text."""
    if not isinstance(value, str):
        return value
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return date.fromisoformat(value)
    except ValueError:
        pass  # no such day
    raise ValueError(f"{value!r} is no date; expected one such as 2012-01-31")


Day = Annotated[date, BeforeValidator(_day)]


def _commit(value: object) -> object:
    """Return a pinned revision; a branch or tag may name other files tomorrow."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9a-f]{40}", value):
        raise ValueError(f"{value!r} is not pinned; expected the 40 hex digits of a commit")
    return value


Commit = Annotated[str, BeforeValidator(_commit)]


class Section(BaseModel):
    """A frozen group of settings; unknown keys, wrong types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _columns(value: dict[str, str]) -> dict[str, str]:
    known = ("date", "timestamp", "open", "high", "low", "close", "volume", "symbol")
    for name in value:
        if name not in known:
            raise ValueError(f"{name!r} is no column of ours; known: {', '.join(known)}")
    if len(set(value.values())) != len(value):
        raise ValueError("two columns of ours cannot be one of the file's")
    return value


class FileForm(Section):
    """How a symbol's own file is written, where it is not the plain form."""

    path: str  # relative to the data folder
    zone: str | None = None  # zone of stamps without one, e.g. UTC
    date_format: Literal["iso", "day_first", "month_first", "epoch_s", "epoch_ms"] = "iso"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    ignore_columns: Annotated[tuple[str, ...], List] = ()
    columns: Annotated[dict[str, str], AfterValidator(_columns)] = Field(default_factory=dict)  # ours: theirs


def _repair(value: str) -> str:
    names = ("open_from_prev_close", "clip_range", "sort", "accept_revision")
    day = r"\d{4}-\d\d-\d\d"
    event = rf"adjust:[\d.]+(:[\d.]+)?@{day}|scale:[\d.]+@{day}\.\.{day}"
    if value not in names and re.fullmatch(event, value) is None:
        raise ValueError(
            f"{value!r} is no repair; known: {', '.join(names)}, adjust:2:1@2005-02-28, "
            "scale:100@2020-01-02..2020-01-15"
        )
    return value


Repair = Annotated[str, AfterValidator(_repair)]
PolicyName = Literal["refuse", "quarantine", "repair"]


Frame = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"]
FRAME_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


def _calendar(value: str) -> str:
    names = ("observed", "24/7", "weekdays")
    if value not in names and re.fullmatch(r"[A-Z][A-Z0-9]{3}", value) is None:
        raise ValueError(
            f"{value!r} is no calendar; expected one of {', '.join(names)}, or the four-letter code of an "
            f"exchange such as XNYS. {closest(value, names)}"
        )
    return value


class Symbol(Section):
    """Options of one symbol; what is None comes from ``prices`` or ``costs.<class>``."""

    class_: Literal["stock", "crypto"] = Field("stock", alias="class")
    source: Literal["sample", "files", "yahoo", "exchange"] | None = None
    frame: Frame | None = None
    base_frame: Frame | None = None  # finer bars that are read and kept; those of `frame` are made from them
    policy: PolicyName | None = None
    repairs: Annotated[tuple[Repair, ...] | None, List] = None
    start: Day | None = None
    provider_symbol: str | None = None  # name at the source; None = the key
    venue: str | None = None  # ccxt venue, or for files the exchange whose zone stamps are in
    calendar: Annotated[str, AfterValidator(_calendar)] | None = None  # None: observed; crypto 24/7
    sides: Literal["both", "long"] | None = None  # None: both for stock, long for crypto
    tick: NotNegative | None = None  # raw price step; None: .01 for stock, 0 (unknown) for crypto
    lot: NotNegative = 0.0  # 0 = fractional quantities
    file: FileForm | None = None
    fee_bps: NotNegative | None = None
    slippage_bps: NotNegative | None = None
    borrow_bps_year: NotNegative | None = None
    financing_bps_year: NotNegative | None = None


class Overlap(Section):
    """Bars asked for again at each update, to see whether the vendor changed history."""

    daily: Count = 10
    intraday: Count = 100


class Prices(Section):
    """Where prices come from, for symbols that do not say otherwise."""

    source: Literal["sample", "files", "yahoo", "exchange"] = "sample"
    frame: Frame = "1d"
    policy: PolicyName = "refuse"  # what becomes of rows that break a rule
    repairs: Annotated[tuple[Repair, ...], List] = ()  # named repairs that `repair` may use
    quarantine_max_share: Share = 0.01  # of a batch's rows; more: refuse
    quarantine_max_rows: Annotated[int, Field(ge=0)] = 20  # the same, in rows
    overlap_bars: Overlap = Overlap()
    max_gap_bars: Count = 10  # missing in a row: E11; calendar observed: weekdays
    start: Day | None = None  # first bar asked of a network source; None = all there is
    keep_generations: Count = 3  # files of a table that were replaced, kept for a repair


class Inbox(Section):
    """The sensor of the Dagster daemon on data/inbox."""

    enabled: bool = True
    poll_s: Annotated[int, Field(ge=5)] = 30  # seconds between two looks
