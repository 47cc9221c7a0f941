"""The prices stage over Yahoo and an exchange whose clients answer from made bars; nothing is sent."""

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from engine import cli, cli_base
from engine.bars.model import COLUMNS, FRAME_US, Bars, iso, known_at
from engine.bars.synthetic import make_bars
from engine.config import Settings
from engine.errors import DataError
from engine.lake.publish import Lake
from engine.sources import loading
from engine.stages._prices import prices

for package in ("yfinance", "ccxt"):
    pytest.importorskip(package)

DAY_US = FRAME_US["1d"]
OVERLAP = 5


class Yahoo:
    """yfinance.Ticker of one symbol: prices in shares of today, the last bar maybe still open."""

    def __init__(self, traded: Bars):
        self.traded, self.asked = traded, []  # raw prices, as traded
        self.shown, self.splits, self.paid = len(traded), {}, {}
        self.failure = None

    def __call__(self, name):
        self.name = name
        return self

    def history(self, **options):
        self.asked.append(options)
        if self.failure:
            raise self.failure
        days = self.traded.ts[: self.shown]
        factor = np.ones(self.shown)
        for at, ratio in self.splits.items():
            if at < self.shown:
                factor[:at] *= ratio
        index = pd.DatetimeIndex(days.view("M8[us]")).tz_localize("America/New_York")
        table = {name.capitalize(): getattr(self.traded, name)[: self.shown] / factor for name in COLUMNS[:4]}
        table |= {"Volume": self.traded.volume[: self.shown] * factor, "Dividends": 0.0, "Stock Splits": 0.0}
        frame = pd.DataFrame(table, index=index)
        for column, events in (("Stock Splits", self.splits), ("Dividends", self.paid)):
            for at, value in events.items():
                if at < self.shown:
                    frame.iloc[at, frame.columns.get_loc(column)] = value / (
                        1.0 if column == "Stock Splits" else factor[at]
                    )
        return frame if "start" not in options else frame[frame.index >= options["start"]]


class Venue:
    """A ccxt exchange: pages of candles from `since` on, the last one maybe still open."""

    timeframes, symbols, page = {"1h": "1h"}, ["BTC/USDT"], 30

    def __init__(self, traded: Bars):
        self.traded, self.asked, self.shown, self.failure = traded, [], len(traded), None

    def fetch_ohlcv(self, name, frame, since):
        self.asked.append(since)
        if self.failure:
            raise self.failure
        first = int(np.searchsorted(self.traded.ts, since * 1000))
        return [
            [int(self.traded.ts[i]) // 1000, *(float(getattr(self.traded, c)[i]) for c in COLUMNS[:5])]
            for i in range(first, min(first + self.page, self.shown))
        ]


class Desk:
    """One symbol of a network source: its stage over a lake, at any clock."""

    def __init__(self, data_dir, symbol, client, options):
        self.lake, self.symbol, self.client = Lake(data_dir), symbol, client
        self.path = data_dir / "lake" / "bars" / f"{symbol}.parquet"
        self.settings = Settings.model_validate(
            {
                "symbols": {symbol: options},
                "prices": {"overlap_bars": {"daily": OVERLAP, "intraday": OVERLAP}},
                "strategies": [],
            }
        )
        self.said = []

    def run(self, asof=None):
        return prices(self.lake, self.symbol, self.settings, self.said.append, asof=asof)

    def stored(self):
        table = self.lake.need("bars", self.symbol, "prices")
        found = {name: table[name].to_numpy() for name in COLUMNS}
        return {"ts": table["ts"].cast("int64").to_numpy(), **found}

    def holds(self, bars):
        """Say whether the stored bars are these, bit for bit."""
        found = self.stored()
        return all(np.array_equal(found[name], getattr(bars, name)) for name in ("ts", *COLUMNS))


@pytest.fixture
def served(monkeypatch):
    """Serve a client through the stage: ``served(client)``; everything else of the source is real."""
    real = loading.make_source

    def serve(client):
        monkeypatch.setattr(
            loading,
            "make_source",
            lambda name, data_dir, options, _=None: real(name, data_dir, options, client),
        )
        return client

    return serve


@pytest.fixture
def yahoo(tmp_path, served):
    """A daily symbol of Yahoo with 80 bars, its last session over."""
    client = served(Yahoo(make_bars(4, 80, symbol="AAA", start="2024-01-02")))
    return Desk(tmp_path, "AAA", client, {"source": "yahoo", "provider_symbol": "AAA.X"})


@pytest.fixture
def venue(tmp_path, served):
    """An hourly symbol of an exchange with 100 candles."""
    client = served(Venue(make_bars(6, 100, "1h", calendar="24/7", symbol="BTC-USD", start="2024-03-01")))
    options = {"class": "crypto", "source": "exchange", "venue": "kraken", "frame": "1h"}
    return Desk(tmp_path, "BTC-USD", client, {**options, "provider_symbol": "BTC/USDT", "start": START})


START = np.datetime64("2024-03-01").item()


def revise(bars, t, factor=1.01):
    """Return bars with one bar moved validly, as a vendor that rewrites history sends it."""
    columns = {f.name: getattr(bars, f.name).copy() for f in fields(bars)[3:]}
    for name in COLUMNS[:4]:
        columns[name][t] *= factor
    return replace(bars, **columns)


@pytest.mark.parametrize("name", ["yahoo", "venue"])
def test_the_first_load_stores_the_whole_history(name, request):
    desk = request.getfixturevalue(name)
    result = desk.run()
    assert desk.holds(desk.client.traded) and not result.unchanged
    assert result.metadata["bars_new"] == result.rows == len(desk.client.traded)
    assert result.metadata["source"] == {"yahoo": "yahoo", "venue": "exchange"}[name]
    if name == "yahoo":
        assert desk.client.name == "AAA.X" and desk.client.asked[0]["period"] == "max"
    else:
        assert desk.client.asked[0] * 1000 == desk.client.traded.ts[0] and len(desk.client.asked) == 5


@pytest.mark.parametrize("name", ["yahoo", "venue"])
def test_an_update_asks_for_the_overlap_and_joins_what_is_new(name, request):
    desk = request.getfixturevalue(name)
    client, traded = desk.client, desk.client.traded
    client.shown = 60
    desk.run()
    client.asked.clear()
    again = desk.run()
    assert again.unchanged and again.metadata["bars_new"] == 0
    client.shown = len(traded)
    client.asked.clear()
    result = desk.run()
    since = int(traded.ts[60 - OVERLAP])
    if name == "yahoo":
        assert [asked.get("start") for asked in client.asked] == [str(np.datetime64(since, "us"))[:10]]
    else:
        assert client.asked[0] * 1000 == since and len(client.asked) == 3
    assert desk.holds(traded) and result.metadata["bars_new"] == len(traded) - 60


@pytest.mark.parametrize("name", ["yahoo", "venue"])
def test_a_bar_that_is_not_complete_is_stored_only_when_it_is(name, request):
    desk = request.getfixturevalue(name)
    traded = desk.client.traded
    whole = int(known_at(traded.ts, traded.frame, traded.calendar)[-1])
    desk.client.traded = revise(traded, -1, 0.9)  # what it looks like before its close
    assert desk.run(asof=whole - 1).rows == len(traded) - 1
    assert desk.holds(traded.slice(None, -1))
    assert any("W04 bar not complete at asof left out" in text for text in desk.said)
    desk.client.traded = traded
    assert desk.run(asof=whole).metadata["bars_new"] == 1 and desk.holds(traded)


@pytest.mark.parametrize("name", ["yahoo", "venue"])
@pytest.mark.parametrize("change", ["price", "missing"])
def test_a_vendor_that_rewrites_history_is_refused_and_the_file_stays(name, change, request):
    desk = request.getfixturevalue(name)
    traded = desk.client.traded
    desk.client.shown = 60
    desk.run()
    before = desk.path.read_bytes()
    if change == "price":
        desk.client.traded = revise(traded, 57)
    else:
        kept = np.arange(len(traded)) != 57
        desk.client.traded = replace(
            traded, **{f.name: getattr(traded, f.name)[kept] for f in fields(traded)[3:]}
        )
    desk.client.shown = len(desk.client.traded)
    with pytest.raises(DataError, match="E13 stored history differs from the vendor's") as caught:
        desk.run()
    assert caught.value.symbol == desk.symbol and len(caught.value.rows) == 1
    assert f"nightfold check {desk.symbol} --accept-revision" in str(caught.value)
    assert desk.path.read_bytes() == before


def test_a_venue_that_forgot_the_stored_bars_is_refused(venue):
    venue.client.shown = 60
    venue.run()
    before = venue.path.read_bytes()
    venue.client.traded = venue.client.traded.slice(70, None)
    venue.client.shown = 30
    with pytest.raises(DataError, match="E13 .*\n  found no common bar: stored bars end "):
        venue.run()
    assert venue.path.read_bytes() == before


def split_at(client, at, ratio):
    """Let the symbol split: what was traded before was worth ``ratio`` times as much a share."""
    factor = np.where(np.arange(len(client.traded)) < at, ratio, 1.0)
    changed = {name: getattr(client.traded, name) * factor for name in COLUMNS[:4]}
    client.traded = replace(client.traded, volume=client.traded.volume / factor, **changed)
    client.splits = {at: ratio}
    return factor


def test_a_new_split_rebases_the_whole_history(yahoo):
    client = yahoo.client
    factor = split_at(client, 65, 4.0)
    client.shown = 60
    yahoo.run()
    before = yahoo.stored()
    assert set(before["adj"]) == {1.0}
    client.shown, client.asked = 80, []
    result = yahoo.run()
    now = yahoo.stored()
    assert [("start" in asked, "period" in asked) for asked in client.asked] == [(True, False), (False, True)]
    assert result.rows == 80 and now["adj"].tolist() == factor.tolist()
    for name in COLUMNS[:4]:
        np.testing.assert_allclose(now[name] * factor, getattr(client.traded, name), rtol=1e-12)
        np.testing.assert_allclose(now[name][:60] * 4.0, before[name], rtol=1e-12)
    np.testing.assert_allclose(now["volume"][:60], before["volume"] * 4.0)
    client.asked.clear()
    assert yahoo.run().unchanged and len(client.asked) == 1


def test_a_dividend_of_the_reply_is_paid_in_shares_of_today(yahoo):
    split_at(yahoo.client, 40, 2.0)
    yahoo.client.paid = {30: 0.5, 70: 0.25}
    for shown, paid in ((60, {30: 0.25}), (80, {30: 0.25, 70: 0.25})):
        yahoo.client.shown = shown
        yahoo.run()
        dividend = yahoo.stored()["dividend"]
        assert {int(t): float(dividend[t]) for t in np.flatnonzero(dividend)} == paid


def test_a_volume_that_the_vendor_corrects_is_taken_over_and_said(yahoo):
    yahoo.client.shown = 60
    yahoo.run()
    volume = yahoo.client.traded.volume.copy()
    volume[58] += 1000.0
    yahoo.client.traded = replace(yahoo.client.traded, volume=volume)
    assert not yahoo.run().unchanged
    assert yahoo.stored()["volume"][58] == volume[58]
    assert any("volume revised by the vendor: AAA, 1 bars" in text for text in yahoo.said)


@pytest.mark.parametrize("name", ["yahoo", "venue"])
def test_a_vendor_that_does_not_answer_leaves_the_symbol_stale_by_so_many_bars(name, request, waits):
    desk = request.getfixturevalue(name)
    desk.client.shown = 60
    first = desk.run()
    before, traded = desk.path.read_bytes(), desk.client.traded
    asof = int(known_at(traded.ts[63:64], traded.frame, traded.calendar)[0])
    desk.client.failure = ConnectionError("no route to host")
    result = desk.run(asof)
    assert result.metadata["stale"] == "by 4 bars" and result.unchanged and result.rows == 60
    assert result.result_id == first.result_id and desk.path.read_bytes() == before
    assert desk.said[-1].startswith(
        f"{desk.symbol} prices stale by 4 bars, the night goes on with bars to {iso(int(traded.ts[59]))}: E15"
    )
    assert "found ConnectionError: no route to host" in desk.said[-1] and len(waits) == 7
    desk.client.failure, desk.client.shown = None, 64
    result = desk.run(asof)
    assert "stale" not in result.metadata and desk.holds(traded.slice(None, 64))


@pytest.mark.parametrize("name", ["yahoo", "venue"])
def test_a_vendor_that_never_answered_fails_its_symbol_and_stores_nothing(name, request):
    desk = request.getfixturevalue(name)
    desk.client.failure = ConnectionError("no route to host")
    with pytest.raises(DataError, match=f"E15 no whole reply from .*: {desk.symbol} 1") as caught:
        desk.run()
    assert f"answers again: nightfold check {desk.symbol}" in str(caught.value)
    assert not desk.path.exists()


NETWORK = "symbols:\n  SPY: {source: yahoo}\n  BTC-USD: {class: crypto, source: exchange, venue: kraken}\n"


@pytest.mark.parametrize(("package", "extra", "line"), [("yfinance", "yahoo", 2), ("ccxt", "exchange", 3)])
def test_a_missing_package_is_refused_before_any_work(tmp_path, monkeypatch, package, extra, line):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)
    settings = tmp_path / "nightfold.yaml"
    settings.write_text(NETWORK)
    result = CliRunner().invoke(cli.main, ["--settings", str(settings), "run"])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"nightfold.yaml:{line}:3: source {extra!r} needs {package}, ")
    assert result.stderr.endswith(
        f'Run, in the root of the project: pip install -c constraints.txt -e ".[{extra}]"\n'
    )
    assert [path.name for path in tmp_path.iterdir()] == ["nightfold.yaml"]


def test_network_packages_are_loaded_for_network_sources_only():
    code = (
        "import sys, engine.stages.chain, engine.stages.preflight, engine.stages.examine\n"
        "print(sorted({'yfinance', 'ccxt'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout == "[]\n", found.stderr
