"""Symbols whose bars are made from finer ones: what is kept, what is made, and what is said of it."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from markets import gapless

from engine.bars.model import COLUMNS, FRAME_US
from engine.bars.resample import resample
from engine.bars.synthetic import to_csv
from engine.errors import ConfigError, DataError, LakeError
from engine.lake import doctor, warehouse
from engine.lake.publish import Lake
from engine.stages import _prices, examine, explain
from engine.stages.chain import run_stage
from engine.stages.common import read_bars

SYMBOL, HOUR, DAYS = "ALFA", FRAME_US["1h"], 70
CHANGES = {
    "symbols": {SYMBOL: {"class": "crypto", "frame": "1d", "base_frame": "1h"}},
    "folds": {"warmup_bars": 10, "train_bars": 40, "test_bars": 10, "min_folds": 1, "inner_folds": 2},
    "strategies": [{"strategy": "trend"}],
}
HOURS = gapless(3, 24 * DAYS, "1h", symbol=SYMBOL)


@pytest.fixture
def hourly(bench, tmp_path):
    one = bench(tmp_path / "data")
    one.change(**CHANGES)
    return one


def run(bench, stage="prices", asof=None):
    return run_stage(stage, bench.lake, SYMBOL, bench.settings, bench.said.append, asof=asof)


def without(bars, *rows):
    return replace(bars, **{name: np.delete(getattr(bars, name), rows) for name in ("ts", *COLUMNS)})


def stored(bench, table):
    instrument = bench.settings.instrument(SYMBOL)
    return read_bars(bench.lake, instrument.as_read() if table == "base_bars" else instrument, table)


def same(a, b):
    return (a.frame, a.calendar) == (b.frame, b.calendar) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *COLUMNS)
    )


def current(bench):
    return {name: data for name, data in bench.files().items() if not name.startswith(".history")}


def test_a_dropped_file_of_hours_becomes_days_and_the_hours_are_kept(hourly):
    hourly.write(HOURS)
    result = run(hourly)
    assert same(stored(hourly, "base_bars"), HOURS)
    assert same(stored(hourly, "bars"), resample(HOURS, "1d").bars)
    assert (result.rows, result.metadata["base_bars"], result.metadata["left_out"]) == (DAYS, 24 * DAYS, 0)
    assert (result.metadata["gaps"], result.metadata["bars_new"]) == ("no bar missing", DAYS)
    assert run(hourly, "features").rows == DAYS


def test_a_second_run_is_unchanged_and_writes_nothing(hourly):
    hourly.write(HOURS)
    first, before = run(hourly), hourly.stamps()
    again = run(hourly)
    assert (again.result_id, again.unchanged) == (first.result_id, True)
    assert hourly.stamps() == before


def test_increments_and_one_full_load_give_the_same_bytes(hourly, bench, tmp_path):
    whole = bench(tmp_path / "whole", hourly.raw)
    bars = without(HOURS, 100, 700, 701)
    whole.write(bars)
    run(whole)
    for n in sorted({*np.random.default_rng(0).integers(24 * 63, len(bars), 6).tolist(), len(bars)}):
        hourly.write(bars.slice(None, n))
        run(hourly)
    assert current(hourly) == current(whole)
    assert len(stored(hourly, "bars")) == DAYS - 2


def test_the_open_day_is_no_bar_whatever_the_clock_says(hourly):
    hourly.write(HOURS)
    asof = int(HOURS.ts[-2]) + HOUR  # the last hour but one is complete
    assert run(hourly, asof=asof).rows == DAYS - 1
    assert len(stored(hourly, "base_bars")) == len(HOURS) - 1
    assert run(hourly, asof=asof + HOUR).rows == DAYS


def test_one_more_hour_of_an_open_day_changes_nothing_that_follows(hourly):
    hourly.write(HOURS.slice(None, -3))
    first = run(hourly)
    run(hourly, "features")
    hourly.write(HOURS.slice(None, -2))
    second = run(hourly)
    assert second.result_id == first.result_id and not second.unchanged
    assert run(hourly, "features").unchanged
    made_from = hourly.lake.record("bars", SYMBOL)["inputs"]
    assert made_from == {"base_bars": hourly.lake.result_id("base_bars", SYMBOL)}


def test_days_that_lack_an_hour_are_told_everywhere(hourly):
    hourly.write(without(HOURS, 30, 31, 80))
    text = "2 1d bars left out, first 2024-01-02, 2024-01-04: some of the 1h bars inside are missing"
    line = examine.symbol_data(SYMBOL, hourly.settings, hourly.data_dir, None)
    assert "1677 bars" in line and "3 of 1680 expected bars missing, longest gap 2 bars" in line
    assert "1d made of 1h: 68 bars" in line and text in line
    result = run(hourly)
    assert result.metadata["left_out"] == 2 and result.metadata["warnings"] >= 1
    assert result.metadata["gaps"] == "2 of 70 expected bars missing, longest gap 1 bars after 2024-01-01"
    assert f"{SYMBOL} prices {text}" in hourly.said
    assert hourly.lake.record("bars", SYMBOL)["left_out"] == 2
    said = "\n".join(examine.status(SYMBOL, hourly.settings, hourly.data_dir, studies=False))
    assert "gaps: 2 of 70 expected bars missing" in said
    assert "1d made of 1h: 68 of 1677 bars, 2 left out because some of the bars inside are missing" in said
    path = hourly.data_dir / "inbox" / f"{SYMBOL}.csv"
    assert text in examine.data_file(path, hourly.settings, hourly.data_dir)


def test_another_frame_is_another_symbol(hourly):
    hourly.write(HOURS)
    run(hourly)
    hourly.change(symbols={SYMBOL: {"base_frame": "30m"}})
    with pytest.raises(ConfigError, match="base_bars of ALFA holds 1h bars, the settings ask for 30m"):
        run(hourly)
    hourly.change(symbols={SYMBOL: {"base_frame": None, "frame": "1h"}})
    with pytest.raises(ConfigError, match="table bars of ALFA holds 1d bars, the settings ask for 1h"):
        run(hourly)


def test_too_few_counts_the_bars_that_are_traded(hourly):
    hourly.write(HOURS.slice(0, 24 * 59))
    with pytest.raises(DataError, match=r"E17 too few bars: ALFA 1d(?s:.*)found 59; expected at least 60"):
        run(hourly)
    assert hourly.files() == {}
    hourly.write(HOURS.slice(0, 23))
    with pytest.raises(DataError, match=r"E17(?s:.*)the 1h bars do not reach to the end of one"):
        run(hourly)


def test_too_many_days_left_out_in_a_row_are_refused(hourly):
    hourly.write(without(HOURS, *range(240, 240 + 24 * 11, 24)))
    with pytest.raises(DataError, match=r"E11 gap in time: ALFA 1d(?s:.*)found 11 bars missing") as caught:
        run(hourly)
    assert "11 1d bars left out" in str(caught.value)


def test_what_a_day_was_made_of_is_followed_to_the_file_and_made_again(hourly):
    hourly.write(HOURS)
    result = run(hourly)
    base = hourly.lake.result_id("base_bars", SYMBOL)
    lines = explain.tree(hourly.lake, result.result_id)
    assert lines[0] == f"bars ALFA: result {result.result_id} (current)"
    assert f"  base_bars ALFA: result {base} (current)" in lines
    assert any("raw sha256" in line for line in lines)
    for what in (result.result_id, base, SYMBOL):
        assert explain.verify(hourly.lake, what, hourly.settings) == (
            [
                f"base_bars ALFA: equal, {len(HOURS)} bars read again",
                f"bars ALFA: equal, {DAYS} bars made of {len(HOURS)} again",
            ],
            True,
        )
    rows = hourly.table("bars")
    other = rows.set_column(6, "volume", pa.array(rows["volume"].to_numpy() + 1.0))
    record = {k: v for k, v in hourly.lake.record("bars", SYMBOL).items() if k != "record_sha"}
    hourly.lake.publish("bars", SYMBOL, other, record)
    lines, equal = explain.verify(hourly.lake, SYMBOL, hourly.settings)
    assert not equal and lines[1].startswith("bars ALFA: NOT EQUAL: volume differs")


def test_a_run_killed_between_the_two_tables_is_finished_by_the_next(hourly, bench, tmp_path, monkeypatch):
    whole = bench(tmp_path / "whole", hourly.raw)
    for one in (whole, hourly):
        one.write(HOURS)
    run(whole)
    publish = Lake.publish

    def dies(lake, table, *rest):
        if table == "bars":
            raise LakeError("killed")
        return publish(lake, table, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "publish", dies)
        with pytest.raises(LakeError):
            run(hourly)
    assert hourly.lake.result_id("bars", SYMBOL) is None
    assert run(hourly).rows == DAYS
    assert current(hourly) == current(whole)


def test_a_split_rebases_hours_and_days_alike(hourly):
    hourly.write(HOURS)
    run(hourly)
    events = hourly.data_dir / "events.csv"
    events.write_text(f"symbol,date,kind,value,note\n{SYMBOL},2024-02-01,split,2,\n")
    with pytest.raises(DataError, match="E12"):  # the prices know of no split
        run(hourly)
    before = HOURS.ts < int(np.datetime64("2024-02-01", "us").astype(np.int64))
    factor = np.where(before, 2.0, 1.0)
    columns = {name: getattr(HOURS, name) * factor for name in ("open", "high", "low", "close")}
    quoted = replace(HOURS, **columns, volume=HOURS.volume / factor)
    (hourly.data_dir / "inbox" / f"{SYMBOL}.csv").write_text(to_csv(quoted))
    run(hourly)
    days = stored(hourly, "bars")
    assert same(replace(days, adj=np.ones(DAYS)), resample(HOURS, "1d").bars)
    assert set(days.adj.tolist()) == {1.0, 2.0}


class Network:
    """Stands in for `engine.sources.load`: a vendor with the bars it has now."""

    def __init__(self, bars):
        self.bars, self.asked = bars, []

    def __call__(self, source, key, options, *, frame, overlap_from=None, **rest):
        self.asked.append((frame, overlap_from))
        start = 0 if overlap_from is None else int(np.searchsorted(self.bars.ts, overlap_from))
        return _prices.Loaded(self.bars.slice(start, None), [], [], "none")


def test_a_network_source_is_asked_and_compared_at_the_base_frame(hourly, monkeypatch, with_bar):
    hourly.change(symbols={SYMBOL: {"source": "yahoo"}})
    vendor = Network(HOURS.slice(None, -30))
    monkeypatch.setattr(_prices, "load", vendor)
    run(hourly)
    vendor.bars = HOURS
    assert run(hourly).rows == DAYS
    assert vendor.asked == [("1h", None), ("1h", int(HOURS.ts[-130]))]
    assert same(stored(hourly, "base_bars"), HOURS)
    before = current(hourly)
    vendor.bars = with_bar(HOURS, len(HOURS) - 5)
    with pytest.raises(DataError, match="E13"):
        run(hourly)
    assert {name: before[name] for name in before} == {
        name: data for name, data in current(hourly).items() if not name.startswith("quarantine")
    }
    assert len(hourly.rows("quarantine")) == 2


def test_the_table_is_known_to_doctor_and_warehouse(hourly):
    hourly.write(HOURS)
    run(hourly)
    assert doctor.examine(hourly.data_dir) == []
    sql = "select (select count(*) from base_bars), (select count(*) from bars)"
    assert warehouse.query(hourly.data_dir, sql)[1] == [(24 * DAYS, DAYS)]
    path = hourly.data_dir / "lake" / "base_bars" / f"{SYMBOL}.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    assert "base_bars" in doctor.examine(hourly.data_dir)[0]


def test_hours_of_new_york_become_its_sessions_half_days_too(hourly):
    pytest.importorskip("exchange_calendars")
    symbol = {"class": "stock", "frame": "1d", "base_frame": "30m", "calendar": "XNYS"}
    hourly.change(symbols={SYMBOL: symbol})
    bars = gapless(3, 13 * 80, "30m", "XNYS", start="2012-10-15", symbol=SYMBOL)
    hourly.write(bars)
    result = run(hourly)
    days = [str(day)[:10] for day in stored(hourly, "bars").ts.astype("datetime64[us]")]
    assert result.metadata["gaps"] == "no bar missing" and len(days) == result.rows > 75
    assert "2012-11-23" in days and not {"2012-10-29", "2012-10-30", "2012-11-22"} & set(days)
    at = days.index("2012-11-23")
    close = int(np.datetime64("2012-11-23T18:00", "us").astype(np.int64))
    assert stored(hourly, "bars").close[at] == bars.close[np.searchsorted(bars.ts, close) - 1]


def test_the_generations_kept_are_those_of_the_settings(bench, tmp_path, alfa):
    """The file `nightfold run` would use; three by default."""
    from engine.config_file import SettingsFile
    from engine.stages.workers import run_symbol

    def kept(folder, **prices):
        one = bench(folder)
        one.change(prices=prices)
        file = SettingsFile(folder.parent / "nightfold.yaml", one.settings, {})
        file = replace(file, settings=one.settings.model_copy(update={"data_dir": str(folder)}))
        for n in range(800, 808):
            one.write(alfa(n))
            done = run_symbol(file, SYMBOL, "prices", 4_000_000_000_000_000, 1, lambda _: None)
            assert done == "", done
        return len(list((folder / "lake" / ".history" / "bars" / SYMBOL).glob("*.parquet")))

    assert kept(tmp_path / "three") == 3
    assert kept(tmp_path / "one", keep_generations=1) == 1
    assert kept(tmp_path / "five", keep_generations=5) == 5


def test_days_that_were_kept_are_not_replaced_by_fewer_days_of_hours(hourly):
    hourly.change(symbols={SYMBOL: {"class": "crypto", "frame": "1d"}})
    hourly.raw["symbols"][SYMBOL].pop("base_frame", None)
    hourly.write(resample(HOURS, "1d").bars)
    run(hourly)
    before = current(hourly)
    hourly.change(**CHANGES)
    hourly.write(HOURS.slice(24 * 5, None))
    with pytest.raises(DataError, match="E13 history became shorter: ALFA 1d has 65 bars"):
        run(hourly)
    assert {name: data for name, data in current(hourly).items() if "bars/" in name} == {
        name: data for name, data in before.items() if "bars/" in name
    }
