"""Nights on vendors that fail: every symbol is current or said to be stale, none half, no secret is told."""

import json
import os
import random
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from vendor import client_of, point_yahoo_at, served

from engine.bars.model import COLUMNS, known_at
from engine.bars.synthetic import make_bars
from engine.config import Settings
from engine.lake.doctor import examine
from engine.lake.publish import Lake
from engine.sources import loading
from engine.sources.refusals import said_by
from engine.stages._network import patience_for
from engine.stages.chain import holding, run_chain, run_leaderboard, run_stage

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
FAULTS = ("429", "500", "html", "cut", "torn", "reset")
VENUE = {"class": "crypto", "source": "exchange", "venue": "binance", "frame": "1h", "start": "2024-03-01"}
SETTINGS = {
    "symbols": {"AAA": {"source": "yahoo"}}
    | {f"C{n}-USD": {**VENUE, "provider_symbol": "BTC/USDT"} for n in range(3)},
    "prices": {"overlap_bars": {"daily": 5, "intraday": 10}},
    "strategies": [],
    "forecasts": {"levels": [0.1, 0.5, 0.9], "min_history_bars": 1000},
    "report": {"charts": False},
}


@pytest.fixture
def vendors(monkeypatch):
    """By symbol, the server that its source asks."""
    for package in ("yfinance", "ccxt"):
        pytest.importorskip(package)
    found, clients = {}, {}
    with ExitStack() as stack:
        for n, key in enumerate(SETTINGS["symbols"]):
            daily = key == "AAA"
            bars = (
                make_bars(n, 150, symbol=key, start="2024-01-02")
                if daily
                else make_bars(n, 200, "1h", calendar="24/7", symbol=key, start="2024-03-01")
            )
            found[key] = stack.enter_context(served(bars))
            clients[key] = point_yahoo_at(found[key], monkeypatch) if daily else client_of(found[key])
        load = loading.load

        def load_with(source, key, options, **asked):
            return load(source, key, options, client=clients[key], **asked)

        monkeypatch.setattr("engine.stages._prices.load", load_with)
        yield found


@pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["prices", "night"]
)
def test_check_16_nights_on_vendors_that_fail_end_with_every_symbol_current_or_stale(
    vendors, tmp_path, whole
):
    lake, settings, rng = Lake(tmp_path / "data"), Settings.model_validate(SETTINGS), random.Random(16)
    seen = {"current": 0, "stale": 0, "absent": 0}
    for night in range(6):
        failed = {}
        for key, vendor in vendors.items():
            share = 1.0 if rng.random() < 0.25 else 0.3  # some nights nothing comes at all
            vendor.draw = lambda share=share: rng.choice(FAULTS) if rng.random() < share else None
            vendor.shown = len(vendor.bars) - 100 + night
            true = vendor.bars.slice(None, vendor.shown)
            asof, said = int(known_at(true.ts[-1:], true.frame, true.calendar)[0]), []
            before = lake.result_id("bars", key)
            try:
                with holding(lake, key, settings, 4, said.append):
                    if whole:
                        results = list(run_chain(lake, key, settings, said.append, asof=asof))
                    else:
                        results = [run_stage("prices", lake, key, settings, said.append, asof=asof)]
            except Exception as error:
                assert "E15" in str(error) and before is None and lake.result_id("bars", key) is None
                failed[key] = str(error)
                seen["absent"] += 1
                continue
            assert results[-1].stage == ("backtests" if whole else "prices")
            table = lake.need("bars", key, "prices")
            n = len(table)
            assert np.array_equal(table["ts"].cast("int64").to_numpy(), true.ts[:n])
            for name in COLUMNS[:5]:
                assert np.array_equal(table[name].to_numpy(), getattr(true, name)[:n])
            stale = "stale" in results[0].metadata
            assert stale == any(" prices stale by " in text for text in said)
            assert stale or n == len(true)
            assert not stale or (n < len(true) and lake.result_id("bars", key) == before)
            seen["stale" if stale else "current"] += 1
        if whole:
            run_leaderboard(lake, settings, lambda text: None, cpus=4, asof=None, problems=failed)
        assert examine(lake.data_dir) == []
    assert min(seen.values()) > 0, seen


SECRET = "planted5ecret"


def test_no_secret_of_the_environment_is_in_a_raw_name_a_log_a_table_or_a_message(
    vendors, tmp_path, monkeypatch, capfd, caplog
):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://me:{SECRET}@127.0.0.1:1")
    for name in ("NIGHTFOLD_BINANCE_KEY", "NIGHTFOLD_BINANCE_SECRET", "BINANCE_APIKEY", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    caplog.set_level("DEBUG")
    lake, settings, said = Lake(tmp_path / "data"), Settings.model_validate(SETTINGS), []
    for proxy in ("127.0.0.1", ""):  # past the proxy, then through it, where nobody listens
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, proxy)
        for key in ("AAA", "C0-USD"):
            vendors[key].faults = [] if proxy else ["500"] * 20
            said.append(str(run_stage("prices", lake, key, settings, said.append, asof=None).metadata))
    assert sum("stale" in text for text in said) >= 2
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if SECRET in str(path) or SECRET.encode() in path.read_bytes()]
    out = capfd.readouterr()
    assert SECRET not in "\n".join([*said, out.out, out.err, caplog.text])


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to proxy http://me:{SECRET}@proxy:8080",
        f"GET https://venue/api?symbol=BTC&apiKey={SECRET}&since=0 401",
        f"GET https://venue/api?signature={SECRET}",
    ],
)
def test_an_error_of_a_package_is_told_without_the_secret_in_its_address(text):
    told = said_by(OSError(text))
    assert SECRET not in told and told.startswith("OSError: ") and len(told) > 20


ASK = """
import json, sys
from pathlib import Path
from engine.config import Settings
from engine.lake.publish import Lake
from engine.stages._network import patience_for
settings = Settings.model_validate(json.loads(sys.argv[2]))
with patience_for(Lake(Path(sys.argv[1])), settings.instrument(sys.argv[3]), settings, print).turn():
    print("mine", flush=True)
"""


def test_of_two_processes_one_asks_a_vendor_at_a_time(tmp_path):
    settings = Settings.model_validate(SETTINGS)
    call = [sys.executable, "-c", ASK, str(tmp_path), json.dumps(SETTINGS)]
    with patience_for(Lake(tmp_path), settings.instrument("C0-USD"), settings, print).turn():
        other = subprocess.run([*call, "AAA"], capture_output=True, text=True, check=True)
        assert other.stdout == "mine\n"
        same = subprocess.Popen([*call, "C1-USD"], stdout=subprocess.PIPE, text=True)
        waits = f"C1-USD waiting for one of 1 ask-binance- slots, held by pid {os.getpid()}\n"
        assert same.stdout.readline() == waits
        assert same.poll() is None
    assert same.communicate()[0] == "mine\n" and same.returncode == 0
