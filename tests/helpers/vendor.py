"""A server on this machine that answers like a vendor, and fails as it is told to.

`Vendor` serves made bars in the form of Binance's klines and of Yahoo's chart service; `client_of` and
`point_yahoo_at` make ccxt's and yfinance's own clients ask it.
"""

import http.server
import json
import socket
import threading
import urllib.parse
from contextlib import contextmanager

import numpy as np

from engine.bars.model import COLUMNS

PAGE = 25
HTML = b"<html><body>We will be right back</body></html>"
STATUS = {"429": 429, "500": 500, "418": 418}


class Vendor(http.server.ThreadingHTTPServer):
    """Serves ``bars``; ``faults`` says what becomes of the next requests, one each, None = an answer.

    "429" (with `retry_after`), "500", "html" with status 200, "cut" in mid body, "torn" in mid body of a
    reply that does not say how long it is, "reset" before any byte; `draw`, if set, gives a request's fault,
    "silent" until the client gives up, "empty" (no rows), "repeat" (the page before, again).
    """

    daemon_threads = True

    def __init__(self, bars):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bars, self.shown, self.faults, self.asked = bars, len(bars), [], []
        self.retry_after = None
        self.over = threading.Event()
        self.before, self.draw = None, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that gave up

    def klines(self, query):
        first = int(np.searchsorted(self.bars.ts, int(query.get("startTime", 0)) * 1000))
        return [
            [int(self.bars.ts[i] // 1000), *(str(getattr(self.bars, name)[i]) for name in COLUMNS[:5])]
            for i in range(first, min(first + PAGE, self.shown))
        ]

    def chart(self, query):
        """Daily bars, stamped 14:30 UTC, the open of New York in winter."""
        stamps = self.bars.ts[: self.shown] // 1_000_000 + 52_200
        kept = np.flatnonzero(stamps >= int(query.get("period1", 0)))
        column = {name: getattr(self.bars, name)[kept].tolist() for name in COLUMNS[:5]}
        column["volume"] = [int(volume) for volume in column["volume"]]
        meta = {
            "currency": "USD", "symbol": "AAA", "instrumentType": "EQUITY", "gmtoffset": -18000,
            "exchangeTimezoneName": "America/New_York", "timezone": "EST", "validRanges": ["1d", "max"],
            "firstTradeDate": int(stamps[0]), "regularMarketTime": int(stamps[-1]), "dataGranularity": "1d",
            "range": "",
        }  # fmt: skip
        indicators = {"quote": [column], "adjclose": [{"adjclose": column["close"]}]}
        result = {"meta": meta, "timestamp": stamps[kept].tolist(), "indicators": indicators}
        return {"chart": {"result": [result], "error": None}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(self.server)

    def answer(self, vendor):
        address = urllib.parse.urlparse(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        yahoo = "/finance/chart/" in address.path
        vendor.asked.append(query)
        fault = vendor.faults.pop(0) if vendor.faults else vendor.draw() if vendor.draw else None
        if fault == "silent":
            vendor.over.wait(10)
            return
        if fault == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        rows = vendor.chart(query) if yahoo else vendor.klines(query)
        if fault == "empty":
            rows = {"chart": {"result": [], "error": None}} if yahoo else []
        body = json.dumps(rows).encode()
        if fault == "repeat":
            body = vendor.before
        if fault is None:
            vendor.before = body
        body = HTML if fault in ("html", "500", "429", "418") else body
        self.send_response(STATUS.get(fault, 200))
        if fault == "429" and vendor.retry_after:
            self.send_header("Retry-After", vendor.retry_after)
        self.send_header("Content-Type", "text/html" if body is HTML else "application/json")
        if fault != "torn":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("cut", "torn") else body)

    def log_message(self, *args):
        pass


@contextmanager
def served(bars):
    """Run a `Vendor` of these bars."""
    vendor = Vendor(bars)
    thread = threading.Thread(target=vendor.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield vendor
    finally:
        vendor.over.set()
        vendor.shutdown()
        thread.join()
        vendor.server_close()


def client_of(vendor, timeout_ms=200):
    """Return ccxt's Binance client that asks this vendor for BTC/USDT."""
    import ccxt

    exchange = ccxt.binance({"enableRateLimit": False, "timeout": timeout_ms})
    exchange.urls["api"]["public"] = vendor.url
    market = {
        "id": "BTCUSDT", "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "type": "spot", "spot": True,
    }  # fmt: skip
    exchange.set_markets([exchange.safe_market_structure(market)])
    return exchange


def point_yahoo_at(vendor, monkeypatch, timeout_s=0.2):
    """Return a stand-in for ``yfinance.Ticker`` that is it, with this vendor in place of Yahoo."""
    import yfinance
    from yfinance import base, data
    from yfinance.scrapers import history

    data.YfData.cache_get.cache_clear()
    for module in (base, history):
        monkeypatch.setattr(module, "_BASE_URL_", vendor.url)
    monkeypatch.setattr(data.YfData, "_get_cookie_and_crumb", lambda self, timeout=30: (None, "basic"))

    class Ticker(yfinance.Ticker):
        def _get_ticker_tz(self, timeout):
            return self._fetch_ticker_tz(timeout_s)  # asked for, not read from a file of this user

        def history(self, **options):
            return super().history(**options, timeout=timeout_s)

    return Ticker
