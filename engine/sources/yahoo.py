"""Source ``yahoo``: daily and intraday bars through yfinance, one request per symbol.

Yahoo's daily prices are adjusted for every split up to today, its dividends too; both are turned back into
raw terms by the splits that come with the reply. So a daily request always runs to the newest bar, whatever
its end: only then are all splits in it. Intraday prices are taken as traded (yfinance issue 1883).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from engine.bars.findings import RawBars
from engine.bars.splits import Event, factors
from engine.errors import ConfigError, NightfoldError, closest, require
from engine.sources.base import NUMBERS, Parsed, RawBatch, Request
from engine.sources.refusals import no_reply, require_key, said_by, unknown_symbol

INTERVALS = ("1m", "5m", "15m", "30m", "1h", "1d")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _stamps_us(index: Any) -> list[int]:
    """Return a pandas index as microseconds, UTC for zoned stamps."""
    return [int(stamp) for stamp in index.as_unit("us").asi8]


def _canonical(frame: Any, daily: bool, currency: str) -> bytes:
    """Return the reply as JSON: rows [ts, open, high, low, close, volume], events [ts, kind, value]."""
    dates = _stamps_us(frame.index.tz_localize(None).normalize())  # the exchange's own dates
    stamps = dates if daily else _stamps_us(frame.index)
    columns = [frame[name].astype(float).tolist() for name in ("Open", "High", "Low", "Close", "Volume")]
    rows = [
        [stamp, *(None if value != value else value for value in values)]
        for stamp, *values in zip(stamps, *columns, strict=True)
    ]
    events = []
    for kind, name in (("dividend", "Dividends"), ("split", "Stock Splits")):
        if name in frame.columns:
            paid = zip(dates, frame[name].astype(float).tolist(), strict=True)
            events += [[date, kind, value] for date, value in paid if value > 0.0]
    reply = {"currency": currency, "rows": rows, "events": events}
    return json.dumps(reply, separators=(",", ":")).encode()


class Yahoo:
    """Yahoo Finance through yfinance: unadjusted closes asked for, with actions, never repaired.

    Parameters
    ----------
    client : callable or None
        Stands in for ``yfinance.Ticker``: takes a symbol, returns an object with ``history``.

    Raises
    ------
    MissingExtra
        yfinance is not installed.
    """

    name = "yahoo"
    basis: Literal["raw", "split_adjusted"] = "split_adjusted"
    stamp: Literal["open", "close"] = "open"
    zone = "the exchange's"

    def __init__(self, client: Any = None) -> None:
        yfinance = require("yfinance", needed_by="source 'yahoo'", extra="yahoo")
        yfinance.config.debug.hide_exceptions = False  # else a failure comes as an empty table and a log line
        self.client = client or yfinance.Ticker
        errors = require("yfinance.exceptions", needed_by="source 'yahoo'", extra="yahoo")
        self.unknown = errors.YFTzMissingError
        self.final = (self.unknown, errors.YFPricesMissingError, errors.YFInvalidPeriodError)
        data = require("yfinance.data", needed_by="source 'yahoo'", extra="yahoo")
        self.forget = data.YfData.cache_get.cache_clear  # it also keeps a reply that was an error

    def require_frame(self, frame: str, key: str) -> None:
        """Raise ConfigError for a frame that Yahoo does not serve."""
        if frame not in INTERVALS:
            raise ConfigError(f"source 'yahoo' has no frame {frame} ({key}). {closest(frame, INTERVALS)}")

    def fetch(self, request: Request) -> Iterator[RawBatch]:
        """Yield the one reply as canonical JSON.

        Raises
        ------
        ConfigError
            A frame that Yahoo does not serve.
        DataError
            E15 no whole reply, E16 a symbol that Yahoo does not know.
        """
        require_key(request)
        self.require_frame(request.frame, request.key)
        name = request.options.provider_symbol or request.key
        daily = request.frame == "1d"
        asked: dict[str, Any] = {"period": "max"}
        if request.start is not None:
            start = EPOCH + timedelta(microseconds=request.start)
            asked = {"start": start.date().isoformat() if daily else start}
            if not daily and request.end is not None:
                asked["end"] = EPOCH + timedelta(microseconds=request.end)

        def history() -> tuple[Any, Any]:
            ticker = self.client(name)
            return ticker, ticker.history(
                interval=request.frame, auto_adjust=False, actions=True, repair=False, **asked
            )

        try:
            ticker, frame = request.patience.ask(request.key, history, self._pause)
        except self.unknown:
            unknown_symbol(
                request, f"found no symbol {name!r} at Yahoo",
                f"correct provider_symbol: of {request.key} in nightfold.yaml, "
                f"then: nightfold check {request.key}",
            )  # fmt: skip
        except NightfoldError:  # ours
            raise
        except Exception as error:  # yfinance passes on whatever its HTTP library raises
            no_reply(request, "Yahoo", said_by(error))
        if frame is None or len(frame) == 0:
            no_reply(request, "Yahoo", "")
        currency = str((getattr(ticker, "history_metadata", None) or {}).get("currency") or "")
        yield RawBatch(
            _canonical(frame, daily, currency), "json", f"Yahoo {name}", request.start, request.end
        )

    def _pause(self, error: Exception) -> float | None:
        """Return 0.0 where asking again may help: Yahoo's rate limit comes without a pause to keep."""
        self.forget()
        return None if isinstance(error, self.final) else 0.0

    def parse(self, batch: RawBatch, request: Request) -> Parsed:
        """Return raw rows and raw-term events of a reply."""
        reply = json.loads(batch.data)
        table = np.array(
            [[np.nan if x is None else x for x in row[1:]] for row in reply["rows"]], dtype=np.float64
        )
        ts = np.array([row[0] for row in reply["rows"]], dtype=np.int64)
        place = f"{batch.origin}'s reply"
        splits = [Event(date, kind, value, place) for date, kind, value in reply["events"] if kind == "split"]
        factor = factors(ts, splits) if request.frame == "1d" else np.ones(len(ts))
        paid = [(date, value) for date, kind, value in reply["events"] if kind == "dividend"]
        dates = np.array([date for date, _ in paid], dtype=np.int64)
        dividends = [
            Event(date, "dividend", value * float(scale), place)
            for (date, value), scale in zip(paid, factors(dates, splits), strict=True)
        ]
        columns = {name: table[:, i] * factor for i, name in enumerate(NUMBERS)}
        columns["volume"] = table[:, 4] / factor
        rows = RawBars(batch.origin, "row", ts, line=np.arange(1, len(ts) + 1, dtype=np.int64), **columns)
        return Parsed(rows, (*splits, *dividends), currency=reply.get("currency", ""))
