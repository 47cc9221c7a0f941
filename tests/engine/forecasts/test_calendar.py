import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.forecasts.calendar import future_stamps, local_wall_clock, stamp_rule, wall_clock


def us(*texts):
    return np.array(texts, dtype="datetime64[us]").astype(np.int64)


def texts(ts, unit="m"):
    return np.datetime_as_string(np.asarray(ts).astype("datetime64[us]"), unit=unit).tolist()


@pytest.mark.parametrize(
    ("frame", "calendar", "stamps", "expected"),
    [
        ("1d", "observed", ["2024-01-04"], ["2024-01-05", "2024-01-08", "2024-01-09"]),
        ("1d", "observed", ["2024-01-06"], ["2024-01-08", "2024-01-09", "2024-01-10"]),
        ("1d", "24/7", ["2024-01-05"], ["2024-01-06", "2024-01-07", "2024-01-08"]),
        ("4h", "24/7", ["2024-01-05T20:00"], ["2024-01-06T00:00", "2024-01-06T04:00", "2024-01-06T08:00"]),
        ("1d", "weekdays", ["2024-01-05"], ["2024-01-08", "2024-01-09", "2024-01-10"]),
        (
            "4h",
            "weekdays",
            ["2024-01-05T20:00"],
            ["2024-01-08T00:00", "2024-01-08T04:00", "2024-01-08T08:00"],
        ),
    ],
)
def test_the_bars_to_come(frame, calendar, stamps, expected):
    found = future_stamps(us(*stamps), frame, calendar, 3)
    assert found.tolist() == us(*expected).tolist()


def test_the_bars_to_come_of_an_exchange_know_its_holidays_half_days_and_clock():
    pytest.importorskip("exchange_calendars")
    days = future_stamps(us("2024-11-27"), "1d", "XNYS", 3)  # Thanksgiving is the 28th
    assert texts(days, "D") == ["2024-11-29", "2024-12-02", "2024-12-03"]
    hours = future_stamps(us("2024-11-29T16:30"), "1h", "XNYS", 3)  # closes at 18:00 UTC
    assert texts(hours) == ["2024-11-29T17:30", "2024-12-02T14:30", "2024-12-02T15:30"]
    assert len(future_stamps(us("2024-11-27"), "1d", "XNYS", 40)) == 40
    assert stamp_rule("1h", "XLON") == "close Europe/London"


def session(day, hours):
    return [f"{day}T{hour}" for hour in hours]


def test_the_hours_of_a_session_are_read_off_the_window_and_follow_the_clock_of_new_york():
    winter = ["14:30", "15:30", "16:30"]  # 9:30, 10:30, 11:30 in New York
    window = us(*session("2024-03-07", winter), *session("2024-03-08", winter[:2]))
    found = future_stamps(window, "1h", "observed", 3)
    # summer time began on Sunday the 10th
    assert texts(found) == ["2024-03-08T16:30", "2024-03-11T13:30", "2024-03-11T14:30"]


def test_the_bars_to_come_depend_on_no_later_bar():
    bars = make_bars(1, 300, "1h")
    for t in (50, 133, 250):
        there = future_stamps(bars.ts[: t + 1], "1h", "observed", 4)
        assert (there > bars.ts[t]).all() and (np.diff(there) > 0).all()


def test_the_wall_clock_of_each_rule():
    noon = us("2024-07-01T16:00")
    assert texts(wall_clock(noon, "1h", "close America/New_York")) == ["2024-07-01T13:00"]
    assert texts(wall_clock(noon, "1h", "open UTC")) == ["2024-07-01T16:00"]
    assert texts(wall_clock(us("2024-07-01"), "1d", "date")) == ["2024-07-01T00:00"]


def test_many_stamps_are_turned_as_each_alone():
    ts = us("2023-12-31T23:59", "2024-03-10T06:59", "2024-03-10T07:00", "2024-11-03T05:59").reshape(2, 2)
    together = local_wall_clock(ts, "America/New_York")
    assert texts(together.ravel()) == [
        "2023-12-31T18:59", "2024-03-10T01:59", "2024-03-10T03:00", "2024-11-03T01:59",
    ]  # fmt: skip
