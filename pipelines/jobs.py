"""Jobs: ``backtest_all`` (a process per symbol), its nightly twin, ``backtest_symbol`` for one partition."""

from __future__ import annotations

from typing import Any

import dagster as dg

from pipelines import resources
from pipelines.assets import NAMES
from pipelines.ops import LEADERBOARD_STEP, SYMBOL_OPS, leaderboard_op
from pipelines.symbols import PARTITIONS


def _executor() -> dg.ExecutorDefinition:
    workers = resources.settings_file().settings.workers
    method: dict[str, Any] = (
        {"preload_modules": ["pipelines.preload"]} if workers.start_method == "forkserver" else {}
    )
    return dg.multiprocess_executor.configured(
        {
            "max_concurrent": workers.max_concurrent or resources.cpus(),
            "start_method": {workers.start_method: method},
        }
    )


executor = _executor()


def _all_symbols(name: str, description: str) -> dg.JobDefinition:
    @dg.graph(name=name, description=description)
    def every_symbol() -> None:
        for op in SYMBOL_OPS:
            op()
        leaderboard_op.alias(LEADERBOARD_STEP)()

    return every_symbol.to_job(executor_def=executor)


def make_backtest_all() -> dg.JobDefinition:
    """Return ``backtest_all``; a function, because worker processes build it anew."""
    return _all_symbols(
        "backtest_all",
        "All stages of all symbols, a process each, then the leaderboard; finished work is not redone.",
    )


backtest_all = make_backtest_all()
reoptimize_nightly = _all_symbols(
    "reoptimize_nightly",
    "The graph of backtest_all under the schedule's name: the stages find what is new and do only that.",
)
backtest_symbol = dg.define_asset_job(
    "backtest_symbol",
    selection=dg.AssetSelection.assets(*NAMES, "leaderboard"),
    partitions_def=PARTITIONS,
    description="All six assets for one symbol.",
)
JOBS = [backtest_all, reoptimize_nightly, backtest_symbol]
