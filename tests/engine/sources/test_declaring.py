"""Declared events are compared with the prices of every frame, beside kept ones and the vendor's."""

from dataclasses import fields, replace

import numpy as np
import pytest

from engine.bars.findings import Context, RawBars
from engine.bars.model import iso
from engine.bars.series import check_series
from engine.bars.splits import Event, at_session_open
from engine.bars.synthetic import make_bars
from engine.errors import ConfigError
from engine.sources.declaring import based_on, refuse_unfounded

DAY = 86_400_000_000
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning")  # inside exchange_calendars
FRAMES = [
    ("1d", "observed"),
    ("1h", "24/7"),
    ("1h", "observed"),
    ("1h", "CMES"),
]  # CMES opens the evening before


def weekday(ts):
    """0 = Monday; day 0 of 1970 was a Thursday."""
    return (ts // DAY + 3) % 7


def case(frame, calendar, value=2.0):
    """Return raw rows with a split at the open of a session in their middle, and that split."""
    if calendar == "CMES":
        pytest.importorskip("exchange_calendars")
    bars = make_bars(5, 400, frame, calendar="24/7" if calendar == "CMES" else calendar, symbol="AAA")
    middle = 200 + int(np.argmax(weekday(bars.ts[200:]) == 2))  # a Wednesday: sessions on both sides
    split = Event(int(bars.ts[middle] // DAY * DAY), "split", value, "the command line")
    (effective,) = at_session_open([split], frame, calendar)
    t = int(np.searchsorted(bars.ts, effective.ts))
    scale = np.where(np.arange(400) < t, 1.0, 1.0 / value)
    prices = {name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")}
    rows = RawBars("AAA.csv", "line", bars.ts, **prices, volume=bars.volume, line=np.arange(400) + 2)
    return rows, Context("AAA", frame, calendar), split


def errors(rows, context, events):
    kept, bars = based_on(rows, events, context)
    return [it for it in check_series(bars, context, events, raw=kept) if it.rule == "E12"]


@pytest.mark.parametrize("value", [2.0, 0.1, 1.5])
@pytest.mark.parametrize(("frame", "calendar"), FRAMES)
def test_a_split_is_taken_on_its_session_alone(frame, calendar, value):
    rows, context, split = case(frame, calendar, value)
    refuse_unfounded(rows, context, [], [], [split])
    (jump,) = errors(rows, context, [])
    assert f"@{iso(split.ts)}   (real move" in jump.remedy and not errors(rows, context, [split])
    for other in (split.ts - DAY, split.ts + DAY):
        with pytest.raises(
            ConfigError, match=r"expected nearer to 1\. Unexplained jumps: .*Nothing was written$"
        ):
            refuse_unfounded(rows, context, [], [], [replace(split, ts=int(other))])
    with pytest.raises(ConfigError, match="Nothing was written$"):
        refuse_unfounded(rows, context, [], [], [replace(split, value=1 / value)])


@pytest.mark.parametrize(("frame", "calendar"), FRAMES)
def test_a_kept_split_that_makes_a_jump_is_named_on_every_frame(frame, calendar):
    rows, context, split = case(frame, calendar)
    clean = replace(
        rows, **{f.name: getattr(based_on(rows, [split], context)[1], f.name) for f in fields(rows)[3:7]}
    )
    kept = replace(split, place="events.csv line 7")
    (found,) = errors(clean, context, [kept])
    assert (found.rule, found.count) == ("E12", 1)
    assert found.remedy == "delete events.csv line 7, then: nightfold check AAA"
    (effective,) = at_session_open([split], frame, calendar)  # a verified move bears the UTC date of its bar
    verified = Event(effective.ts // DAY * DAY, "verified_move", 0.0, "the command line")
    with pytest.raises(
        ConfigError, match=r"\(events.csv line 7\) makes the jump .* First delete events.csv line 7"
    ):
        refuse_unfounded(clean, context, [kept], [], [verified])
    with pytest.raises(ConfigError, match="no bar of .* jumps"):
        refuse_unfounded(clean, context, [], [], [verified])


def test_a_vendors_split_that_the_prices_do_not_show_is_set_aside_by_the_command_that_is_named():
    rows, context, split = case("1d", "observed")
    clean = replace(
        rows, **{f.name: getattr(based_on(rows, [split], context)[1], f.name) for f in fields(rows)[3:7]}
    )
    vendors = replace(split, place="yahoo's reply")
    (found,) = errors(clean, context, [vendors])
    assert found.remedy.startswith("set the vendor's split aside: nightfold check AAA --adjust 1:1@")
    own = replace(split, value=1.0)
    refuse_unfounded(clean, context, [], [vendors], [own])


def test_one_open_in_another_unit_is_no_split():
    """Its close says that nothing happened; so does a close that shows the split where the open does not."""
    rows, context, split = case("1d", "observed")
    clean = replace(
        rows, **{f.name: getattr(based_on(rows, [split], context)[1], f.name) for f in fields(rows)[3:7]}
    )
    t = int(np.searchsorted(clean.ts, split.ts))

    def with_open(raw, factor):
        changed = raw.open.copy()
        changed[t] *= factor
        low, high = np.minimum(raw.low, changed), np.maximum(raw.high, changed)
        return replace(raw, open=changed, low=low, high=high)

    halved = with_open(clean, 1 / split.value)
    (found,) = errors(halved, context, [])
    assert found.remedy.startswith("correct that bar, or if the move is real")
    with pytest.raises(ConfigError, match="the close of .* expected open and close to show it.*Nothing was"):
        refuse_unfounded(halved, context, [], [], [split])
    late = with_open(rows, split.value)  # the split is real, its first open still in old shares
    vendors = replace(split, place="yahoo's reply")
    (found,) = errors(late, context, [vendors])
    assert found.remedy.startswith("correct that bar, or if the move is real")


@pytest.mark.parametrize("value", [2.0, 0.5])
def test_a_real_move_of_that_day_does_not_vouch_for_a_split(value):
    """Neither where nothing else happened, nor where the open alone jumped and was verified."""
    rows, context, split = case("1d", "observed")
    clean = replace(
        rows, **{f.name: getattr(based_on(rows, [split], context)[1], f.name) for f in fields(rows)[3:7]}
    )
    verified = Event(split.ts, "verified_move", 0.0, "events.csv line 2")
    t = int(np.searchsorted(clean.ts, split.ts))
    changed = clean.open.copy()
    changed[t] /= value
    low, high = np.minimum(clean.low, changed), np.maximum(clean.high, changed)
    for raw in (clean, replace(clean, open=changed, low=low, high=high)):
        with pytest.raises(ConfigError, match="Nothing was written$"):
            refuse_unfounded(raw, context, [verified], [], [replace(split, value=value)])


def test_what_is_kept_already_is_what_a_new_value_is_compared_with():
    rows, context, split = case("1d", "observed")
    aside, vendors = replace(split, value=1.0), replace(split, place="yahoo's reply")
    refuse_unfounded(rows, context, [aside], [vendors], [split])  # the prices show the vendor's after all


def test_a_dividend_that_is_right_after_the_split_does_not_stop_its_declaration():
    rows, context, split = case("1d", "observed")
    t = int(np.searchsorted(rows.ts, split.ts))
    paid = Event(int(rows.ts[t]), "dividend", float(rows.close[t - 1]) * 1.5, "events.csv line 2")
    refuse_unfounded(rows, context, [paid], [], [split])


def test_a_split_too_small_to_be_seen_is_believed():
    rows, context, split = case("1d", "observed")
    refuse_unfounded(rows, context, [split], [], [Event(int(rows.ts[50]), "split", 1.02, "the command line")])


def test_a_repair_of_the_settings_that_makes_a_jump_is_named_with_its_date():
    rows, context, split = case("1d", "observed")
    wrong = replace(split, ts=split.ts + 7 * DAY, place="prices.repairs in nightfold.yaml")
    (found,) = errors(rows, context, [wrong])
    assert (
        found.remedy.startswith("delete the split of 20")
        and "from prices.repairs in nightfold.yaml" in found.remedy
    )


def test_a_split_and_a_real_move_of_one_date_are_declared_together():
    rows, context, split = case("1d", "observed", 4.0)
    half = replace(split, value=2.0)
    verified = Event(split.ts, "verified_move", 0.0, "the command line")
    with pytest.raises(
        ConfigError, match=r"still a jump; expected a factor near (3\.9|4|4\.0)\d*, found 2\."
    ):
        refuse_unfounded(rows, context, [], [], [half])
    refuse_unfounded(rows, context, [], [], [half, verified])
