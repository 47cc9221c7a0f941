"""The six assets. Each is one call of a stage; data goes through the lake, never through Dagster."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from pipelines import guard, metadata, resources
from pipelines.symbols import KEYS, PARTITIONS

if TYPE_CHECKING:  # definitions load without numba and pyarrow
    from engine.lake.publish import Lake
    from engine.stages.common import StageResult

DESCRIPTIONS = {
    "prices": "Checked, split-adjusted bars of one symbol.",
    "features": "Indicator columns of one symbol, each value known at the close of its bar.",
    "forecasts": "Quantiles of the next bars' high, low and close; each as-of bar is inferred once.",
    "optimizations": "One fit per strategy and walk-forward fold, and tonight's fit on the newest window.",
    "backtests": "Frozen parameters on bars that no fit ever saw, and what tonight's fit would do next.",
}
LEADERBOARD = "Champions, if any, and the report over all symbols."
KINDS = {
    "prices": {"parquet"},
    "features": {"parquet", "duckdb"},
    "forecasts": {"torch", "parquet"},
    "optimizations": {"optuna", "parquet"},
    "backtests": {"numba", "parquet"},
}
NAMES = tuple(DESCRIPTIONS)


def _materialised(result: "StageResult", lake: "Lake") -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata=metadata.of_result(result, lake, list(KEYS)), data_version=dg.DataVersion(result.result_id)
    )


def _symbol_asset(name: str, before: str | None) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        partitions_def=PARTITIONS,
        deps=[before] if before else [],
        group_name="nightfold",
        kinds=KINDS[name],
        description=DESCRIPTIONS[name],
        output_required=False,
    )
    def stage_asset(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        from engine.stages.chain import holding, run_stage

        symbol, say, result = context.partition_key, context.log.info, None
        with guard.refusals(context):
            file = guard.open_symbol(symbol)
            lake = resources.lake(file)
            with holding(lake, symbol, file.settings, resources.cpus(), say):
                result = run_stage(name, lake, symbol, file.settings, say, asof=resources.asof(file))
        if result is not None:
            yield _materialised(result, lake)

    return stage_asset


ASSETS = [_symbol_asset(name, before) for name, before in zip(NAMES, (None, *NAMES[:-1]), strict=True)]


@dg.asset(
    name="leaderboard",
    deps=["backtests"],
    group_name="nightfold",
    kinds={"plotly", "parquet"},
    description=LEADERBOARD,
)
def leaderboard(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Decide the champions and write the report."""
    with guard.refusals(context):
        result, lake = guard.leaderboard(context, {})
    return _materialised(result, lake)
