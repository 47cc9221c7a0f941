"""The specification of the bar loop: slow, plain Python, one function per group of rules.

Lists of floats in, lists and dicts out; no numpy, no compiler. A change of a fill rule changes
this file first; a property test holds `kernel.bar_loop` to it. Row numbers are those of the
fill table in the docs. Long and short are written out, not folded into one sign.
"""

from __future__ import annotations

import math
from typing import Any

from engine.bars.model import Bars, known_at
from engine.simulation.inputs import Execution

LONG, SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8
YEAR_US = 365.25 * 86_400e6


class Reference:
    """One run over bars [start, stop), from flat; see `simulate` for the arguments.

    Attributes
    ----------
    equity, position : list of float, length T
        At each close.
    fills : list of dict
        trade, ts, bar (within the span), side (+1 buy), quantity, price, fee, reason.
    trades : list of dict
        Closed trades, then the open one, if any, with reason ``open``.
    counters : dict of int
    """

    def __init__(self, bars: Bars, signals: Any, execution: Execution, start: int, stop: int) -> None:
        def part(column: Any) -> list[float]:
            return [float(x) for x in column[start:stop]]

        self.open, self.high, self.low, self.close, self.volume, self.dividend = (
            part(c) for c in (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.dividend)
        )
        self.step = [execution.tick / x for x in part(bars.adj)]  # the raw tick on each bar's own basis
        self.ts = [int(x) for x in bars.ts[start:stop]]
        self.end = [int(x) for x in known_at(bars.ts[start:stop], bars.frame, bars.calendar)]
        self.bits = [int(x) for x in signals.bits[start:stop]]
        self.stop_distance = None if signals.stop is None else part(signals.stop)
        self.trail_distance = None if signals.trail is None else part(signals.trail)
        self.size_distance = None if signals.size_distance is None else part(signals.size_distance)
        self.limit = None if signals.limit is None else part(signals.limit)
        seen = [False]  # whether the series has had any volume, up to each bar
        for volume in bars.volume[:stop].tolist():
            seen.append(seen[-1] or volume > 0.0)
        self.seen_volume = seen[start + 1 :]
        self.targets = [(part(distance), float(share)) for distance, share in signals.targets]
        self.size_kind = ("fraction", "risk", "units", "notional")[signals.size_kind]
        self.size_value = float(signals.size_value)
        self.rules = execution
        self.fee_rate, self.slip = execution.fee_bps / 1e4, execution.slippage_bps / 1e4
        names = ("signals_long", "signals_short", "conflicts", "orders_cut", "orders_refused",
                 "refused_levels", "signals_unfilled", "entry_beyond_stop", "limits_expired")  # fmt: skip
        self.counters = dict.fromkeys(names, 0)
        self.cash, self.units = execution.initial_cash, 0.0
        self.pending_exit: str | None = None
        # side, signal bar, equity there, limit or None
        self.pending_entry: tuple[int, int, float, float | None] | None = None
        self.halted_at: int | None = None
        self.trade: dict[str, Any] = {}
        self.fills: list[dict[str, Any]] = []
        self.trades: list[dict[str, Any]] = []
        self.equity: list[float] = []
        self.position: list[float] = []
        self._loop()

    def _loop(self) -> None:
        for t in range(len(self.ts)):
            entered = ""
            self._dividend(t)  # 6a
            trades = self.volume[t] > 0.0 or not self.seen_volume[t] or self.rules.fill_on_zero_volume  # 6
            if trades:
                if self.pending_exit is not None:  # 4, 7
                    self._exit(t, self._exit_quantity(), self.open[t], self.slip, self.pending_exit)
                    self.pending_exit = None
                if self.pending_entry is not None:  # 8, 9
                    entered = self._enter(t, *self.pending_entry)
                    self.pending_entry = None
                stopped = self.units != 0.0 and self._stop(t)  # 10, 11, 13
                if not stopped and self.units != 0.0:
                    known_path = entered == "open" and self.rules.target_in_entry_bar == "after_open_entry"
                    if not entered or known_path:  # 14
                        self._targets(t)  # 12, 15
                if self.units != 0.0:
                    self._trail(t)  # 16
            elif self.pending_entry is not None and self.pending_entry[3] is not None:
                self.pending_entry = None  # a limit is good for one bar only
                self.counters["limits_expired"] += 1
            self._interest(t)
            if trades and self.units != 0.0 and self.rules.max_bars is not None:
                self._too_long(t)  # 17
            self._mark(t)
            self._decide(t)  # 1, 3, 4, 5, 19
        if self.pending_exit is not None or self.pending_entry is not None:
            self.counters["signals_unfilled"] += 1
        if self.ts and self.units != 0.0:
            self._finish()  # 18

    def _dividend(self, t: int) -> None:
        if self.units != 0.0 and self.dividend[t] > 0.0:
            paid = self.units * self.dividend[t]
            self.cash += paid
            self.trade["dividends"] += paid
            self.trade["pnl"] += paid

    def _fill(self, t: int, side: int, quantity: float, price: float, reference: float, reason: str) -> float:
        fee = self.fee_rate * quantity * price
        self.cash -= side * quantity * price + fee
        self.trade["fees"] += fee
        self.trade["slippage"] += quantity * abs(price - reference)
        self.fills.append({
            "trade": len(self.trades), "ts": self.ts[t], "bar": t, "side": side, "quantity": quantity,
            "price": price, "fee": fee, "reason": reason,
        })  # fmt: skip
        return fee

    def _whole_lots(self, quantity: float) -> float:
        lot = self.rules.lot
        return math.floor(quantity / lot + 1e-9) * lot if lot > 0.0 else quantity

    def _quantity(self, signal_bar: int, equity: float, price: float) -> float:
        """Size, cash rule, lot, minimum (section 6); 0 = refused."""
        unit_cost = price * (1.0 + self.fee_rate)
        if self.size_kind == "fraction":
            quantity = self.size_value * equity / unit_cost
        elif self.size_kind == "risk":
            assert self.size_distance is not None  # noqa: S101
            quantity = self.size_value * equity / self.size_distance[signal_bar]
        elif self.size_kind == "units":
            quantity = self.size_value
        else:
            quantity = self.size_value / price
        limit = self.rules.leverage * self.cash / unit_cost
        cut = quantity > limit
        if cut and self.rules.cash_rule == "refuse":
            quantity = 0.0
        elif cut:
            quantity = limit
        quantity = self._whole_lots(quantity)
        if not quantity > 0.0 or quantity < self.rules.min_qty:
            self.counters["orders_refused"] += 1
            return 0.0
        self.counters["orders_cut"] += int(cut)
        return quantity

    def _reached(self, t: int, price: float, *, sell: bool) -> bool:
        """Rows 9, 12: whether bar t fills a limit; a millionth of a tick less is no less."""
        tick = self.step[t]
        if self.rules.limit_fill == "touch" or tick > 0.0:
            beyond = 0.0 if self.rules.limit_fill == "touch" else tick
            slack = 1e-6 * tick
            if sell:
                return self.high[t] - (price + beyond) >= -slack
            return self.low[t] - (price - beyond) <= slack
        return self.high[t] > price if sell else self.low[t] < price

    def _limit_price(self, t: int, side: int, limit: float) -> float | None:
        """Row 9: the price at which a limit entry fills in bar t, None = it does not."""
        if not self._reached(t, limit, sell=side < 0):
            return None
        improves = self.open[t] < limit if side > 0 else self.open[t] > limit
        return self.open[t] if improves and self.rules.limit_improvement else limit

    def _enter(self, t: int, side: int, signal_bar: int, equity: float, limit: float | None) -> str:
        """Fill an entry; return "open", "limit" or, where none was filled, ""."""
        if limit is None:
            reference = self.open[t]
            price = reference * (1.0 + self.slip) if side > 0 else reference * (1.0 - self.slip)
        else:
            found = self._limit_price(t, side, limit)
            if found is None:
                self.counters["limits_expired"] += 1
                return ""
            price = reference = found
        quantity = self._quantity(signal_bar, equity, price)
        if quantity == 0.0:
            return ""
        base = self.close[signal_bar] if self.rules.level_base == "signal_close" else price
        far = math.inf if self.stop_distance is None else self.stop_distance[signal_bar]
        self.trade = {
            "side": side, "entry_bar": t, "entry_ts": self.ts[t], "quantity": quantity, "entry_price": price,
            "fees": 0.0, "slippage": 0.0, "financing": 0.0, "dividends": 0.0, "pnl": 0.0, "exit_value": 0.0,
            "extreme": price, "trailed": False, "signal_bar": signal_bar,
            "stop": base - far if side > 0 else base + far,
            "targets": [
                (base + distance[signal_bar] if side > 0 else base - distance[signal_bar], share)
                for distance, share in self.targets
            ],
        }  # fmt: skip
        fee = self._fill(t, side, quantity, price, reference, "entry")
        self.trade["pnl"] = -fee
        self.units = quantity if side > 0 else -quantity
        stop = self.trade["stop"]
        self.counters["entry_beyond_stop"] += int(self.open[t] <= stop if side > 0 else self.open[t] >= stop)
        return "open" if limit is None else "limit"

    def _exit_quantity(self) -> float:
        """Row 4: an exit signal closes a fraction of the initial quantity, other exits close all."""
        rest, share = abs(self.units), self.rules.exit_fraction
        if self.pending_exit != "signal" or share == 1.0:
            return rest
        quantity = max(self._whole_lots(share * self.trade["quantity"]), self.rules.lot)
        return quantity if rest - quantity > 1e-12 * self.trade["quantity"] else rest

    def _exit(self, t: int, quantity: float, reference: float, slip: float, reason: str) -> None:
        long = self.units > 0.0
        price = reference * (1.0 - slip) if long else reference * (1.0 + slip)
        fee = self._fill(t, -1 if long else 1, quantity, price, reference, reason)
        gain = price - self.trade["entry_price"] if long else self.trade["entry_price"] - price
        self.trade["exit_value"] += quantity * price
        self.trade["pnl"] += quantity * gain - fee
        rest = abs(self.units) - quantity
        self.units = rest if long else -rest
        if rest <= 0.0:
            self.units = 0.0
            self._close_trade(t, reason)

    def _close_trade(self, t: int, reason: str) -> None:
        trade = self.trade
        trade["exit_price"] = trade["exit_value"] / trade["quantity"]
        trade.update(exit_ts=self.ts[t], bars_held=t - trade["entry_bar"], reason=reason)
        trade["trade"] = len(self.trades)
        self.trades.append(trade)

    def _stop(self, t: int) -> bool:
        stop, long = self.trade["stop"], self.units > 0.0
        if (self.low[t] > stop) if long else (self.high[t] < stop):
            return False
        gapped = self.open[t] <= stop if long else self.open[t] >= stop
        reason = "trail" if self.trade["trailed"] else "stop"
        self._exit(t, abs(self.units), self.open[t] if gapped else stop, self.slip, reason)
        return True

    def _targets(self, t: int) -> None:
        trade = self.trade
        while self.units != 0.0 and trade["targets"]:
            target, share = trade["targets"][0]
            long = self.units > 0.0
            if not self._reached(t, target, sell=long):
                return
            del trade["targets"][0]
            rest = abs(self.units)
            quantity = min(self._whole_lots(share * trade["quantity"]), rest)
            if not trade["targets"] or rest - quantity <= 1e-12 * trade["quantity"]:
                quantity = rest
            if quantity > 0.0:
                gapped = self.open[t] >= target if long else self.open[t] <= target
                self._exit(t, quantity, self.open[t] if gapped else target, 0.0, "target")
                if self.rules.breakeven_after_first:
                    self._break_even(long)

    def _break_even(self, long: bool) -> None:
        """Row 15: the stop moves to the entry price, which acts from the next bar on."""
        entry, stop = self.trade["entry_price"], self.trade["stop"]
        if entry > stop if long else entry < stop:
            self.trade["stop"], self.trade["trailed"] = entry, False

    def _trail(self, t: int) -> None:
        if self.trail_distance is None:
            return
        trade, distance = self.trade, self.trail_distance[self.trade["signal_bar"]]
        if self.units > 0.0:
            trade["extreme"] = max(trade["extreme"], self.high[t])
            stop = trade["extreme"] - distance
            tighter = stop > trade["stop"]
        else:
            trade["extreme"] = min(trade["extreme"], self.low[t])
            stop = trade["extreme"] + distance
            tighter = stop < trade["stop"]
        if tighter:
            trade["stop"], trade["trailed"] = stop, True

    def _too_long(self, t: int) -> None:
        """Row 17: out at the close of the m-th bar after the entry bar."""
        assert self.rules.max_bars is not None  # noqa: S101
        if t - self.trade["entry_bar"] >= self.rules.max_bars:
            self._exit(t, abs(self.units), self.close[t], self.slip, "max_bars")
            self.pending_exit = None

    def _interest(self, t: int) -> None:
        """Borrow on short notional and interest on negative cash, since the close before."""
        if self.units == 0.0 or t == 0:
            return
        share_of_year = (self.end[t] - self.end[t - 1]) / YEAR_US
        cost = 0.0
        if self.units < 0.0:
            cost += self.rules.borrow_bps_year / 1e4 * -self.units * self.close[t] * share_of_year
        if self.cash < 0.0:
            cost += self.rules.financing_bps_year / 1e4 * -self.cash * share_of_year
        self.cash -= cost
        self.trade["financing"] += cost
        self.trade["pnl"] -= cost

    def _mark(self, t: int) -> None:
        self.equity.append(self.cash + self.units * self.close[t])
        self.position.append(self.units)
        if self.equity[t] <= 0.0 and self.halted_at is None:
            self.halted_at = t

    def _decide(self, t: int) -> None:
        bits = self.bits[t]
        enter_long, enter_short = bool(bits & LONG), bool(bits & SHORT)
        exit_long, exit_short = bool(bits & EXIT_LONG), bool(bits & EXIT_SHORT)
        self.counters["signals_long"] += int(enter_long)
        self.counters["signals_short"] += int(enter_short)
        if self.halted_at is not None:  # 19
            self.pending_entry = None
            self.pending_exit = "ruin" if self.units != 0.0 else None
            return
        clean_long = enter_long and not (enter_short or exit_long)
        clean_short = enter_short and not (enter_long or exit_short)
        if self.units == 0.0:  # 3
            if clean_long:
                self._order_entry(t, 1)
            elif clean_short:
                self._order_entry(t, -1)
            elif enter_long or enter_short:
                self.counters["conflicts"] += 1
            return
        long = self.units > 0.0
        opposite, clean = (enter_short, clean_short) if long else (enter_long, clean_long)
        if self.rules.on_opposite == "reverse" and opposite:  # 5
            if clean:
                self.pending_exit, self.pending_entry = "reverse", None
                self._order_entry(t, -1 if long else 1)
                return
            self.counters["conflicts"] += 1
        if exit_long if long else exit_short:  # 4
            self.pending_exit, self.pending_entry = "signal", None

    def _order_entry(self, t: int, side: int) -> None:
        asked = [distance[t] for distance, _ in self.targets]
        for column in (self.stop_distance, self.trail_distance, self.size_distance, self.limit):
            if column is not None:
                asked.append(column[t])
        if not all(0.0 < distance < math.inf for distance in asked):
            self.counters["refused_levels"] += 1
            return
        limit = None if self.limit is None else self.limit[t]
        if limit is not None and self.step[t] > 0.0:  # row 9: buys round down, sells up
            steps = limit / self.step[t]
            limit = (math.floor(steps + 1e-9) if side > 0 else math.ceil(steps - 1e-9)) * self.step[t]
        self.pending_entry = (side, t, self.equity[t], limit)

    def _finish(self) -> None:
        t = len(self.ts) - 1
        if self.rules.close_at_end:
            self._exit(t, abs(self.units), self.close[t], self.slip, "end")
            self.equity[t], self.position[t] = self.cash, 0.0
            return
        rest, trade = abs(self.units), self.trade
        gain = self.close[t] - trade["entry_price"]
        trade["exit_value"] += rest * self.close[t]
        trade["pnl"] += rest * (gain if self.units > 0.0 else -gain)
        self._close_trade(t, "open")
