import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.checks import Context, RawBars, check
from engine.bars.synthetic import EDITS, make_bars, spoil, to_csv
from engine.errors import ConfigError

MAKES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "n": st.integers(1, 400),
        "frame": st.sampled_from(["1d", "1h", "5m", "4h"]),
        "calendar": st.sampled_from(["observed", "24/7"]),
        "volatility": st.sampled_from([0.0, 0.001, 0.02, 0.2, 1.0]),
        "drift": st.sampled_from([-0.05, 0.0, 0.01]),
        "tick": st.sampled_from([0.0, 0.01, 0.25, 1.0]),
        "dividends": st.booleans(),
    }
)


def raw_of(bars):
    columns = {name: getattr(bars, name) for name in ("ts", "open", "high", "low", "close", "volume")}
    return RawBars("made", "row", **columns, line=np.arange(1, len(bars) + 1))


@settings(max_examples=200, deadline=None)
@given(MAKES)
def test_makes_only_bars_that_pass_every_error_rule(options):
    bars = make_bars(**options)
    assert len(bars) == options["n"]
    found = check(raw_of(bars), Context("TEST", bars.frame, bars.calendar))
    assert [finding.rule for finding in found if finding.rule != "W01"] == []
    assert np.all(bars.dividend[1:] < bars.close[:-1]) and bars.dividend[0] == 0.0
    if len(bars) > 1:
        assert np.abs(np.log(bars.open[1:] / bars.close[:-1])).max() < np.log(1.4)
    if options["tick"] > 0:
        for column in (bars.open, bars.high, bars.low, bars.close):
            ticks = column / options["tick"]
            assert np.abs(ticks - np.rint(ticks)).max() < 1e-6


def test_a_longer_series_begins_with_the_shorter_one():
    long, short = make_bars(3, 700, dividends=True), make_bars(3, 200, dividends=True)
    for name in ("ts", "open", "high", "low", "close", "volume", "dividend"):
        np.testing.assert_array_equal(getattr(long, name)[:200], getattr(short, name))
    assert not np.array_equal(long.close, make_bars(4, 700).close)


def test_holds_the_odd_bars_that_real_series_have():
    bars = make_bars(0, 3000)
    assert (bars.volume == 0).sum() > 3
    assert (bars.high == bars.low).sum() > 10
    days = np.diff(bars.ts) // 86_400_000_000
    assert set(days.tolist()) >= {1, 2, 3, 4}
    weekdays = bars.ts.astype("datetime64[us]").astype("datetime64[D]").astype(int) % 7
    assert not set(weekdays.tolist()) & {2, 3}  # 1970-01-01 was a Thursday: 2 and 3 are the weekend


def test_intraday_bars_of_a_session_market_lie_inside_the_session():
    minute = make_bars(1, 2000, "5m").ts // 60_000_000 % 1440
    assert minute.min() == 870 and minute.max() == 870 + 385


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frame": "2d"}, "frame '2d' is not known. Closest: 1d."),
        ({"calendar": "24-7"}, "calendar '24-7' is not known. Closest: 24/7."),
        ({"n": 0}, "make_bars: n was 0, price 100.0"),
        ({"price": 0.5}, "expected n >= 1, price > 0 and >= 100 ticks"),
    ],
)
def test_refuses_what_it_cannot_make(change, text):
    with pytest.raises(ConfigError) as caught:
        make_bars(**({"seed": 0, "n": 5} | change))
    assert text in str(caught.value)


def test_spoil_changes_something_for_every_rule_and_names_unknown_ones():
    text = to_csv(make_bars(0, 50))
    assert all(spoil(text, rule) != text for rule in EDITS)
    with pytest.raises(ConfigError, match=r"spoil: rule 'E99' is not known\."):
        spoil(text, "E99")
