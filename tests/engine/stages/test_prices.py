"""What the prices stage takes, keeps and refuses; network sources are stood in for by a stub."""

from dataclasses import replace

import numpy as np
import pytest

from engine.errors import DataError
from engine.stages import _prices
from engine.stages.chain import run_stage

SYMBOL = "ALFA"


def _prices_of(bench, asof=None):
    return run_stage("prices", bench.lake, SYMBOL, bench.settings, bench.said.append, asof=asof)


def test_only_bars_complete_at_the_clock_are_taken(bench, tmp_path, alfa):
    one, bars = bench(tmp_path / "data"), alfa(800)
    one.write(bars)
    asof = int(bars.ts[779]) + 21 * 3600 * 1_000_000  # the session of bar 779 ends
    assert _prices_of(one, asof - 1).rows == 779
    assert _prices_of(one, asof).rows == 780
    assert _prices_of(one).rows == 800


def test_the_clock_is_no_part_of_the_id(bench, tmp_path, alfa):
    one, bars = bench(tmp_path / "data"), alfa(800)
    one.write(bars)
    first = _prices_of(one, int(bars.ts[-1]) + 86_400_000_000)
    again = _prices_of(one, int(bars.ts[-1]) + 30 * 86_400_000_000)
    assert (again.result_id, again.unchanged) == (first.result_id, True)


def test_the_id_rests_on_the_bars_alone(bench, tmp_path, alfa):
    ids = []
    for steps in ((800,), (760, 777, 800)):
        one = bench(tmp_path / str(len(steps)))
        for n in steps:
            one.write(alfa(n))
            result = _prices_of(one)
        ids.append(result.result_id)
    assert ids[0] == ids[1]


def test_a_missing_file_is_told_with_the_closest(bench, tmp_path, alfa):
    one = bench(tmp_path / "data")
    one.write(replace(alfa(800), symbol="ALPHA"))
    with pytest.raises(DataError, match=r"E16 (?s:.*)Closest: ALPHA"):
        _prices_of(one)


class Network:
    """Stands in for `engine.sources.load`: a vendor with the bars it has now."""

    def __init__(self, bars):
        self.bars, self.asked = bars, []

    def __call__(self, source, key, options, *, overlap_from=None, **rest):
        self.asked.append(overlap_from)
        bars = self.bars
        if overlap_from is not None:
            bars = bars.slice(int(np.searchsorted(bars.ts, overlap_from)), None)
        return _prices.Loaded(bars, [], [], "none")


@pytest.fixture
def vendor(bench, tmp_path, alfa, monkeypatch):
    one = bench(tmp_path / "data")
    one.change(prices={"source": "yahoo"})
    one.vendor = Network(alfa(800))
    monkeypatch.setattr(_prices, "load", one.vendor)
    return one


def test_a_network_source_is_asked_for_the_new_bars_and_an_overlap(vendor, alfa):
    assert _prices_of(vendor).rows == 800
    vendor.vendor.bars = alfa(803)
    result = _prices_of(vendor)
    assert (result.rows, result.metadata["bars_new"]) == (803, 3)
    assert vendor.vendor.asked == [None, int(alfa(800).ts[-10])]


def test_a_vendor_that_revised_its_history_is_refused(vendor, alfa, with_bar):
    _prices_of(vendor)
    before = vendor.files()
    vendor.vendor.bars = with_bar(alfa(803), 795, 1.02)
    with pytest.raises(DataError, match="^E13 "):
        _prices_of(vendor)
    assert {name: vendor.files()[name] for name in before} == before


def test_a_vendor_s_split_re_bases_all_of_the_history(vendor, alfa):
    _prices_of(vendor)
    bars = alfa(803)
    halved = {name: getattr(bars, name) / 2 for name in ("open", "high", "low", "close", "dividend")}
    adj = np.where(np.arange(803) < 801, 2.0, 1.0)
    vendor.vendor.bars = replace(bars, **halved, volume=bars.volume * 2, adj=adj)
    assert _prices_of(vendor).rows == 803
    assert vendor.vendor.asked[-1] is None  # the whole history was asked for
    stored = vendor.table("bars")
    np.testing.assert_allclose(stored["close"].to_numpy(), bars.close / 2)
