"""Parts that the front page and the symbol pages share: orders, decisions, what is missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from engine.reports.html import Column, Html, dash, join, number, paragraph, table, tag, text
from engine.reports.results import Row, SymbolResults, finite
from engine.reports.words import order_numbers, order_sentence, reason_text, valid_words

_Q_TITLE = (
    "Of the symbol, not of this row: it belongs to the smallest p of all its strategies and settings ever "
    "looked at, also those not shown. Share of false champions to expect if every symbol this good had one."
)


def page_name(symbol: str) -> str:
    """Return the file name of a symbol's page; INDEX must not meet index.html where case is not kept."""
    return f"{symbol}_.html" if symbol == "INDEX" else f"{symbol}.html"


def orders_table(results: Sequence[SymbolResults], *, with_symbol: bool) -> Html:
    """Return what each strategy would do at the next open, or a sentence where nothing is known.

    A symbol that failed has none: what an earlier run said is not for the next open. Nor has a strategy
    whose settings changed since its last fit, which a line below says.
    """
    columns = [
        *([Column("Symbol", numeric=False)] if with_symbol else []),
        Column("Strategy", numeric=False),
        Column("At the next open it would", numeric=False),
        Column("Limit"),
        Column("Stop"),
        Column("Target"),
        Column("Quantity per 100,000", title="Units to trade for each 100,000 of equity"),
        Column("Stands for", numeric=False),
        Column("Note", numeric=False),
    ]
    rows: list[list[object]] = []
    working = [one for one in results if not one.problem]
    for one in working:
        champion = one.champion
        for row in one.latest_orders:
            name: list[object] = [row["strategy"]]
            if champion is not None and champion["strategy"] == row["strategy"]:
                name.append(join([" ", tag("span", "champion", class_="tag good")]))
            if row["policy"]:
                name.append(tag("span", f"exit: {row['policy']}", class_="small"))
            if row["policy"] == "target":
                name.append(tag("span", "optimistic", class_="tag warn"))
            idle = row["action"] == "none"
            sentence = tag("span", order_sentence(row), class_="quiet" if idle else "paper")
            line: list[object] = [join(name), sentence, *order_numbers(row)]
            line += [valid_words(row["valid_for"]) or dash("none"), row["note"] or ""]
            link = tag("a", one.symbol, href=page_name(one.symbol))
            rows.append([link, *line] if with_symbol else line)
    if not working:
        return paragraph("No orders are shown: see the note above.", kind="note")
    notes = [paragraph(line, kind="note") for one in working for line in one.outdated]
    if rows:
        shown = table(columns, rows, stacked=True, label="What each strategy would do at the next open")
        return join([shown, *notes])
    if notes:
        return join(notes)
    return paragraph("No order is known yet: no strategy has a fit for the next open.", kind="note")


def decisions_table(results: Sequence[SymbolResults]) -> Html:
    """Return the decision and its reason per symbol and strategy."""
    columns = [
        Column("Symbol", numeric=False),
        Column("Decision", numeric=False),
        Column("Strategy", numeric=False),
        Column("p", title="Chance of such a result, or a better one, if no strategy looked at had an edge"),
        Column("q of the symbol", title=_Q_TITLE),
        Column("Reason", numeric=False),
    ]
    rows: list[list[object]] = []
    for one in results:
        if one.latest_decisions:
            above = None  # one q a symbol and night, so it is said once
            for row in one.latest_decisions:
                q = finite(row.get("q"))
                rows.append(
                    [
                        one.symbol,
                        _decision(row),
                        row["strategy"] or dash("none"),
                        number(row["p"], 3),
                        number(q, 3) if q is None or q != above else "",
                        reason_text(row["reasons"]),
                    ]
                )
                above = q
        else:
            why = "it has no results" if not one.has_results else "no decision was recorded yet"
            none = tag("span", "no champion", class_="nowrap")
            rows.append([one.symbol, none, dash("none"), dash(), dash(), why])
    caption = (
        "The reasons count closed folds only and take arithmetic means. The leaderboard shows log growth "
        "with the open fold in it, so that its numbers differ."
    )
    label = "Champions: decision and reason per symbol"
    return join([table(columns, rows, stacked=True, label=label), paragraph(caption, kind="note")])


def _decision(row: Row) -> Html:
    if row["in_force"]:
        return join([tag("span", "champion", class_="tag good"), f" {row['decision']}"])
    return text(str(row["decision"]).replace("_", " "))


def failures(results: Sequence[SymbolResults]) -> Html | None:
    """Return a note that names the symbols that failed, each with its reason, or None."""
    lines: list[Html] = []
    for one in results:
        if one.problem:
            reason = one.problem if one.problem.endswith((".", ")")) else f"{one.problem}."
            older = " What is shown of it is from an earlier run." if one.has_results else ""
            name = tag("strong", one.symbol)
            lines.append(tag("li", name, " failed: ", tag("span", reason, class_="message"), older))
    if not lines:
        return None
    who, them = ("1 symbol", "it") if len(lines) == 1 else (f"{len(lines)} symbols", "them")
    return tag(
        "div",
        paragraph(tag("strong", f"{who} failed in this run: no orders of {them} are shown.")),
        tag("ul", *lines),
        class_="banner failed",
        role="note",
    )


def missing_notes(results: Sequence[SymbolResults]) -> Html | None:
    """Return one plain sentence per symbol without results and per strategy that was left out, or None.

    Symbols that failed stand in `failures`.
    """
    known = sorted({name for one in results for name in one.strategies})
    lines: list[Html] = []
    for one in results:
        if one.problem:
            continue
        if not one.has_results:
            lines.append(
                tag(
                    "li",
                    tag("strong", one.symbol),
                    " has no results yet. Run: ",
                    tag("code", f"nightfold run {one.symbol}"),
                )
            )
        evaluated = {str(row["strategy"]) for row in one.backtests}
        names = sorted({*known, *one.left_out} - evaluated) if one.has_results else sorted(one.left_out)
        for name in names:
            why = one.left_out.get(name, "no out-of-sample result was published")
            lines.append(tag("li", tag("strong", one.symbol), f": strategy {name} is left out: {why}"))
    return tag("ul", *lines) if lines else None


def asof_text(asof_us: int | None) -> str:
    """Return when the report was written, from the clock of the run; empty where it is unknown."""
    if asof_us is None:
        return ""
    when = dt.datetime.fromtimestamp(asof_us / 1e6, dt.UTC)
    return f"written {when:%Y-%m-%d %H:%M} UTC"
