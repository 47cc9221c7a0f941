"""A symbol's stages in order, and the names they are called by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from engine.config import Settings
from engine.errors import ConfigError, closest
from engine.lake import warehouse
from engine.lake.leases import lease, slot
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake
from engine.lake.snapshots import require_links
from engine.lake.space import refuse_full
from engine.stages._backtests import backtests
from engine.stages._features import features
from engine.stages._forecasts import forecasts
from engine.stages._leaderboard import leaderboard, write_report
from engine.stages._network import stale_symbols
from engine.stages._optimizations import optimizations
from engine.stages._prices import prices
from engine.stages.common import PER_SYMBOL, Progress, StageResult
from engine.strategies import user

_AFTER_PRICES: dict[str, Callable[[Lake, str, Settings, Progress], StageResult]] = {
    "features": features,
    "forecasts": forecasts,
    "optimizations": partial(optimizations, clock=time.monotonic),
    "backtests": backtests,
}


@contextmanager
def holding(lake: Lake, symbol: str, settings: Settings, cpus: int, progress: Progress) -> Iterator[None]:
    """Hold a symbol for writing and one CPU slot of the machine, in that order.

    Parameters
    ----------
    lake, symbol, settings, progress
        As in every stage.
    cpus : int
        Slots where ``workers.max_concurrent`` is null.

    Raises
    ------
    AlreadyRunning
        Another live process holds the symbol.
    LakeError
        The disk has too little room left, or the data folder lies on several.
    """
    refuse_full(lake.data_dir)
    require_links(lake.data_dir)
    count = settings.workers.max_concurrent or cpus
    with (
        lease(lake.data_dir, symbol),
        slot(lake.data_dir, "cpu", count, lambda text: progress(f"{symbol} {text}")),
    ):
        yield


def run_leaderboard(
    lake: Lake,
    settings: Settings,
    progress: Progress,
    *,
    cpus: int,
    asof: int | None,
    problems: Mapping[str, str],
) -> StageResult:
    """Run the last stage over all symbols; ``problems`` are the symbols that failed, and why.

    Symbols that are stale stand beside them in the report: orders for a bar that is over are not shown.

    Raises
    ------
    AlreadyRunning
        Another live process writes the leaderboard.
    """
    began = time.perf_counter()
    user.load(lake.data_dir)
    with holding(lake, ALL_SYMBOLS, settings, cpus, progress):
        said = {**stale_symbols(lake, settings.symbols), **problems}
        result = leaderboard(lake, settings, progress, problems=said, asof=asof)
    return replace(result, seconds=time.perf_counter() - began)


def run_stage(
    stage: str, lake: Lake, symbol: str, settings: Settings, progress: Progress, *, asof: int | None
) -> StageResult:
    """Run one stage of one symbol; whoever calls it holds the symbol.

    Raises
    ------
    ConfigError
        No stage of a symbol has that name, or a strategy's own file is wrong.
    NightfoldError
        Whatever the stage raises; the lake keeps what it had.
    """
    user.load(lake.data_dir)
    return _run_stage(stage, lake, symbol, settings, progress, asof)


def _run_stage(
    stage: str, lake: Lake, symbol: str, settings: Settings, progress: Progress, asof: int | None
) -> StageResult:
    began = time.perf_counter()
    if stage == "prices":
        result = prices(lake, symbol, settings, progress, asof=asof)
    elif stage in _AFTER_PRICES:
        result = _AFTER_PRICES[stage](lake, symbol, settings, progress)
    else:
        raise ConfigError(f"stage {stage!r} is not known. {closest(stage, PER_SYMBOL)}")
    result = replace(result, seconds=time.perf_counter() - began)
    what = "unchanged" if result.unchanged else f"{result.rows} rows"
    progress(f"{symbol} {stage} {what} {result.seconds:.2f} s")
    return result


def run_chain(
    lake: Lake, symbol: str, settings: Settings, progress: Progress, *, asof: int | None
) -> Iterator[StageResult]:
    """Run all stages of one symbol, yielding each result as it comes; the caller holds the symbol.

    The user's own strategies are read once, so that an edit in the meantime waits for the next run.
    """
    user.load(lake.data_dir)
    for stage in PER_SYMBOL:
        yield _run_stage(stage, lake, symbol, settings, progress, asof)
    warehouse.refresh(lake.data_dir, progress)


__all__ = ["holding", "run_chain", "run_leaderboard", "run_stage", "stale_symbols", "write_report"]
