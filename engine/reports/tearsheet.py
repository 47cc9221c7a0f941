"""One page per symbol: orders, results, and for each strategy charts, trades, costs, folds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.reports import plots
from engine.reports.forward import forward_part
from engine.reports.html import Html, join, number, paragraph, percent, section, stamp, tag
from engine.reports.labels import CLEAN, fold_note
from engine.reports.luck import luck_table
from engine.reports.page import chart, page
from engine.reports.parts import asof_text, decisions_table, failures, missing_notes, orders_table
from engine.reports.results import Row, SymbolResults, cash_share, traded_parameters
from engine.reports.tables import costs_table, folds_table, quality_table, results_table, trades_table
from engine.reports.words import (
    PAPER_ONLY,
    SAMPLE_NOTE,
    how_to_read,
    old_prices_banner,
    policy_words,
    price_age,
)

SHORT_SPAN_DAYS = 90


def _facts(results: SymbolResults, strategy: str, row: Row) -> Html:
    """Return the few numbers that a reader wants first."""
    hold = results.headline(strategy, "matched_hold") or {}
    facts = [
        (
            "Basis points per bar, out-of-sample",
            number(row["bps_per_bar"], sign=True),
            join(["in-sample ", number(row["in_sample_bps_per_bar"], sign=True)]),
        ),
        ("Matched hold", number(hold.get("bps_per_bar"), sign=True), "basis points per bar"),
        (
            "Return",
            percent(row["roi"], sign=True),
            "compounded" if not results.is_levels(strategy) else "summed, not compounded",
        ),
        ("Sharpe ratio", number(row["sharpe"], sign=True), f"{row['annualisation']} days a year"),
        (
            "Largest drawdown",
            percent(row["max_drawdown"]),
            "at closes" if not results.is_levels(strategy) else "of the amount traded, at closes",
        ),
        ("Average share of cash", percent(cash_share(row), 0), "earns nothing"),
    ]
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value, tag("small", note))) for name, value, note in facts),
        class_="facts" if row["label"] == CLEAN else "facts quiet",
    )


def _span_note(results: SymbolResults, row: Row) -> Html:
    """Return the out-of-sample span, first and last bar, with a warning where it is short."""
    last = results.last_bar_before(row["end"])
    days = (last - row["start"]).days
    warning = f" These are {days} days: numbers per year say little below {SHORT_SPAN_DAYS}."
    return paragraph(
        "Out-of-sample from ",
        stamp(row["start"], daily=results.daily),
        " to ",
        stamp(last, daily=results.daily),
        f", {row['bars']:,} bars.{warning if days < SHORT_SPAN_DAYS else ''}",
        kind="note",
    )


def _charts(results: SymbolResults, strategy: str, anchor: str) -> list[Html]:
    """Return the four charts of a strategy, each left out where it has nothing to show."""
    shown: list[Html] = []

    def add(name: str, figure: Any | None, height: int, title: str, caption: str) -> None:
        if figure is not None:
            box = chart(
                f"{anchor}-{name}",
                figure.to_json(),
                height=height,
                caption=caption,
                label=f"{title} of {results.symbol} {strategy}",
            )
            shown.append(section(f"{anchor}-{name}-section", title, box, level=3))

    count = len(results.trade_rows(strategy))
    many = count > plots.MOST_MARKED
    which = f"The latest {plots.MOST_MARKED} of {count:,} trades" if many else "All out-of-sample trades"
    add(
        "price",
        plots.price_figure(results, strategy),
        plots.HEIGHTS["price"],
        "Price, entries and exits",
        f"{which}, of the tuned strategy. Split-adjusted closes."
        + (" Double-click for the whole history." if many else ""),
    )
    if results.curve(strategy, "tuned") is not None:
        compounding = (
            "The strategy trades the same amount of money on every bar: tuned and untuned are not "
            "compounded, buy and hold is. Drawdown of tuned and untuned is a share of that amount, of the "
            "others a share of the last peak. A line ends where the account has lost nearly all: a fixed "
            "amount can lose more than there is."
            if results.is_levels(strategy)
            else "Test stretches one after the other; no search saw these bars."
        )
        add(
            "equity",
            plots.equity_figure(results, strategy),
            plots.HEIGHTS["equity"],
            "Equity and drawdown, out-of-sample",
            compounding,
        )
    figure = plots.parameters_figure(results, strategy)
    chosen = [traded_parameters(row) for row in results.chosen_folds(strategy)]
    count, idle = len({name for params in chosen for name in params}), chosen.count({})
    gaps = f"Gaps: {idle} of {len(chosen)} folds, which traded nothing. " if idle else ""
    add(
        "parameters",
        figure,
        plots.parameters_height(count),
        "Parameters over the folds",
        f"What each fold's training stretch chose; a diamond is tonight's fit. {gaps}Values that jump from "
        "fold to fold say that the search finds nothing lasting.",
    )
    add(
        "gap",
        plots.gap_figure(results, strategy),
        plots.HEIGHTS["gap"],
        "In-sample against out-of-sample",
        "One pair per fold. Where filled points lie well below hollow ones, the training result did not "
        "carry over.",
    )
    return shown


def _strategy(results: SymbolResults, strategy: str, anchor: str, charts: bool) -> Html:
    row = results.headline(strategy, "tuned")
    if row is None:
        why = results.left_out.get(strategy, "no out-of-sample result was published for it yet")
        return section(anchor, strategy, paragraph(f"This strategy has no result here: {why}"))
    content: list[object] = []
    if results.is_levels(strategy):
        content.append(
            paragraph(
                "A levels strategy: limit orders around the forecast high and low, closed inside each bar. "
                "Its results are ",
                tag("strong", "not compounded"),
                "; those of other strategies are.",
                kind="note",
            )
        )
    for policy in results.policies(strategy):
        words = policy_words(policy, results.finer)
        kind = "tag warn" if policy == "target" else "tag"
        content.append(paragraph(tag("span", f"exit: {policy}", class_=kind), f" {words}.", kind="note"))
    content += [fold_note(results, strategy), _span_note(results, row)]
    content.append(_facts(results, strategy, row))
    if charts:
        content += _charts(results, strategy, anchor)
    content += [
        section(f"{anchor}-forward", "Forward record", forward_part(results, strategy), level=3),
        section(f"{anchor}-luck", "How much may be luck", luck_table(results, strategy), level=3),
        section(f"{anchor}-trades", "Trades", trades_table(results, strategy), level=3),
        section(f"{anchor}-costs", "Costs", costs_table(results, strategy), level=3),
        section(f"{anchor}-folds", "Folds", folds_table(results, strategy), level=3),
    ]
    return tag(
        "section", tag("h2", tag("a", strategy, href=f"#{anchor}")), *content, id=anchor, class_="strategy"
    )


def symbol_page(
    results: SymbolResults,
    *,
    asof_us: int | None,
    sample_symbols: Collection[str],
    charts: bool,
) -> str:
    """Return one symbol's page.

    Parameters
    ----------
    results : SymbolResults
        What the lake holds of the symbol; may be empty.
    asof_us : int or None
        The clock of the run, µs UTC.
    sample_symbols : collection of str
        Symbols whose prices are the committed sample.
    charts : bool
        False: tables only, no script in the page.
    """
    symbol = results.symbol
    anchors = {name: f"strategy-{place}" for place, name in enumerate(results.strategies, start=1)}
    links = [("orders", "Next orders"), ("results", "Results"), *((a, name) for name, a in anchors.items())]
    links += [("forecasts", "Forecasts"), ("reading", "How to read this")]
    facts = " \N{MIDDLE DOT} ".join(part for part in (price_age([results]), asof_text(asof_us)) if part)
    top = [
        paragraph(tag("a", "\N{LEFTWARDS ARROW} All symbols", href="index.html"), kind="sub"),
        tag("h1", f"{symbol}: what each strategy would do at the next open"),
        paragraph(tag("span", PAPER_ONLY, class_="paper"), kind="lead"),
        paragraph(facts, kind="sub"),
        paragraph(f"Bars: {results.gaps}.", kind="sub") if results.gaps else None,
        failures([results]),
        old_prices_banner([results], asof_us),
        tag("nav", *(tag("a", label, href=f"#{anchor}") for anchor, label in links), aria_label="Sections"),
    ]
    missing = missing_notes([results])
    found: list[object] = (
        [results_table(results)] if results.has_results else [paragraph("No out-of-sample result yet.")]
    )
    if symbol in sample_symbols:
        found.append(paragraph(SAMPLE_NOTE, kind="note"))
    levels = any(results.is_levels(name) for name in anchors)
    drawn = charts and results.has_results
    content = [
        tag("section", orders_table([results], with_symbol=False), id="orders"),
        section("missing", "What is missing", missing) if missing is not None else None,
        section("champions", "Champion", decisions_table([results])),
        section("results", "Results, out of sample", *found),
        *(_strategy(results, name, anchor, drawn) for name, anchor in anchors.items()),
        section("forecasts", "Forecast quality", quality_table(results)),
        section("reading", "How to read this", how_to_read(levels=levels, page="symbol")),
    ]
    return page(f"{symbol} \N{MIDDLE DOT} nightfold", top, content, charts=drawn)
