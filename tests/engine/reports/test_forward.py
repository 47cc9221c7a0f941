"""The forward record on the pages: apart from the walk-forward, and a plain sentence while it is empty."""

import datetime as dt
import html
import re
from dataclasses import replace

import pytest

from engine.reports.board import board_rows
from engine.reports.forward import NOT_YET, forward_part, summary
from engine.reports.leaderboard import index_page
from engine.reports.results import load
from engine.reports.tearsheet import symbol_page


def plain(page):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def night(number, net, *, strategy="trend", procedure="p", label="clean", bars=1, out=0.0):
    asof = dt.datetime(2024, 1, 1) + dt.timedelta(days=number)
    start = asof + dt.timedelta(days=1)
    return {
        "symbol": "AAPL", "procedure": procedure, "strategy": strategy, "policy": "", "asof": asof,
        "label": label, "start": start, "end": start + dt.timedelta(microseconds=1),
        "bars": bars, "status": "ok", "fills": 2, "gross": net + 0.0005, "costs": 0.0005, "net": net,
        "equity": 1e5, "position_in": 0.0, "position_out": out, "carried": "{}",
    }  # fmt: skip


ROWS = [night(2, -0.01, bars=3, out=12.5), night(0, 0.02), night(1, 0.5, label="contaminated")]


@pytest.fixture(scope="module")
def results(example_lake):
    found = load(example_lake, "AAPL")
    return replace(found, nightly=[{**row, "procedure": "p"} for row in found.nightly])


def test_the_sum_compounds_or_adds_up_over_clean_rows():
    rows = sorted(ROWS, key=lambda row: row["asof"])
    found = summary(rows, compounded=True)
    assert found["net_bps"] == pytest.approx(1e4 * (1.02 * 0.99 - 1))
    assert summary(rows, compounded=False)["net_bps"] == pytest.approx(100.0)
    assert (found["nights"], found["bars"], found["left_out"], found["fills"]) == (2, 4, 1, 4)
    assert found["costs_bps"] == pytest.approx(10.0) and found["since"] == rows[0]["start"]
    assert summary([], compounded=True) is None
    none = summary([night(0, 0.1, label="unknown")], compounded=True)
    assert (none["net_bps"], none["bars"], none["since"], none["left_out"]) == (None, 0, None, 1)


def test_the_page_shows_the_record_of_the_present_settings_apart(results):
    other = night(3, 9.0, procedure="of earlier settings")
    text = plain(forward_part(replace(results, forward=[*ROWS, other]), "trend"))
    assert "+98.0 basis points after 10.0 of costs, over 4 bars since 2024-01-02" in text
    assert "Left out, since they are not clean: 1 of 3 nights" in text and "Held now: long 12.50." in text
    assert text.index("2024-01-03") < text.index("contaminated") and "90,000" not in text
    assert "It decides nothing about champions" in text


def test_a_first_night_says_that_none_is_scored_yet(results):
    page = symbol_page(results, asof_us=None, sample_symbols=[], charts=False)
    assert plain(page).count(NOT_YET) == len(results.strategies) == 3
    (row,) = [row for row in board_rows([results]) if row["strategy"] == "trend"]
    assert (row["forward_net_bps"], row["forward_bars"], row["forward_since"]) == (None, 0, None)
    assert 'title="no night is scored yet"' in index_page(
        [results], asof_us=None, confidence=0.985, sample_symbols=[]
    )


def test_the_leaderboard_has_it_in_a_column_of_its_own(results):
    both = replace(results, forward=ROWS)
    (row,) = [row for row in board_rows([both]) if row["strategy"] == "trend"]
    assert row["forward_net_bps"] == pytest.approx(98.0) and row["forward_since"].startswith("2024-01-02")
    (without,) = [row for row in board_rows([results]) if row["strategy"] == "trend"]
    same = [name for name in row if not name.startswith("forward")]
    assert {name: row[name] for name in same} == {name: without[name] for name in same}
    page = plain(index_page([both], asof_us=None, confidence=0.985, sample_symbols=[]))
    assert "Forward record" in page and "+98.0 4 bars since 2024-01-02" in page
