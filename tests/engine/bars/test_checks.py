import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.checks import Context, RawBars, check, clean, refuse, too_few
from engine.bars.model import known_at
from engine.errors import DataError

DAY = 86_400_000_000
NUMBERS = ("open", "high", "low", "close", "volume")


def raw(rows, *, origin="A.csv"):
    """Rows of (day number, open, high, low, close, volume); the first stands in line 2."""
    table = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 5)
    ts = np.array([row[0] * DAY for row in rows], dtype=np.int64)
    columns = {name: table[:, i] for i, name in enumerate(NUMBERS)}
    return RawBars(origin, "line", ts, **columns, line=np.arange(2, len(rows) + 2))


def good(day=0):
    return (day, 10.0, 11.0, 9.0, 10.5, 100.0)


def changed(rows, i, **values):
    row = dict(zip(("day", *NUMBERS), rows[i], strict=True)) | values
    return [*rows[:i], tuple(row.values()), *rows[i + 1 :]]


ROWS = [good(day) for day in range(8)]
CONTEXT = Context("AAA", "1d", "observed")


@pytest.mark.parametrize(
    ("rule", "rows", "found", "line"),
    [
        ("E03", changed(ROWS, 3, close=math.nan), "found open 10 high 11 low 9 close nan volume 100", 5),
        ("E03", changed(ROWS, 3, high=math.inf), "high inf", 5),
        ("E03", changed(ROWS, 3, volume=math.nan), "volume nan", 5),
        ("E04", changed(ROWS, 2, low=0.0), "low 0 ", 4),
        ("E04", changed(ROWS, 2, low=-1.0), "expected prices above 0", 4),
        ("E05", changed(ROWS, 1, high=8.0), "expected low <= open, close <= high", 3),
        ("E05", changed(ROWS, 1, close=11.5), "close 11.5", 3),
        ("E05", changed(ROWS, 1, low=10.2), "low 10.2", 3),
        (
            "E06",
            [*ROWS[:4], (3, 10.0, 11.0, 9.0, 10.0, 100.0), *ROWS[4:]],
            "close 10.5 volume 100 and open 10",
            6,
        ),
        (  # the difference is seen though both have many digits
            "E06",
            [*ROWS[:4], (3, 10.0, 11.0, 9.0, 10.5, 82488700.0), *ROWS[4:]],
            "volume 100 and open 10 high 11 low 9 close 10.5 volume 82488700",
            6,
        ),
        ("E07", [ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]], "found 1970-01-02 after 1970-01-03", 4),
        ("E10", changed(ROWS, 7, volume=-1.0), "found volume -1; expected 0 or more", 9),
    ],
)
def test_each_rule_fires_alone_with_line_and_values(rule, rows, found, line):
    findings = check(raw(rows), CONTEXT)
    assert [finding.rule for finding in findings] == [rule]
    assert findings[0].count == 1 and found in findings[0].detail
    assert f"(A.csv line {line})" in findings[0].rows[0]
    with pytest.raises(DataError) as caught:
        refuse(findings, "AAA", "1d")
    lines = str(caught.value).split("\n")
    assert lines[0].startswith(f"{rule} ") and ": AAA 1d, 1 bar, first 1970-01-0" in lines[0]
    mend = f"correct A.csv line {line} or ask its vendor"
    if rule == "E07":
        mend = "put its rows in order, or set policy: repair, repairs: [sort] for AAA in nightfold.yaml"
    assert lines[-1] == f"  {mend}, then: nightfold check AAA"
    assert len(lines) == 4 and caught.value.rule == rule and caught.value.symbol == "AAA"


def test_the_whole_message_has_five_parts():
    with pytest.raises(DataError) as caught:
        refuse(check(raw(changed(ROWS, 1, high=8.0)), CONTEXT), "AAA", "1d")
    assert str(caught.value) == (
        "E05 price outside the bar's range: AAA 1d, 1 bar, first 1970-01-02 (A.csv line 3)\n"
        "  found open 10 high 8 low 9 close 10.5 volume 100; expected low <= open, close <= high\n"
        "  stops and limits would fill where nobody traded\n"
        "  correct A.csv line 3 or ask its vendor, then: nightfold check AAA"
    )


def test_names_the_first_three_rows_and_the_other_rules():
    rows = [changed(ROWS, i, low=-1.0)[i] for i in range(5)] + ROWS[5:]
    rows = changed(rows, 6, volume=-5.0)
    with pytest.raises(DataError) as caught:
        refuse(check(raw(rows), CONTEXT), "AAA", "1d")
    text = str(caught.value)
    assert text.startswith(
        "E04 price is 0 or negative: AAA 1d, 5 bars, first 1970-01-01 (A.csv line 2), "
        "1970-01-02 (A.csv line 3), 1970-01-03 (A.csv line 4)\n"
    )
    assert "\n  in the same data: E10 negative volume (1)\n" in text


def test_one_tick_outside_the_range_is_tolerated_and_two_are_not():
    context = Context("AAA", "1d", "observed", tick=0.01)
    assert check(raw(changed(ROWS, 1, high=10.49)), context) == []
    assert [f.rule for f in check(raw(changed(ROWS, 1, high=10.48)), context)] == ["E05"]
    assert check(raw(changed(ROWS, 1, high=10.5 - 1e-6)), CONTEXT) == []
    assert [f.rule for f in check(raw(changed(ROWS, 1, high=10.49)), CONTEXT)] == ["E05"]


def test_zero_volume_partial_bars_and_identical_duplicates_are_warnings():
    rows = changed(ROWS, 2, volume=0.0)
    rows = [*rows[:5], rows[4], *rows[5:]]
    context = Context("AAA", "1d", "observed", asof=7 * DAY + DAY // 2)
    warnings = refuse(check(raw(rows), context), "AAA", "1d")
    assert warnings == [
        "W01 zero volume: AAA 1d, 1 bar, first 1970-01-03 (A.csv line 4)",
        "W04 bar not complete at asof left out: AAA 1d, 1 bar, first 1970-01-08 (A.csv line 10)",
        "W06 identical duplicate dropped: AAA 1d, 1 bar, first 1970-01-05 (A.csv line 7)",
    ]
    kept = clean(raw(rows), context)
    assert kept.ts.tolist() == [day * DAY for day in range(7)]
    assert kept.line.tolist() == [2, 3, 4, 5, 6, 8, 9]


def test_rows_that_are_not_known_yet_break_no_rule():
    rows = changed(ROWS, 7, low=-1.0)
    assert [f.rule for f in check(raw(rows), CONTEXT)] == ["E04"]
    assert check(raw(rows), Context("AAA", "1d", "observed", asof=7 * DAY)) == []


def test_no_complete_bar_is_e17():
    with pytest.raises(DataError) as caught:
        refuse(check(raw(ROWS), Context("AAA", "1d", "observed", asof=0)), "AAA", "1d")
    assert str(caught.value).startswith("E17 too few bars: AAA 1d, 0 bars\n  found 0; expected at least 1\n")
    assert "A.csv holds no bar complete at 1970-01-01" in str(caught.value)


def test_too_few_bars_names_both_numbers():
    findings = check(raw(ROWS), Context("AAA", "1d", "observed", bars_needed=9))
    assert [f.detail for f in findings] == ["found 8; expected at least 9"]
    with pytest.raises(DataError) as caught:
        refuse([too_few("FB", 196, 830, "250 warm-up + 500 train + 4 x 20 test")], "FB", "1d")
    assert str(caught.value) == (
        "E17 too few bars: FB 1d, 196 bars\n"
        "  found 196; expected at least 830\n"
        "  250 warm-up + 500 train + 4 x 20 test\n"
        "  bring a longer history, or leave FB out of symbols in nightfold.yaml, then: nightfold check"
    )


def slow_check(rows, asof, tick):
    """The rules in plain words: one row at a time."""
    counts = {}

    def hit(rule):
        counts[rule] = counts.get(rule, 0) + 1

    complete = []
    for row in rows:
        known = int(known_at(np.array([row[0] * DAY]), "1d", "observed")[0])
        if known <= asof:
            complete.append(row)
        elif row[0] * DAY < asof:
            hit("W04")
    seen = []
    for i, (day, o, h, low, c, v) in enumerate(complete):
        if not all(math.isfinite(x) for x in (o, h, low, c, v)):
            hit("E03")
        if min((x for x in (o, h, low, c) if not math.isnan(x)), default=1.0) <= 0:
            hit("E04")
        slack = tick or 1e-6 * abs(max(o, c))
        if max(o, c) - h > slack * (1 + 5e-7) or low - min(o, c) > slack * (1 + 5e-7):
            hit("E05")
        if v < 0:
            hit("E10")
        if v == 0:
            hit("W01")
        if i and day < complete[i - 1][0]:
            hit("E07")
        earlier = [row for row in seen if row[0] == day]
        if earlier:
            hit("W06" if earlier[-1][1:] == (o, h, low, c, v) else "E06")
        seen.append((day, o, h, low, c, v))
    if len(complete) - counts.get("W06", 0) < 1:
        hit("E17")
    return counts


PRICES = st.sampled_from([9.0, 9.99, 10.0, 10.01, 10.02, 11.0, 0.0, -1.0, math.inf])
ROW = st.tuples(
    st.integers(0, 12), PRICES, PRICES, PRICES, PRICES, st.sampled_from([0.0, 1.0, 5.0, -1.0, math.inf])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, max_size=12), st.sampled_from([0, 5 * DAY, 30 * DAY]), st.sampled_from([0.0, 0.01]))
def test_vectorised_rules_equal_the_slow_twin(rows, asof, tick):
    findings = check(raw(rows), Context("AAA", "1d", "observed", asof=asof, tick=tick))
    expected = slow_check(rows, asof, tick)
    got = {f.rule: f.count for f in findings}
    got.pop("E17", None), expected.pop("E17", None)
    assert got == expected
