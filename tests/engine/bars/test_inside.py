"""Which finer bars lie inside a bar: from its open to the next bar's, and never beyond its frame."""

import numpy as np
import pytest

from engine.bars.inside import inside
from engine.bars.model import Bars
from engine.bars.synthetic import make_bars

HOUR = 3_600_000_000


def at(hours, frame, calendar="24/7"):
    one = np.ones(len(hours))
    return Bars("TEST", frame, calendar, np.array(hours) * HOUR, one, one, one, one, one, one, 0 * one)


def spans(bars, finer):
    return [list(range(a, b)) for a, b in zip(*inside(bars, finer), strict=True)]


def test_each_finer_bar_belongs_to_the_bar_it_opens_in():
    finer = at([0, 1, 2, 3, 4, 5, 6, 7], "1h")
    assert spans(at([0, 4], "4h"), finer) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_gap_belongs_to_no_bar():
    """Hours 4 to 7 lie behind the end of the first bar, hour 12 behind the last."""
    assert spans(at([0, 8], "4h"), at(range(13), "1h")) == [[0, 1, 2, 3], [8, 9, 10, 11]]


def test_a_bar_ends_where_the_next_one_opens():
    assert spans(at([0, 3], "4h", "observed"), at(range(8), "1h", "observed")) == [[0, 1, 2], [3, 4, 5, 6]]


def test_bars_without_finer_ones_hold_none():
    assert spans(at([0, 4, 8], "4h"), at([5], "1h")) == [[], [0], []]
    assert spans(at([0], "4h"), at([], "1h")) == [[]]
    assert spans(at([], "4h"), at([1], "1h")) == []


def test_a_session_s_hours_lie_in_its_day():
    hours = make_bars(1, 300, "1h")
    days = np.unique(hours.ts // (24 * HOUR)) * 24
    starts, stops = inside(at(days, "1d"), hours)
    assert (stops[:-1] == starts[1:]).all() and starts[0] == 0 and stops[-1] == 300


def test_a_session_that_opens_the_evening_before_holds_those_hours():
    """Monday's session of CMES opens on Sunday at 23:00 UTC in winter; its daily bar bears Monday's date."""
    pytest.importorskip("exchange_calendars")
    monday = int(np.datetime64("2024-01-08", "h").astype(int))
    hours = at([monday - 1, monday, monday + 5, monday + 23], "1h", "CMES")
    assert spans(at([monday, monday + 24], "1d", "CMES"), hours) == [[0, 1, 2], [3]]
