"""HTML by construction: everything is escaped, numbers are written one way, undefined is a dash."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.reports.html import Band, Column, Html, number, percent, price, stamp, table, tag, text

DASH = '<span class="none" title="undefined" aria-label="undefined" role="img">\N{EN DASH}</span>'


@given(st.text())
def test_text_and_attributes_are_escaped(value):
    shown = tag("p", value, title=value)
    inner = shown.removeprefix("<p").removesuffix("</p>").split(">", 1)
    assert "<" not in inner[1].replace("&lt;", "") and '"' not in text(value)


def test_html_is_not_escaped_twice():
    assert tag("p", tag("b", "1 < 2")) == "<p><b>1 &lt; 2</b></p>"
    assert isinstance(text("a"), Html)


@pytest.mark.parametrize(
    ("value", "options", "shown"),
    [
        (1234.5, {}, "1,234.50"),
        (-0.5, {"digits": 1}, "\N{MINUS SIGN}0.5"),
        (0.5, {"sign": True}, "+0.50"),
        (-0.001, {"sign": True}, "0.00"),
        (0, {"digits": 0}, "0"),
        (float("nan"), {}, DASH),
        (float("inf"), {}, DASH),
        (None, {}, DASH),
    ],
)
def test_numbers(value, options, shown):
    assert number(value, **options) == shown


def test_percent_price_and_stamp():
    assert percent(0.125) == "12.5\N{NO-BREAK SPACE}%"
    assert percent(None) == DASH
    assert price(12.345) == "12.35" or price(12.345) == "12.34"
    assert price(0.12345) == "0.1235" or price(0.12345) == "0.1234"
    assert 'title="not set"' in price(float("nan"))
    when = dt.datetime(2013, 3, 1, 14, 30)
    assert stamp(when) == "2013-03-01"
    assert stamp(when, daily=False) == "2013-03-01 14:30"


def test_table_groups_headings_bands_and_repeated_heads():
    columns = [Column("Symbol", numeric=False), Column("A", group="G"), Column("B", group="G")]
    shown = table(columns, [Band("first"), ["X", 1, 2], ["X", 3, 4], ["Y", 5, 6]], label="T")
    assert '<th colspan="2" class="group" scope="colgroup">G</th>' in shown
    assert '<tr class="band"><th colspan="3" scope="rowgroup">' in shown
    assert shown.count('<tr class="again">') == 1
    assert shown.count('data-label="G: A"') == 3


def test_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match="zip"):
        table([Column("A"), Column("B")], [[1]])
