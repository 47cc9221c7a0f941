"""The leaderboard's rows, and their table on the front page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.lake.publish import Lake
from engine.reports.forward import record_summary
from engine.reports.html import Column, Html, dash, join, number, percent, table, tag, whole
from engine.reports.labels import CLEAN, greyed
from engine.reports.parts import page_name
from engine.reports.results import Row, SymbolResults, cash_share, exposure, finite, load
from engine.reports.svg import gap, gap_range, spark

DRAWDOWN_TITLE = (
    "At closes, from the highest equity so far: a share of it, or of the amount traded where not compounded"
)


def _board_row(results: SymbolResults, strategy: str) -> Row | None:
    tuned = results.headline(strategy, "tuned")
    if tuned is None:
        return None
    beside = {
        name: results.headline(strategy, name) or {} for name in ("untuned", "matched_hold", "buy_and_hold")
    }
    champion, record = results.champion, record_summary(results, strategy) or {}
    return {
        "symbol": results.symbol,
        "strategy": strategy,
        "policy": ", ".join(results.policies(strategy)),
        "champion": champion is not None and champion["strategy"] == strategy,
        "compounded": not results.is_levels(strategy),
        "optimistic": results.is_optimistic(strategy),
        "label": tuned["label"],
        "status": tuned["status"],
        "start": tuned["start"].isoformat(),
        "end": results.last_bar_before(tuned["end"]).isoformat(),
        "bars": tuned["bars"],
        "folds": sum(row["label"] == tuned["label"] for row in results.per_fold(strategy)),
        "bps_per_bar": finite(tuned["bps_per_bar"]),
        "in_sample_bps_per_bar": finite(tuned["in_sample_bps_per_bar"]),
        "untuned_bps_per_bar": finite(beside["untuned"].get("bps_per_bar")),
        "untuned_bps_per_bar_equal_exposure": finite(beside["untuned"].get("bps_per_bar_equal_exposure")),
        "matched_hold_bps_per_bar": finite(beside["matched_hold"].get("bps_per_bar")),
        "buy_and_hold_bps_per_bar": finite(beside["buy_and_hold"].get("bps_per_bar")),
        "roi": finite(tuned["roi"]),
        "buy_and_hold_roi": finite(beside["buy_and_hold"].get("roi")),
        "sharpe": finite(tuned["sharpe"]),
        "annualisation": tuned["annualisation"],
        "max_drawdown": finite(tuned["max_drawdown"]),
        "trades": tuned["trades"],
        "exposure": exposure(tuned),
        "cash": cash_share(tuned),
        "forward_net_bps": finite(record.get("net_bps")),
        "forward_bars": record.get("bars", 0),
        "forward_since": record["since"].isoformat() if record.get("since") else None,
    }


def board_rows(results: Sequence[SymbolResults]) -> list[Row]:
    """Return what `leaderboard_rows` returns, of symbols that are read already."""
    rows: list[Row] = []
    for one in results:
        found = [row for name in one.strategies if (row := _board_row(one, name)) is not None]
        rows += sorted(found, key=_order)
    return rows


def _order(row: Row) -> tuple[bool, bool, float, str]:
    """Return the sort key inside a symbol: the most beyond the matched hold first, undefined last.

    After all of them come the rows that rest on folds which are not clean.
    """
    earned, held, tainted = row["bps_per_bar"], row["matched_hold_bps_per_bar"], row["label"] != CLEAN
    if earned is None or held is None:
        return tainted, True, 0.0, row["strategy"]
    return tainted, False, held - earned, row["strategy"]


def leaderboard_rows(lake: Lake, symbols: Sequence[str]) -> list[dict[str, Any]]:
    """Return the leaderboard: one row per symbol and strategy, out-of-sample numbers of the clean folds.

    Parameters
    ----------
    lake : Lake
        Tables ``backtests``, ``folds``, ``nightly``, ``champions``.
    symbols : sequence of str
        In the order wanted; a symbol without results gives no row.

    Returns
    -------
    list of dict
        Plain JSON values. Inside a symbol: the most basis points per bar beyond the matched hold first.
        ``exposure`` is the share of bars with a position, ``cash`` is 1 - gross exposure, ``start`` and
        ``end`` are the first and last bar as ISO times in UTC, ``annualisation`` is the number of days
        a year behind ``sharpe``.
        ``label`` is ``clean``, or says why no fold is: then the numbers are those of all folds.
        ``forward_net_bps`` is what the forward record earned over all its ``forward_bars``.
        ``compounded`` is False for levels strategies, ``optimistic`` is True where an exit policy
        ``target`` was chosen.

    NaN: undefined numbers are None.
    """
    return board_rows([load(lake, symbol) for symbol in symbols])


def strategy_label(row: Row, *, earlier: bool = False) -> Html:
    """Return a strategy's name with what has to be known beside its numbers."""
    parts: list[object] = [row["strategy"]]
    if earlier:
        parts.append(join([" ", tag("span", "earlier run", class_="tag bad")]))
    if row["champion"]:
        parts.append(join([" ", tag("span", "champion", class_="tag good")]))
    if row["optimistic"]:
        parts.append(join([" ", tag("span", "optimistic", class_="tag warn")]))
    if row["label"] != CLEAN:
        parts.append(join([" ", tag("span", row["label"], class_="tag bad")]))
    if not row["compounded"]:
        parts.append(tag("span", "not compounded", class_="small"))
    if row["status"] not in ("valid", "ok"):
        parts.append(tag("span", f"status: {row['status']}".replace("_", " "), class_="small"))
    return join(parts)


def sharpe_heading(values: Sequence[object]) -> tuple[str, bool]:
    """Return the heading of a Sharpe column, and whether each cell has to name its days a year."""
    days = sorted({int(value) for value in values if isinstance(value, int)})
    if len(days) == 1:
        return f"Sharpe ratio ({days[0]} days a year)", False
    return "Sharpe ratio (days a year)", True


def sharpe_cell(value: object, annualisation: object, *, named: bool) -> Html:
    """Return a Sharpe ratio, with its days a year where the heading does not say them."""
    written = number(value, 2, sign=True)
    return join([written, f" ({annualisation})"]) if named else written


def _over(value: Html, *below: object) -> Html:
    """Return a number with a smaller one under it."""
    return join([value, tag("span", *below, class_="small")])


def _forward(row: Row) -> Html:
    """Return the sum of the forward record over its number of bars and first day."""
    if not row["forward_bars"]:
        return dash("no night is scored yet")
    since = f"{row['forward_bars']:,} bars since {row['forward_since'][:10]}"
    return _over(number(row["forward_net_bps"], 1, sign=True), since)


def board_table(rows: Sequence[Row], results: Sequence[SymbolResults]) -> Html:
    """Return the leaderboard as a table of the front page."""
    sharpe, named = sharpe_heading([row["annualisation"] for row in rows])
    bps = "Basis points per bar"
    columns = [
        Column("Symbol", numeric=False),
        Column("Strategy", numeric=False),
        Column("Bars", title="Out-of-sample bars; each row is compared on its own bars"),
        Column("Out-of-sample", group=bps),
        Column("In-sample", group=bps, title="On the training stretches, where the parameters were chosen"),
        Column(
            "In-sample to out-of-sample",
            numeric=False,
            group=bps,
            title="Hollow: in-sample. Filled: "
            "out-of-sample. Green tick: matched hold. Thin line: zero. One scale for all rows.",
        ),
        Column("Untuned / at equal exposure", group=bps),
        Column("Matched hold / buy and hold", group=bps),
        Column("Return / buy and hold"),
        Column(sharpe),
        Column("Largest drawdown", title=DRAWDOWN_TITLE),
        Column("Trades"),
        Column(
            "Time in market / cash",
            title="Share of bars with a position at the close; average share of cash",
        ),
        Column(
            "Forward record",
            title="What the nights' own fits earned so far, basis points over all its bars; decides nothing",
        ),
        Column("Equity", numeric=False, title="Out-of-sample, log scale: tuned, and buy and hold thin"),
    ]
    by_symbol = {one.symbol: one for one in results}
    span = gap_range(rows)
    lines: list[list[object]] = [
        [
            tag("a", row["symbol"], href=page_name(row["symbol"])),
            strategy_label(row, earlier=bool(by_symbol[row["symbol"]].problem)),
            whole(row["bars"]),
            tag("strong", number(row["bps_per_bar"], sign=True)),
            number(row["in_sample_bps_per_bar"], sign=True),
            gap(row, span),
            _over(
                number(row["untuned_bps_per_bar"], sign=True),
                number(row["untuned_bps_per_bar_equal_exposure"], sign=True),
            ),
            _over(
                number(row["matched_hold_bps_per_bar"], sign=True),
                number(row["buy_and_hold_bps_per_bar"], sign=True),
            ),
            _over(percent(row["roi"], sign=True), percent(row["buy_and_hold_roi"], sign=True)),
            sharpe_cell(row["sharpe"], row["annualisation"], named=named),
            percent(row["max_drawdown"]),
            whole(row["trades"]),
            _over(percent(row["exposure"], 0), percent(row["cash"], 0)),
            _forward(row),
            spark(by_symbol[row["symbol"]], row["strategy"]),
        ]
        for row in rows
    ]
    for place, row in enumerate(rows):
        lines[place][2:] = [greyed(cell, row) for cell in lines[place][2:]]
    return table(columns, lines, stacked=True, label="Leaderboard")
