"""When markets trade: every count against a loop over the sessions, and real exchanges where installed."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import MINUTE, every_stamp, market

from engine.bars import calendars
from engine.bars.calendars import (
    DAY_US,
    complete_at,
    expected_before,
    expected_stamps,
    is_expected,
    periods,
    require_known,
    sessions,
    zone_of,
)
from engine.bars.model import FRAME_US, known_at
from engine.errors import ConfigError, MissingExtra
from engine.sources import sample

FRAMES = tuple(FRAME_US)


def us(text):
    return int(np.datetime64(text, "us").astype(np.int64))


def text_of(ts):
    return [str(np.datetime64(int(one), "s")) for one in np.asarray(ts) // 1_000_000]


@pytest.fixture
def exchanges():
    return pytest.importorskip("exchange_calendars")


# ---- against the loop ---------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(FRAMES), st.data())
def test_counts_and_stamps_equal_a_loop_over_the_sessions(seed, frame, data):
    table, frame_us = market(seed), FRAME_US[frame]
    slow = every_stamp(table, frame_us)
    low, high = int(table.day[0] - DAY_US), int(table.day[-1] + 2 * DAY_US)
    moments = data.draw(st.lists(st.integers(low, high) | st.sampled_from(slow), min_size=2, max_size=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendars, "sessions", lambda calendar, first, last: table)
        ts = np.array(moments)
        wanted = [sum(one < moment for one in slow) for moment in moments]
        assert expected_before(ts, frame_us, "XTST").tolist() == wanted
        assert is_expected(ts, frame_us, "XTST").tolist() == [moment in slow for moment in moments]
        first, stop = sorted(moments[:2])
        found = expected_stamps(first, stop, frame_us, "XTST").tolist()
        assert found == [one for one in slow if first <= one < stop]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(FRAMES))
def test_a_bar_is_complete_after_its_frame_or_at_the_close(seed, frame):
    table, frame_us = market(seed), FRAME_US[frame]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendars, "sessions", lambda calendar, first, last: table)
        for s in range(len(table.day)):
            one = calendars.Sessions(*(getattr(table, name)[s : s + 1] for name in vars(table)))
            ts = np.array(every_stamp(one, frame_us))
            close = int(table.close[s])
            wanted = [close if frame == "1d" else min(t + frame_us, close) for t in ts.tolist()]
            assert complete_at(ts, frame_us, "XTST").tolist() == wanted


@pytest.mark.parametrize("frame", FRAMES)
def test_a_market_without_pause_expects_every_frame(frame):
    step, first = FRAME_US[frame], us("2024-01-01")
    stamps = expected_stamps(first - 1, first + 5 * DAY_US, step, "24/7")
    assert stamps.tolist() == list(range(first, first + 5 * DAY_US, step))
    assert is_expected(stamps, step, "24/7").all() and not is_expected(stamps + 1, step, "24/7").any()
    assert complete_at(stamps, step, "24/7").tolist() == (stamps + step).tolist()


def test_weekdays_are_whole_days_from_monday_to_friday():
    hours = expected_stamps(us("2024-01-05T22:00"), us("2024-01-08T02:00"), FRAME_US["1h"], "weekdays")
    assert text_of(hours) == [
        "2024-01-05T22:00:00", "2024-01-05T23:00:00", "2024-01-08T00:00:00", "2024-01-08T01:00:00",
    ]  # fmt: skip
    days = expected_stamps(us("2024-01-04"), us("2024-01-10"), DAY_US, "weekdays")
    assert [text[:10] for text in text_of(days)] == ["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09"]
    assert known_at(days, "1d", "weekdays").tolist() == (days + DAY_US).tolist()


def test_a_stamp_of_no_year_is_no_session_and_costs_nothing():
    wild = np.array([-(2**62), us("1850-01-01"), us("2500-01-04"), 2**61])
    assert not is_expected(wild, DAY_US, "weekdays").any()
    assert complete_at(wild, DAY_US, "weekdays").tolist() == (wild + DAY_US).tolist()


def test_no_stamps_are_no_stamps():
    empty = np.empty(0, dtype=np.int64)
    for calendar in ("24/7", "weekdays"):
        assert len(expected_before(empty, DAY_US, calendar)) == len(complete_at(empty, DAY_US, calendar)) == 0
        assert len(expected_stamps(5, 5, DAY_US, calendar)) == 0


def test_the_last_bar_of_a_session_belongs_to_a_shorter_coarse_one():
    table = market(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendars, "sessions", lambda calendar, first, last: table)
        ts = np.array(every_stamp(table, MINUTE))
        for frame in ("1h", "4h"):
            stamp, begin, end = periods(ts, FRAME_US[frame], "XTST")
            assert ((begin <= ts) & (ts < end)).all() and (stamp == begin).all()
            assert set(stamp.tolist()) <= set(every_stamp(table, FRAME_US[frame]))
        stamp, begin, end = periods(ts, DAY_US, "XTST")
        assert set(stamp.tolist()) == set(table.day.tolist()) and set(end.tolist()) == set(
            table.close.tolist()
        )


# ---- exchanges ----------------------------------------------------------------------------------


def test_the_sample_of_ibm_is_the_sessions_of_new_york_exactly(exchanges):
    ts = sample("IBM").ts
    wanted = expected_stamps(int(ts[0]), int(ts[-1]) + 1, DAY_US, "XNYS")
    assert len(ts) == len(wanted) == 3270
    assert np.array_equal(ts, wanted)


def test_new_york_closes_early_on_half_days_and_moves_with_the_clock(exchanges):
    days = np.array([us(day) for day in ("2012-07-03", "2012-07-05", "2012-11-23", "2012-11-26")])
    assert text_of(known_at(days, "1d", "XNYS")) == [
        "2012-07-03T17:00:00", "2012-07-05T20:00:00", "2012-11-23T18:00:00", "2012-11-26T21:00:00",
    ]  # fmt: skip
    half = expected_stamps(us("2012-11-23"), us("2012-11-24"), FRAME_US["1h"], "XNYS")
    assert text_of(half)[-1] == "2012-11-23T17:30:00"
    assert text_of(known_at(half, "1h", "XNYS"))[-1] == "2012-11-23T18:00:00"


def test_the_break_of_tokyo_holds_no_minute(exchanges):
    minutes = expected_stamps(us("2020-01-06"), us("2020-01-07"), MINUTE, "XTKS")
    assert len(minutes) == 300
    assert not is_expected(np.array([us("2020-01-06T02:30"), us("2020-01-06T03:29")]), MINUTE, "XTKS").any()


def test_an_exchange_is_asked_for_with_an_explicit_start_and_end(exchanges, monkeypatch):
    asked, real = [], exchanges.get_calendar

    def spy(name, **span):
        asked.append(span)
        return real(name, **span)

    monkeypatch.setattr(exchanges, "get_calendar", spy)
    calendars._between_years.cache_clear()
    old = sessions("XNYS", us("1962-01-02"), us("1962-01-03"))
    assert asked and all({"start", "end"} <= set(span) for span in asked)
    assert text_of(old.day)[0].startswith("1960-01")  # the package's own start is 20 years ago


def test_a_span_that_the_exchange_does_not_know_is_refused(exchanges):
    with pytest.raises(ConfigError, match=r"'XTKS' knows sessions of 199.* to .*Set|calendar: observed"):
        sessions("XTKS", us("1950-01-02"), us("1999-01-04"))


def test_the_zone_is_that_of_the_exchange(exchanges):
    assert [zone_of(name) for name in ("XLON", "weekdays", "observed")] == [
        "Europe/London", "UTC", "America/New_York",
    ]  # fmt: skip


def test_the_edition_names_the_package_that_knows_the_sessions(exchanges):
    version = ".".join(exchanges.__version__.split(".")[:2])
    assert calendars.edition("XNYS") == f"XNYS exchange_calendars {version}"
    assert calendars.edition("24/7") == "24/7"


def test_an_unknown_exchange_names_the_closest(exchanges):
    require_known("XNYS")
    with pytest.raises(ConfigError, match=r"calendar 'XNYZ' is not known\. Closest: .*XNYS"):
        require_known("XNYZ")


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    calendars._between_years.cache_clear()
    for use in (lambda: require_known("XNYS"), lambda: sessions("XNYS", us("2020-01-02"), us("2020-01-03"))):
        with pytest.raises(MissingExtra) as caught:
            use()
        assert str(caught.value) == (
            "calendar 'XNYS' needs exchange_calendars, which is not installed. "
            'Run, in the root of the project: pip install -c constraints.txt -e ".[calendars]"'
        )
    require_known("weekdays")


def test_a_name_that_is_no_calendar_names_the_closest():
    with pytest.raises(ConfigError, match=r"calendar 'weekday' is not known\. Closest: weekdays"):
        expected_before(np.array([0]), DAY_US, "weekday")
