"""Coarser bars: each against a loop over its base bars, and what becomes of those that lack one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import every_stamp, gapless, market, stamps_of_session

from engine.bars import calendars
from engine.bars.calendars import DAY_US
from engine.bars.model import COLUMNS, FRAME_US, PRICE_COLUMNS, known_at
from engine.bars.resample import resample
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, DataError

PAIRS = [("1m", "5m"), ("5m", "1h"), ("15m", "30m"), ("30m", "1d"), ("1h", "4h"), ("1h", "1d"), ("4h", "1d")]


def lookup(ts, frame, base, table):
    """Return for each base stamp (coarse stamp, expected base stamps of that bar), counted out."""
    step, base_us, found = FRAME_US[frame], FRAME_US[base], {}
    if table is None:  # 24/7
        for one in ts:
            start = one // step * step
            found[one] = (start, list(range(start, start + step, base_us)))
        return found
    for s in range(len(table.day)):
        inside = stamps_of_session(table, s, base_us)
        for one in inside:
            start = int(table.open[s]) + (one - int(table.open[s])) // step * step
            same = inside if frame == "1d" else [other for other in inside if start <= other < start + step]
            found[one] = (int(table.day[s]) if frame == "1d" else start, same)
    return found


def slow(bars, frame, table):
    """Return coarse rows and the stamps left out, one base bar after the other."""
    groups, of = {}, lookup(bars.ts.tolist(), frame, bars.frame, table)
    for i, ts in enumerate(bars.ts.tolist()):
        stamp, wanted = of[ts]
        groups.setdefault(stamp, (wanted, []))[1].append(i)
    rows, left_out, owed = [], [], 0.0
    for number, (stamp, (wanted, found)) in enumerate(groups.items()):
        dividend = owed
        for i in found:
            dividend += bars.dividend[i]
        if [int(bars.ts[i]) for i in found] != wanted:
            if number < len(groups) - 1 or wanted[-1] <= bars.ts[-1]:
                left_out.append(stamp)
            owed = dividend if rows else 0.0
            continue
        owed = 0.0
        rows.append(
            (
                stamp,
                bars.open[found[0]],
                max(bars.high[found]),
                min(bars.low[found]),
                bars.close[found[-1]],
                sum(bars.volume[found]),
                bars.adj[found[-1]],
                dividend,
            )  # fmt: skip
        )
    return rows, left_out


def equal(made, rows):
    for number, name in enumerate(("ts", *COLUMNS)):
        wanted = [row[number] for row in rows]
        if name == "dividend":
            assert np.allclose(made.dividend, wanted, rtol=1e-12, atol=0), name
        else:  # volumes are whole numbers, so that their sums are exact
            assert getattr(made, name).tolist() == wanted, name


def with_holes(bars, keep):
    return replace(bars, **{name: getattr(bars, name)[keep] for name in ("ts", *COLUMNS)})


def paid(bars, at):
    dividend = np.zeros(len(bars))
    dividend[at] = 0.25
    return replace(bars, dividend=dividend)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PAIRS), st.integers(0, 1000), st.integers(1, 400), st.floats(0, 0.05), st.integers(0, 300)
)
def test_around_the_clock_equals_the_slow_twin(pair, seed, n, holes, late):
    base, frame = pair
    bars = gapless(seed, n + late, base).slice(late, None)
    rng = np.random.default_rng(seed)
    bars = paid(bars, rng.random(n) < 0.05)
    bars = with_holes(bars, rng.random(n) >= holes)
    if len(bars) == 0:
        return
    made, (rows, left_out) = resample(bars, frame), slow(bars, frame, None)
    equal(made.bars, rows)
    assert made.left_out.tolist() == left_out
    assert (made.bars.frame, made.bars.calendar, made.bars.symbol) == (frame, "24/7", "TEST")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PAIRS), st.integers(0, 10_000), st.floats(0, 0.03), st.integers(0, 20))
def test_in_sessions_equals_the_slow_twin(pair, seed, holes, late):
    base, frame = pair
    table, rng = market(seed, days=3), np.random.default_rng(seed)
    ts = np.array(every_stamp(table, FRAME_US[base]))[late:]
    ts = ts[rng.random(len(ts)) >= holes]
    if len(ts) == 0:
        return
    bars = replace(make_bars(seed, len(ts), base, calendar="24/7"), ts=ts, calendar="XTST")
    bars = paid(bars, rng.random(len(ts)) < 0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendars, "sessions", lambda calendar, first, last: table)
        made, (rows, left_out) = resample(bars, frame), slow(bars, frame, table)
    equal(made.bars, rows)
    assert made.left_out.tolist() == left_out


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PAIRS), st.integers(0, 100), st.integers(1, 300))
def test_later_base_bars_change_no_bar_before_them(pair, seed, cut):
    base, frame = pair
    bars = gapless(seed, 300, base, "weekdays")
    bars = with_holes(bars, np.random.default_rng(seed).random(300) >= 0.01)
    cut = min(cut, len(bars))
    whole, part = resample(bars, frame).bars, resample(bars.slice(None, cut), frame).bars
    for name in ("ts", *COLUMNS):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[: len(part)]), name
    # every bar that was complete when the last base bar was known is there, no other
    known = known_at(bars.ts[cut - 1 : cut], base, "weekdays")[0]
    assert len(part) == int((known_at(whole.ts, frame, "weekdays") <= known).sum())


def test_a_bar_is_no_bar_until_its_last_base_bar_is_there():
    bars = gapless(1, 48, "1h")
    assert [len(resample(bars.slice(None, n), "1d").bars) for n in (1, 23, 24, 25, 47, 48)] == [
        0,
        0,
        1,
        1,
        1,
        2,
    ]
    assert all(len(resample(bars.slice(None, n), "1d").left_out) == 0 for n in range(1, 49))


def test_a_bar_that_lacks_a_base_bar_is_left_out_and_counted_in_words():
    bars = gapless(1, 96, "1h")
    made = resample(with_holes(bars, np.arange(96) != 30), "1d")
    assert made.bars.ts.tolist() == [bars.ts[0], bars.ts[48], bars.ts[72]]
    assert made.said("1h") == ["1 1d bar left out, first 2024-01-02: some of the 1h bars inside are missing"]
    assert resample(bars, "1d").said("1h") == []


def test_a_missing_last_base_bar_shows_once_a_later_one_is_there():
    bars = with_holes(gapless(1, 30, "1h"), np.arange(30) != 23)
    assert len(resample(bars.slice(None, 23), "1d").left_out) == 0  # it may come yet
    assert len(resample(bars.slice(None, 24), "1d").left_out) == 1


def test_a_dividend_on_a_bar_left_out_is_paid_on_the_next():
    bars = paid(gapless(1, 96, "1h"), [24, 72])
    made = resample(with_holes(bars, np.arange(96) != 30), "1d").bars
    assert made.dividend.tolist() == [0.0, 0.25, 0.25]


def test_a_split_inside_a_bar_leaves_one_basis():
    bars = gapless(1, 24, "1h")
    adj = np.where(
        np.arange(24) < 12, 2.0, 1.0
    )  # prices are split-adjusted: only the way back to raw differs
    made = resample(replace(bars, adj=adj), "1d").bars
    assert made.adj.tolist() == [1.0]
    assert (made.open[0], made.close[0]) == (bars.open[0], bars.close[-1])
    assert (made.high[0], made.low[0], made.volume[0]) == (bars.high.max(), bars.low.min(), bars.volume.sum())


def test_made_bars_pass_the_rules_of_bars():
    made = resample(gapless(5, 24 * 40, "1h"), "1d").bars
    assert len(made) == 40
    prices = np.stack([getattr(made, name) for name in PRICE_COLUMNS])
    assert (made.high == prices.max(axis=0)).all() and (made.low == prices.min(axis=0)).all()
    assert (made.ts % DAY_US == 0).all()


@pytest.mark.parametrize("frame", ["1h", "30m", "1m"])
def test_coarse_bars_never_become_finer(frame):
    with pytest.raises(ConfigError, match=rf"TEST has 1h bars, from which {frame} bars cannot be made"):
        resample(gapless(1, 10, "1h"), frame)


def test_a_frame_that_is_none_names_the_closest():
    with pytest.raises(ConfigError, match=r"frame '1day' is not known\. Closest: 1d"):
        resample(gapless(1, 10, "1h"), "1day")


def test_an_observed_market_does_not_say_what_belongs_together():
    with pytest.raises(ConfigError, match=r"calendar 'observed', which does not say which 1h bars belong"):
        resample(make_bars(1, 50, "1h"), "1d")


def test_a_base_bar_outside_all_sessions_is_refused():
    bars = replace(gapless(1, 30, "1h", start="2024-01-05"), calendar="weekdays")  # into a Saturday
    with pytest.raises(DataError, match=r"E09 6 1h bars of TEST lie outside .* weekdays, first 2024-01-06"):
        resample(bars, "1d")


def test_a_half_day_of_new_york_is_whole_when_it_closes_early():
    pytest.importorskip("exchange_calendars")
    bars = gapless(1, 120, "30m", "XNYS", start="2012-11-20")
    made = resample(bars, "1d").bars
    per_day = [int(((bars.ts >= ts) & (bars.ts < ts + DAY_US)).sum()) for ts in made.ts]
    assert [str(day)[:10] for day in made.ts.astype("datetime64[us]")][:4] == [
        "2012-11-20", "2012-11-21", "2012-11-23", "2012-11-26",
    ]  # fmt: skip
    assert per_day[:4] == [13, 13, 7, 13]
    assert made.open[2] == bars.open[26] and made.close[2] == bars.close[32]
