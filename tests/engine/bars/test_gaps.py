from dataclasses import replace

import numpy as np
import pytest
from markets import gapless

from engine.bars.findings import Context
from engine.bars.gaps import gaps, missing_between, said
from engine.bars.model import COLUMNS, FRAME_US
from engine.bars.series import check_series
from engine.bars.synthetic import make_bars
from engine.sources import sample

HOUR = FRAME_US["1h"]


def without(bars, *rows):
    return replace(bars, **{name: np.delete(getattr(bars, name), rows) for name in ("ts", *COLUMNS)})


def test_the_missing_bars_and_the_longest_gap_are_counted():
    bars = without(gapless(1, 100, "1h"), 5, 20, 21, 22, 60)
    found = gaps(bars)
    assert (found.missing, found.longest, found.after, found.unit) == (5, 3, int(bars.ts[18]), "bars")
    assert found.first == int(bars.ts[4])
    assert said(bars) == (
        "5 of 100 expected bars missing, first after 2024-01-01T04:00:00, longest gap 3 bars after "
        "2024-01-01T19:00:00"
    )
    alone = without(gapless(1, 100, "1h"), 20)  # the first is the longest
    assert said(alone) == "1 of 100 expected bars missing, longest gap 1 bars after 2024-01-01T19:00:00"
    assert said(gapless(1, 100, "1h")) == "no bar missing"
    assert said(gapless(1, 1, "1h")) == "no bar missing"


def test_a_weekend_is_no_gap_where_weekdays_trade():
    bars = gapless(1, 30, "1h", "weekdays", start="2024-01-05")
    assert said(bars) == "no bar missing"
    assert gaps(replace(bars, calendar="24/7")).missing == 48


def test_an_observed_market_counts_weekdays_and_says_that_holidays_are_among_them():
    text = said(sample("IBM"))
    assert text == "123 weekdays without a bar, holidays among them, longest gap 4 weekdays after 2001-09-10"


def test_new_york_misses_no_session_of_the_sample():
    pytest.importorskip("exchange_calendars")
    ibm = replace(sample("IBM"), calendar="XNYS")
    assert said(ibm) == "no bar missing"
    assert said(without(ibm, 7, 8)) == "2 of 3270 expected bars missing, longest gap 2 bars after 2000-03-09"


def test_missing_between_counts_what_the_calendar_expects():
    friday, monday = np.array([1_704_412_800_000_000]), np.array([1_704_672_000_000_000])
    assert missing_between(friday, monday, "1d", "24/7").tolist() == [2]
    for calendar in ("weekdays", "observed"):
        assert missing_between(friday, monday, "1d", calendar).tolist() == [0]
    assert missing_between(friday, monday, "4h", "weekdays").tolist() == [5]


@pytest.mark.parametrize(("cut", "fires"), [(10, False), (11, True)])
def test_e11_counts_bars_that_the_calendar_expects(cut, fires):
    bars = without(gapless(1, 200, "1h", "weekdays", start="2024-01-05"), *range(20, 20 + cut))
    rules = {f.rule: f for f in check_series(bars, Context("TEST", "1h", "weekdays"), [])}
    assert ("E11" in rules) is fires
    if fires:
        assert (
            "found 11 bars missing between 2024-01-05T19:00:00 and 2024-01-08T07:00:00" in rules["E11"].detail
        )


@pytest.mark.parametrize(("late", "fires"), [(2, False), (3, True)])
def test_w03_counts_bars_that_are_complete_by_the_calendar(late, fires):
    bars = gapless(1, 24, "1h", "weekdays", start="2024-01-05")  # to the end of a Friday
    asof = int(bars.ts[-1]) + HOUR + 48 * HOUR + late * HOUR  # a weekend, and some bars of Monday
    context = Context("TEST", "1h", "weekdays", asof=asof, fresh=True)
    titles = [f.title for f in check_series(bars, context, []) if f.rule == "W03"]
    assert titles == ([f"last bar is {late} bars older than expected"] if fires else [])


def test_e09_names_a_daily_bar_that_is_no_session():
    from engine.bars.checks import RawBars, check

    made = make_bars(1, 30)
    ts = made.ts.copy()
    ts[9] += FRAME_US["1d"] * (5 - (ts[9] // FRAME_US["1d"] + 3) % 7)  # to the next Saturday
    order = np.sort(ts)
    columns = {name: getattr(made, name) for name in ("open", "high", "low", "close", "volume")}
    raw = RawBars("TEST.csv", "line", order, **columns, line=np.arange(30))
    found = {f.rule: f for f in check(raw, Context("TEST", "1d", "weekdays"))}
    assert found["E09"].count == 1
    assert found["E09"].detail.endswith("expected a session of calendar weekdays")
    assert "E09" not in {f.rule for f in check(raw, Context("TEST", "1d", "observed"))}
