"""The leaderboard and the next orders as text, for the command line and ``make backtest``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from engine.bars.model import iso
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake, rows_of
from engine.reports.board import leaderboard_rows
from engine.reports.current import current_orders
from engine.reports.labels import CLEAN
from engine.reports.words import order_sentence

if TYPE_CHECKING:
    import pandas as pd

PAPER_ONLY = "paper only: nightfold places no orders"
_UNDEFINED = "-"
# Heading, key of `leaderboard_rows`, digits, factor; a narrow terminal loses columns from the end.
_COLUMNS = (
    ("tuned", "bps_per_bar", 2, 1),
    ("on\nbars", "bars", 0, 1),
    ("untuned", "untuned_bps_per_bar", 2, 1),
    ("matched\nhold", "matched_hold_bps_per_bar", 2, 1),
    ("buy and\nhold", "buy_and_hold_bps_per_bar", 2, 1),
    ("in\nsample", "in_sample_bps_per_bar", 2, 1),
    ("Sharpe", "sharpe", 2, 1),
    ("draw-\ndown %", "max_drawdown", 1, 100),
    ("trades", "trades", 0, 1),
    ("cash\n%", "cash", 0, 100),
)


def console() -> Console:
    """Return a console that is wide enough for the leaderboard also where nobody watches.

    Names and texts are printed as they are: brackets and colons of theirs are no markup.
    """
    made = Console(markup=False, emoji=False, highlight=False)
    return made if made.is_terminal else Console(markup=False, emoji=False, highlight=False, width=120)


def print_next_orders(
    console: Console,
    lake: Lake,
    symbols: Sequence[str],
    failed: Collection[str] = (),
    *,
    procedures: Mapping[str, Mapping[str, str]],
) -> None:
    """Print what each strategy would do at the next open, one line an order, newest prices first.

    Parameters
    ----------
    console, lake, symbols
        Where to, where from, of which.
    failed : collection of str
        Symbols that failed in this run: an earlier run's orders are not tonight's, so none are shown.
    procedures : mapping of str to mapping of str to str
        Symbol to strategy to the procedure of now; orders of others are left out (`current_orders`).
    """
    outdated: list[str] = []
    by_bar: dict[int, list[str]] = {}
    decided = rows_of(lake.read("champions", ALL_SYMBOLS))
    held = {(row["symbol"], row["strategy"], row["settings_hash"]) for row in decided if row["in_force"]}
    for symbol in symbols:
        if symbol in failed:
            continue
        orders, left_out = current_orders(lake, symbol, procedures[symbol])
        outdated += left_out
        for row in orders:
            name = row["strategy"]
            name += " (champion)" if (symbol, name, procedures[symbol].get(name)) in held else ""
            line = f"  {symbol:<9} {name:<18} {_order(row)}"
            by_bar.setdefault(row["asof"], []).append(line)
    for asof, lines in sorted(by_bar.items(), reverse=True):
        heading = f"Next orders after the bar of {iso(asof)} ({PAPER_ONLY})"
        console.print(heading, style="bold", soft_wrap=True)
        for line in lines:
            console.print(line, soft_wrap=True)
    for line in outdated:
        console.print(line, soft_wrap=True)
    for symbol in symbols:
        if symbol in failed:
            kept = " (results of an earlier run are kept)" if lake.result_id("backtests", symbol) else ""
            console.print(f"{symbol}: failed in this run; no orders{kept}", style="bold", soft_wrap=True)


def _order(row: dict[str, Any]) -> str:
    if row["action"] == "none":
        return f"nothing: {row['note']}"
    parts = [f"{order_sentence(row)}"]
    named = (("limit", row["limit"]), ("stop", row["stop"]), ("target", row["target"]))
    parts += [f"{name} {_number(value)}" for name, value in named if _number(value) != _UNDEFINED]
    parts.append(f"{_number(row['quantity_per_100k'])} units per 100,000")
    return ", ".join(parts) + f" ({row['note']})"


def print_leaderboard(
    console: Console, lake: Lake, symbols: Sequence[str], failed: Collection[str] = ()
) -> None:
    """Print the out-of-sample leaderboard and who is champion; what ``failed`` kept is marked as older."""
    rows = [{**row, "symbol": _dated(row["symbol"], failed)} for row in leaderboard_rows(lake, symbols)]
    wide = console.options.update(max_width=1000)  # else the measure is cut at the terminal's width
    shown = len(_COLUMNS)
    while shown > 1 and console.measure(_table(rows, shown), options=wide).maximum > console.width:
        shown -= 1
    if rows:
        console.print("Out of sample, after costs (bps per bar)", style="bold")
        console.print(_table(rows, shown))
        if shown < len(_COLUMNS):
            console.print("A wider terminal shows more columns, the report all.")
    print_champions(console, lake, symbols, failed)


def _dated(symbol: str, failed: Collection[str]) -> str:
    return f"{symbol} (earlier run)" if symbol in failed else symbol


def _table(rows: Sequence[dict[str, Any]], shown: int) -> Table:
    """Return the leaderboard with its first ``shown`` columns of numbers; a number is never cut."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("symbol", "strategy"):
        table.add_column(name, no_wrap=True)
    for heading, _, _, _ in _COLUMNS[:shown]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            _UNDEFINED if row.get(key) is None else f"{row[key] * factor:.{digits}f}"
            for _, key, digits, factor in _COLUMNS[:shown]
        ]
        label = "" if row["label"] == CLEAN else f" ({row['label']})"
        table.add_row(row["symbol"], row["strategy"] + label, *cells)
    return table


def print_champions(
    console: Console, lake: Lake, symbols: Sequence[str], failed: Collection[str] = ()
) -> None:
    """Print the champion of each symbol, or why there is none."""
    rows = rows_of(lake.read("champions", ALL_SYMBOLS))
    ready = [symbol for symbol in symbols if lake.result_id("backtests", symbol)]
    if not ready:
        console.print(f"no results of {', '.join(symbols)} yet. Make them: nightfold run", soft_wrap=True)
        return
    holders = {row["symbol"]: row for row in rows if row["in_force"] and row["symbol"] in ready}
    for symbol, row in sorted(holders.items()):
        name = _dated(symbol, failed)
        line = f"{name}: champion {row['strategy']} (p {row['p']:.3f}), parameters {row['params']}"
        console.print(line, soft_wrap=True)
    console.print(
        f"{len(holders)} of {len(ready)} symbols have a champion"
        + ("" if holders else ": no strategy's out-of-sample evidence holds against an exposure-matched hold")
        + f". Why: nightfold champions --why {ready[0] if len(ready) == 1 else 'KEY'}",
        soft_wrap=True,
    )


def print_reasons(console: Console, lake: Lake, symbol: str) -> None:
    """Print the decisions on one symbol, newest last, each with its reasons and evidence."""
    rows = [row for row in rows_of(lake.read("champions", ALL_SYMBOLS)) if row["symbol"] == symbol]
    if not rows:
        console.print(f"no decision on {symbol} yet. Make one: nightfold run {symbol}", soft_wrap=True)
    for row in rows:
        q = "" if _p(row.get("q")) == _UNDEFINED else f", q of the symbol's smallest p {_p(row['q'])}"
        decided = f"{row['strategy']}: {row['decision']} (p {_p(row['p'])}{q})"
        heading = f"{row['seq']} {iso(row['asof'])} {decided}"
        console.print(heading, soft_wrap=True)
        console.print(f"  {row['reasons'] or 'every condition is met'}", soft_wrap=True)
        for line in _evidence(json.loads(row["evidence"])):
            console.print(f"    {line}", soft_wrap=True)
        for name, (old, new) in json.loads(row.get("diff") or "{}").items():
            console.print(f"    {name}: {old} before, now {new}", soft_wrap=True)
    if rows:
        holder = next((f"{row['strategy']} (decision {row['seq']})" for row in rows if row["in_force"]), "")
        console.print(f"in force: {holder or 'no champion'} ({PAPER_ONLY})", soft_wrap=True)


def _evidence(found: dict[str, Any]) -> list[str]:
    """Return what a decision rests on, each number with what it needs."""
    needs = found["thresholds"]
    return [
        f"out-of-sample bars {found['bars']} (needs {needs['min_oos_bars']})",
        f"trades {found['trades']} (needs {needs['min_oos_trades']})",
        f"net {_number(found['net_bps'])} basis points per bar (needs more than 0)",
        f"excess over the matched hold {_number(found['excess_bps'])} basis points per bar "
        f"(needs {needs['min_improvement']:g})",
        f"t {_number(found['t'])}, p {_p(found['p'])} over {found.get('looked', _UNDEFINED)} procedures "
        f"(needs {1 - needs['confidence']:.3f} or less)",
    ]


def _p(value: float | None) -> str:
    return _UNDEFINED if value is None or value != value else f"{value:.3f}"


_LEVELS_NOTES = (
    "Basis points per bar, sums of net moves of a fixed notional, not compounded; in brackets the standard "
    "error over the simulations. in-sample: earned on the bars that the offsets were fitted to (the training "
    "parts overlap, so that its standard errors are too small). out of sample: earned on later bars.",
    "chosen: in each simulation the exit that earned most in training. untuned: zero offsets. buy_and_hold: "
    "price moves of the same notional, without costs. Nothing is held over a close, so that the matched hold "
    "is no_trade.",
)


def print_levels(console: Console, symbol: str, frame: pd.DataFrame) -> None:
    """Print what `engine.search.levels.backtest_forecasts` returned, means with their standard errors."""
    runs = frame[frame["row"] == "simulation"]
    tuned = runs[runs["variant"] == "tuned"]
    console.print(
        f"{symbol}: {runs['sim'].nunique()} simulations, test bars {runs['test_start'].min():%Y-%m-%d} to "
        f"{runs['test_end'].max():%Y-%m-%d}, solver {tuned['solver'].iloc[0]}, objective "
        f"{tuned['objective'].iloc[0]}",
        style="bold",
        soft_wrap=True,
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("strategy", "exit", "offsets"):
        table.add_column(name, no_wrap=True)
    for name in ("in-sample", "out of sample", "H %", "L %", "regret"):
        table.add_column(name, justify="right", no_wrap=True)
    keys = ["strategy", "policy", "variant"]
    means, errors = (frame[frame["row"] == kind].set_index(keys) for kind in ("mean", "standard_error"))
    for place, mean in means.iterrows():
        error = errors.loc[place]
        strategy, policy, variant = (str(part) for part in place)
        earned = [f"{mean[name]:.2f} ({error[name]:.2f})" for name in ("in_sample", "out_of_sample")]
        if variant == "no_trade":
            earned = ["0.00", "0.00"]
        rest = [f"{100 * mean['u']:+.3f}", f"{100 * mean['v']:+.3f}", _number(mean["regret"])]
        table.add_row(
            strategy or _UNDEFINED,
            (policy or _UNDEFINED) + (" (optimistic)" if mean["optimistic"] else ""),
            variant,
            *earned,
            *(rest if variant == "tuned" else [_UNDEFINED] * 3),
        )
    console.print(table)
    for note in _LEVELS_NOTES:
        console.print(note)
    if bool((runs["policy"] == "path").any()):
        console.print(
            "path: a same-bar target counts only where finer bars show that it came after the entry."
            if bool(runs["finer"].any())
            else "path: no finer bars were read, so that it is the same as close."
        )
    if bool(runs["optimistic"].any()):
        console.print(
            "optimistic: target exits are credited in the bar of the entry, without knowing which came first."
        )


def _number(value: float | None) -> str:
    return _UNDEFINED if value is None or value != value else f"{value:,.2f}"
