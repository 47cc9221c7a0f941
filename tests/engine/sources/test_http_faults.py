"""ccxt's and yfinance's own clients over HTTP, against a server on this machine that fails as real ones."""

from pathlib import Path

import numpy as np
import pytest
from vendor import PAGE, client_of, point_yahoo_at, served

from engine.bars.model import COLUMNS
from engine.bars.synthetic import make_bars
from engine.errors import DataError
from engine.lake import faults, raw
from engine.sources import SymbolSource, load
from engine.sources.patience import BACKOFF_S, Patience

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
CANDLES = make_bars(6, 120, "1h", calendar="24/7", symbol="BTC-USD", start="2024-03-01T00:00")
DAYS = make_bars(4, 60, symbol="AAA", start="2024-01-02")
HOUR_US = 3_600_000_000
START, END = int(CANDLES.ts[0]), int(CANDLES.ts[-1]) + HOUR_US
VENUE = SymbolSource(provider_symbol="BTC/USDT", venue="binance", calendar="24/7")


def holds(bars, true):
    return all(np.array_equal(getattr(bars, name), getattr(true, name)) for name in ("ts", *COLUMNS[:4]))


@pytest.fixture
def venue():
    pytest.importorskip("ccxt")
    with served(CANDLES) as vendor:
        vendor.key = "BTC-USD"
        vendor.load = lambda **asked: load(
            "exchange", "BTC-USD", VENUE, data_dir=Path("absent"), frame="1h", client=client_of(vendor),
            **{"start": START, "asof": END, **asked},
        )  # fmt: skip
        yield vendor


@pytest.fixture
def yahoo(monkeypatch):
    pytest.importorskip("yfinance")
    with served(DAYS) as vendor:
        vendor.key = "AAA"
        ticker = point_yahoo_at(vendor, monkeypatch)
        vendor.load = lambda **asked: load(
            "yahoo", "AAA", SymbolSource(), data_dir=Path("absent"), frame="1d", client=ticker, **asked
        )
        yield vendor


FAULTS = ("429", "500", "html", "cut", "torn", "reset", "silent")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_venue_that_fails_for_a_while_gives_the_very_same_candles(venue, fault, waits):
    venue.faults = [None, fault, fault, None, fault]
    found = venue.load()
    assert holds(found.bars, CANDLES)
    assert len(venue.asked) == 5 + 3 and len(found.raw) == 5
    assert len(waits) == 3 and all(0.5 * b <= w < b for w, b in zip(waits, (1, 2, 1), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_yahoo_failing_for_a_while_gives_the_very_same_bars(yahoo, fault, waits):
    # the first request asks for the exchange's zone; where Yahoo answers with an error its client tries twice
    yahoo.faults = [fault, fault, fault, None, fault, fault]
    assert holds(yahoo.load().bars, DAYS)
    assert waits and len(waits) <= 6


@pytest.mark.parametrize("name", ["venue", "yahoo"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_vendor_that_goes_on_failing_is_asked_eight_times_and_refused(name, fault, request, waits):
    vendor = request.getfixturevalue(name)
    vendor.faults = [fault] * 40
    if fault == "silent" and name == "yahoo":
        vendor.faults = ["reset"] * 40  # eight silences take seconds; that of the venue is enough
    with pytest.raises(
        DataError, match=f"^E15 no whole reply from .*: {vendor.key} 1., 1 request\n"
    ) as caught:
        vendor.load()
    assert len(waits) == len(BACKOFF_S)
    assert all(0.5 * b <= w < b for w, b in zip(waits, BACKOFF_S, strict=True))
    assert len(str(caught.value)) < 600  # a page of HTML is not repeated


def test_the_pause_that_a_venue_asks_for_is_kept(venue, waits):
    venue.faults, venue.retry_after = ["429", None, "429"], "7"
    assert holds(venue.load().bars, CANDLES) and waits == [7.0, 7.0]


def test_a_venue_that_asks_for_more_than_a_minute_is_not_asked_again(venue, waits):
    venue.faults, venue.retry_after = ["429"], "3600"
    with pytest.raises(DataError, match="E15 no whole reply from binance"):
        venue.load()
    assert waits == [] and len(venue.asked) == 1


def test_what_asking_again_cannot_mend_is_asked_once(venue, waits):
    with pytest.raises(DataError, match="E16"):
        load(
            "exchange", "BTC-USD", SymbolSource(provider_symbol="NO/SUCH", venue="binance", calendar="24/7"),
            data_dir=Path("absent"), frame="1h", client=client_of(venue), start=START,
        )  # fmt: skip
    assert waits == []


def test_waits_are_those_of_the_seed_and_the_symbol():
    def waited(seed, key):
        waits = []
        with pytest.raises(OSError):
            Patience(seed, sleep=waits.append).ask(key, failing, lambda error: 0.0)
        return waits

    def failing():
        raise OSError

    assert waited(1, "AAA") == waited(1, "AAA") != waited(2, "AAA")
    assert waited(1, "AAA") != waited(1, "BBB")


def test_the_turn_is_held_while_asking_and_not_while_waiting():
    from contextlib import contextmanager

    log = []

    @contextmanager
    def turn():
        log.append("(")
        yield
        log.append(")")

    def request():
        log.append("ask")
        if log.count("ask") < 3:
            raise OSError
        return 5

    asked = Patience(sleep=lambda seconds: log.append("wait"), turn=turn, tell=log.append)
    assert asked.ask("AAA", request, lambda error: 0.0) == 5
    told = [text for text in log if text.startswith("AAA")]
    assert [text for text in log if text not in told] == [
        "(",
        "ask",
        "wait",
        "(",
        "ask",
        "wait",
        "(",
        "ask",
        ")",
    ]
    assert told[0].startswith("AAA prices no reply (OSError), asked again in 0.")


# pages


@pytest.mark.parametrize("fault", ["empty", "repeat"])
def test_a_history_that_ends_early_is_a_true_beginning_and_said_to_be_late(venue, fault):
    venue.faults = [None, None, fault]  # ccxt leaves out candles from before, so a repeated page is empty
    found = venue.load()
    assert holds(found.bars, CANDLES.slice(None, 2 * PAGE))
    assert any(text.startswith("W03 last bar is 7") for text in found.warnings)


class Pages:
    """A client that hands out the pages it is given, whatever is asked."""

    timeframes, symbols = {"1h": "1h"}, ["BTC/USDT"]

    def __init__(self, pages):
        self.pages = pages

    def fetch_ohlcv(self, name, frame, since):
        return self.pages.pop(0) if self.pages else []


def page(first, last, bars=CANDLES):
    return [
        [int(bars.ts[i]) // 1000, *(float(getattr(bars, name)[i]) for name in COLUMNS[:5])]
        for i in range(first, last)
    ]


def from_pages(*pages, **asked):
    pytest.importorskip("ccxt")
    return load(
        "exchange", "BTC-USD", VENUE, data_dir=Path("absent"), frame="1h", client=Pages(list(pages)),
        **{"start": START, "asof": END, **asked},
    )  # fmt: skip


def test_pages_that_overlap_are_joined_once():
    assert holds(from_pages(page(0, 50), page(30, 80), page(79, 120)).bars, CANDLES)


def test_a_page_served_again_ends_the_history_where_it_was():
    assert holds(from_pages(page(0, 50), page(0, 50), page(50, 120)).bars, CANDLES.slice(None, 50))


def test_candles_out_of_order_are_refused():
    with pytest.raises(DataError, match="E07 "):
        from_pages(page(0, 50)[::-1], page(50, 120))


def test_a_page_of_later_candles_is_a_gap():
    with pytest.raises(DataError, match="E11 gap in time"):
        from_pages(page(0, 50), page(75, 100), page(50, 75))


# a download that broke off


def keeper(folder):
    return raw.Download(folder, "exchange", "BTC-USD")


def kept(folder):
    return sorted(path.name for path in (folder / "raw").rglob("*") if path.is_file())


def test_a_download_that_was_killed_goes_on_after_its_last_whole_page(venue, tmp_path):
    true = CANDLES.slice(45, None)  # three pages
    clean = venue.load(keeper=keeper(tmp_path / "clean"), start=int(true.ts[0]))

    class Killed(BaseException):
        pass

    for at in range(1, 200):
        folder, hits = tmp_path / str(at), 0

        def listen(name, at=at):
            nonlocal hits
            hits += 1
            if hits == at:
                raise Killed

        faults.listener = listen
        venue.asked.clear()
        try:
            venue.load(keeper=keeper(folder), start=int(true.ts[0]))
            break
        except Killed:
            pass
        finally:
            faults.listener = None
        served_pages, listed = len(venue.asked), folder / "raw/exchange/BTC-USD/unfinished.jsonl"
        whole = len(listed.read_text().splitlines()) - 1 if listed.exists() else 0
        assert whole >= served_pages - 1 or not listed.exists()
        venue.asked.clear()
        again = venue.load(keeper=keeper(folder), start=int(true.ts[0]))
        assert len(venue.asked) == 3 - whole
        if venue.asked:
            assert int(venue.asked[0]["startTime"]) * 1000 == true.ts[PAGE * whole]
        assert holds(again.bars, true) and kept(folder) == kept(tmp_path / "clean")
        assert [b.data for b in again.raw] == [b.data for b in clean.raw]
    assert at > 20


def test_a_vendor_that_failed_half_way_is_asked_the_next_night_for_the_rest(venue, tmp_path):
    venue.faults = [None, None, *["500"] * 8]
    with pytest.raises(DataError, match="E15"):
        venue.load(keeper=keeper(tmp_path), asof=END - 30 * HOUR_US)
    venue.asked.clear()
    assert holds(venue.load(keeper=keeper(tmp_path)).bars, CANDLES)
    assert int(venue.asked[0]["startTime"]) * 1000 == CANDLES.ts[2 * PAGE] and len(venue.asked) == 3


def test_a_page_with_an_open_candle_is_asked_for_again(venue, tmp_path):
    asof = int(CANDLES.ts[PAGE - 1]) + HOUR_US // 2  # the last candle of the first page is open
    closed, venue.bars = venue.bars, make_bars(9, 120, "1h", calendar="24/7", start="2024-03-01T00:00")
    venue.load(keeper=(broken := keeper(tmp_path)), asof=asof)
    assert not broken.list.exists()
    venue.bars = closed
    assert holds(venue.load(keeper=keeper(tmp_path)).bars, CANDLES)


@pytest.mark.parametrize(
    "change", ["start", "frame", "venue's symbol", "page gone", "torn list", "other list"]
)
def test_only_what_was_asked_for_and_is_whole_is_used_again(venue, tmp_path, change):
    venue.faults = [None, None, None, *["500"] * 8]
    with pytest.raises(DataError, match="E15"):
        venue.load(keeper=keeper(tmp_path))
    folder = tmp_path / "raw/exchange/BTC-USD"
    listed, asked, first = folder / "unfinished.jsonl", {}, 0
    if change == "start":
        asked, first = {"start": START + HOUR_US}, 1
    elif change == "frame":
        listed.write_text(listed.read_text().replace('"1h"', '"4h"', 1))
    elif change == "venue's symbol":
        listed.write_text(listed.read_text().replace("BTC/USDT", "ETH/USDT", 1))
    elif change == "page gone":
        sorted(folder.glob("*.json"))[1].unlink()
        first = PAGE
    elif change == "torn list":
        listed.write_bytes(listed.read_bytes()[:-9])
        first = 2 * PAGE
    else:
        listed.write_bytes(b"\xff\x00 no list")
    venue.asked.clear()
    found = venue.load(keeper=keeper(tmp_path), **asked)
    assert int(venue.asked[0]["startTime"]) * 1000 == CANDLES.ts[first]
    assert holds(found.bars, CANDLES.slice(1 if change == "start" else 0, None)) and not listed.exists()


def test_a_finished_history_is_never_taken_from_what_was_kept(venue, tmp_path):
    venue.load(keeper=keeper(tmp_path))
    venue.asked.clear()
    venue.bars = make_bars(9, 120, "1h", calendar="24/7", symbol="BTC-USD", start="2024-03-01T00:00")
    assert not np.array_equal(venue.bars.close, CANDLES.close)
    assert holds(venue.load(keeper=keeper(tmp_path)).bars, venue.bars)
