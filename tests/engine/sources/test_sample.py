import gzip
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.bars.model import iso
from engine.errors import DataError
from engine.sources import SymbolSource, load, sample
from engine.sources.events import read_events
from engine.sources.loading import CHECKOUT_DATA

FOLDER = CHECKOUT_DATA / "sample"
TOTALS = {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
needs_origin = pytest.mark.skipif(
    importlib.util.find_spec("bokeh_sampledata") is None, reason="pip install bokeh_sampledata==2026.1"
)


def origin():
    """The origin's rows of each ticker as lists of cells."""
    folder = Path(importlib.util.find_spec("bokeh_sampledata").submodule_search_locations[0])
    rows = gzip.decompress((folder / "_data" / "stocks.csv.gz").read_bytes()).decode().splitlines()[1:]
    table = {}
    for row in rows:
        cells = row.split(",")
        table.setdefault(cells[0], []).append(cells[1:])
    return table


def test_sample_totals():
    bars = {key: sample(key) for key in TOTALS}
    assert {key: len(b) for key, b in bars.items()} == TOTALS and sum(TOTALS.values()) == 12_154
    assert {iso(int(b.ts[-1])) for b in bars.values()} == {"2013-03-01"}
    assert iso(int(bars["AAPL"].ts[0])) == "2000-03-01"
    paid = {key: int((b.dividend > 0).sum()) for key, b in bars.items()}
    assert paid == {"AAPL": 3, "FB": 0, "GOOG": 0, "IBM": 52, "MSFT": 37}
    msft = bars["MSFT"]
    special = msft.ts.tolist().index(int(np.datetime64("2004-11-15", "us").astype(int)))
    assert msft.dividend[special] == 3.08 and msft.close[special] < msft.close[special - 1] - 2.5


def test_sample_breaks_no_rule_and_warns_of_nothing():
    for key in TOTALS:
        loaded = load("sample", key, SymbolSource(tick=0.01), data_dir=CHECKOUT_DATA, frame="1d")
        assert loaded.warnings == []


def test_without_events_exactly_the_three_splits_and_the_real_move_are_e12(tmp_path):
    (tmp_path / "inbox").mkdir()
    found = {}
    for key in TOTALS:
        shutil.copy(FOLDER / f"{key}.csv", tmp_path / "inbox")
        try:
            load("files", key, SymbolSource(tick=0.01), data_dir=tmp_path, frame="1d")
        except DataError as error:
            found[key] = (error.rule, [row.split()[0] for row in error.rows])
    days = ["2000-06-21", "2000-09-29", "2005-02-28"]
    assert found == {"AAPL": ("E12", days), "MSFT": ("E12", ["2003-02-18"])}


def test_the_three_splits_and_the_verified_move_stand_in_the_table():
    found = {
        (key, iso(event.ts), event.kind, event.value)
        for key in TOTALS
        for event in read_events(FOLDER / "events.csv", key, "1d")
        if event.kind != "dividend"
    }
    assert found == {
        ("AAPL", "2000-06-21", "split", 2.0),
        ("AAPL", "2005-02-28", "split", 2.0),
        ("MSFT", "2003-02-18", "split", 2.0),
        ("AAPL", "2000-09-29", "verified_move", 0.0),
    }


def test_splits_leave_no_jump_and_the_verified_move_stays():
    aapl, raw_close = sample("AAPL"), {}
    for line in (FOLDER / "AAPL.csv").read_text().splitlines()[1:]:
        raw_close[line.split(",")[0]] = float(line.split(",")[4])
    dates = [iso(int(ts)) for ts in aapl.ts]
    for day in ("2000-06-21", "2005-02-28"):
        t = dates.index(day)
        raw_step = raw_close[day] / raw_close[dates[t - 1]]
        step = aapl.close[t] / aapl.close[t - 1]
        assert step / raw_step == pytest.approx(2.0, abs=1e-9) and 0.7 < step < 1.4
        assert aapl.adj[t - 1] / aapl.adj[t] == 2.0
    t = dates.index("2000-09-29")
    assert aapl.open[t] / aapl.close[t - 1] == pytest.approx(0.527, abs=5e-4)
    assert set(aapl.adj.tolist()) == {4.0, 2.0, 1.0}


def test_unknown_keys_are_e16_with_the_closest_names():
    with pytest.raises(DataError) as caught:
        sample("GOGO")
    assert str(caught.value) == (
        "E16 symbol not known to its source: GOGO 1d, 1 symbol\n"
        "  found no GOGO in the sample. Closest: GOOG.\n"
        "  no source stands in for another\n"
        "  set source: of GOGO in nightfold.yaml, then: nightfold check GOGO"
    )


@pytest.mark.parametrize("key", ["../../evil", "aapl", "CON", "events", "A" * 40, "AAPL.", "O'Neil", ""])
def test_keys_that_are_no_file_names_are_refused(key):
    with pytest.raises(DataError) as caught:
        sample(key)
    assert caught.value.rule == "E16" and f"found key {key!r}" in str(caught.value)


def test_the_sample_has_one_frame():
    with pytest.raises(DataError, match="found frame 1h; expected 1d, the only one of the sample"):
        load("sample", "AAPL", SymbolSource(), data_dir=CHECKOUT_DATA, frame="1h")


def test_a_checkout_without_sample_says_so(tmp_path):
    with pytest.raises(DataError, match="E16 .*\n.*data/sample is empty; it comes with the repository"):
        sample("AAPL", data_dir=tmp_path)


@needs_origin
def test_total_return_steps_equal_the_origins_adjusted_closes_on_every_bar():
    table = origin()
    for key in TOTALS:
        bars = sample(key)
        adjusted = np.array([float(row[6]) for row in table[key]])
        step = (bars.close[1:] + bars.dividend[1:]) / bars.close[:-1]
        np.testing.assert_allclose(step, adjusted[1:] / adjusted[:-1], rtol=1e-9, atol=0)


@needs_origin
def test_raw_prices_come_back_as_the_origin_has_them():
    table = origin()
    for key in TOTALS:
        bars = sample(key)
        np.testing.assert_allclose(bars.close * bars.adj, [float(row[4]) for row in table[key]], rtol=1e-15)
        np.testing.assert_allclose(bars.volume / bars.adj, [float(row[5]) for row in table[key]], rtol=1e-15)


@needs_origin
def test_the_script_makes_the_committed_files_byte_for_byte(tmp_path):
    subprocess.run([sys.executable, str(FOLDER / "make_sample.py"), str(tmp_path)], check=True)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["AAPL.csv", "FB.csv", "GOOG.csv", "IBM.csv", "MSFT.csv", "events.csv"]
    for name in made:
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_the_readme_names_the_sha256_of_every_file():
    text = (FOLDER / "README.md").read_text()
    for path in sorted(FOLDER.glob("*.csv")):
        assert f"| `{path.name}` | {hashlib.sha256(path.read_bytes()).hexdigest()} |" in text
