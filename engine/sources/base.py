"""What a source of bars is: it fetches bytes page by page and parses them; it never writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from engine.bars.checks import RawBars
from engine.bars.splits import Event

NUMBERS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class FileFormat:
    """How a file that is not the plain form is to be read.

    Parameters
    ----------
    path : str or None
        The file; relative paths are relative to the data folder. None = data/inbox/<KEY>.csv or .parquet.
    zone : str or None
        IANA name of the zone of stamps that carry none, such as ``America/New_York``.
    date_format : {"iso", "epoch_s", "epoch_ms"}
        ``YYYY-MM-DD[ HH:MM[:SS[.f]][Z|+HH:MM]]``, or seconds or milliseconds since 1970 UTC.
    delimiter : str
        One character.
    ignore_columns : tuple of str
        Columns that may stand in the file and are not read.
    """

    path: str | None = None
    zone: str | None = None
    date_format: Literal["iso", "epoch_s", "epoch_ms"] = "iso"
    delimiter: str = ","
    ignore_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class SymbolSource:
    """What a source must know about one symbol.

    Parameters
    ----------
    provider_symbol : str or None
        Its name at the source; None = the key.
    venue : str or None
        Exchange, for source ``exchange``.
    calendar : {"observed", "24/7"}
        Session market, or trading without pause.
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
    """One demand for bars: the half-open span [start, end), microseconds UTC; None = open."""

    key: str
    frame: str
    options: SymbolSource = field(default_factory=SymbolSource)
    start: int | None = None
    end: int | None = None


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
    """

    data: bytes
    form: Literal["csv", "parquet", "json"]
    origin: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Parsed:
    """Rows of one batch in raw terms, and the events that came with them."""

    rows: RawBars
    events: tuple[Event, ...] = ()


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
