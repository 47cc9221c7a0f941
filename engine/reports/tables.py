"""Tables of a symbol's page: results, trades, costs, folds, forecast quality."""

from __future__ import annotations

from engine.reports.board import DRAWDOWN_TITLE, board_rows, sharpe_cell, sharpe_heading, strategy_label
from engine.reports.html import (
    Band,
    Column,
    Html,
    dash,
    details,
    join,
    number,
    paragraph,
    percent,
    price,
    stamp,
    table,
    tag,
    whole,
)
from engine.reports.labels import greyed
from engine.reports.results import VARIANTS, Row, SymbolResults, cash_share, exposure, parameters
from engine.reports.words import parameter_text, trade_reason

LATEST_TRADES = 200
_BPS = 1e4
_SPANS = {
    "before": "before the model's training ended",
    "after": "after the model's training ended",
    "clean": "never seen in training",
}


def results_table(results: SymbolResults) -> Html:
    """Return every strategy in every variant, one metric per column."""
    board = board_rows([results])
    sharpe, named = sharpe_heading([row["annualisation"] for row in board])
    columns = [
        Column("Variant", numeric=False),
        Column("Out-of-sample", group="Basis points per bar"),
        Column("At equal exposure", group="Basis points per bar"),
        Column("In-sample", group="Basis points per bar"),
        Column("Return"),
        Column("Return a year"),
        Column(sharpe),
        Column("Largest drawdown", title=DRAWDOWN_TITLE),
        Column("Trades"),
        Column("Winning trades"),
        Column("Time in market", title="Share of bars with a position at the close"),
        Column("Cash"),
    ]
    rows: list[list[object] | Band] = []
    for of_board in board:
        rows.append(Band(strategy_label(of_board)))
        for variant, name in VARIANTS.items():
            row = results.headline(of_board["strategy"], variant)
            if row is not None:
                rows.append([greyed(cell, row) for cell in _variant_cells(row, name, named=named)])
    return table(columns, rows, label="Results of every strategy and variant")


def _variant_cells(row: Row, name: str, *, named: bool) -> list[object]:
    """Return one line of the results table; ``named``: the Sharpe cell says its days a year."""
    tuned, fitted = row["variant"] == "tuned", row["variant"] in ("tuned", "untuned")
    strength = "strong" if tuned else "span"
    equal = row["bps_per_bar_equal_exposure"] if row["variant"] == "untuned" else row["bps_per_bar"]
    bps = number(row["bps_per_bar"], sign=True)
    return [
        tag(strength, name, class_="nowrap"),
        tag(strength, bps),
        number(equal, sign=True) if fitted else dash("not scaled"),
        number(row["in_sample_bps_per_bar"], sign=True) if fitted else dash("nothing is fitted"),
        percent(row["roi"], sign=True),
        percent(row["cagr"], sign=True),
        sharpe_cell(row["sharpe"], row["annualisation"], named=named),
        percent(row["max_drawdown"]),
        whole(row["trades"]),
        percent(row["win_rate"], 0),
        percent(exposure(row), 0),
        percent(cash_share(row), 0),
    ]


def costs_table(results: SymbolResults, strategy: str) -> Html:
    """Return what trading cost, out of sample, summed over the test stretches."""
    columns = [
        Column("Variant", numeric=False),
        Column("Fees"),
        Column("Slippage"),
        Column("Financing paid", title="Borrowing for short positions and negative cash"),
        Column("Dividends", title="Received on long positions less owed on short ones"),
        Column("Turnover a year", title="Value bought and sold over average equity; 1 = all of it once"),
    ]
    rows: list[list[object]] = []
    for variant in ("tuned", "untuned", "buy_and_hold"):
        row = results.headline(strategy, variant)
        if row is not None:
            money = [number(row[name], 0) for name in ("fees", "slippage", "financing", "dividends")]
            rows.append([VARIANTS[variant], *money, number(row["turnover"], 1)])
    return join(
        [
            table(columns, rows, label="Costs"),
            paragraph(
                "Sums over all test stretches, in account currency. All of them are in every result above.",
                kind="note",
            ),
        ]
    )


def trades_table(results: SymbolResults, strategy: str) -> Html:
    """Return the latest trades, their number, and the line that shows all of them."""
    trades = results.trade_rows(strategy)
    if not trades:
        return paragraph("No trade on the test stretches.")
    latest = trades[: -LATEST_TRADES - 1 : -1]
    columns = [
        Column("Trade", numeric=False),
        Column("Side", numeric=False),
        Column("Entry", numeric=False),
        Column("Exit", numeric=False),
        Column("Quantity"),
        Column("Entry price"),
        Column("Exit price"),
        Column("Profit", title="Net of all costs, dividends in"),
        Column("Fees"),
        Column("Slippage"),
        Column("Financing"),
        Column("Dividends"),
        Column("Bars held"),
        Column("Why it ended", numeric=False),
    ]
    rows = [
        [
            whole(row["trade"]),
            row["side"],
            tag("span", stamp(row["entry_ts"], daily=results.daily), class_="nowrap"),
            "open"
            if row["reason"] == "open"
            else tag("span", stamp(row["exit_ts"], daily=results.daily), class_="nowrap"),
            number(row["quantity"], 2),
            price(row["entry_price"], "undefined"),
            price(row["exit_price"], "undefined"),
            number(row["pnl"], 0, sign=True),
            number(row["fees"]),
            number(row["slippage"]),
            number(row["financing"]),
            number(row["dividends"]),
            whole(row["bars_held"]),
            trade_reason(row["reason"]),
        ]
        for row in latest
    ]
    count = f"{len(trades):,} trade{'' if len(trades) == 1 else 's'}"
    still = sum(row["reason"] == "open" for row in trades)
    if still:
        count += f" ({len(trades) - still:,} closed, {still} open)"
    shown = f"Latest {len(latest)} of {count}" if len(latest) < len(trades) else f"All {count}"
    quoted = strategy.replace("'", "''")
    query = (  # a line for the reader to type; nothing here runs it
        f"select * from trades where symbol = '{results.symbol}' "  # noqa: S608
        f"and strategy = '{quoted}' and variant = 'tuned' order by entry_ts"
    )
    return join(
        [
            details(f"{shown}, newest first", table(columns, rows, label="Trades")),
            paragraph(
                "All of them, with their fills, are in the warehouse: ",
                tag("code", f'nightfold warehouse "{query}"'),
                kind="note",
            ),
        ]
    )


def folds_table(results: SymbolResults, strategy: str) -> Html:
    """Return the folds with their spans, what was chosen and what it then earned."""
    folds = results.chosen_folds(strategy)
    if not folds:
        return paragraph("No fold was cut for this strategy.")
    tested = {row["fold"]: row for row in results.per_fold(strategy)}
    untuned = {row["fold"]: row for row in results.per_fold(strategy, "untuned")}
    levels, daily = results.is_levels(strategy), results.daily
    columns = [
        Column("Fold", numeric=False),
        Column("Training from", numeric=False),
        Column("to", numeric=False),
        Column("Test from", numeric=False),
        Column("to", numeric=False),
        Column("Test bars"),
        Column("Out-of-sample", group="Basis points per bar"),
        Column("In-sample", group="Basis points per bar"),
        Column("Untuned", group="Basis points per bar"),
        Column("Trades"),
        Column("Search", title="Parameter sets tried on the training stretch, or the solver used"),
        Column("Chosen", numeric=False),
        Column("Remarks", numeric=False),
    ]
    rows: list[list[object]] = []
    for fold in reversed(folds):
        test, plain = tested.get(fold["fold"], {}), untuned.get(fold["fold"], {})
        remarks = [
            "open: test stretch not full yet" if fold["open"] else "",
            "" if fold["status"] == "ok" else str(fold["status"]).replace("_", " "),
            "" if fold["label"] == "clean" else f"forecasts {fold['label']}",
            f"exit: {fold['policy']}" if fold["policy"] else "",
            "optimistic" if fold["policy"] == "target" else "",
        ]
        begun = fold["test_to"] > fold["test_from"]
        spans = [
            fold["train_start"],
            results.last_bar_before(fold["train_end"]),
            fold["test_start"] if begun else None,
            results.last_bar_before(fold["test_end"]) if begun else None,
        ]
        cells: list[object] = [
            whole(fold["fold"]),
            *(tag("span", stamp(when, daily=daily), class_="nowrap") for when in spans),
            whole(test.get("bars")),
            number(test.get("bps_per_bar"), sign=True),
            number(test.get("in_sample_bps_per_bar"), sign=True),
            number(plain.get("bps_per_bar"), sign=True),
            whole(test.get("trades")),
            fold["solver"] or whole(fold["n_trials"]),
            parameter_text(parameters(fold), levels=levels),
            ", ".join(remark for remark in remarks if remark),
        ]
        rows.append([greyed(cell, fold) for cell in cells])
    label = f"{len(folds)} fold{'' if len(folds) == 1 else 's'}, newest first"
    return details(label, table(columns, rows, label="Folds"))


def quality_table(results: SymbolResults) -> Html:
    """Return how the forecasts did against the two simple ones."""
    if not results.quality:
        return paragraph("No forecast was judged for this symbol.")
    columns = [
        Column("Forecast of", numeric=False),
        Column("Bars ahead"),
        Column("Span", numeric=False),
        Column("Judged"),
        Column("Filtered historical simulation", group="Skill against"),
        Column("Persistence", group="Skill against"),
        Column("t value", title="Of the difference to filtered historical simulation"),
        Column("Model", group="Pinball loss, basis points"),
        Column("Filtered historical simulation", group="Pinball loss, basis points"),
        Column("Persistence", group="Pinball loss, basis points"),
        Column("Median", group="Mean absolute error, basis points"),
        Column("Zero", group="Mean absolute error, basis points"),
        Column("Coverage of the 80 % band"),
        Column("Verdict", numeric=False),
    ]

    def bps(value: float | None) -> Html:
        return number(None if value is None else value * _BPS, 1)

    rows: list[list[object]] = []
    judged = sorted(results.quality, key=lambda r: (r["model_key"], r["step"], r["field"], r["span"]))
    for row in judged:
        loss, simple = row["pinball"], row["pinball_persist"]
        skill = 1.0 - loss / simple if loss is not None and simple else None
        verdict = str(row["verdict"])
        rows.append(
            [
                row["field"],
                whole(row["step"]),
                _SPANS.get(row["span"], row["span"]),
                whole(row["n"]),
                percent(row["skill_fhs"], sign=True),
                percent(skill, sign=True),
                number(row["t_fhs"], 1, sign=True),
                bps(loss),
                bps(row["pinball_fhs"]),
                bps(simple),
                bps(row["mae_p50"]),
                bps(row["mae_zero"]),
                percent(row["cover_80"], 0),
                tag("span", verdict, class_="tag warn" if verdict == "loses" else "tag"),
            ]
        )
    models = ", ".join(sorted({str(row["model_key"]) for row in results.quality}))
    return join(
        [
            table(columns, rows, label="Forecast quality"),
            paragraph(
                f"Model {models}. A model that loses to the simple forecasts gets a warning in the checks; "
                "it decides nothing about champions yet.",
                kind="note",
            ),
        ]
    )
