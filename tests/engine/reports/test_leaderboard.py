"""The front page and `write_reports`: what is said, in which order, and that nothing can break out of it."""

import datetime as dt
import html
import json
import re
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest

from engine.errors import LakeError
from engine.lake.files import write_bytes
from engine.lake.paths import table_path
from engine.lake.publish import Lake
from engine.reports import leaderboard_rows, write_reports
from engine.reports.leaderboard import index_page
from engine.reports.results import SymbolResults, load

HOSTILE = "<script>alert(1)</script>"
NOW = int(dt.datetime(2026, 11, 21, 7, tzinfo=dt.UTC).timestamp() * 1e6)
LEFT_OUT = {"GOOG": {"trend": "has 600 bars, needs 1750"}}


def plain(page):
    """Return a page's text without tags, scripts and styles."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


@pytest.fixture(scope="module")
def written(example_lake, example):
    """The report over two symbols with results and one that failed."""
    front = write_reports(
        example_lake,
        ["AAPL", "GOOG", "FB"],
        problems={"FB": example.failure},
        asof_us=NOW,
        left_out=LEFT_OUT,
        sample_symbols=["AAPL", "GOOG"],
    )
    return front.parent


@pytest.fixture(scope="module")
def front(written):
    return (written / "index.html").read_text()


def show(results, asof_us=None, sample_symbols=(), confidence=0.95):
    return index_page(results, asof_us=asof_us, confidence=confidence, sample_symbols=sample_symbols)


def test_orders_come_first_then_champions_then_leaderboard(front):
    text = plain(front)
    marks = [
        "What each strategy would do",
        "paper only: nightfold places no orders",
        "each order is for the bar after",
        "Buy by limit order",
        "0 of 2 symbols have a champion",
        "Leaderboard, out of sample",
        "How to read this Parameters",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_banner_says_until_when_old_prices_go(front, example_lake, example):
    last = load(example_lake, "AAPL").last_bar_us
    day = example.when(last).strftime("%Y-%m-%d")
    assert f"AAPL go to {day}" in plain(front) or f"Prices go to {day}" in plain(front)
    assert "each order is for the bar after its symbol's last one" in html.unescape(plain(front))
    alone = plain(show([load(example_lake, "AAPL")], asof_us=NOW))
    assert f"Prices go to {day}; the orders below are for the bar after that date, not for today." in alone
    assert "The last bar was " in alone


@pytest.mark.parametrize(("days", "banner"), [(1, False), (5, False), (6, True), (4000, True)])
def test_banner_stands_only_over_old_prices(example_lake, days, banner):
    one = load(example_lake, "AAPL")
    page = show([one], asof_us=one.last_bar_us + days * 86_400_000_000)
    assert ("not for today" in page) is banner


def test_banner_names_only_the_symbols_whose_prices_are_old(example_lake, example):
    old, fresh = load(example_lake, "AAPL"), load(example_lake, "GOOG")
    later = fresh.last_bar_us + 86_400_000_000
    moved = old.bars.set_column(
        0, "ts", pa.array([example.when(u - 30 * 86_400_000_000) for u in _stamps(old)], pa.timestamp("us"))
    )
    text = plain(show([replace(old, bars=moved), fresh], asof_us=later))
    assert re.search(
        r"Prices of AAPL go to [0-9-]+; their orders below are for the bar after that date", text
    )


def test_banner_over_old_prices_of_several_dates_names_no_single_one(example_lake, example):
    one, two = load(example_lake, "AAPL"), load(example_lake, "GOOG")
    day = 86_400_000_000
    moved = one.bars.set_column(
        0, "ts", pa.array([example.when(u - 30 * day) for u in _stamps(one)], pa.timestamp("us"))
    )
    now = two.last_bar_us + 10 * day
    text = plain(show([replace(one, bars=moved), two], asof_us=now))
    age = (now - one.last_bar_us) // day + 30
    assert "each order is for the bar after its symbol's last one, not for today." in html.unescape(text)
    assert f"The oldest last bar was {age} days old" in text and "after that date" not in text


def test_banner_leaves_symbols_aside_that_have_no_orders(example_lake):
    one = load(example_lake, "AAPL", problem="disk full")
    assert "not for today" not in show([one], asof_us=one.last_bar_us + 100 * 86_400_000_000)


def _stamps(results):
    return results.bars["ts"].cast(pa.int64()).to_pylist()


def test_without_a_clock_no_age_is_stated(example_lake):
    assert "not for today" not in show([load(example_lake, "AAPL")])


def test_champions_sentence_counts_symbols_with_results_and_luck(front):
    text = plain(front)
    assert "0 of 2 symbols have a champion; up to 0.1 expected by luck at one look." in text
    assert "Without results, so not counted: FB." in text
    assert "None is expected on the sample (AAPL, GOOG): no edge is known in it" in text


def test_the_sample_alone_is_not_listed_by_name(example_lake):
    text = plain(show([load(example_lake, "AAPL")], sample_symbols=["AAPL"]))
    assert "None is expected on the sample: no edge is known in it" in text


def test_a_caption_says_why_evidence_and_leaderboard_differ(front):
    assert "The reasons count closed folds only and take arithmetic means. The leaderboard shows" in plain(
        front
    )


def test_luck_follows_the_confidence_of_the_settings(example_lake):
    one = load(example_lake, "AAPL")
    assert "0 of 1 symbols have a champion; up to 0.1 expected by luck at one look." in plain(
        show([one], confidence=0.9)
    )


def test_reasons_stand_beside_every_decision(front):
    text = plain(front)
    assert text.count("above 0.05 over 3 procedures") == 5  # three strategies of AAPL, two of GOOG
    assert "FB no champion" in text


def test_champion_in_force_is_counted_and_marked(example_lake, example):
    one = load(example_lake, "AAPL")
    row = example.champion_row(
        "AAPL", 9, one.decisions[0]["asof"], "trend", decision="promoted", in_force=True, p=0.01
    )
    text = plain(show([replace(one, decisions=[row])]))
    assert "1 of 1 symbols have a champion" in text
    assert "champion promoted" in text
    assert "trend champion" in text


def test_failed_symbol_and_left_out_strategy_get_a_plain_sentence(front, example):
    text = plain(front)
    assert f"FB failed: {example.failure}" in text
    assert "GOOG : strategy trend is left out: has 600 bars, needs 1750" in text


def test_symbol_without_results_names_the_command(tmp_path):
    text = plain(show([load(Lake(tmp_path), "IBM")]))
    assert "IBM has no results yet. Run: nightfold run IBM" in text
    assert "No order is known yet" in text
    assert "No strategy has an out-of-sample result yet." in text


def test_failed_symbol_with_older_results_says_so(example_lake):
    text = plain(show([load(example_lake, "AAPL", problem="disk full")]))
    assert "AAPL failed: disk full. What is shown of it is from an earlier run." in text


def test_failed_symbols_are_named_above_the_orders_and_have_none(example_lake):
    broken, sound = load(example_lake, "AAPL", problem="disk full"), load(example_lake, "GOOG")
    page = show([broken, sound])
    note, orders, champions = (page.index(x) for x in ('"banner failed"', 'id="orders"', 'id="champions"'))
    assert note < orders
    assert "1 symbol failed in this run: no orders of it are shown. AAPL failed: disk full." in plain(page)
    text = plain(page[orders:champions])
    assert "GOOG" in text and "AAPL" not in text
    rows = re.findall(r"<tr\b.*?</tr>", page[page.index('id="leaderboard"') :], flags=re.S)
    marked = [("AAPL.html" in row, "earlier run" in row) for row in rows if "<svg" in row]
    assert marked == [(True, True)] * 3 + [(False, False)] * 2
    assert "banner failed" not in show([sound]) and "earlier run" not in show([sound])


def test_sample_note_and_not_compounded_note_are_printed(front):
    text = plain(front)
    assert "four surviving winners, not a sample of the market" in text
    assert "not compounded" in text
    assert "Compare the two by basis points per bar" in text


def test_sample_note_is_absent_for_other_data(example_lake):
    assert "surviving winners" not in show([load(example_lake, "AAPL")])


def test_target_exit_is_called_optimistic(example_lake):
    one = load(example_lake, "AAPL")
    assert "optimistic" not in plain(show([one]))
    folds = [{**row, "policy": "target"} if row["policy"] else row for row in one.folds]
    assert "optimistic" in plain(show([replace(one, folds=folds)]))


def test_annualisation_is_printed(front, example_lake):
    assert "Sharpe ratio (252 days a year)" in plain(front)
    one, two = load(example_lake, "AAPL"), load(example_lake, "GOOG")
    daily = [{**row, "annualisation": 365} for row in two.backtests]
    text = plain(show([one, replace(two, backtests=daily)]))
    assert "Sharpe ratio (days a year)" in text
    assert "(252)" in text and "(365)" in text


def test_undefined_numbers_are_dashes_never_zero(example_lake):
    one = load(example_lake, "GOOG")
    nothing = [{**row, "sharpe": float("nan"), "bps_per_bar": None} for row in one.backtests]
    page = show([replace(one, backtests=nothing)])
    assert page.count('title="undefined"') >= 2 * 5
    rows = leaderboard_rows(example_lake, ["GOOG"])
    assert all(row["sharpe"] is not None for row in rows)


def test_rows_are_plain_json_with_none_for_undefined(tmp_path, example_lake, example):
    lake = Lake(tmp_path / "data")
    shutil.copytree(example_lake.data_dir / "lake", lake.data_dir / "lake")
    one = load(lake, "AAPL")
    rows = [{**row, "sharpe": float("nan"), "max_drawdown": float("inf")} for row in one.backtests]
    example.publish(lake, "backtests", "AAPL", rows)
    found = leaderboard_rows(lake, ["AAPL", "IBM"])
    assert [row["symbol"] for row in found] == ["AAPL"] * 3
    assert all(row["sharpe"] is None and row["max_drawdown"] is None for row in found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_rows_follow_the_symbols_and_the_gain_over_the_matched_hold(example_lake):
    rows = leaderboard_rows(example_lake, ["GOOG", "AAPL"])
    assert [row["symbol"] for row in rows] == ["GOOG"] * 2 + ["AAPL"] * 3
    gains = [row["bps_per_bar"] - row["matched_hold_bps_per_bar"] for row in rows if row["symbol"] == "AAPL"]
    assert gains == sorted(gains, reverse=True)
    assert {row["strategy"]: row["compounded"] for row in rows[2:]} == {
        "trend": True,
        "levels_entry_exit": False,
        "levels_always_on": False,
    }


def test_rows_hold_the_stitched_numbers(example_lake):
    row = next(r for r in leaderboard_rows(example_lake, ["AAPL"]) if r["strategy"] == "trend")
    stitched = {
        r["variant"]: r
        for r in load(example_lake, "AAPL").backtests
        if r["strategy"] == "trend" and r["fold"] == -1
    }
    assert row["bps_per_bar"] == stitched["tuned"]["bps_per_bar"]
    assert row["untuned_bps_per_bar_equal_exposure"] == 0.71
    assert row["buy_and_hold_roi"] == stitched["buy_and_hold"]["roi"]
    assert row["cash"] == pytest.approx(1 - stitched["tuned"]["gross_exposure"])


def test_levels_have_bars_and_undefined_exposure_and_cash(example_lake):
    rows = {row["strategy"]: row for row in leaderboard_rows(example_lake, ["AAPL"])}
    page = show([load(example_lake, "AAPL")])
    lines = re.findall(r"<tr\b.*?</tr>", page, flags=re.S)
    for name, row in rows.items():
        levels = name.startswith("levels")
        assert (row["exposure"] is None, row["cash"] is None) == (levels, levels)
        assert row["trades"] > 0 and row["bars"] > 0
        line = next(x for x in lines if f">{row['bars']}<" in x and plain(x).split()[1] == name)
        assert line.count('title="undefined"') == (2 if levels else 0)


def test_stitched_row_of_the_chosen_policies_is_the_headline():
    base = {"strategy": "levels", "fold": -1, "variant": "tuned"}
    rows = [
        {**base, "policy": policy, "selected": policy == "chosen"} for policy in ("path", "chosen", "close")
    ]
    assert SymbolResults("AAPL", backtests=rows).headline("levels", "tuned")["policy"] == "chosen"


def test_hostile_text_is_escaped_everywhere(example_lake):
    one = load(example_lake, "AAPL")
    order = {**one.orders[0], "note": HOSTILE, "strategy": HOSTILE, "action": HOSTILE, "valid_for": HOSTILE}
    decision = {**one.decisions[0], "strategy": HOSTILE, "reasons": HOSTILE, "decision": HOSTILE}
    backtests = [{**row, "strategy": HOSTILE, "status": HOSTILE} for row in one.backtests]
    hostile = SymbolResults(
        HOSTILE,
        left_out={HOSTILE: HOSTILE},
        backtests=backtests,
        orders=[order],
        decisions=[decision],
    )
    page = show([hostile, SymbolResults("X", left_out={HOSTILE: HOSTILE}), SymbolResults("Y", HOSTILE)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_front_page_has_no_script_and_a_policy(front):
    assert "<script" not in front
    assert "default-src &#x27;none&#x27;; script-src &#x27;none&#x27;" in front


def test_pages_hold_no_remote_address(written):
    for name in ("index", "AAPL", "GOOG", "FB"):
        page = (written / f"{name}.html").read_text()
        assert not re.search(r"(https?:)?//[a-z]", page), name
        assert "@import" not in page


def test_two_writes_give_equal_bytes(example_lake, written, example):
    before = {path.name: path.read_bytes() for path in written.glob("*.html")}
    write_reports(
        example_lake,
        ["AAPL", "GOOG", "FB"],
        problems={"FB": example.failure},
        asof_us=NOW,
        left_out=LEFT_OUT,
        sample_symbols=["AAPL", "GOOG"],
    )
    assert {path.name: path.read_bytes() for path in written.glob("*.html")} == before


def test_without_charts_no_script_is_written(tmp_path, example_lake):
    lake = Lake(tmp_path / "data")
    shutil.copytree(example_lake.data_dir / "lake", lake.data_dir / "lake")
    front = write_reports(lake, ["AAPL"], problems={}, asof_us=None, charts=False)
    assert front == tmp_path / "data" / "reports" / "index.html"
    assert sorted(path.name for path in front.parent.iterdir()) == ["AAPL.html", "index.html"]
    assert "<script" not in (front.parent / "AAPL.html").read_text()


def test_torn_table_costs_that_symbol_alone(tmp_path, example_lake):
    lake = Lake(tmp_path / "data")
    shutil.copytree(example_lake.data_dir / "lake", lake.data_dir / "lake")
    write_bytes(table_path(lake.data_dir, "equity", "GOOG"), b"torn")
    front = write_reports(lake, ["AAPL", "GOOG"], problems={}, asof_us=None, charts=False)
    text = plain(front.read_text())
    assert re.search(r"GOOG failed: .*equity.GOOG\.parquet cannot be read", text)
    assert [row["symbol"] for row in leaderboard_rows(lake, ["AAPL", "GOOG"])] == ["AAPL"] * 3


def test_refuses_a_key_that_could_leave_the_folder(tmp_path):
    with pytest.raises(
        LakeError, match=r"^key '\.\./x' is not canonical \(expected .*\); no page was written$"
    ):
        write_reports(Lake(tmp_path), ["../x"], problems={}, asof_us=None)


def test_plotly_is_one_local_file_of_the_installed_package(written):
    from plotly.offline import get_plotlyjs

    assert (written / "plotly.min.js").read_text(encoding="utf-8") == get_plotlyjs()
