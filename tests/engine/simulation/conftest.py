"""Bars and signals for the simulation's tests: hand-written micro bars, and random cases."""

from dataclasses import replace

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars
from engine.simulation import Execution
from engine.strategies.rules import Signals

DAY_US = 86_400_000_000
FREE = dict(fee_bps=0.0, slippage_bps=0.0, tick=0.01)
LONG, SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8


def _daily(rows, *, volume=None, dividend=None, adj=None):
    """Daily 24/7 bars from (open, high, low, close) rows."""
    o, h, lo, c = np.array(rows, dtype=float).reshape(-1, 4).T
    n = len(o)
    return Bars(
        "TEST", "1d", "24/7", np.arange(n) * DAY_US, o, h, lo, c,
        np.full(n, 1000.0) if volume is None else volume,
        np.ones(n) if adj is None else adj,
        np.zeros(n) if dividend is None else dividend,
    )  # fmt: skip


def _mirror(rows):
    """Turn long cases into short ones: prices reflected at 100."""
    return [(200.0 - o, 200.0 - lo, 200.0 - h, 200.0 - c) for o, h, lo, c in rows]


class Case:
    """One position of `units` at 100, entered at bar 1, long as written or short as its mirror image.

    Bar 0 (100 100 100 100) gives the signal. Results are reflected back, so that a test states
    the long case only and holds for both sides.
    """

    def __init__(self, side):
        self.side = side

    def price(self, long_price):
        return long_price if self.side == "long" else 200.0 - long_price

    def simulate(
        self, rows, *, stop=None, targets=(), trail=None, bits=None, volume=None, dividend=None,
        adj=None, size=(2, 1.0), size_distance=None, limit=None, **execution,
    ):  # fmt: skip
        from engine.simulation import simulate

        rows = [(100.0, 100.0, 100.0, 100.0), *rows]
        rows = rows if self.side == "long" else _mirror(rows)
        bars = _daily(rows, volume=volume, dividend=dividend, adj=adj)
        n = len(rows)
        told = np.zeros(n, dtype=np.uint8)
        told[0] = LONG
        for bar, bit in (bits or {}).items():
            told[bar] = bit
        if self.side == "short":
            told = ((told & 5) << 1) | ((told & 10) >> 1)

        def column(x):
            return None if x is None else np.full(n, float(x))

        signals = Signals(
            told.astype(np.uint8), column(stop), tuple((column(d), share) for d, share in targets),
            column(trail), size[0], size[1], column(size_distance),
            None if limit is None else column(self.price(limit)),
        )  # fmt: skip
        settings = {**FREE, "close_at_end": False, **execution}
        return simulate(bars, signals, Execution(**settings), start=0, stop=n)

    def exits(self, result):
        """(bar, price as if long, reason) of the exit fills."""
        fills = result.fills
        return [
            (int(ts // DAY_US), pytest.approx(self.price(price), abs=1e-9), result.reasons[reason])
            for ts, price, reason in zip(fills["ts"], fills["price"], fills["reason"], strict=True)
            if result.reasons[reason] != "entry"
        ]


@pytest.fixture(params=["long", "short"])
def case(request):
    return Case(request.param)


@pytest.fixture
def daily():
    return _daily


def _random_case(seed):
    """Bars, signals, execution and span drawn from one seed: every option, gaps, ties, NaN distances."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 3, 20, 60, 200, 400], p=[0.04, 0.04, 0.04, 0.2, 0.28, 0.2, 0.2]))
    calendar = str(rng.choice(["observed", "24/7"]))
    frame = str(rng.choice(["1d", "1h"]))
    made = make_bars(int(rng.integers(1_000_000)), n, frame, calendar=calendar, price=50.0, volatility=0.03)
    volume = made.volume * (rng.random(n) > rng.choice([0.0, 0.2, 1.0], p=[0.4, 0.5, 0.1]))
    dividend = np.where(rng.random(n) < 0.05, np.round(rng.uniform(0.01, 1.0, n), 2), 0.0)
    bars = Bars(
        "TEST",
        frame,
        calendar,
        made.ts,
        made.open,
        made.high,
        made.low,
        made.close,
        volume,
        made.adj,
        dividend,
    )

    def distance(scale):
        column = np.round(rng.uniform(0.2, 2.0, n) * scale, int(rng.integers(1, 5)))
        column[rng.random(n) < 0.03] = rng.choice([np.nan, 0.0, -1.0, np.inf])
        return column

    share = rng.choice([0.02, 0.1, 0.4])
    bits = sum((rng.random(n) < share).astype(np.uint8) << k for k in range(4)).astype(np.uint8)
    if rng.random() < 0.3:
        bits &= 5
    cuts = {0: (), 1: (1.0,), 2: (0.5, 1.0), 3: (0.3, 0.3, 0.4)}[int(rng.integers(4))]
    base = distance(1.0)
    kind = int(rng.integers(4))
    stop = distance(1.5) if rng.random() < 0.7 else None
    limit = bars.close + np.round(rng.normal(0.0, 1.0, n), 3)  # a price, better or worse than the close
    limit = np.where(rng.random(n) < 0.5, np.round(limit, 2), limit)  # on the tick: exact ties
    limit[rng.random(n) < 0.03] = rng.choice([np.nan, 0.0, -1.0, np.inf])
    signals = Signals(
        bits,
        stop,
        tuple((base * (1.0 + k), cut) for k, cut in enumerate(cuts)),
        distance(2.0) if rng.random() < 0.5 else None,
        kind,
        float(rng.choice([[0.5, 1.0, 3.0], [0.01, 0.05, 0.3], [1.0, 7.5, 3000.0], [900.0, 5e4, 2e5]][kind])),
        distance(1.0) if kind == 1 else None,
        limit if rng.random() < 0.4 else None,
    )
    execution = Execution(
        initial_cash=float(rng.choice([1000.0, 1e5])),
        leverage=float(rng.choice([0.95, 1.0, 4.0, 30.0])),
        cash_rule=str(rng.choice(["cut", "refuse"], p=[0.8, 0.2])),
        min_qty=float(rng.choice([0.0, 2.0])),
        limit_fill=str(rng.choice(["through", "touch"])),
        level_base=str(rng.choice(["fill", "signal_close"])),
        limit_improvement=bool(rng.random() < 0.3),
        breakeven_after_first=bool(rng.random() < 0.4),
        exit_fraction=float(rng.choice([1.0, 0.5, 0.3], p=[0.6, 0.2, 0.2])),
        max_bars=[None, None, None, 0, 3, 20][int(rng.integers(6))],
        target_in_entry_bar=str(rng.choice(["never", "after_open_entry"])),
        on_opposite=str(rng.choice(["hold", "reverse"])),
        fill_on_zero_volume=bool(rng.random() < 0.2),
        close_at_end=bool(rng.random() < 0.5),
        tick=float(rng.choice([0.0, 0.01])),
        lot=float(rng.choice([0.0, 1.0, 0.1])),
        fee_bps=float(rng.choice([0.0, 5.0, 60.0])),
        slippage_bps=float(rng.choice([0.0, 2.0, 100.0])),
        borrow_bps_year=float(rng.choice([0.0, 300.0])),
        financing_bps_year=float(rng.choice([0.0, 500.0])),
    )
    start = int(rng.integers(0, n // 3 + 1))
    stop_at = int(rng.integers(max(start, n - n // 4), n + 1))
    if rng.random() < 0.5:  # splits inside the span, reverse ones too: each bar has its own price step
        cuts_at = np.sort(rng.integers(0, n + 1, 2))
        factors = rng.choice([0.1, 0.5, 1.5, 2.0, 7.0], 2)
        adj = np.where(np.arange(n) < cuts_at[0], factors[0], 1.0) * np.where(
            np.arange(n) < cuts_at[1], factors[1], 1.0
        )
        bars = replace(bars, adj=adj)
    return bars, signals, execution, start, stop_at


@pytest.fixture
def random_case():
    return _random_case
