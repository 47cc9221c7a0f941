"""Source ``exchange``: candles of a crypto venue through ccxt, page by page from `start` on.

How far back a venue goes is its own choice (Kraken: the newest 720 candles); `start` cannot reach further.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from engine.bars.findings import RawBars
from engine.bars.model import FRAME_US
from engine.errors import ConfigError, NightfoldError, closest, require
from engine.sources.base import NUMBERS, Parsed, RawBatch, Request
from engine.sources.refusals import no_reply, require_key, said_by, unknown_symbol


def _after(page: list[list[Any]], frame_ms: int) -> int:
    """Return the stamp of the candle after a page's newest, milliseconds UTC."""
    return max(int(candle[0]) for candle in page) + frame_ms


class Exchange:
    """One venue of ccxt.

    Parameters
    ----------
    venue : str or None
        ccxt's id, such as ``kraken``.
    client : object or None
        Stands in for the ccxt exchange: ``fetch_ohlcv``, ``timeframes``, ``symbols``.

    Raises
    ------
    ConfigError
        No venue, or one that ccxt does not know.
    MissingExtra
        ccxt is not installed.
    """

    name = "exchange"
    basis: Literal["raw", "split_adjusted"] = "raw"
    stamp: Literal["open", "close"] = "open"
    zone = "UTC"

    def __init__(self, venue: str | None, client: Any = None) -> None:
        self.ccxt = require("ccxt", needed_by="source 'exchange'", extra="exchange")
        if venue is None:
            raise ConfigError(
                "source 'exchange' needs venue: under the symbol in nightfold.yaml, such as kraken"
            )
        if venue not in self.ccxt.exchanges:
            raise ConfigError(f"venue {venue!r} is not known to ccxt. {closest(venue, self.ccxt.exchanges)}")
        self.venue = venue
        self.client = client or getattr(self.ccxt, venue)({"enableRateLimit": True})

    def require_frame(self, frame: str, key: str) -> None:
        """Raise ConfigError for a frame that the venue does not serve."""
        known = self.client.timeframes or {}
        if frame not in known:
            raise ConfigError(f"venue {self.venue} has no frame {frame} ({key}). {closest(frame, known)}")

    def fetch(self, request: Request) -> Iterator[RawBatch]:
        """Yield pages of candles as JSON, oldest first, until the venue has no newer one.

        Raises
        ------
        ConfigError
            A frame that the venue does not serve.
        DataError
            E15 an error instead of a page, or no candle at all; E16 a symbol unknown to the venue.
        """
        require_key(request)
        self.require_frame(request.frame, request.key)
        name = request.options.provider_symbol or request.key
        frame_ms = FRAME_US[request.frame] // 1000
        since = 0 if request.start is None else -(-request.start // 1000)
        pages = 0
        for batch in request.kept:
            pages += 1
            yield batch
            since = _after(json.loads(batch.data), frame_ms)
        while request.end is None or since * 1000 < request.end:
            page = self._page(request, name, since)
            if not page:
                break
            pages += 1
            data = json.dumps(page, separators=(",", ":")).encode()
            after = _after(page, frame_ms)
            whole = after > since and (request.end is None or after * 1000 <= request.end)
            yield RawBatch(data, "json", f"{self.venue} {name}", since * 1000, request.end, whole)
            if after <= since:  # a page that was served before: the venue has no newer one
                break
            since = after
        if pages == 0:
            no_reply(request, self.venue, f"no candle of {name} from start: on; a later start: may help")

    def _page(self, request: Request, name: str, since: int) -> list[list[Any]]:
        """Return one page of [ms, open, high, low, close, volume], or refuse the vendor's error."""

        def candles() -> list[list[Any]]:
            page: list[list[Any]] = self.client.fetch_ohlcv(name, request.frame, since=since)
            text = getattr(self.client, "last_http_response", None)
            if not page and isinstance(text, str):
                json.loads(text)  # ccxt reads a page of HTML, or half a reply, as no candle; that is no end
            return page

        try:
            page = request.patience.ask(request.key, candles, self._pause)
        except self.ccxt.BadSymbol:
            near = closest(name, self.client.symbols) if self.client.symbols else ""
            unknown_symbol(
                request, f"found no symbol {name!r} at {self.venue}. {near}".rstrip(),
                f"correct provider_symbol: of {request.key} in nightfold.yaml, "
                f"then: nightfold check {request.key}",
            )  # fmt: skip
        except NightfoldError:  # ours
            raise
        except Exception as error:  # ccxt also passes on what its reading of a broken reply raises
            no_reply(request, self.venue, said_by(error))
        return page

    def _pause(self, error: Exception) -> float | None:
        """Return the pause that a venue asks for, 0.0 for none; None where asking again is of no use.

        ccxt's named kinds of ExchangeError are answers: a symbol, a request or a country that is refused.
        """
        kind = self.ccxt.ExchangeError
        if isinstance(error, kind) and type(error) is not kind:
            return None
        headers = getattr(self.client, "last_response_headers", None) or {}
        named = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
        limited = isinstance(error, self.ccxt.RateLimitExceeded | self.ccxt.DDoSProtection)
        return float(named) if limited and str(named).isdecimal() else 0.0

    def parse(self, batch: RawBatch, request: Request) -> Parsed:
        """Return a page's candles from its `start` on; venues may send some from before."""
        page = json.loads(batch.data)
        table = np.array([[np.nan if x is None else x for x in row[:6]] for row in page], dtype=np.float64)
        ts = np.array([int(row[0]) * 1000 for row in page], dtype=np.int64)
        line = np.arange(1, len(ts) + 1, dtype=np.int64)
        columns = {name: table[:, i] for i, name in enumerate(NUMBERS, start=1)}
        rows = RawBars(batch.origin, "row", ts, line=line, **columns)
        name = request.options.provider_symbol or request.key
        quote = name.partition("/")[2].partition(":")[0]  # BTC/USDT:USDT is quoted in USDT
        return Parsed(rows if batch.start is None else rows.take(ts >= batch.start), currency=quote)
