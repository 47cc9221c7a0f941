"""vectorbt's arms: W1 by three routes, W2. Runs in the peers' environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import vectorbt as vbt
from worker import serve
from workloads import FAST, SLOW, TICK, UNITS, crosses, load, pairs

FEE, CASH = 0.001, 1e5


def _later(signals: Any) -> Any:
    """Move signals one bar on: they fill at the next open."""
    later = np.zeros_like(signals)
    later[1:] = signals[:-1]
    return later


def _single(portfolio: Any) -> dict[str, Any]:
    """Take from a portfolio what W1 asks for; all of it is computed here, so inside the timing."""
    equity = portfolio.value()
    return {
        "final": float(portfolio.final_value()),
        "trades": int(portfolio.trades.closed.count()),
        "drawdown": -float(portfolio.max_drawdown()),
        "fees": float(portfolio.orders.fees.sum()),
        "fills": len(portfolio.orders.values),
        "bars": len(equity),
    }


def _portfolio(close: Any, opening: Any, entries: Any, exits: Any, units: float, engine: str) -> Any:
    return vbt.Portfolio.from_signals(
        close, _later(entries), _later(exits), price=opening, size=units, fees=FEE, init_cash=CASH,
        freq="1min", engine=engine,
    )  # fmt: skip


def w1(folder: Path, series: str, route: str) -> Any:
    """W1: own moving averages (route numba or rust: the engine), or exact signals made by numpy."""
    bars = load(folder, series)
    index = pd.to_datetime(bars["ts"], unit="us")
    close, opening = (pd.Series(bars[name], index) for name in ("close", "open"))
    units, engine = UNITS[series], "rust" if route == "rust" else "numba"

    def own_averages() -> dict[str, Any]:
        fast = vbt.MA.run(close, FAST, engine=engine)
        slow = vbt.MA.run(close, SLOW, engine=engine)
        entries = fast.ma_crossed_above(slow).to_numpy()
        exits = fast.ma_crossed_below(slow).to_numpy()
        return _single(_portfolio(close, opening, entries, exits, units, engine))

    def numpy_signals() -> dict[str, Any]:
        entries, exits = crosses(bars["close"], FAST, SLOW, TICK[series])
        return _single(_portfolio(bars["close"], bars["open"], entries, exits, units, engine))

    return numpy_signals if route == "numpy" else own_averages, lambda found: found


def w2(folder: Path, count: int, route: str) -> Any:
    """W2: final equity and drawdown of many pairs of windows in one call."""
    bars = load(folder, "E5K")
    index = pd.to_datetime(bars["ts"], unit="us")
    close, opening = (pd.Series(bars[name], index) for name in ("close", "open"))
    fast_n, slow_n = pairs(count)
    engine = "rust" if route == "rust" else "numba"

    def averages(windows: np.ndarray) -> Any:
        return vbt.MA.run(close, windows.tolist(), run_unique=True, engine=engine)

    def call() -> dict[str, Any]:
        if route == "exact":
            found = [crosses(bars["close"], f, s, TICK["E5K"]) for f, s in zip(fast_n, slow_n, strict=True)]
            entries, exits = (np.column_stack(signals) for signals in zip(*found, strict=True))
        else:
            fast, slow = averages(fast_n), averages(slow_n)
            entries = fast.ma_crossed_above(slow).to_numpy()
            exits = fast.ma_crossed_below(slow).to_numpy()
        portfolio = _portfolio(close, opening.to_numpy()[:, None], entries, exits, UNITS["E5K"], engine)
        return {
            "final": portfolio.final_value().to_numpy(),
            "drawdown": -portfolio.max_drawdown().to_numpy(),
        }

    return call, lambda found: dict(found)


if __name__ == "__main__":
    serve({"w1": w1, "w2": w2})
