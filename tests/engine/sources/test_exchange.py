"""ccxt's own client asks a server on this machine that answers in the form of Binance's klines."""

import http.server
import json
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from engine.bars.model import COLUMNS, iso
from engine.bars.revisions import merge
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError, MissingExtra
from engine.sources import RawBatch, SymbolSource, load
from engine.sources.base import Request
from engine.sources.exchange import Exchange

ccxt = pytest.importorskip("ccxt")

TRUE = make_bars(6, 120, "1h", calendar="24/7", symbol="BTC-USD", start="2024-03-01T00:00")
HOUR_US = 3_600_000_000
PAGE = 25
ABSENT = Path("absent")  # no user events
OPTIONS = SymbolSource(provider_symbol="BTC/USDT", venue="binance", calendar="24/7")


class Venue(http.server.ThreadingHTTPServer):
    """Serves TRUE in pages; `status`, `body` and `change` make it fail."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.status, self.body, self.change = [], 200, None, lambda rows: rows


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        venue = self.server
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
        venue.asked.append(query)
        since = int(query.get("startTime", 0)) * 1000
        first = int(np.searchsorted(TRUE.ts, since))
        rows = [
            [int(TRUE.ts[i] // 1000), *(str(getattr(TRUE, name)[i]) for name in COLUMNS[:5])]
            for i in range(first, min(first + PAGE, len(TRUE)))
        ]
        body = (venue.body or json.dumps(venue.change(rows))).encode()
        self.send_response(venue.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def venue():
    server = Venue()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def client_of(venue):
    exchange = ccxt.binance({"enableRateLimit": False})
    exchange.urls["api"]["public"] = f"http://127.0.0.1:{venue.server_address[1]}"
    market = {
        "id": "BTCUSDT",
        "symbol": "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "type": "spot",
        "spot": True,
    }
    exchange.set_markets([exchange.safe_market_structure(market)])
    return exchange


def loaded(venue, options=OPTIONS, frame="1h", **asked):
    client = client_of(venue)
    return load("exchange", "BTC-USD", options, data_dir=ABSENT, frame=frame, client=client, **asked)


def test_pages_by_since_until_nothing_newer_comes(venue):
    found = loaded(venue, start=int(TRUE.ts[0]))
    assert all(np.array_equal(getattr(found.bars, name), getattr(TRUE, name)) for name in ("ts", *COLUMNS))
    assert len(found.raw) == 5 and len(venue.asked) == 6  # 120 bars by 25, then an empty page
    assert [int(asked["startTime"]) * 1000 for asked in venue.asked[:2]] == [
        TRUE.ts[0],
        TRUE.ts[24] + HOUR_US,
    ]
    assert [row[0] * 1000 for row in json.loads(found.raw[1].data)] == TRUE.ts[25:50].tolist()


def test_without_a_start_all_there_is_is_asked(venue):
    assert len(loaded(venue).bars) == 120 and venue.asked[0]["startTime"] == "0"


def test_stops_asking_at_asof_and_leaves_the_open_candle_out(venue):
    asof = int(TRUE.ts[40]) + HOUR_US // 2
    found = loaded(venue, start=int(TRUE.ts[0]), asof=asof)
    assert np.array_equal(found.bars.ts, TRUE.ts[:40]) and len(venue.asked) == 2
    assert any(
        warning == f"W04 bar not complete at asof left out: BTC-USD 1h, 1 bar, first {iso(int(TRUE.ts[40]))} "
        "(binance BTC/USDT row 16)"
        for warning in found.warnings
    )


def test_increments_equal_one_full_load(venue):
    stored = loaded(venue, start=int(TRUE.ts[0]), asof=int(TRUE.ts[30])).bars
    for last in (33, 70, 71, 119):
        since = int(stored.ts[-1]) - 10 * HOUR_US
        fetched = loaded(venue, overlap_from=since, asof=int(TRUE.ts[last]) + HOUR_US).bars
        stored = merge(stored, fetched)
    assert all(np.array_equal(getattr(stored, name), getattr(TRUE, name)) for name in ("ts", *COLUMNS))


def test_a_vendor_that_revises_history_is_refused(venue):
    stored = loaded(venue, start=int(TRUE.ts[0])).bars
    venue.change = lambda rows: [[row[0], *(str(float(x) * 1.01) for x in row[1:])] for row in rows]
    with pytest.raises(DataError, match="E13 stored history differs from the vendor's: BTC-USD 1h, 20 bars"):
        merge(stored, loaded(venue, overlap_from=int(TRUE.ts[100])).bars)


def zero_price(rows):
    return [row if i != 3 else [*row[:3], "0", *row[4:]] for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("change", "rule", "part"),
    [
        ({"change": lambda rows: []}, "E15", "found no candle of BTC/USDT from start: on"),
        ({"status": 429, "body": '{"code": -1003}'}, "E15", "no whole reply from binance: BTC-USD 1h"),
        ({"status": 500, "body": "down"}, "E15", "found ExchangeNotAvailable: binance GET"),
        ({"body": "<html>maintenance</html>"}, "E15", "no whole reply from binance"),
        (
            {"body": '{"code": -1121, "msg": "Invalid symbol."}', "status": 400},
            "E16",
            "found no symbol 'BTC/USDT'",
        ),
        ({"change": zero_price}, "E04", "(binance BTC/USDT row 4)"),
    ],
    ids=["empty", "rate limit", "server error", "html", "unknown symbol", "zero price"],
)
def test_a_bad_reply_is_refused_and_names_the_symbol(venue, change, rule, part):
    for name, value in change.items():
        setattr(venue, name, value)
    with pytest.raises(DataError) as caught:
        loaded(venue, start=int(TRUE.ts[0]))
    assert caught.value.rule == rule and caught.value.symbol == "BTC-USD" and part in str(caught.value)
    assert "nightfold check BTC-USD" in str(caught.value)


def test_an_unknown_symbol_names_the_closest(venue):
    with pytest.raises(
        DataError, match=r"E16 .*\n  found no symbol 'BTC/USD' at binance\. Closest: BTC/USDT\."
    ):
        loaded(venue, SymbolSource(provider_symbol="BTC/USD", venue="binance", calendar="24/7"))


@pytest.mark.parametrize(
    ("options", "frame", "text"),
    [
        (
            SymbolSource(),
            "1h",
            "source 'exchange' needs venue: under the symbol in nightfold.yaml, such as kraken",
        ),
        (SymbolSource(venue="krakn"), "1h", "venue 'krakn' is not known to ccxt. Closest: kraken"),
        (SymbolSource(venue="binance"), "1d2", "frame '1d2' is not known. Closest: 1d"),
    ],
)
def test_venue_and_frame_are_settings_errors(venue, options, frame, text):
    with pytest.raises(ConfigError) as caught:
        loaded(venue, options, frame)
    assert text in str(caught.value)


def test_a_frame_that_the_venue_lacks_is_a_settings_error(venue):
    exchange = client_of(venue)
    exchange.timeframes = {"1h": "1h", "1d": "1d"}
    with pytest.raises(ConfigError, match=r"venue binance has no frame 4h \(BTC-USD\)\."):
        load("exchange", "BTC-USD", OPTIONS, data_dir=ABSENT, frame="4h", client=exchange)


def test_a_missing_package_names_the_extra(venue, monkeypatch):
    client_of(venue)
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(MissingExtra, match=r"source 'exchange' needs ccxt.*\.\[exchange\]"):
        loaded(venue)


def test_candles_from_before_the_pages_start_are_left_out(venue):
    batch = RawBatch(b"[[0,1,1,1,1,1],[3600000,2,2,2,2,null]]", "json", "binance BTC/USDT", HOUR_US, None)
    rows = Exchange("binance", client_of(venue)).parse(batch, Request("BTC-USD", "1h", OPTIONS)).rows
    assert rows.ts.tolist() == [HOUR_US] and rows.close.tolist() == [2.0] and np.isnan(rows.volume[0])
