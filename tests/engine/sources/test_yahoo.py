"""yfinance's own parser on replies in the form of Yahoo's chart service; only its HTTP call is replaced."""

import datetime
import json
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from engine.bars.model import COLUMNS, iso
from engine.bars.revisions import merge
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError, MissingExtra
from engine.sources import SymbolSource, load

pytest.importorskip("yfinance")
from yfinance.exceptions import YFRateLimitError, YFTzMissingError  # noqa: E402
from yfinance.scrapers.history import PriceHistory  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
NEW_YORK = ZoneInfo("America/New_York")
DAY_US = 86_400_000_000
TRUE = make_bars(4, 80, symbol="AAA", start="2024-01-02")  # prices in shares after the split
SPLIT, PAID = 40, (20, 60)  # 4:1 at bar 40; dividends at bars 20 (before) and 60
OPTIONS = SymbolSource(tick=0.01)


def open_s(ts_us, hour=9, minute=30):
    """Yahoo stamps a daily bar at the session's open, 09:30 New York."""
    day = datetime.date(1970, 1, 1) + datetime.timedelta(int(ts_us // DAY_US))
    return int(datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp())


class Reply:
    def __init__(self, payload):
        self.text = json.dumps(payload)

    def json(self):
        return json.loads(self.text)


class Yahoo:
    """What yfinance's PriceHistory asks of its data layer, answered from TRUE."""

    def __init__(self, change=lambda payload: payload, error=None):
        self.change, self.error, self.asked = change, error, []

    def get(self, url, params=None, timeout=None):
        self.asked.append(params)
        if self.error:
            raise self.error
        kept = [i for i in range(len(TRUE)) if params["period1"] <= open_s(TRUE.ts[i]) < params["period2"]]
        stamps = [open_s(TRUE.ts[i]) for i in kept]
        column = {name: [float(getattr(TRUE, name)[i]) for i in kept] for name in COLUMNS[:5]}
        column["volume"] = [int(volume) for volume in column["volume"]]
        events = {"dividends": {}, "splits": {}}
        for i in set(kept) & set(PAID):
            stamp = open_s(TRUE.ts[i])
            events["dividends"][str(stamp)] = {"amount": 0.25, "date": stamp}
        if SPLIT in kept:
            stamp = open_s(TRUE.ts[SPLIT])
            split = {"date": stamp, "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}
            events["splits"][str(stamp)] = split
        meta = {
            "currency": "USD", "symbol": "AAA", "instrumentType": "EQUITY", "gmtoffset": -18000,
            "exchangeTimezoneName": "America/New_York", "timezone": "EST", "validRanges": ["1d", "max"],
            "firstTradeDate": stamps[0] if stamps else 0, "regularMarketTime": stamps[-1] if stamps else 0,
            "dataGranularity": "1d", "range": "",
        }  # fmt: skip
        indicators = {"quote": [column], "adjclose": [{"adjclose": column["close"]}]}
        result = {"meta": meta, "timestamp": stamps, "events": events, "indicators": indicators}
        return Reply(self.change({"chart": {"result": [result], "error": None}}))

    cache_get = get

    def ticker(self, name):
        self.name = name
        return PriceHistory(self, name, "America/New_York", session=object())


def loaded(yahoo=None, frame="1d", options=OPTIONS, data_dir="absent", **asked):
    client = (yahoo or Yahoo()).ticker
    return load("yahoo", "AAA", options, data_dir=Path(data_dir), frame=frame, client=client, **asked)


def test_the_whole_history_comes_back_with_splits_undone_and_redone():
    found = loaded()
    for name in ("ts", "open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(found.bars, name), getattr(TRUE, name), rtol=1e-12)
    assert found.bars.adj.tolist() == [4.0] * SPLIT + [1.0] * (80 - SPLIT)
    np.testing.assert_allclose(found.bars.volume, TRUE.volume)
    assert np.flatnonzero(found.bars.dividend).tolist() == list(PAID)
    np.testing.assert_allclose(found.bars.dividend[list(PAID)], 0.25)
    assert json.loads(found.raw[0].data)["rows"][0][0] == TRUE.ts[0]


def test_asks_for_unadjusted_prices_of_the_providers_symbol():
    yahoo = Yahoo()
    asked = {}
    real = yahoo.ticker

    class Ticker:
        def __init__(self, name):
            self.history_of = real(name)

        def history(self, **options):
            asked.update(options)
            return self.history_of.history(**options)

    yahoo.ticker = Ticker
    loaded(yahoo, options=SymbolSource(provider_symbol="^AAA"))
    assert asked == {
        "interval": "1d", "auto_adjust": False, "actions": True, "repair": False, "period": "max"
    }  # fmt: skip
    assert yahoo.name == "^AAA"


def test_a_start_is_asked_and_increments_equal_one_full_load():
    yahoo = Yahoo()
    known = TRUE.ts + 21 * 3_600_000_000
    stored = loaded(yahoo, asof=int(known[30])).bars
    assert len(stored) == 31
    for last in (35, 55, 61, 79):
        since = int(stored.ts[-1]) - 10 * DAY_US
        stored = merge(stored, loaded(yahoo, asof=int(known[last]), overlap_from=since).bars, tick=0.01)
        assert yahoo.asked[-1]["period1"] == open_s(since, 0, 0)
    full = loaded(yahoo).bars
    assert all(np.array_equal(getattr(stored, name), getattr(full, name)) for name in ("ts", *COLUMNS))


def test_the_bar_of_today_is_left_out_until_its_close():
    found = loaded(asof=int(TRUE.ts[-1]) + 15 * 3_600_000_000)
    assert len(found.bars) == 79
    assert found.warnings[-1] == (
        "W04 bar not complete at asof left out: AAA 1d, 1 bar, "
        f"first {iso(int(TRUE.ts[-1]))} (Yahoo AAA row 80)"
    )


def test_a_split_of_the_user_replaces_the_vendors(tmp_path):
    (tmp_path / "events.csv").write_text(
        f"symbol,date,kind,value,note\nAAA,{iso(int(TRUE.ts[SPLIT]))},split,2,\n"
        f"AAA,{iso(int(TRUE.ts[SPLIT]))},verified_move,,\n"
    )
    np.testing.assert_allclose(loaded(data_dir=tmp_path).bars.close[:SPLIT], TRUE.close[:SPLIT] * 2)


def bad_close(payload):
    payload["chart"]["result"][0]["indicators"]["quote"][0]["low"][7] = -1.0
    return payload


def empty(payload):
    payload["chart"]["result"] = []
    return payload


def refused_by_yahoo(payload):
    return {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found"}}}


@pytest.mark.parametrize(
    ("yahoo", "rule", "part"),
    [
        (Yahoo(bad_close), "E04", "(Yahoo AAA row 8)"),
        (
            Yahoo(empty),
            "E15",
            "no whole reply from Yahoo: AAA 1d, 1 request\n  found YFPricesMissingError: $AAA",
        ),
        (Yahoo(refused_by_yahoo), "E15", "No data found"),
        (Yahoo(error=YFRateLimitError()), "E15", "found YFRateLimitError: Too Many Requests"),
        (Yahoo(error=ConnectionError("no route")), "E15", "found ConnectionError: no route; expected bars"),
        (Yahoo(error=YFTzMissingError("AAA")), "E16", "found no symbol 'AAA' at Yahoo"),
    ],
    ids=["bad bar", "empty", "error in the reply", "rate limit", "no network", "unknown symbol"],
)
def test_a_bad_reply_is_refused_and_names_the_symbol(yahoo, rule, part):
    with pytest.raises(DataError) as caught:
        loaded(yahoo)
    assert caught.value.rule == rule and caught.value.symbol == "AAA" and part in str(caught.value)
    assert "nightfold check AAA" in str(caught.value)


def test_an_empty_table_is_refused():
    class Empty:
        def __init__(self, name):
            pass

        def history(self, **options):
            import pandas

            return pandas.DataFrame()

    yahoo = Yahoo()
    yahoo.ticker = Empty
    with pytest.raises(DataError, match="E15 .*\n  found an empty answer; expected bars"):
        loaded(yahoo)


def test_intraday_stamps_are_bar_opens_in_utc_and_prices_are_taken_as_traded():
    import pandas

    index = pandas.DatetimeIndex(["2024-07-01 09:30", "2024-07-01 10:30"]).tz_localize("America/New_York")
    numbers = {name: [10.0, 5.0] for name in ("Open", "High", "Low", "Close")}
    frame = pandas.DataFrame(
        numbers | {"Volume": [1, 2], "Dividends": 0.0, "Stock Splits": [0.0, 2.0]}, index=index
    )

    class Ticker:
        def __init__(self, name):
            pass

        def history(self, **options):
            self.options.update(options)
            return frame

        options: dict = {}

    yahoo = Yahoo()
    yahoo.ticker = Ticker
    start = int(np.datetime64("2024-07-01", "us").astype(int))
    bars = loaded(yahoo, frame="1h", start=start, asof=start + DAY_US).bars
    assert [iso(int(ts)) for ts in bars.ts] == ["2024-07-01T13:30:00", "2024-07-01T14:30:00"]
    assert bars.close.tolist() == [10.0, 5.0] and bars.adj.tolist() == [1.0, 1.0]
    assert Ticker.options["end"] - Ticker.options["start"] == datetime.timedelta(days=1)


def test_a_frame_that_yahoo_does_not_serve_is_a_settings_error():
    with pytest.raises(ConfigError, match=r"source 'yahoo' has no frame 4h \(AAA\)\."):
        loaded(frame="4h")


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(MissingExtra) as caught:
        loaded()
    assert str(caught.value) == (
        "source 'yahoo' needs yfinance, which is not installed. "
        'Run, in the root of the project: pip install -c constraints.txt -e ".[yahoo]"'
    )
