"""Rows that compare answers: each engine against ours, and ours against the recorded numbers."""

from __future__ import annotations

import numpy as np
from race import Runner
from record import row

# final equity, closed trades, drawdown, fees; as many decimals as were recorded
GOLDEN = {
    "W1 E5K": ("98768.4878", 83, "0.0135491028", "1936.5122"),
    "W1 S100K": ("99545.73936651", 1940, None, None),
    "W1 S1M": ("96242.58321543", 19460, None, None),
    "W3 GOOG, parity form": ("108689.287004", 17, "0.0274525216", "357.312440"),
    "W3 GOOG, default form": ("107735.648644", 17, "0.0329061716", "359.695617"),
}
FIRST_FILLS = ((119, 61.0, "196.96"), (123, 61.0, "181.431003"))  # of the parity form: bar, units, price
BEST = {1000: ("100863.4833", (62, 200)), 10_000: ("100868.9786", (62, 199))}  # of W2: final, windows


def _equal(found: float, recorded: str | int | None) -> bool:
    """Whether a number is the recorded one, as far as that has decimals."""
    if recorded is None:
        return True
    if isinstance(recorded, int):
        return found == recorded
    return abs(found - float(recorded)) <= 0.5000001 * 10.0 ** -len(recorded.partition(".")[2])


def _apart(a: float, b: float) -> float:
    """Return the difference of two numbers relative to the larger one."""
    return abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0


def golden(ours: dict[str, Runner], first_fills: list[list[object]]) -> dict:
    """Compare our runs with the recorded numbers."""
    names = ("final", "trades", "drawdown", "fees")
    differ, count = [], 0
    for label, recorded in GOLDEN.items():
        for name, expected in zip(names, recorded, strict=True):
            count += expected is not None
            if not _equal(ours[label].found[name], expected):
                differ.append(f"{label} {name} {ours[label].found[name]!r}, recorded {expected}")
    for (bar, units, price), (at, _, quantity, paid) in zip(FIRST_FILLS, first_fills, strict=True):
        count += 1
        if bar != at or units != quantity or not _equal(paid, price):
            differ.append(f"fill at bar {at}: {quantity} at {paid}, recorded {units} at {price} at {bar}")
    return row(
        "recorded numbers of W1 and W3 that differ",
        len(differ),
        "",
        0,
        detail="; ".join(differ) or f"{count} numbers",
    )


def best(count: int, final: np.ndarray, fast: np.ndarray, slow: np.ndarray) -> dict:
    """Compare the best config of a W2 sweep with the recorded one."""
    at = int(np.argmax(final))
    expected, windows = BEST[count]
    holds = _equal(final[at], expected) and (fast[at], slow[at]) == windows
    return row(
        f"W2 best of {count:,} that differs from the recorded one",
        not holds,
        "",
        0,
        detail=f"windows {fast[at]}, {slow[at]}: {final[at]:.4f}; recorded {windows}: {expected}",
    )


def single(label: str, ours: Runner, peer: str, theirs: Runner) -> dict:
    """Compare final equity, trades and drawdown of one run."""
    a, b = ours.found, theirs.found
    apart = {name: _apart(a[name], b[name]) for name in ("final", "drawdown")}
    worst = 1.0 if a["trades"] != b["trades"] else max(apart.values())
    detail = (
        f"final {a['final']:.8f} and {b['final']:.8f}, trades {a['trades']} and {b['trades']}, "
        f"fees differ by {abs(a['fees'] - b['fees']):.3g}"
    )
    return row(
        f"{label}: {peer} and ours apart (final, drawdown; equal trades)",
        worst / 1e-9,
        "1e-9",
        1,
        detail=detail,
    )


def sweep(label: str, ours: Runner, peer: str, exact: Runner, own: Runner) -> dict:
    """Count the configs whose final equity or drawdown differs by more than 1e-9.

    ``exact`` was given the crosses of whole-number sums; ``own`` made its averages itself, which
    round, so that ties count as crosses now and then: that count stands in the detail.
    """

    def off(theirs: Runner) -> int:
        pairs = [(ours.found[name], theirs.found[name]) for name in ("final", "drawdown")]
        return int(np.any([~np.isclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs], axis=0).sum())

    worst = float(np.max(np.abs(ours.found["final"] - own.found["final"])))
    detail = f"with its own averages {off(own)}, by at most {worst:.3g} of 100,000: ties"
    return row(f"{label}: those where {peer} and ours differ", off(exact), "", 0, detail=detail)


def trade_by_trade(ours: Runner, theirs: Runner) -> dict:
    """Compare entry bar, exit bar, size and prices of each trade, and equity at each bar."""
    a, b = ours.found, theirs.found
    same = a["rows"].shape == b["rows"].shape
    off = int((~np.isclose(a["rows"], b["rows"], rtol=1e-9, atol=0)).any(axis=1).sum()) if same else -1
    equity = float(np.max(np.abs(a["equity"] - b["equity"])))
    return row(
        "W3 GOOG, parity form: trades that differ from backtesting.py's",
        off if same else abs(len(a["rows"]) - len(b["rows"])),
        "",
        0,
        detail=f"{len(a['rows'])} and {len(b['rows'])} trades; equity at most {equity:.2g} apart",
    )


def indicator(name: str, ours: Runner, theirs: Runner) -> dict:
    """Compare two indicators value by value; ADX bit by bit."""
    a, b = ours.found["values"], theirs.found["values"]
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return row(f"W4 {name}: TA-Lib and ours apart", 1e12, "1e-12", 1, detail="first values differ")
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if name == "adx":
        return row(
            "W4 adx: values whose bits differ from TA-Lib's",
            int((a != b).sum()),
            "",
            0,
            detail=f"of {len(a):,}",
        )
    worst = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), np.finfo(float).tiny)))
    return row(f"W4 {name}: TA-Lib and ours apart", worst / 1e-12, "1e-12", 1, detail=f"{len(a):,} values")


def tables(name: str, ours: Runner, theirs: Runner) -> dict:
    """Compare the sums of the columns of many periods: each period got its own values."""
    off = ~np.isclose(ours.found["sums"], theirs.found["sums"], rtol=1e-9, atol=0)
    return row(
        f"W4 {name}: periods whose sum differs from TA-Lib's", int(off.sum()), "", 0, detail=f"of {len(off)}"
    )
