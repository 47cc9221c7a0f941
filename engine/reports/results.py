"""What the lake holds of one symbol, read once for all pages."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.gaps import gaps, said
from engine.config import Instrument
from engine.errors import LakeError
from engine.lake.bars import read_bars
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake
from engine.reports.current import current_orders

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STITCHED, EVERY_FOLD = -1, -2  # the clean folds, one after the other: the headline; all, where others exist
VARIANTS = {
    "tuned": "Tuned",
    "untuned": "Untuned",
    "matched_hold": "Matched hold",
    "buy_and_hold": "Buy and hold",
    "no_trade": "No trade",
}
HOUR_US = 3_600_000_000
LOWEST_DRAWN = 0.02  # of the first equity: the foot of a log axis


@dataclass(frozen=True)
class Curve:
    """Out-of-sample equity of one variant: stamps int64 µs, equity, drawdown, shape (T,)."""

    ts: Ints
    equity: Floats
    drawdown: Floats

    def drawable(self) -> Floats:
        """Return equity for a log axis, shape (T,).

        NaN: from the first bar at or below `LOWEST_DRAWN` of the first equity on. An account that
        trades a fixed amount can lose more than it has; a log axis has no place for that.
        """
        if not len(self.equity):
            return self.equity
        low = ~(self.equity > LOWEST_DRAWN * max(self.equity[0], 0.0))
        return np.where(np.maximum.accumulate(low), np.nan, self.equity)


@dataclass(frozen=True)
class SymbolResults:
    """The published tables of one symbol; a table that was never published is empty.

    Parameters
    ----------
    symbol : str
        Canonical key.
    problem : str
        Error message of a symbol that failed, else empty.
    left_out : mapping of str to str
        Strategy to the reason why this symbol has no result of it.
    finer : bool
        The backtests read finer bars, which exit `path` needs.
    orders, outdated
        Next orders that are current, and a line for each strategy whose orders are not (`current_orders`).
    gaps : str
        What the calendar expects and the bars lack, in words; empty where nothing is missing or known.
    """

    symbol: str
    problem: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    backtests: Sequence[Row] = ()
    folds: Sequence[Row] = ()
    nightly: Sequence[Row] = ()
    orders: Sequence[Row] = ()
    outdated: Sequence[str] = ()
    forward: Sequence[Row] = ()
    quality: Sequence[Row] = ()
    decisions: Sequence[Row] = ()
    bars: pa.Table | None = None
    trades: pa.Table | None = None
    equity: pa.Table | None = None
    finer: bool = False
    gaps: str = ""

    @property
    def strategies(self) -> list[str]:
        """Names of the strategies with a backtest, a fold or an order, sorted."""
        rows = (*self.backtests, *self.folds, *self.orders)
        return sorted({str(row["strategy"]) for row in rows})

    @property
    def has_results(self) -> bool:
        """Whether any strategy was evaluated out of sample."""
        return bool(self.backtests)

    @property
    def last_bar_us(self) -> int | None:
        """Open of the last bar, µs UTC; None without bars."""
        if self.bars is None or not len(self.bars):
            return None
        return int(micros(self.bars["ts"])[-1])

    def last_bar_before(self, end: dt.datetime) -> dt.datetime:
        """Return the last bar of a span whose end is exclusive; the end itself where bars are missing."""
        if self.bars is None:
            return end
        ts = micros(self.bars["ts"])
        count = int(np.searchsorted(ts, np.datetime64(end, "us").astype(np.int64)))
        return end if count == 0 else dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(ts[count - 1]))

    @property
    def daily(self) -> bool:
        """Whether bars are a day or longer, so that a stamp needs no clock time."""
        if self.bars is None or len(self.bars) < 2:
            return True
        return bool(np.median(np.diff(micros(self.bars["ts"]))) >= 20 * HOUR_US)

    @property
    def champion(self) -> Row | None:
        """The champion in force, or None."""
        return next((row for row in self.decisions if row["in_force"]), None)

    @property
    def latest_decisions(self) -> list[Row]:
        """The newest decision on each strategy that has results, and the newest demotion, by strategy."""
        last = {str(row["strategy"]): row for row in self.decisions}  # oldest first, so the newest stays
        present = set(self.strategies)
        kept = [row for name, row in last.items() if name in present or row["decision"] == "demoted"]
        return sorted(kept, key=lambda row: str(row["strategy"]))

    @property
    def latest_orders(self) -> list[Row]:
        """The orders of each strategy's last night."""
        last: dict[str, dt.datetime] = {}
        for row in self.orders:
            name = row["strategy"]
            last[name] = max(last.get(name, row["asof"]), row["asof"])
        return [row for row in self.orders if row["asof"] == last[row["strategy"]]]

    def headline(self, strategy: str, variant: str) -> Row | None:
        """Return the stitched out-of-sample row of one variant, or None.

        It is that of the clean folds; where none is clean that of all, as its ``label`` says.
        """
        rows = [
            row
            for row in self.backtests
            if row["strategy"] == strategy
            and row["variant"] == variant
            and row["fold"] in (STITCHED, EVERY_FOLD)
        ]
        rows.sort(key=lambda row: (-row["fold"], not _chosen(row), str(row["policy"])))
        return rows[0] if rows else None

    def forward_record(self, strategy: str) -> list[Row]:
        """Return the forward record of a strategy with its present settings, oldest first."""
        tonight = self.tonight(strategy) or {}
        rows = [
            row
            for row in self.forward
            if row["strategy"] == strategy and row["procedure"] == tonight.get("procedure")
        ]
        return sorted(rows, key=lambda row: row["asof"])

    def per_fold(self, strategy: str, variant: str = "tuned") -> list[Row]:
        """Return the selected out-of-sample rows of the single folds, oldest first."""
        rows = [
            row
            for row in self.backtests
            if row["strategy"] == strategy and row["variant"] == variant and row["fold"] >= 0 and _chosen(row)
        ]
        return sorted(rows, key=lambda row: row["fold"])

    def chosen_folds(self, strategy: str) -> list[Row]:
        """Return the folds with the policy chosen on their training part, oldest first."""
        rows = [row for row in self.folds if row["strategy"] == strategy and _chosen(row)]
        return sorted(rows, key=lambda row: row["fold"])

    def tonight(self, strategy: str) -> Row | None:
        """Return the newest nightly fit of a strategy, or None."""
        rows = [row for row in self.nightly if row["strategy"] == strategy and _chosen(row)]
        return max(rows, key=lambda row: row["asof"]) if rows else None

    def is_levels(self, strategy: str) -> bool:
        """Whether a strategy trades forecast levels: only those have an exit policy."""
        rows = (*self.folds, *self.backtests, *self.orders)
        return any(row["policy"] for row in rows if row["strategy"] == strategy)

    def policies(self, strategy: str) -> list[str]:
        """Return the exit policies that a fold or tonight's fit chose, sorted."""
        rows = [r for r in (*self.folds, *self.nightly) if r["strategy"] == strategy and _chosen(r)]
        return sorted({str(row["policy"]) for row in rows if row["policy"]})

    def is_optimistic(self, strategy: str) -> bool:
        """Whether a chosen exit policy credits a same-bar target without knowing the order of prices."""
        return "target" in self.policies(strategy)

    def curve(self, strategy: str, variant: str, *, headline: bool = False) -> Curve | None:
        """Return the stitched out-of-sample equity of one variant, or None.

        ``headline``: only its clean folds, where it has some.
        """
        found = _where(self.equity, strategy=strategy, variant=variant)
        if headline and found is not None:
            clean = _where(found, label="clean")
            found = clean if clean is not None and len(clean) else found
        if found is None or not len(found):
            return None
        found = found.sort_by("ts")
        return Curve(micros(found["ts"]), floats(found["equity"]), floats(found["drawdown"]))

    def trade_rows(self, strategy: str) -> list[Row]:
        """Return the tuned out-of-sample trades without their fills, oldest first."""
        found = _where(self.trades, strategy=strategy, variant="tuned")
        if found is None:
            return []
        rows: list[Row] = found.drop_columns(["fills"]).to_pylist()
        return sorted(rows, key=lambda row: (row["entry_ts"], row["trade"]))


def _gaps(lake: Lake, instrument: Instrument) -> str:
    """Return the gaps of a symbol's bars as `nightfold status` says them; empty where there are none."""
    if (lake.record("bars", instrument.key) or {}).get("frame") != instrument.frame:
        return ""  # no bars yet, or those of a frame that the settings no longer name
    bars = read_bars(lake, instrument)
    return said(bars) if gaps(bars).missing else ""


def _chosen(row: Row) -> bool:
    """Whether a row stands for the policy in use; a strategy without policies may leave it open."""
    return row["selected"] is not False


def _where(table: pa.Table | None, **equal: str) -> pa.Table | None:
    """Return the rows whose columns have the given values."""
    for name, value in equal.items():
        if table is not None:
            table = table.filter(pc.equal(table[name], value))
    return table


def micros(column: pa.ChunkedArray) -> Ints:
    """Return stamps as int64 microseconds, shape (T,)."""
    return np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)


def floats(column: pa.ChunkedArray) -> Floats:
    """Return numbers as float64, shape (T,). NaN: null becomes NaN."""
    return np.asarray(column.to_numpy(), dtype=np.float64)


def iso_date(ts_us: int) -> str:
    """Return the UTC date of a stamp."""
    return str(np.datetime64(ts_us, "us").astype("datetime64[D]"))


def finite(value: object) -> float | None:
    """Return a number, or None where it is undefined."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def exposure(row: Row) -> float | None:
    """Return the share of bars with a position at the close; None where undefined.

    None too for an account that is flat at every close although it trades inside the bars.
    """
    found = finite(row["exposure"])
    return None if found == 0.0 and row["trades"] else found


def cash_share(row: Row) -> float | None:
    """Return the average share of equity that lay in cash at the closes; None where `exposure` is."""
    gross = finite(row["gross_exposure"])
    return None if gross is None or exposure(row) is None else 1.0 - gross


def traded_parameters(row: Row | None) -> dict[str, Any]:
    """Return the parameters that a fold or a nightly fit trades; none where it abstained or found none."""
    return parameters(row) if row and row["status"] == "ok" else {}


def parameters(row: Row | None) -> dict[str, Any]:
    """Return a row's parameters, from their canonical JSON."""
    return dict(json.loads(row["params"])) if row and row["params"] else {}


def load(
    lake: Lake,
    symbol: str,
    *,
    problem: str = "",
    left_out: Mapping[str, str] | None = None,
    instrument: Instrument | None = None,
    procedures: Mapping[str, str] | None = None,
) -> SymbolResults:
    """Read one symbol's tables.

    Parameters
    ----------
    lake : Lake
        Where they lie.
    symbol : str
        Canonical key.
    problem : str
        Why the symbol failed, if it did; what an earlier run published is still read.
    left_out : mapping of str to str
        Strategy to the reason why this symbol has no result of it.
    instrument : Instrument, optional
        Whose calendar says which bars are missing.
    procedures : mapping of str to str, optional
        Strategy to the procedure of now: other orders are not current. None: the orders as they stand.

    Returns
    -------
    SymbolResults
        A table that cannot be read costs this symbol alone: ``problem`` says which, and nothing is shown.
    """

    def rows(table: str) -> list[Row]:
        found = lake.read(table, symbol)
        return [] if found is None else found.to_pylist()

    try:
        decided = lake.read("champions", ALL_SYMBOLS)
        decisions: list[Row] = [] if decided is None else decided.to_pylist()
        mine = [row for row in decisions if row["symbol"] == symbol]
        orders, outdated = rows("next_orders"), list[str]()
        if procedures is not None:
            current, outdated = current_orders(lake, symbol, procedures)
            names = {row["strategy"] for row in current}
            orders = [row for row in orders if row["strategy"] in names]
        return SymbolResults(
            symbol=symbol,
            problem=problem,
            left_out=left_out or {},
            finer="finer" in (lake.record("backtests", symbol) or {}).get("params", {}),
            backtests=rows("backtests"),
            folds=rows("folds"),
            nightly=rows("nightly"),
            orders=orders,
            outdated=outdated,
            forward=rows("forward"),
            quality=rows("forecast_quality"),
            decisions=sorted(mine, key=lambda row: row["seq"]),
            bars=lake.read("bars", symbol, ["ts", "close"]),
            trades=lake.read("trades", symbol),
            equity=lake.read("equity", symbol),
            gaps="" if instrument is None else _gaps(lake, instrument),
        )
    except LakeError as error:
        return SymbolResults(symbol=symbol, problem=problem or str(error), left_out=left_out or {})
