import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.checks import RawBars
from engine.bars.splits import Event, adjust, at_session_open, factors
from engine.errors import DataError

DAY = 86_400_000_000


def raw(closes, days=None, volume=100.0):
    close = np.asarray(closes, dtype=float)
    ts = np.asarray(days if days is not None else np.arange(len(close)), dtype=np.int64) * DAY
    volumes, line = np.full(len(close), volume), np.arange(2, 2 + len(close))
    return RawBars("A.csv", "line", ts, close, close + 1, close - 1, close, volumes, line)


def event(day, kind, value):
    return Event(day * DAY, kind, value, f"events.csv line {day}")


def test_a_split_halves_the_prices_before_it_and_doubles_their_volume():
    bars = adjust(raw([100.0, 102.0, 51.0, 52.0]), [event(2, "split", 2.0)], "AAA", "1d", "observed")
    assert bars.close.tolist() == [50.0, 51.0, 51.0, 52.0]
    assert bars.high.tolist() == [50.5, 51.5, 52.0, 53.0]
    assert bars.volume.tolist() == [200.0, 200.0, 100.0, 100.0]
    assert bars.adj.tolist() == [2.0, 2.0, 1.0, 1.0]
    assert bars.dividend.tolist() == [0.0] * 4


def test_splits_multiply_and_a_reverse_split_raises_prices():
    bars = adjust(
        raw([8.0, 4.0, 40.0]), [event(1, "split", 2.0), event(2, "split", 0.1)], "AAA", "1d", "observed"
    )
    np.testing.assert_allclose(bars.adj, [0.2, 0.1, 1.0])
    np.testing.assert_allclose(bars.close, [40.0, 40.0, 40.0])


def test_a_split_after_the_last_bar_counts_so_that_later_bars_change_nothing():
    events = [event(5, "split", 4.0)]
    short, long = raw([8.0, 8.0]), raw([8.0, 8.0, 2.0], days=[0, 1, 5])
    np.testing.assert_array_equal(
        adjust(short, events, "A", "1d", "observed").close,
        adjust(long, events, "A", "1d", "observed").close[:2],
    )


def test_dividends_are_paid_per_adjusted_unit_on_the_first_bar_on_or_after_the_ex_date():
    events = [event(2, "dividend", 2.0), event(4, "split", 2.0)]
    events += [event(5, "dividend", 0.5), event(6, "dividend", 0.25)]
    bars = adjust(raw([100.0, 98.0, 49.0, 48.0], days=[0, 3, 4, 7]), events, "AAA", "1d", "observed")
    assert bars.dividend.tolist() == [0.0, 1.0, 0.0, 0.75]


def test_a_dividend_on_or_before_the_first_bar_or_after_the_last_is_not_paid():
    events = [event(0, "dividend", 1.0), event(1, "dividend", 1.0), event(9, "dividend", 1.0)]
    assert adjust(raw([10.0, 10.0], days=[1, 2]), events, "A", "1d", "observed").dividend.sum() == 0.0


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (event(1, "split", 0.0), "out of range: AAA 1d, 1 row, first 1970-01-02 (events.csv line 1)\n"),
        (event(1, "split", 0.0), "found 0; expected more than 0"),
        (event(1, "split", float("inf")), "found inf; expected more than 0"),
        (event(1, "dividend", -0.5), "value of a dividend is out of range"),
        (event(1, "dividend", 10.0), "found 10; expected less than the close before it, 10"),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_with_their_line(bad, text):
    with pytest.raises(DataError) as caught:
        adjust(raw([10.0, 9.0]), [bad], "AAA", "1d", "observed")
    assert text in str(caught.value) and caught.value.rule == "E02"
    assert str(caught.value).endswith("correct events.csv line 1, then: nightfold check AAA")


def test_a_dividend_on_the_day_of_a_split_is_compared_in_the_new_shares():
    events = [event(1, "split", 10.0), event(1, "dividend", 12.0)]
    with pytest.raises(DataError, match="found 12; expected less than the close before it, 10"):
        adjust(raw([100.0, 10.0]), events, "AAA", "1d", "observed")


def slow_adjust(closes, days, events):
    prices, paid = [], [0.0] * len(closes)
    factor = []
    for day, close in zip(days, closes, strict=True):
        f = 1.0
        for e in sorted(events, key=lambda e: -e.ts):
            if e.kind == "split" and e.ts > day * DAY:
                f *= e.value
        factor.append(f)
        prices.append(close / f)
    for e in events:
        after = [t for t, day in enumerate(days) if day * DAY >= e.ts]
        if e.kind == "dividend" and after and after[0] > 0:
            paid[after[0]] += e.value / factor[after[0]]
    return prices, paid


KIND = st.sampled_from(["split", "dividend"])
EVENTS = st.lists(st.tuples(st.integers(0, 40), KIND, st.sampled_from([0.5, 2.0, 3.0])), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=15, unique=True), EVENTS)
def test_equals_the_slow_twin(days, table):
    days = sorted(days)
    closes = [1e6 + day for day in days]  # so high that no dividend is refused
    events = [event(*row) for row in table]
    bars = adjust(raw(closes, days), events, "AAA", "1d", "observed")
    prices, paid = slow_adjust(closes, days, events)
    assert bars.close.tolist() == prices
    np.testing.assert_allclose(bars.dividend, paid, rtol=1e-15)
    np.testing.assert_array_equal(bars.adj, factors(bars.ts, events))


def test_a_split_takes_effect_where_its_session_opens_also_the_evening_before():
    """In December the session of Sydney opens at 23:00 UTC of the day before its date."""
    pytest.importorskip("exchange_calendars")
    date = int(np.datetime64("2023-12-05", "us").astype(np.int64))
    split, move = Event(date, "split", 2.0, ""), Event(date, "verified_move", 0.0, "")
    block = Event(date, "scale", 100.0, "", date)
    opens, same, scaled = at_session_open([split, move, block], "1h", "XASX")
    assert (opens.ts, same.ts, scaled.ts) == (date - DAY // 24, date, date - DAY // 24)
    assert scaled.until + DAY == date + DAY - DAY // 24  # the next session's open
    for frame, calendar in (("1d", "XASX"), ("1h", "24/7"), ("1h", "observed")):
        assert at_session_open([split], frame, calendar) == [split]
