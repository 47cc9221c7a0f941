"""A symbol's page: every part is there, charts are data only, names stay text."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace

import pyarrow as pa
import pytest

from engine.reports.results import load
from engine.reports.tearsheet import symbol_page

HOSTILE = "</script><script>alert(1)</script>"


def show(results, charts=True, asof_us=None):
    return symbol_page(results, asof_us=asof_us, sample_symbols=["AAPL"], charts=charts)


def plain(page):
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare)))


def figure_of(page, anchor):
    return re.search(rf'id="{anchor}-data">(.*?)</script>', page, flags=re.S)[1]


@pytest.fixture(scope="module")
def results(example_lake):
    return load(example_lake, "AAPL")


@pytest.fixture(scope="module")
def page(results):
    return show(results)


def test_missing_bars_are_told_beside_the_age_of_the_prices_and_only_there(results):
    text = "2 of 600 expected bars missing, longest gap 2 bars after 2024-01-01"
    page = plain(show(replace(results, gaps=text), charts=False))
    assert f"Bars: {text}." in page
    assert page.index("prices go to") < page.index(text) < page.index("Stands for")
    assert "missing" not in plain(show(results, charts=False)).split("Stands for")[0]
    assert HOSTILE not in show(replace(results, gaps=HOSTILE), charts=False)


def test_parts_stand_in_order(page):
    anchors = re.findall(r'<section [^>]*?id="([^"]+)"', page)
    assert anchors[:3] == ["orders", "champions", "results"]
    assert anchors[-2:] == ["forecasts", "reading"]
    first = [name for name in anchors if name.startswith("strategy-1")]
    assert first == [
        "strategy-1",
        "strategy-1-price-section",
        "strategy-1-equity-section",
        "strategy-1-parameters-section",
        "strategy-1-gap-section",
        "strategy-1-forward",
        "strategy-1-luck",
        "strategy-1-trades",
        "strategy-1-costs",
        "strategy-1-folds",
    ]


def test_ids_are_unique_and_links_lead_somewhere(page):
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_every_variant_and_cost_is_shown(page):
    text = plain(page)
    for name in (
        "Tuned",
        "Untuned",
        "Matched hold",
        "Buy and hold",
        "No trade",
        "At equal exposure",
        "Average share of cash",
        "Time in market",
        "Fees",
        "Slippage",
        "Financing paid",
        "Dividends",
        "Sharpe ratio (252 days a year)",
        "Persistence",
        "How to read this",
    ):
        assert name in text, name


def test_levels_say_that_they_do_not_compound_and_rules_do_not(results):
    only = {
        name: replace(
            results,
            folds=[r for r in results.folds if r["strategy"] == name],
            backtests=[r for r in results.backtests if r["strategy"] == name],
            orders=[r for r in results.orders if r["strategy"] == name],
        )
        for name in ("trend", "levels_entry_exit")
    }
    assert "not compounded" in plain(show(only["levels_entry_exit"], charts=False))
    assert "not compounded" not in plain(show(only["trend"], charts=False))


def test_target_exit_is_called_optimistic(results):
    changed = [{**row, "policy": "target"} if row["policy"] else row for row in results.folds]
    assert "optimistic" not in plain(show(results, charts=False))
    assert plain(show(replace(results, folds=changed), charts=False)).count("optimistic") > 3


def test_latest_200_trades_are_shown_and_the_rest_named(results):
    trades = results.trade_rows("levels_entry_exit")
    assert len(trades) < 200
    assert f"All {len(trades)} trades, newest first" in plain(show(results, charts=False))
    many = results.trades
    while len(many) < 2000:
        many = pa.concat_tables([many, many])
    count = len(replace(results, trades=many).trade_rows("levels_entry_exit"))
    text = plain(show(replace(results, trades=many), charts=False))
    assert f"Latest 200 of {count:,} trades, newest first" in text
    assert (
        "nightfold warehouse \"select * from trades where symbol = 'AAPL' and "
        "strategy = 'levels_entry_exit' and variant = 'tuned'"
    ) in text


def test_open_trade_has_no_exit(results):
    names = results.trades["reason"].to_pylist()
    names[-1] = "open"  # trend comes last
    trades = results.trades.set_column(results.trades.column_names.index("reason"), "reason", pa.array(names))
    opened = replace(results, trades=trades)
    count = len(opened.trade_rows("trend"))
    text = plain(show(opened, charts=False))
    assert "still open" in text and f"All {count} trades ({count - 1} closed, 1 open), newest first" in text
    exits = [
        len(json.loads(figure_of(show(r), "strategy-3-price"))["data"][-1]["y"]) for r in (results, opened)
    ]
    assert exits[1] == exits[0] - 1


def test_folds_show_first_and_last_bars_of_their_spans(results):
    text = plain(show(results, charts=False))
    fold = results.chosen_folds("trend")[0]
    last = results.last_bar_before(fold["train_end"])
    assert last < fold["train_end"] == fold["test_start"]
    assert f"{fold['train_start']:%Y-%m-%d} {last:%Y-%m-%d} {fold['test_start']:%Y-%m-%d}" in text
    assert "open: test stretch not full yet" not in text or any(row["open"] for row in results.folds)


def test_undefined_numbers_are_dashes(results):
    nothing = [{**row, "sharpe": float("nan"), "win_rate": None} for row in results.backtests]
    before, after = (
        show(r, charts=False).count('title="undefined"')
        for r in (results, replace(results, backtests=nothing))
    )
    assert after > before
    assert "nan" not in plain(show(replace(results, backtests=nothing), charts=False)).lower().split()


def test_missing_tables_leave_plain_sentences(results):
    empty = replace(
        results,
        backtests=(),
        folds=(),
        nightly=(),
        orders=(),
        quality=(),
        decisions=(),
        bars=None,
        trades=None,
        equity=None,
        problem="E17 too few bars",
    )
    text = plain(show(empty))
    for sentence in (
        "AAPL failed: E17 too few bars",
        "No orders are shown: see the note above.",
        "No out-of-sample result yet.",
        "No forecast was judged",
        "no prices yet",
    ):
        assert sentence in text, sentence


def test_a_failed_symbol_says_so_at_the_top_and_shows_no_orders(results):
    page = show(replace(results, problem="E04 high below low\n  found 3; expected more"), charts=False)
    note, orders = page.index('class="banner failed"'), page.index('id="orders"')
    assert note < orders
    assert "AAPL failed: E04 high below low found 3; expected more. What is shown of it is" in plain(page)
    assert '<span class="message">E04 high below low\n  found 3; expected more.</span>' in page
    assert ".message{white-space:pre-line" in page
    text = plain(page[orders : page.index('id="champions"')])
    assert "No orders are shown: see the note above." in text and "Buy" not in text
    assert "banner failed" not in show(results, charts=False)


def test_a_model_that_loses_is_said_to_decide_nothing_yet(results):
    assert "gets a warning in the checks; it decides nothing about champions yet" in plain(
        show(results, charts=False)
    )


def test_strategy_with_folds_but_no_backtest_says_so(results):
    backtests = [row for row in results.backtests if row["strategy"] != "trend"]
    found = replace(results, backtests=backtests, left_out={"trend": "has 10 bars, needs 20"})
    text = plain(show(found, charts=False))
    assert "This strategy has no result here: has 10 bars, needs 20" in text
    assert "strategy trend is left out: has 10 bars, needs 20" in text


def test_tables_that_lack_single_parts_still_give_a_page(results):
    for missing in ("bars", "trades", "equity"):
        assert "Leaderboard" not in show(replace(results, **{missing: None}))


def test_only_our_script_may_run(page):
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page, flags=re.S)
    kinds = [
        ("data" if "application/json" in head else "file" if "src=" in head else "ours", body)
        for head, body in scripts
    ]
    assert [kind for kind, _ in kinds if kind != "data"] == ["file", "ours"]
    ours = next(body for kind, body in kinds if kind == "ours")
    sha = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1])
    assert f"script-src 'self' file: 'sha256-{sha}';" in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    assert 'src="plotly.min.js"' in page


def test_figures_are_data_with_colours_of_the_style_sheet(page):
    blocks = re.findall(r'<script type="application/json" id="([^"]+)-data">(.*?)</script>', page, flags=re.S)
    assert [name for name, _ in blocks if name.startswith("strategy-3")] == [
        f"strategy-3-{part}" for part in ("price", "equity", "parameters", "gap")
    ]
    for _, block in blocks:
        figure = json.loads(block)
        assert figure["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"
        colours = set(re.findall(r"var\((--[a-z-]+)\)", block))
        assert colours and all(f"{name}:" in page for name in colours)


def test_hostile_names_stay_text(results):
    def rename(rows):
        return [{**row, "strategy": HOSTILE} for row in rows if row["strategy"] == "trend"]

    table = results.trades
    names = pa.array([HOSTILE] * len(table))
    reasons = pa.array([HOSTILE] * len(table))
    at = table.column_names.index
    table = table.set_column(at("strategy"), "strategy", names).set_column(at("reason"), "reason", reasons)
    equity = results.equity
    equity = equity.set_column(
        equity.column_names.index("strategy"), "strategy", pa.array([HOSTILE] * len(equity))
    )
    params = json.dumps({HOSTILE: 1.5})
    folds = [{**row, "params": params, "status": HOSTILE, "label": HOSTILE} for row in rename(results.folds)]
    quality = [{**row, "verdict": HOSTILE, "field": HOSTILE, "model_key": HOSTILE} for row in results.quality]
    hostile = replace(
        results,
        problem=HOSTILE,
        backtests=rename(results.backtests),
        folds=folds,
        nightly=rename(results.nightly),
        orders=rename(results.orders),
        trades=table,
        equity=equity,
        quality=quality,
    )
    page = show(hostile)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1  # ours
    assert "alert(1)" in plain(page)


def test_page_is_deterministic(results, page):
    assert show(results) == page
