"""The forward record: what each night's fit then earned, on bars that nobody knew when it was made.

A row of ``nightly`` is scored once, on the bars after its own up to those of the next night's row,
and its row of ``forward`` is never written again: not by new code, not by corrected prices. So the
rows depend on the nights that ran; a night that was skipped makes one longer row. It decides
nothing: paper trading with nothing left to choose.

The account goes on from night to night (`engine.simulation.carry`); the first night finds it flat.
Changed settings are another procedure, whose record begins anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from engine.bars.model import Bars, iso
from engine.config import Instrument, Strategy
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.lake.publish import Lake
from engine.lake.records import canonical
from engine.search.levels_fit import LevelsFitter
from engine.simulation import levels as levels_simulation
from engine.simulation.carry import PRICES, Account, carry_on
from engine.stages.common import CLEAN, UNKNOWN, Progress, execution_of, forecast_label, median_forecasts
from engine.strategies import registry

NO_TRADE = ("abstain", "empty", "no_candidate")
Row = dict[str, Any]


def score_nights(
    lake: Lake, bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, procedure: str,
    nightly: Sequence[Row], known: Sequence[Row], *, base: Bars | None = None,
    progress: Progress = lambda text: None,
) -> list[Row]:  # fmt: skip
    """Return the new rows of ``forward`` of one strategy, oldest first.

    Parameters
    ----------
    lake, bars, features, instrument, entry
        As in the stage.
    procedure : str
        Hash of the entry's procedure; fits of others are not scored.
    nightly, known : sequence of dict
        Tables ``nightly`` and ``forward`` as they stand.
    base : Bars or None
        The symbol's finer bars, for levels of policy ``path``.
    progress : callable
        Told of nights that are left out: the strategy refuses their parameters today.
    """
    last = int(bars.ts[-1])
    nights = sorted(
        (r for r in nightly
         if r.get("procedure") == procedure and r["strategy"] == entry.label and r["selected"]
         and r["asof"] <= last),
        key=lambda row: int(row["asof"]),
    )  # fmt: skip
    mine = record_of(known, entry.label, procedure)
    done = {row["asof"] for row in mine}
    levels = registry.get(entry.strategy).kind == "levels"
    if not levels:
        nights = _still_accepted(entry, nights, done, progress)
    made: list[Row] = []
    for night, after in zip(nights, nights[1:], strict=False):
        at, stop = (int(np.searchsorted(bars.ts, one["asof"], side="right")) for one in (night, after))
        if night["asof"] in done or not 0 < at < stop:
            continue
        before = newest(mine + made, last)
        common = {
            "symbol": bars.symbol, "procedure": procedure, "strategy": entry.label, "policy": night["policy"],
            "asof": night["asof"], "start": int(bars.ts[at]), "end": int(bars.ts[stop - 1]) + 1,
            "bars": stop - at, "status": night["status"], "label": CLEAN,
        }  # fmt: skip
        if levels:
            earned = _levels(lake, bars, base, instrument, entry, night, before, at, stop)
        else:
            earned = _rules(bars, features, instrument, entry, night, before, at, stop)
        made.append({**common, **earned})
    return made


def _still_accepted(
    entry: Strategy, nights: Sequence[Row], done: Container[int], progress: Progress
) -> list[Row]:
    """Return the nights whose parameters the strategy accepts today; the rest is as if it had not run."""
    accepted, refused = [], []
    for night in nights:
        try:
            registry.check(registry.get(entry.strategy), fitted(night) or {})
        except ConfigError as error:
            refused += [(night, error)] * (night["asof"] not in done)
        else:
            accepted.append(night)
    if refused:
        progress(
            f"forward record of {entry.label}: {len(refused)} nights are not scored, the first of "
            f"{iso(refused[0][0]['asof'])}: {refused[0][1]}"
        )
    return accepted


def record_of(rows: Sequence[Row], strategy: str, procedure: str) -> list[Row]:
    """Return the rows of one procedure's record, oldest first."""
    mine = [row for row in rows if row["strategy"] == strategy and row["procedure"] == procedure]
    return sorted(mine, key=lambda row: int(row["asof"]))


def newest(rows: Sequence[Row], last: int) -> Row | None:
    """Return the newest row that ends by the bar ``last``: an accepted revision may have fewer bars."""
    return next((row for row in reversed(rows) if row["end"] - 1 <= last), None)


def account_at(row: Row | None, bars: Bars, at: int, cash: float) -> tuple[Account, float]:
    """Return the account that a row of the record leaves at the close of bar ``at``, and its equity.

    It is in the units of the bars; stored prices and units are raw, those of the row's last bar,
    for a split that is known since changes the units of the bars. Without a row it is flat, with its
    first cash. So it is, with its equity, where the row ends at another bar: then the settings were
    changed and changed back, and nobody knows what became of the position.
    """
    if row is None:
        return Account(cash), cash
    equity = float(row["equity"])
    if int(np.searchsorted(bars.ts, row["end"] - 1, side="right")) - 1 != at:
        return Account(equity, halted=not equity > 0.0), equity
    stored = json.loads(row["carried"])
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in stored.items()}
    account = Account(**known)
    return _scaled(account, 1.0 / float(bars.adj[at])), equity


def _scaled(account: Account, factor: float) -> Account:
    """Return the account with prices times the factor and units divided by it."""
    prices = {name: getattr(account, name) * factor for name in PRICES}
    return replace(account, position=account.position / factor, initial=account.initial / factor, **prices)


def _rules(
    bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, night: Row,
    before: Row | None, at: int, stop: int,
) -> Row:  # fmt: skip
    """Score one night of a strategy whose account holds positions over night."""
    account, equity = account_at(before, bars, at - 1, entry.execution.initial_cash)
    done = carry_on(
        features, registry.get(entry.strategy), fitted(night), execution_of(instrument, entry), account,
        at=at - 1, stop=stop, memory_from=int(np.searchsorted(bars.ts, night["train_start"])),
    )  # fmt: skip
    raw = _scaled(done.account, float(bars.adj[stop - 1]))
    names = asdict(raw) if raw.position != 0.0 else {"cash": raw.cash, "halted": raw.halted}
    held = {name: None if value != value else value for name, value in names.items()}
    base = equity if equity > 0.0 else entry.execution.initial_cash  # used up: no share of it is left
    net, costs = (done.equity - equity) / base, done.costs / base
    return {
        "fills": done.fills, "gross": net + costs, "costs": costs, "net": net, "equity": done.equity,
        "position_in": account.position / float(bars.adj[at - 1]),
        "position_out": raw.position, "carried": canonical(held),
    }  # fmt: skip


def fitted(night: Row) -> Row | None:
    """Return the parameters of a night's fit, or None where it trades nothing."""
    return None if night["status"] in NO_TRADE else dict(json.loads(night["params"]))


def _levels(
    lake: Lake, bars: Bars, base: Bars | None, instrument: Instrument, entry: Strategy, night: Row,
    before: Row | None, at: int, stop: int,
) -> Row:  # fmt: skip
    """Score one night of a levels strategy: a fixed notional, flat at every close.

    Bars without a forecast of the night's own model are not scored, and the row is labelled ``unknown``.
    """
    cash, offsets = entry.execution.initial_cash, fitted(night)
    gross = costs = 0.0
    fills, missing, key = 0, 0, night["model_key"]
    if offsets is not None:
        high, low, _ = median_forecasts(lake, bars, entry.levels.level, key)
        strategy = registry.get(entry.strategy)
        problem = LevelsFitter(bars, high, low, key, strategy, entry, instrument, base=base).problem(
            at, stop, max_dropped_share=1.0
        )
        missing = problem.n_dropped
        exit = "close" if night["policy"] == "path" and base is None else night["policy"]
        done = levels_simulation.bar_net(problem, offsets["u"], offsets["v"], exit)
        gross, costs = float(done.gross.sum()), float(done.costs.sum())
        fills = 2 * int(done.long.sum() + done.short.sum())
    equity = (cash if before is None else float(before["equity"])) + cash * (gross - costs)
    return {
        "bars": stop - at - missing, "fills": fills, "gross": gross, "costs": costs, "net": gross - costs,
        "equity": equity, "position_in": 0.0, "position_out": 0.0, "carried": canonical({"cash": equity}),
        "label": UNKNOWN if missing else forecast_label(lake, bars.symbol, key)(night["asof"]),
    }  # fmt: skip
