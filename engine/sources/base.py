"""What a source of bars is: it fetches bytes page by page and parses them; it never writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.bars.findings import Finding, RawBars
from engine.bars.policy import Policy, Rejected
from engine.bars.splits import Event
from engine.sources.patience import Patience

NUMBERS = ("open", "high", "low", "close", "volume")
DateFormat = Literal["iso", "day_first", "month_first", "epoch_s", "epoch_ms"]


@dataclass(frozen=True)
class FileFormat:
    """How a file that is not the plain form is to be read.

    Parameters
    ----------
    path : str or None
        The file; relative paths are relative to the data folder. None = data/inbox/<KEY>.csv or .parquet.
    zone : str or None
        IANA name of the zone of stamps that carry none, such as ``America/New_York``.
    date_format : {"iso", "day_first", "month_first", "epoch_s", "epoch_ms"}
        ``YYYY-MM-DD[ HH:MM[:SS[.f]][Z|+HH:MM]]``; ``D/M/YYYY`` or ``M/D/YYYY`` (also with ``.`` or ``-``) and
        the same times; or seconds or milliseconds since 1970 UTC.
    delimiter : str
        One character.
    ignore_columns : tuple of str
        Columns that may stand in the file and are not read, spelt as in the file.
    columns : mapping of str to str
        Our name -> the file's, such as ``{date: Date, close: Last}``; others bear our names.
    """

    path: str | None = None
    zone: str | None = None
    date_format: DateFormat = "iso"
    delimiter: str = ","
    ignore_columns: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SymbolSource:
    """What a source must know about one symbol.

    Parameters
    ----------
    provider_symbol : str or None
        Its name at the source; None = the key.
    venue : str or None
        For source ``exchange`` the venue; for ``files`` the exchange whose zone stamps without one are in.
    calendar : str
        As in `engine.bars.calendars`.
    file : FileFormat or None
        For source ``files``; None = the plain form in the inbox.
    tick : float
        Price step in raw prices; 0 = unknown.
    """

    provider_symbol: str | None = None
    venue: str | None = None
    calendar: str = "observed"
    file: FileFormat | None = None
    tick: float = 0.0


@dataclass(frozen=True)
class Request:
    """One demand for bars: the half-open span [start, end), microseconds UTC; None = open.

    ``policy`` says what becomes of rows that cannot be read, ``patience`` how often a vendor is asked;
    ``kept`` are the first pages of this request, where an earlier download of it broke off.
    """

    key: str
    frame: str
    options: SymbolSource = field(default_factory=SymbolSource)
    start: int | None = None
    end: int | None = None
    policy: Policy = field(default_factory=Policy)
    patience: Patience = field(default_factory=Patience)
    kept: Sequence[RawBatch] = ()


@dataclass(frozen=True)
class RawBatch:
    """One page as it came.

    Parameters
    ----------
    data : bytes
        The file's or the reply's bytes.
    form : {"csv", "parquet", "json"}
        How `Source.parse` is to read them; the extension under which a stage keeps them.
    origin : str
        What messages name: the file's name, or the vendor's reply.
    start, end : int or None
        The span asked for, microseconds UTC.
    lasting : bool
        Another page follows, and every bar of this one was complete: a broken download goes on after it.
    """

    data: bytes
    form: Literal["csv", "parquet", "json"]
    origin: str
    start: int | None = None
    end: int | None = None
    lasting: bool = False


class Keeper(Protocol):
    """Who keeps the pages of one download as they come."""

    def begun(self, request: Request) -> Sequence[RawBatch]:
        """Return the pages of the same request that an earlier run kept before it broke off, oldest first."""

    def keep(self, batch: RawBatch) -> None:
        """Store one page, before anything is made of it."""

    def ended(self) -> None:
        """Know that the download is whole."""


@dataclass(frozen=True)
class Parsed:
    """What one batch holds.

    Parameters
    ----------
    rows : RawBars
        In raw terms, not yet checked.
    events : tuple of Event
        Splits and dividends that came with them.
    rejected : tuple of Rejected
        Rows that could not be read and were set aside.
    repairs : tuple of str
        What was mended to read it.
    findings : tuple of Finding
        Warnings of the reader.
    currency : str
        Unit of the prices, empty where the source says none.
    """

    rows: RawBars
    events: tuple[Event, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    repairs: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    currency: str = ""


class Source(Protocol):
    """Where bars come from.

    Attributes
    ----------
    name : str
        As in nightfold.yaml.
    basis : {"raw", "split_adjusted"}
        Prices as the vendor sends them; `parse` returns raw ones in both cases.
    stamp : {"open", "close"}
        What a vendor's stamp marks; `parse` returns opens.
    zone : str
        Zone of the vendor's stamps.
    """

    name: str
    basis: Literal["raw", "split_adjusted"]
    stamp: Literal["open", "close"]
    zone: str

    def fetch(self, request: Request) -> Iterator[RawBatch]:
        """Yield the pages of a request, oldest first; never writes."""

    def parse(self, batch: RawBatch, request: Request) -> Parsed:
        """Return a page's rows; pure: the same bytes give the same rows."""
