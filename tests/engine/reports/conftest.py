"""A lake with the real schemas, filled from a small simulated example."""

# fmt: off
import datetime as dt
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from engine.bars.synthetic import make_bars
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake
from engine.lake.schemas import METRICS, TABLES

CASH = 100_000.0
FIT = {"selected": True, "procedure": "p"}  # of every nightly fit
EPOCH = dt.datetime(1970, 1, 1)
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
E17 = "E17 FB has 196 bars; its smallest need is 830 (250 + 500 + 4 x 20). Leave the symbol out."


def when(us):
    return EPOCH + dt.timedelta(microseconds=int(us))


def publish(lake, table, key, rows):
    """Publish rows (dicts; columns not named are null) under a made record, on the folds there are."""
    schema = TABLES[table]
    full = [{name: row.get(name) for name in schema.names} for row in rows]
    inputs = {"folds": lake.result_id("folds", key)}
    stage = "folds" if table == "nightly" else table  # one stage publishes both, under one id
    record = {"stage": "example", "symbol": key, "result_id": f"{stage}-{key}", "inputs": inputs}
    lake.publish(table, key, pa.Table.from_pylist(full, schema=schema), record)


def ema(close, n):
    out = np.empty_like(close)
    out[0] = close[0]
    for t in range(1, len(close)):
        out[t] = out[t - 1] + 2.0 / (n + 1) * (close[t] - out[t - 1])
    return out


def drawdowns(equity):
    peak = np.maximum.accumulate(np.concatenate([[CASH], equity]))[1:]
    return 1.0 - equity / peak


def measured(moves, position, *, compound, trades, costs):
    """Return the metrics of one run: moves and position per bar, shape (T,)."""
    equity = CASH * (np.cumprod(1 + moves) if compound else 1 + np.cumsum(moves))
    returns = np.diff(np.concatenate([[CASH], equity])) / np.concatenate([[CASH], equity[:-1]])
    years = len(moves) / 252
    down = np.sqrt(np.mean(np.minimum(returns, 0) ** 2))
    spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
    worst = float(drawdowns(equity).max())
    cagr = (equity[-1] / CASH) ** (1 / years) - 1 if equity[-1] > 0 else np.nan
    wins = [t["pnl"] for t in trades if t["pnl"] > 0]
    losses = [t["pnl"] for t in trades if t["pnl"] <= 0]
    values = {
        "bps_per_bar": 1e4 * returns.mean(), "roi": equity[-1] / CASH - 1, "cagr": cagr,
        "sharpe": returns.mean() / spread * np.sqrt(252) if spread > 0 else np.nan,
        "sortino": returns.mean() / down * np.sqrt(252) if down > 0 else np.nan, "max_drawdown": worst,
        "calmar": cagr / worst if worst > 0 else np.nan,
        "profit_factor": sum(wins) / -sum(losses) if losses and sum(losses) < 0 else np.nan,
        "win_rate": len(wins) / len(trades) if trades else np.nan,
        "exposure": float(np.mean(position != 0)), "net_exposure": float(position.mean()),
        "gross_exposure": float(np.abs(position).mean()), "turnover": 2 * len(trades) / max(years, 1e-9),
        **costs,
    }
    assert set(values) == set(METRICS)
    return values, equity


class Example:
    """One symbol's made results; `rows` maps table to its rows."""

    def __init__(self, symbol, seed, bars):
        self.symbol, self.rng = symbol, np.random.default_rng(seed)
        self.bars = bars
        self.close = np.asarray(bars.close)
        self.moves = np.diff(self.close, prepend=self.close[0]) / np.concatenate(
            [self.close[:1], self.close[:-1]]
        )
        self.rows = {name: [] for name in TABLES}
        for t in range(len(bars)):
            columns = ("open", "high", "low", "close", "volume", "adj", "dividend")
            row = {name: float(getattr(bars, name)[t]) for name in columns}
            self.rows["bars"].append({"symbol": symbol, "ts": when(bars.ts[t]), **row})

    def ts(self, t):
        return when(self.bars.ts[t] if t < len(self.bars) else self.bars.ts[-1] + 86_400_000_000)

    def costs(self, trades):
        names = ("fees", "slippage", "financing", "dividends")
        return {name: float(sum(trade[name] for trade in trades)) for name in names}

    def trades_of(self, strategy, position, first):
        """Return one trade per stretch of constant position."""
        trades, start = [], None
        for t in range(len(position) + 1):
            now = position[t] if t < len(position) else 0.0
            before = position[t - 1] if t else 0.0
            if now == before:
                continue
            if start is not None:
                trades.append(
                    self.trade(strategy, len(trades), position[start], first + start, first + t - 1)
                )
                start = None
            if now != 0.0:
                start = t
        return trades

    def trade(self, strategy, number, side, entry, exit_):
        entry_price, exit_price = float(self.close[entry]), float(self.close[exit_])
        quantity = CASH / entry_price * abs(side)
        fees = 5e-4 * quantity * (entry_price + exit_price)
        held = exit_ - entry
        financing = 0.0 if side > 0 else 5e-3 * held / 252 * CASH
        pnl = np.sign(side) * quantity * (exit_price - entry_price) - fees - financing
        reason = ("stop", "target", "exit")[number % 3]
        return {
            "symbol": self.symbol, "strategy": strategy, "variant": "tuned", "trade": number, "fold": 0,
            "side": "long" if side > 0 else "short", "entry_ts": self.ts(entry),
            "exit_ts": self.ts(exit_), "quantity": quantity, "entry_price": entry_price,
            "exit_price": exit_price, "fees": fees, "slippage": fees * 0.4, "financing": financing,
            "dividends": 0.0, "pnl": float(pnl), "reason": reason, "bars_held": held, "fills": [],
        }

    def add(
        self, strategy, variant, moves, position, span, *, fold, policy, compound, inside, trades,
        selected=True, equal=float("nan"), keep_equity=False,
    ):
        """Add one backtest row, and its equity where it is the stitched one."""
        values, equity = measured(moves, position, compound=compound, trades=trades, costs=self.costs(trades))
        self.rows["backtests"].append(
            {
                "symbol": self.symbol, "strategy": strategy, "fold": fold, "policy": policy,
                "variant": variant, "start": self.ts(span[0]), "end": self.ts(span[1]),
                "bars": span[1] - span[0], "label": "clean", "selected": selected,
                "status": "valid" if variant != "no_trade" else "no_signal",
                "in_sample_bps_per_bar": inside, "bps_per_bar_equal_exposure": equal,
                "trades": len(trades), "annualisation": 252, **values,
            }
        )
        if keep_equity:
            falls = drawdowns(equity)
            self.rows["equity"] += [
                {
                    "symbol": self.symbol, "strategy": strategy, "variant": variant,
                    "ts": self.ts(span[0] + t), "fold": 0, "equity": float(equity[t]),
                    "position": float(position[t]), "drawdown": float(falls[t]), "label": "clean",
                }
                for t in range(len(moves))
            ]
        return values

    def fold(self, strategy, number, policy, train, test, purge, params, inside, **more):
        self.rows["folds"].append(
            {
                "symbol": self.symbol, "strategy": strategy, "fold": number, "policy": policy,
                "scheme": "rolling", "train_start": self.ts(train[0]), "train_end": self.ts(train[1]),
                "test_start": self.ts(test[0]), "test_end": self.ts(test[1]), "train_from": train[0],
                "train_to": train[1], "test_from": test[0], "test_to": test[1], "purge_bars": purge,
                "label": "clean", "params": json.dumps(params, sort_keys=True), "objective": "log_growth",
                "in_sample": inside, "in_sample_untuned": inside * 0.4, "status": "ok", "open": False,
                "selected": True, **more,
            }
        )

    def trend(self, warmup, train, test):
        n, strategy = len(self.bars), "trend"
        moves, sides, plain = [], [], []
        starts = list(range(warmup + train, n, test))
        base = np.sign(ema(self.close, 20) - ema(self.close, 100))
        for number, start in enumerate(starts):
            stop = min(start + test, n)
            fast, slow = int(self.rng.integers(5, 40)), int(self.rng.integers(9, 40)) * 5
            params = {
                "adx_min": float(self.rng.integers(10, 30)), "fast": fast, "slow": slow,
                "stop_atr": float(self.rng.integers(4, 16)) / 4,
                "target_atr": float(self.rng.integers(4, 16)) / 2,
            }
            side = np.sign(ema(self.close, fast) - ema(self.close, slow))[start - 1 : stop - 1] * 0.4
            part = self.moves[start:stop] * side - 1e-4 * (side != 0)
            inside = float(abs(self.rng.normal(4, 1.5)))
            self.fold(
                strategy, number, "",
                (start - train, start),
                (start, stop),
                0, params,
                inside / 1e4,
                n_trials=1056, n_pruned=610, study_id=f"s{number}", trial_number=7,
                open=stop - start < test,
            )
            trades = self.trades_of(strategy, side, start)
            common = dict(fold=number, policy="", compound=True)
            self.add(strategy, "tuned", part, side, (start, stop), inside=inside, trades=trades, **common)
            default = base[start - 1 : stop - 1] * 0.4
            self.add(
                strategy, "untuned",
                self.moves[start:stop] * default,
                default,
                (start, stop),
                inside=inside * 0.4, trades=[], **common,
            )
            moves.append(part), sides.append(side), plain.append(default)
        span = (starts[0], n)
        side, default = np.concatenate(sides), np.concatenate(plain)
        trades = self.trades_of(strategy, side, starts[0])
        self.rows["trades"] += trades
        self.stitched(strategy, span, np.concatenate(moves), side, default, trades, compound=True, policy="")
        last = self.rows["folds"][-1]
        self.rows["nightly"].append({**last, "asof": self.ts(n - 1), "in_sample": 5e-4, **FIT})
        price = float(self.close[-1])
        self.order(
            strategy, "", action="enter", side="long", type="market", stop=price * 0.94,
            target=price * 1.12, quantity_per_100k=40_000 / price, valid_for="next_open",
            note="fast average above slow since 12 bars",
        )

    def levels(self, strategy, warmup, train, test, policies=("path", "close")):
        n, edge = len(self.bars), {"levels_entry_exit": 1.5e-4, "levels_always_on": -1e-4}[strategy]
        moves = []
        starts = list(range(warmup + train, n, test))
        for number, start in enumerate(starts):
            stop = min(start + test, n)
            chosen = policies[int(self.rng.integers(0, len(policies)))]
            for policy in policies:
                params = {
                    "u": float(self.rng.normal(0.004, 0.003)), "v": float(self.rng.normal(-0.004, 0.003)),
                }
                part = self.rng.normal(edge, 0.007, stop - start)
                inside = float(abs(self.rng.normal(9, 3)))
                self.fold(
                    strategy, number, policy,
                    (start - train, start),
                    (start, stop),
                    0, params,
                    inside / 1e4,
                    solver="exact", n_trials=None, objective="smoothed", selected=policy == chosen,
                    open=stop - start < test,
                )
                for variant, scale in (("tuned", 1.0), ("untuned", 0.3)):
                    self.add(
                        strategy, variant, part * scale,
                        np.zeros(stop - start),
                        (start, stop),
                        fold=number, policy=policy, compound=False, inside=inside * scale, trades=[],
                        selected=policy == chosen,
                    )
                if policy == chosen:
                    moves.append(part)
        joined = np.concatenate(moves)
        flat = np.zeros(len(joined))
        filled = self.rng.random(len(joined)) < 0.6
        first = starts[0]
        trades = []
        for t in np.flatnonzero(filled):
            trade = self.trade(strategy, len(trades), 1 if t % 2 else -1, first + int(t), first + int(t))
            trades.append({**trade, "pnl": float(joined[t] * CASH), "reason": "close", "financing": 0.0})
        self.rows["trades"] += trades
        self.stitched(strategy, (first, n), joined, flat, flat, trades, compound=False, policy=policies[0])
        self.rows["nightly"].append({**self.rows["folds"][-1], "asof": self.ts(n - 1), **FIT})
        policy, price = self.rows["folds"][-1]["policy"], float(self.close[-1])
        for side, limit in (("long", price * 0.985), ("short", price * 1.014)):
            self.order(
                strategy, policy, action="enter", side=side, type="limit", limit=limit,
                quantity_per_100k=CASH / limit, valid_for="next_bar", note="exit at the close",
            )

    def stitched(self, strategy, span, moves, side, default, trades, *, compound, policy):
        market = self.moves[span[0] : span[1]]
        common = dict(fold=-1, policy=policy, keep_equity=True)
        self.add(
            strategy, "tuned", moves, side, span, inside=4.1 if compound else 8.8, trades=trades,
            compound=compound, **common,
        )
        plain = market * default if compound else moves * 0.3
        self.add(
            strategy, "untuned", plain, default, span, inside=1.9, trades=trades[::2], equal=0.71,
            compound=compound, **common,
        )
        nan = float("nan")
        held = np.full(len(moves), side.mean())
        self.add(
            strategy, "matched_hold",
            market * side.mean(),
            held, span, inside=nan, trades=[], compound=True, **common,
        )
        self.add(
            strategy, "buy_and_hold", market,
            np.ones(len(moves)),
            span, inside=nan, trades=[], compound=True, **common,
        )
        self.add(
            strategy, "no_trade", market * 0,
            np.zeros(len(moves)),
            span, inside=nan, trades=[], compound=True, **common,
        )

    def order(self, strategy, policy, **values):
        row = {
            "symbol": self.symbol, "strategy": strategy, "policy": policy,
            "asof": self.ts(len(self.bars) - 1),
        }
        self.rows["next_orders"].append({**row, **values})

    def quality(self):
        for field, skill, t in (("high", 0.041, 2.9), ("low", 0.022, 1.4), ("close", -0.006, -0.8)):
            verdict = "beats" if t > 2 else "loses" if t < -2 else "ties"
            loss = 0.0061
            self.rows["forecast_quality"].append(
                {
                    "symbol": self.symbol, "model_key": "9f3ac01be27d4a55", "step": 1, "field": field,
                    "span": "after", "n": 250, "pinball": loss * (1 - skill), "pinball_fhs": loss,
                    "pinball_persist": loss * 1.3, "skill_fhs": skill, "t_fhs": t, "mae_p50": 0.0112,
                    "mae_zero": 0.0114, "cover_80": 0.79, "crossing_rate": 0.0, "clamp_rate": 0.0,
                    "verdict": verdict,
                }
            )

    def publish(self, lake):
        for table in (
            "bars", "backtests", "folds", "nightly", "trades", "equity", "next_orders",
            "forecast_quality",
        ):
            publish(lake, table, self.symbol, self.rows[table])


EVIDENCE = json.dumps({
    "bars": 420, "trades": 17, "net_bps": 1.234, "excess_bps": -0.2, "t": None, "p": None, "looked": 3,
    "thresholds": {"min_oos_bars": 500, "min_oos_trades": 20, "min_improvement": 0.5, "confidence": 0.95},
})


def champion_row(symbol, seq, asof, strategy="trend", *, decision="rejected", in_force=False, p=0.37):
    return {
        "symbol": symbol, "seq": seq, "asof": asof, "decision": decision, "strategy": strategy,
        "settings_hash": "a1b2", "p": p, "params": "{}", "evidence": EVIDENCE, "in_force": in_force,
        "reasons": f"p {p} was above 0.05 over 3 procedures; the mean above the matched hold was -0.2, "
        "at least 0.5 expected",
    }


def build_lake(
    data_dir, symbols=SYMBOLS, *, bars=900, warmup=100, train=300, test=60, without_trend=("GOOG",)
):
    """Fill a lake; trend is left out for the symbols of ``without_trend``."""
    lake = Lake(data_dir)
    decisions = []
    for seed, symbol in enumerate(symbols):
        made = make_bars(
            seed, bars, start="2009-09-15" if bars < 1500 else "2000-08-15", drift=4e-4, symbol=symbol
        )
        example = Example(symbol, seed, made)
        example.levels("levels_entry_exit", warmup, train, test)
        example.levels("levels_always_on", warmup, train, test)
        if symbol not in without_trend:
            example.trend(warmup, train, test)
        example.quality()
        example.publish(lake)
        strategies = sorted({row["strategy"] for row in example.rows["backtests"]})
        asof = example.ts(bars - 1)
        p_values = (0.37, 0.81, 0.52)
        for name, p in zip(strategies, p_values, strict=False):
            decisions.append(champion_row(symbol, len(decisions), asof, name, p=p))
    publish(lake, "champions", ALL_SYMBOLS, decisions)
    return lake


@pytest.fixture(scope="session")
def example_lake(tmp_path_factory):
    """Two symbols, trend left out for the second; tests that write tables make their own lake."""
    return build_lake(tmp_path_factory.mktemp("lake") / "data", ("AAPL", "GOOG"), bars=600, test=50)


@pytest.fixture(scope="session")
def example():
    """What tests need of this file: helpers to make and publish rows."""
    return SimpleNamespace(publish=publish, when=when, champion_row=champion_row, failure=E17, FIT=FIT)
