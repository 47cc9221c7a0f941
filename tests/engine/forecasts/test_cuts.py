from datetime import date, timedelta

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.forecasts.cuts import cut_positions, refit_groups, refit_rule, window_starts

DAY_US = 86_400_000_000


def test_daily_session_bars_are_grouped_by_weekdays_since_1970():
    ts = np.arange(-1200, 3000, dtype=np.int64) * DAY_US  # every day, weekends too
    expected, number = {}, 0
    for day in range(0, 3000):
        expected[day] = number // 63
        number += (date(1970, 1, 1) + timedelta(days=day)).weekday() < 5
    number = 0
    for day in range(-1, -1201, -1):
        number -= (date(1970, 1, 1) + timedelta(days=day)).weekday() < 5
        expected[day] = number // 63
    groups = refit_groups(ts, "1d", "observed")
    assert groups.tolist() == [expected[int(t) // DAY_US] for t in ts]


@pytest.mark.parametrize(
    ("frame", "calendar", "length_us"),
    [("1d", "24/7", DAY_US), ("1h", "24/7", 3_600_000_000), ("1h", "observed", 3_600_000_000)],
)
def test_other_bars_are_grouped_by_their_slot(frame, calendar, length_us):
    ts = np.arange(200, dtype=np.int64) * length_us
    assert refit_rule(frame, calendar) == "slot//63"
    assert refit_groups(ts, frame, calendar).tolist() == [i // 63 for i in range(200)]


@pytest.mark.parametrize(("frame", "calendar"), [("1d", "observed"), ("1d", "24/7"), ("1h", "24/7")])
def test_neither_missing_bars_nor_more_history_move_a_cut(frame, calendar):
    bars = make_bars(5, 900, frame, calendar=calendar)
    groups = refit_groups(bars.ts, frame, calendar)
    cuts = set(bars.ts[cut_positions(groups)].tolist())
    for first in (1, 100, 421):
        later = bars.ts[first:]
        shorter = later[cut_positions(refit_groups(later, frame, calendar))]
        inside = (
            refit_groups(later, frame, calendar) != groups[first]
        )  # the group it begins in may be cut off
        assert set(shorter[inside].tolist()) <= cuts


def test_a_window_starts_a_lookback_before_its_cut():
    ts = np.arange(300, dtype=np.int64) * DAY_US
    starts = window_starts(ts, "1d", "24/7", 100)
    assert starts.tolist() == [max(0, i // 63 * 63 - 100) for i in range(300)]


def test_no_bars_have_no_cuts():
    assert window_starts(np.zeros(0, dtype=np.int64), "1d", "observed", 100).tolist() == []
