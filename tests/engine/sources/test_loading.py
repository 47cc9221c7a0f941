import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.model import COLUMNS, known_at
from engine.bars.revisions import merge
from engine.bars.synthetic import make_bars, spoil, to_csv
from engine.errors import ConfigError, DataError
from engine.sources import SymbolSource, load
from engine.sources.loading import CHECKOUT_DATA, own_events_path

DAY = 86_400_000_000
OPTIONS = SymbolSource(tick=0.01)


def sample_at(asof, overlap_from=None, key="AAPL"):
    return load(
        "sample", key, OPTIONS, data_dir=CHECKOUT_DATA, frame="1d", asof=asof, overlap_from=overlap_from
    ).bars


FULL = {key: sample_at(None, key=key) for key in ("AAPL", "MSFT")}


def equal(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *COLUMNS))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["AAPL", "MSFT"]), st.lists(st.integers(20, 3269), min_size=1, max_size=4))
def test_increments_over_splits_and_dividends_equal_one_full_load(key, cuts):
    full = FULL[key]
    known = known_at(full.ts, "1d", "observed")
    stored = sample_at(int(known[10]), key=key)
    for cut in sorted(cuts):
        since = int(stored.ts[-1]) - 10 * DAY
        stored = merge(stored, sample_at(int(known[cut]), since, key), tick=0.01)
    assert equal(stored, full.slice(0, max(cuts) + 1))


def test_a_bar_is_there_from_the_moment_it_is_known():
    full = FULL["AAPL"]
    known = int(known_at(full.ts, "1d", "observed")[500])
    assert len(sample_at(known)) == 501 and len(sample_at(known - 1)) == 500


def test_a_bar_that_is_open_at_asof_is_left_out_and_said():
    asof = int(FULL["AAPL"].ts[500]) + 1
    loaded = load("sample", "AAPL", OPTIONS, data_dir=CHECKOUT_DATA, frame="1d", asof=asof)
    assert len(loaded.bars) == 500
    assert [warning[:3] for warning in loaded.warnings] == ["W04"]
    assert "AAPL 1d, 1 bar, first 2002-03-01 (AAPL.csv line 502)" in loaded.warnings[0]


def test_gives_the_raw_bytes_and_the_sha_of_the_events():
    loaded = load("sample", "AAPL", OPTIONS, data_dir=CHECKOUT_DATA, frame="1d")
    assert [batch.data for batch in loaded.raw] == [(CHECKOUT_DATA / "sample" / "AAPL.csv").read_bytes()]
    other = load("sample", "GOOG", OPTIONS, data_dir=CHECKOUT_DATA, frame="1d")
    assert len(loaded.events_sha) == 64 and loaded.events_sha != other.events_sha


def test_the_sample_has_its_own_events():
    assert own_events_path("sample", CHECKOUT_DATA) == CHECKOUT_DATA / "sample" / "events.csv"
    assert own_events_path("files", CHECKOUT_DATA) == CHECKOUT_DATA / "events.csv"


def test_asof_before_all_bars_is_e17():
    with pytest.raises(
        DataError, match=r"E17 too few bars: AAPL 1d, 0 bars\n.*\n  AAPL\.csv holds no bar complete at"
    ):
        sample_at(0)


def test_no_bar_after_the_overlaps_start_is_refused():
    with pytest.raises(
        DataError, match="E15 no whole reply from sample: .*\n  found no bar in the span asked for"
    ):
        sample_at(None, overlap_from=int(FULL["AAPL"].ts[-1]) + 1)


@pytest.mark.parametrize(
    ("name", "frame", "text"),
    [
        ("smaple", "1d", r"source 'smaple' is not known\. Closest: sample"),
        ("sample", "1w", r"frame '1w' is not known\."),
    ],
)
def test_unknown_sources_and_frames_are_settings_errors(name, frame, text):
    with pytest.raises(ConfigError, match=text):
        load(name, "AAPL", OPTIONS, data_dir=CHECKOUT_DATA, frame=frame)


@pytest.mark.parametrize("rule", ["E03", "E04", "E05", "E06", "E07", "E10"])
def test_a_bad_file_is_refused_whole(tmp_path, rule):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "AAA.csv").write_text(spoil(to_csv(make_bars(1, 50)), rule))
    with pytest.raises(DataError) as caught:
        load("files", "AAA", SymbolSource(), data_dir=tmp_path, frame="1d")
    assert caught.value.rule == rule and "(AAA.csv line " in str(caught.value)


def test_a_revised_file_is_e13_against_the_stored_bars(tmp_path):
    (tmp_path / "inbox").mkdir()
    text = to_csv(make_bars(1, 50))
    bars = {}
    for version in (text, spoil(text, "E13")):
        (tmp_path / "inbox" / "AAA.csv").write_text(version)
        bars[version] = load("files", "AAA", SymbolSource(), data_dir=tmp_path, frame="1d").bars
    with pytest.raises(DataError, match="E13 stored history differs from the vendor's: AAA 1d, 1 bar"):
        merge(bars[text], bars[spoil(text, "E13")])


def test_a_split_that_the_user_adds_later_gives_the_history_a_new_basis(tmp_path):
    (tmp_path / "sample").mkdir()
    for name in ("AAPL.csv", "events.csv"):
        text = (CHECKOUT_DATA / "sample" / name).read_text()
        moves = "".join(f"AAPL,{day},verified_move,,\n" for day in ("2000-06-21", "2000-09-29", "2005-02-28"))
        (tmp_path / "sample" / name).write_text(
            text if name == "AAPL.csv" else text.splitlines()[0] + "\n" + moves
        )
    before = load("sample", "AAPL", OPTIONS, data_dir=tmp_path, frame="1d")
    after = load("sample", "AAPL", OPTIONS, data_dir=CHECKOUT_DATA, frame="1d")
    assert set(before.bars.adj.tolist()) == {1.0} and before.events_sha != after.events_sha
    assert merge(before.bars, after.bars, tick=0.01) is after.bars
