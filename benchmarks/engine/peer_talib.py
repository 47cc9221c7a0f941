"""TA-Lib's arms: W4, one indicator on S1M, and the same indicator for twenty periods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import talib
from worker import serve
from workloads import load

INDICATORS = {
    "atr": lambda b, n: talib.ATR(b["high"], b["low"], b["close"], n),
    "rsi": lambda b, n: talib.RSI(b["close"], n),
    "adx": lambda b, n: talib.ADX(b["high"], b["low"], b["close"], n),
    "ema": lambda b, n: talib.EMA(b["close"], n),
    "sma": lambda b, n: talib.SMA(b["close"], n),
    "bollinger": lambda b, n: talib.BBANDS(b["close"], n, 2.0, 2.0),
}


def w4(folder: Path, indicator: str, n: int) -> Any:
    """W4: arrays in, an array out."""
    bars, one = load(folder, "S1M"), INDICATORS[indicator]
    return lambda: one(bars, n), lambda found: {"values": np.array(found)}


def w4_table(folder: Path, indicator: str, periods: list[int]) -> Any:
    """W4 for many periods."""
    bars, one = load(folder, "S1M"), INDICATORS[indicator]

    def answer(found: list[Any]) -> dict[str, Any]:
        arrays = [array for group in found for array in (group if isinstance(group, tuple) else (group,))]
        return {"sums": [float(np.nansum(array)) for array in arrays]}

    return lambda: [one(bars, n) for n in periods], answer


if __name__ == "__main__":
    serve({"w4": w4, "w4_table": w4_table})
