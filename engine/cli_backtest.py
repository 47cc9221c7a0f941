"""What ``nightfold backtest KEY STRATEGY`` is given and prints: one simulation with stated parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.stages.single import SingleRun

# words, key of the metrics, digits, factor
_NUMBERS = (
    ("total return, %", "roi", 2, 100),
    ("trades closed", "n_trades", 0, 1),
    ("winning trades, %", "win_rate", 1, 100),
    ("profit factor", "profit_factor", 2, 1),
    ("max drawdown, %", "max_drawdown", 2, 100),
    ("bars with a position at the close, %", "exposure", 1, 100),
    ("turnover a year", "turnover", 2, 1),
    ("fees", "fees", 2, 1),
    ("slippage", "slippage", 2, 1),
    ("financing", "financing", 2, 1),
    ("dividends", "dividends", 2, 1),
    ("Sharpe ratio, daily returns, annualised", "sharpe", 2, 1),
)


def named_values(given: Sequence[str]) -> dict[str, str]:
    """Return texts such as ``fast=20`` by name; each is named once."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in values:
            why = "is named twice" if name in values else "expected NAME=VALUE, such as fast=20"
            raise click.UsageError(f"--set {text!r}: {why}")
        values[name] = value
    return values


def print_single(done: SingleRun) -> None:
    """Print what one simulation did, and how it may be read."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from engine.bars.model import iso
    from engine.reports import terminal

    console = terminal.console()
    console.print(
        f"{done.symbol} {done.strategy}: one simulation, {done.bars} bars, "
        f"{iso(done.first)} to {iso(done.last)}",
        style="bold",
        soft_wrap=True,
    )
    values = [f"{name} {value} ({done.origin[name]})" for name, value in done.params.items()]
    console.print(f"parameters: {', '.join(values) or 'none'}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, show_edge=False, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row("status", done.status)
    table.add_row("net growth, bps per bar", _number(done.growth, 4))
    for words, key, digits, factor in _NUMBERS:
        table.add_row(words, _number(done.metrics[key] * factor, digits))
    console.print(table)
    for note in done.notes:
        console.print(note, soft_wrap=True)


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:,.{digits}f}"
