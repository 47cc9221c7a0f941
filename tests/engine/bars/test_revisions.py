from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.model import COLUMNS, iso
from engine.bars.revisions import merge, needs_whole_history, revised
from engine.bars.synthetic import make_bars
from engine.errors import DataError

FULL = make_bars(5, 300, dividends=True)


def equal(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *COLUMNS))


def with_value(bars, name, i, value):
    column = getattr(bars, name).copy()
    column[i] = value
    return replace(bars, **{name: column})


def without(bars, i):
    return replace(bars, **{name: np.delete(getattr(bars, name), i) for name in ("ts", *COLUMNS)})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(20, 300), min_size=1, max_size=6))
def test_increments_with_overlap_equal_one_full_load(cuts):
    stored = FULL.slice(0, 15)
    for cut in sorted(cuts):
        at = int(np.searchsorted(FULL.ts, stored.ts[-1])) - 10
        stored = merge(stored, FULL.slice(at, cut))
    assert equal(stored, FULL.slice(0, max(cuts)))


def test_the_same_bars_again_change_nothing():
    assert equal(merge(FULL, FULL), FULL)
    assert revised(FULL, merge(FULL, FULL.slice(250, None))) == []


def test_a_vendor_that_goes_further_back_adds_older_bars():
    assert equal(merge(FULL.slice(100, 200), FULL), FULL)


def test_only_volume_differs_is_accepted_and_counted():
    fetched = with_value(FULL.slice(90, 120), "volume", 3, 7.0)
    stored = FULL.slice(0, 100)
    merged = merge(stored, fetched)
    assert merged.volume[93] == 7.0 and len(merged) == 120
    assert revised(stored, merged) == [
        f"volume revised by the vendor: TEST, 1 bars, first {iso(int(FULL.ts[93]))}"
    ]


def test_a_dividend_reported_late_is_accepted_and_counted():
    stored, fetched = FULL.slice(0, 100), with_value(FULL.slice(90, 120), "dividend", 4, 0.3)
    assert revised(stored, merge(stored, fetched))[0].startswith(
        "dividend revised by the vendor: TEST, 1 bars"
    )


def test_noise_below_half_a_tick_keeps_the_stored_price():
    fetched = with_value(FULL.slice(90, 120), "close", 2, FULL.close[92] + 1e-4)
    assert merge(FULL.slice(0, 100), fetched, tick=0.01).close[92] == FULL.close[92]
    with pytest.raises(DataError, match="E13"):
        merge(FULL.slice(0, 100), fetched)


def test_more_than_half_a_tick_is_a_revision():
    stored = FULL.slice(0, 100)
    merge(stored, with_value(FULL.slice(90, 120), "close", 2, FULL.close[92] + 0.0049), tick=0.01)
    with pytest.raises(DataError, match="E13"):
        merge(stored, with_value(FULL.slice(90, 120), "close", 2, FULL.close[92] + 0.0051), tick=0.01)


def test_the_dividend_of_the_overlaps_first_bar_stays_as_stored():
    paid = int(np.flatnonzero(FULL.dividend)[0])
    fetched = with_value(FULL.slice(paid, 120), "dividend", 0, 0.0)  # its ex-date may lie before the reply
    assert equal(merge(FULL.slice(0, 100), fetched), FULL.slice(0, 120))


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "adj"])
def test_a_changed_old_bar_is_refused_with_both_values(name):
    fetched = with_value(FULL.slice(90, 120), name, 4, getattr(FULL, name)[94] * 1.01)
    with pytest.raises(DataError) as caught:
        merge(FULL.slice(0, 100), fetched, tick=0.01)
    text = str(caught.value)
    stamp = iso(int(FULL.ts[94]))
    assert text.startswith(f"E13 stored history differs from the vendor's: TEST 1d, 1 bar, first {stamp}\n")
    assert f"close {FULL.close[94]:.10g}; vendor open" in text
    assert text.endswith("To take over the vendor's: nightfold check TEST --accept-revision")
    assert caught.value.rule == "E13" and caught.value.rows == (stamp,)


def test_a_rebased_history_is_named_as_such():
    half = {name: getattr(FULL, name)[85:] / 2 for name in ("open", "high", "low", "close")}
    with pytest.raises(DataError) as caught:
        merge(FULL.slice(0, 100), replace(FULL.slice(85, None), **half))
    assert "(all bars by the factor 0.5: a split or a change of unit)" in str(caught.value)
    assert "15 bars, first " in str(caught.value) and len(caught.value.rows) == 3


def test_a_bar_missing_at_the_vendor_is_refused():
    with pytest.raises(DataError) as caught:
        merge(FULL.slice(0, 100), without(FULL.slice(90, 120), 5))
    assert caught.value.rows == (iso(int(FULL.ts[95])),)
    assert f"found no bar at the vendor; expected the stored one, close {FULL.close[95]:.10g}" in str(
        caught.value
    )


def test_a_bar_that_is_new_inside_the_overlap_is_refused():
    with pytest.raises(DataError) as caught:
        merge(without(FULL.slice(0, 100), 95), FULL.slice(90, 120))
    assert "found a bar at the vendor" in str(caught.value) and caught.value.rows == (iso(int(FULL.ts[95])),)


def test_a_vendor_that_ends_before_the_stored_bars_is_refused():
    with pytest.raises(DataError, match=r"3 bars, first .*\n  found no bar at the vendor"):
        merge(FULL.slice(0, 100), FULL.slice(90, 97))


def test_no_common_bar_is_refused():
    with pytest.raises(DataError, match="found no common bar: stored bars end .* the vendor's begin"):
        merge(FULL.slice(0, 100), FULL.slice(100, 120))


def split_adjusted(bars, ratio):
    """The same raw bars on the basis of shares after a later split."""
    columns = {name: getattr(bars, name) / ratio for name in ("open", "high", "low", "close", "dividend")}
    return replace(bars, **columns, volume=bars.volume * ratio, adj=bars.adj * ratio)


def test_a_new_split_asks_for_the_whole_history_and_gives_it_a_new_basis():
    stored, whole = FULL.slice(0, 100), split_adjusted(FULL.slice(0, 120), 3.0)
    assert needs_whole_history(stored, whole.slice(90, 120))
    assert not needs_whole_history(stored, FULL.slice(90, 120))
    assert equal(merge(stored, whole), whole)
    with pytest.raises(DataError, match="stored split factor 1; now 3, on a part of the history"):
        merge(stored, whole.slice(90, 120))


def test_a_new_split_does_not_hide_a_revised_price():
    whole = split_adjusted(with_value(FULL.slice(0, 120), "close", 95, FULL.close[95] + 1.0), 2.0)
    for judge in (merge, needs_whole_history):
        with pytest.raises(DataError, match="E13 .* 1 bar, first .*\n  stored open"):
            judge(FULL.slice(0, 100), whole)
