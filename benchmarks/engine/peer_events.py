"""The arms of backtesting.py and backtrader: data sets, W1, W3's parity form. The peers' environment."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import talib
from worker import serve
from workloads import COLUMNS, FAST, SLOW, UNITS, load, save

warnings.filterwarnings("ignore")  # both warn of open trades and of their own internals
FEE, CASH = 0.001, 1e5
FRAME = ["Open", "High", "Low", "Close", "Volume"]


def series(folder: Path) -> Any:
    """Write the two data sets that come with backtesting.py."""
    from backtesting.test import EURUSD, GOOG

    def call() -> dict[str, int]:
        for name, frame in (("E5K", EURUSD), ("GOOG", GOOG)):
            ts = frame.index.to_numpy().astype("datetime64[us]").astype(np.int64)
            columns = [ts, *(frame[column].to_numpy(np.float64) for column in FRAME)]
            save(folder, name, dict(zip(COLUMNS, columns, strict=True)))
        return {"E5K": len(EURUSD), "GOOG": len(GOOG)}

    return call, lambda found: found


def _frame(folder: Path, name: str) -> pd.DataFrame:
    bars = load(folder, name)
    columns = {title: bars[column] for title, column in zip(FRAME, COLUMNS[1:], strict=True)}
    return pd.DataFrame(columns, index=pd.to_datetime(bars["ts"], unit="us"))


def _drawdown(equity: np.ndarray) -> float:
    return float(np.max(1.0 - equity / np.maximum.accumulate(equity)))


def w1_backtesting(folder: Path, series: str) -> Any:
    """W1 by backtesting.py, its indicators by pandas as in its own examples."""
    from backtesting import Backtest, Strategy
    from backtesting.lib import crossover
    from backtesting.test import SMA

    class Cross(Strategy):
        def init(self) -> None:
            self.fast = self.I(SMA, self.data.Close, FAST)
            self.slow = self.I(SMA, self.data.Close, SLOW)

        def next(self) -> None:
            if not self.position and crossover(self.fast, self.slow):
                self.buy(size=int(UNITS[series]))
            elif self.position and crossover(self.slow, self.fast):
                self.position.close()

    test = Backtest(_frame(folder, series), Cross, cash=CASH, commission=FEE, finalize_trades=False)
    return test.run, lambda stats: {
        "final": float(stats["Equity Final [$]"]),
        "trades": int(stats["# Trades"]),
        "drawdown": -float(stats["Max. Drawdown [%]"]) / 100,
        "fees": float(stats["Commissions [$]"]),
    }


def w3_backtesting(folder: Path) -> Any:
    """W3's parity form by backtesting.py, indicators by TA-Lib."""
    from backtesting import Backtest, Strategy
    from backtesting.lib import crossover
    from backtesting.test import SMA

    class Stops(Strategy):
        def init(self) -> None:
            high, low, close = (np.asarray(self.data[name]) for name in ("High", "Low", "Close"))
            self.fast = self.I(SMA, self.data.Close, FAST)
            self.slow = self.I(SMA, self.data.Close, SLOW)
            self.adx = self.I(talib.ADX, high, low, close, 14)
            self.atr = self.I(talib.ATR, high, low, close, 14)
            self.distance = math.nan

        def next(self) -> None:
            atr, close = self.atr[-1], self.data.Close[-1]
            for trade in self.trades:
                highest = max(trade.entry_price, np.max(np.asarray(self.data.High)[trade.entry_bar :]))
                trade.sl = max(trade.sl, highest - self.distance)
            if self.position:
                if crossover(self.slow, self.fast):
                    self.position.close()
            elif crossover(self.fast, self.slow) and self.adx[-1] >= 20 and atr > 0:
                units = math.floor(0.01 * self.equity / (2 * atr) + 1e-9)
                if units > 0:
                    self.distance = 2.5 * atr
                    self.buy(size=units, sl=close - 2 * atr, tp=close + 3 * atr)

    test = Backtest(_frame(folder, "GOOG"), Stops, cash=CASH, commission=0.0005, finalize_trades=False)

    def answer(stats: Any) -> dict[str, Any]:
        trades = stats["_trades"].sort_values("EntryBar")
        equity = stats["_equity_curve"]["Equity"].to_numpy()
        return {
            "final": float(stats["Equity Final [$]"]),
            "trades": len(trades),
            "drawdown": _drawdown(equity),
            "fees": float(stats["Commissions [$]"]),
            "equity": equity,
            "rows": trades[["EntryBar", "ExitBar", "Size", "EntryPrice", "ExitPrice"]].to_numpy(np.float64),
        }

    return test.run, answer


def w1_backtrader(folder: Path, series: str) -> Any:
    """W1 by backtrader."""
    import backtrader as bt

    class Cross(bt.Strategy):
        def __init__(self) -> None:
            fast, slow = (bt.indicators.SimpleMovingAverage(period=n) for n in (FAST, SLOW))
            self.cross = bt.indicators.CrossOver(fast, slow)
            self.equity = [CASH] * SLOW
            self.closed, self.fees = 0, 0.0

        def next(self) -> None:
            self.equity.append(self.broker.getvalue())
            if not self.position and self.cross[0] > 0:
                self.buy(size=UNITS[series])
            elif self.position and self.cross[0] < 0:
                self.close()

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                self.fees += order.executed.comm

        def notify_trade(self, trade: Any) -> None:
            self.closed += trade.isclosed

    frame = _frame(folder, series)

    def call() -> Any:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.addstrategy(Cross)
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
        cerebro.broker.setcash(CASH)
        cerebro.broker.setcommission(commission=FEE)
        return cerebro.run()[0]

    return call, lambda done: {
        "final": done.broker.getvalue(),
        "trades": done.closed,
        "drawdown": _drawdown(np.array(done.equity)),
        "fees": done.fees,
    }


if __name__ == "__main__":
    serve({
        "series": series,
        "w1_backtesting": w1_backtesting,
        "w1_backtrader": w1_backtrader,
        "w3_backtesting": w3_backtesting,
    })  # fmt: skip
