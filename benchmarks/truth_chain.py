"""One made symbol through the whole chain, night by night: does it ever have a champion?

A lake of its own, the stages that every night runs (prices from a file, features, forecasts,
optimizations with their Optuna studies, backtests, leaderboard), at the first night and at every later
one on which an outer fold of some procedure closes. The other nights decide nothing, which
tests/test_planted.py holds. Left out by settings: tonight's fits (they decide nothing), feature columns
that no strategy reads, and charts.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from engine.bars.model import Bars, known_at
from engine.bars.synthetic import to_csv
from engine.config import Settings
from engine.lake.publish import Lake, rows_of
from engine.search.folds import walk_forward
from engine.stages.chain import holding, run_chain, run_leaderboard
from engine.stages.common import purge_of
from engine.validation.champion import Evidence, judge

COSTS = {
    "default costs": {},
    "no costs": {"fee_bps": 0.0, "slippage_bps": 0.0, "borrow_bps_year": 0.0, "financing_bps_year": 0.0},
}


def settings_of(symbol: str, costs: str, **sections: object) -> Settings:
    """Return the default settings of one symbol that is read from a file, less what decides nothing."""
    cheap = {
        "features": {"columns": []}, "folds": {"reoptimize": "when_due"}, "report": {"charts": False},
    }  # fmt: skip
    symbols = {symbol: {"source": "files", **COSTS[costs]}}
    return Settings.model_validate({"symbols": symbols, **cheap, **sections})


def deciding_nights(bars: int, settings: Settings, nights: int) -> list[int]:
    """Return the lengths of the series at which a symbol is decided, the first of ``nights`` among them."""
    (symbol,) = settings.symbols
    first, found = bars - nights, {bars - nights}
    for entry in settings.entries(symbol):
        cut = walk_forward(bars, entry.folds, purge_of(entry))
        found |= {fold.test_to for fold in cut if not fold.open and fold.test_to > first}
    return sorted(found)


def through_the_chain(bars: Bars, settings: Settings, nights: Iterable[int]) -> list[dict]:
    """Run the chain on the first n bars, for each n of ``nights`` in turn, in one lake.

    Returns
    -------
    list of dict
        One a night: ``bars`` (n), ``champion`` (the strategy in force, or empty) and ``p``, the smallest
        p of a procedure that meets every other condition at its newest decision, 1.0 where none does.
    """
    known = known_at(bars.ts, bars.frame, bars.calendar)
    found = []
    with tempfile.TemporaryDirectory(prefix="truth-") as name:
        lake = Lake(Path(name))
        inbox = Path(name) / "inbox"
        inbox.mkdir()
        (inbox / f"{bars.symbol}.csv").write_text(to_csv(bars))
        for n in nights:
            asof = int(known[n - 1])
            with holding(lake, bars.symbol, settings, 64, _silent):
                for _ in run_chain(lake, bars.symbol, settings, _silent, asof=asof):
                    pass
            run_leaderboard(lake, settings, _silent, cpus=64, asof=asof, problems={})
            found.append({"bars": n, **_decided(lake, bars.symbol, settings)})
    return found


def _silent(text: str) -> None:
    """Say nothing."""


def _decided(lake: Lake, symbol: str, settings: Settings) -> dict:
    """Return who is champion, and the smallest p that any other ``confidence`` would have judged."""
    rows = [row for row in rows_of(lake.read("champions", "_all")) if row["symbol"] == symbol]
    newest = {row["strategy"]: row for row in rows}  # a symbol's procedures never change here
    limits = {entry.label: entry.promotion for entry in settings.entries(symbol)}
    smallest = 1.0
    for name, row in newest.items():
        told = json.loads(row["evidence"])
        barred = "forecasts.allow_losing_forecasts" in row["reasons"]  # at any confidence
        if told["p"] is not None and not barred:
            item = Evidence(**{key: told[key] for key in Evidence.__dataclass_fields__})
            if judge(item, limits[name].model_copy(update={"confidence": 0.0})).qualified:
                smallest = min(smallest, item.p)
    return {"champion": next((row["strategy"] for row in rows if row["in_force"]), ""), "p": smallest}


def run_symbol(bars: Bars, costs: str, nights: int) -> dict:
    """Return what became of one symbol: its ``looks``, and the processor seconds it took."""
    began = time.process_time()
    settings = settings_of(bars.symbol, costs)
    looks = through_the_chain(bars, settings, deciding_nights(len(bars), settings, nights))
    return {"looks": looks, "processor_s": round(time.process_time() - began, 2)}
