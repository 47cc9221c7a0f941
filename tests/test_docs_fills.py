"""Every worked example of docs/fills.md happens, long as written and mirrored to short."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
DAY_US = 86_400_000_000
LONG, SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8
SIGNALS = {"none": 0, "long": LONG, "short": SHORT, "exit": EXIT_LONG}


def table(heading):
    """Return the rows of the table under a heading of the page, each a dict by column."""
    page = (ROOT / "docs" / "fills.md").read_text(encoding="utf-8")
    body = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip()[1:-1].split("|") for line in body.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


class Example:
    """One line of the worked examples: bars, what was asked, and what must come out."""

    def __init__(self, row):
        self.bars = [[float(x) for x in bar.split()] for bar in row["bars 1, 2, ..."].split("/")]
        self.expected = [part.strip() for part in row["what happens"].split(";")]
        self.stop = self.trail = self.limit = None
        self.targets, self.execution, self.units = [], {}, 1.0
        self.at = {"signal": {0: "long"}, "volume": {}, "dividend": {}}
        for word in row["asked"].split():
            self._ask(*word.split("="))

    def _ask(self, key, value):
        name, _, bar = key.partition("@")
        if bar:
            self.at[name][int(bar)] = value if name == "signal" else float(value)
        elif key in ("stop", "trail", "units", "limit"):
            setattr(self, key, float(value))
        elif key == "target":
            distance, _, share = value.partition(":")
            self.targets.append((float(distance), float(share or 1)))
        else:
            key = "initial_cash" if key == "cash" else key
            number = int if key == "max_bars" else float
            self.execution[key] = number(value) if value[0].isdigit() else value

    def run(self, short):
        from engine.bars.model import Bars
        from engine.simulation import Execution, simulate
        from engine.strategies.rules import Signals

        rows = np.array([[100.0] * 4, *self.bars])
        o, h, lo, c = (200.0 - rows[:, [0, 2, 1, 3]] if short else rows).T
        n = len(rows)
        volume, dividend = np.full(n, 1000.0), np.zeros(n)
        for bar, value in self.at["volume"].items():
            volume[bar] = value
        for bar, value in self.at["dividend"].items():
            dividend[bar] = value
        bars = Bars("TEST", "1d", "24/7", np.arange(n) * DAY_US, o, h, lo, c, volume, np.ones(n), dividend)
        told = np.zeros(n, dtype=np.uint8)
        for bar, names in self.at["signal"].items():
            told[bar] = sum(SIGNALS[name] for name in names.split("+"))
        if short:
            told = (((told & (LONG | EXIT_LONG)) << 1) | ((told & (SHORT | EXIT_SHORT)) >> 1)).astype(
                np.uint8
            )

        def column(x):
            return None if x is None else np.full(n, x)

        targets = tuple((column(distance), share) for distance, share in self.targets)
        limit = 200.0 - self.limit if short and self.limit is not None else self.limit
        signals = Signals(
            told, column(self.stop), targets, column(self.trail), 2, self.units, None, column(limit)
        )
        free = {"fee_bps": 0.0, "slippage_bps": 0.0, "tick": 0.01, "close_at_end": False}
        execution = {**free, **self.execution}
        for flag in ("close_at_end", "limit_improvement", "breakeven_after_first"):
            execution[flag] = bool(execution.get(flag, False))
        return simulate(bars, signals, Execution(**execution), start=0, stop=n)

    def check(self, short):
        """Compare fills, counters, equity and position with the line, seen as if long."""
        result, side = self.run(short), -1.0 if short else 1.0
        cash = self.execution.get("initial_cash", 100_000.0)
        fills = [
            (int(ts // DAY_US), result.reasons[reason], 200.0 - price if short else price)
            for ts, reason, price in zip(
                result.fills["ts"], result.fills["reason"], result.fills["price"], strict=True
            )
        ]
        wanted = []
        for part in self.expected:
            if "=" not in part:
                bar, reason, price = part.split()
                wanted.append((int(bar), reason, pytest.approx(float(price), abs=1e-9)))
                continue
            key, value = part.split("=")
            name, _, bar = key.partition("@")
            if name == "equity":
                # a dividend is paid by a short: the mirror of its price move, not of its sign
                paid = sum(v for b, v in self.at["dividend"].items() if b > 1)
                gain = float(value) - cash - (2 * paid if short else 0.0)
                assert result.equity[int(bar)] == pytest.approx(cash + gain, abs=1e-9), part
            elif name == "position":
                assert result.position[int(bar)] == side * float(value), part
            elif name == "quantity":
                assert result.fills["quantity"][0] == pytest.approx(float(value)), part
            else:
                assert result.counters[name] == int(value), part
        assert fills == wanted


def worked_examples():
    return [*table("Examples"), *table("Size and cash")]


@pytest.mark.parametrize("short", [False, True], ids=["long", "short"])
@pytest.mark.parametrize("row", worked_examples(), ids=lambda row: f"{row.get('row', '')} {row['asked']}")
def test_every_worked_example_of_a_fill_happens(row, short):
    Example(row).check(short)


def test_every_rule_of_the_fill_table_has_an_example_and_a_test():
    rules = {row["row"] for row in table("Rules")}
    assert rules == {row["row"] for row in table("Examples")}
    tests = (ROOT / "tests/engine/simulation/test_kernel.py").read_text(encoding="utf-8")
    named = set(re.findall(r"row(?:s)?_(\d+a?)(?=_)", tests)) | set(re.findall(r"_and_(\d+a?)_", tests))
    assert rules <= named
