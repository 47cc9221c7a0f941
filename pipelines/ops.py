"""The ops of ``backtest_all``: a symbol's whole chain in one process, the leaderboard after them all."""

import os
import time
from typing import TYPE_CHECKING

import dagster as dg
from dagster import DagsterEvent
from dagster._core.events import AssetMaterializationPlannedData, DagsterEventType

from pipelines import checks, guard, metadata, resources
from pipelines.assets import NAMES
from pipelines.symbols import KEYS, op_name

if TYPE_CHECKING:  # definitions load without numba and pyarrow
    from engine.config_file import SettingsFile
    from engine.lake.publish import Lake
    from engine.stages.common import StageResult

LEADERBOARD_STEP = "leaderboard"
_ENDED = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SKIPPED}


def report_planned(context: dg.OpExecutionContext, symbol: str) -> None:
    """Tell the instance that this run means to materialise a symbol's partition of every asset.

    The web UI then shows the partition as in progress, and as failed where the op fails or is
    killed. Semi-public API of Dagster, the reason why its minor version is pinned.
    """
    for name in NAMES:
        planned = AssetMaterializationPlannedData(asset_key=dg.AssetKey(name), partition=symbol)
        event = DagsterEvent.build_asset_materialization_planned_event(context.job_name, None, planned)
        context.instance.report_dagster_event(event, context.run_id)


def _symbol_op(symbol: str) -> dg.OpDefinition:
    @dg.op(
        name=op_name(symbol),
        description=f"All five stages of {symbol} in one process; finished work is not redone.",
        tags={"symbol": symbol},
    )
    def run_symbol(context: dg.OpExecutionContext) -> None:
        failed: dg.Failure | None = None
        try:
            with guard.refusals(context):
                _chain(context, symbol)
        except dg.Failure as failure:
            failed = failure
        if LEADERBOARD_STEP not in _steps(context):  # failed symbols alone, re-executed
            own = {symbol: failed.description or ""} if failed else {}
            _leaderboard(context, {**_failed_symbols(context), **own})
        if failed:
            raise failed

    return run_symbol


SYMBOL_OPS = tuple(_symbol_op(symbol) for symbol in KEYS)


# no asset op may share its name, so the step's name is given in the graph
@dg.op(
    name="champions_and_report",
    description="Waits until every symbol's op has ended, well or not; then champions and report.",
    tags={"dagster/priority": "-1"},
)
def leaderboard_op(context: dg.OpExecutionContext) -> None:
    """Wait until every symbol's op of this run has ended, well or not; then champions and report.

    Dagster never runs an op whose upstream failed, so this one depends on none: it has the
    lowest priority and watches the run's events.
    """
    _leaderboard(context, _wait_for_symbols(context))


def _chain(context: dg.OpExecutionContext, symbol: str) -> None:
    from engine.stages.chain import holding, run_chain

    file = guard.open_symbol(symbol)
    lake, say = resources.lake(file), context.log.info
    with holding(lake, symbol, file.settings, resources.cpus(), say):
        report_planned(context, symbol)
        for result in run_chain(lake, symbol, file.settings, say, asof=resources.asof(file)):
            _log(context, result, lake)
            _check(context, result.stage, symbol, file)


def _leaderboard(context: dg.OpExecutionContext, problems: dict[str, str]) -> None:
    with guard.refusals(context):
        _log(context, *guard.leaderboard(context, problems))


def _log(context: dg.OpExecutionContext, result: "StageResult", lake: "Lake") -> None:
    context.log_event(
        dg.AssetMaterialization(
            asset_key=result.stage,
            partition=result.symbol or None,
            metadata=metadata.of_result(result, lake, list(KEYS)),
            tags={"dagster/data_version": result.result_id},
        )
    )


def _check(context: dg.OpExecutionContext, stage: str, symbol: str, file: "SettingsFile") -> None:
    found = [checks.evaluation(name, symbol, file) for name in checks.names(stage)]
    for one in found:
        context.log_event(one)
    for one in found:
        if one.blocking and not one.passed:
            raise dg.Failure(f"{symbol} {stage}: check {one.check_name} failed: {one.description}")


def _steps(context: dg.OpExecutionContext) -> set[str]:
    """Return the steps this run executes: all, a selection of ops, or those of a re-execution."""
    plan = context.run.execution_plan_snapshot_id
    if plan is None:
        raise dg.Failure("the run has no execution plan; start it as a run of a job")
    return set(context.instance.get_execution_plan_snapshot(plan).step_keys_to_execute)


def _wait_for_symbols(context: dg.OpExecutionContext) -> dict[str, str]:
    """Return symbol to message of those whose op failed, once all have ended."""
    parent = os.getppid()
    waiting = _steps(context) - {LEADERBOARD_STEP}
    while waiting - _ended_steps(context):
        if os.getppid() != parent:
            raise dg.Failure("the process of this run is gone: its symbols will never end")
        time.sleep(0.1)
    return _failed_symbols(context)


def _events(context: dg.OpExecutionContext, kinds: set[DagsterEventType]) -> list[DagsterEvent]:
    entries = context.instance.all_logs(context.run_id, of_type=kinds)
    return [entry.dagster_event for entry in entries if entry.dagster_event is not None]


def _ended_steps(context: dg.OpExecutionContext) -> set[str]:
    return {event.step_key or "" for event in _events(context, _ENDED)}


def _failed_symbols(context: dg.OpExecutionContext) -> dict[str, str]:
    keys = {op_name(key): key for key in KEYS}
    failures = _events(context, {DagsterEventType.STEP_FAILURE})
    return {keys[event.step_key]: failure_message(event) for event in failures if event.step_key in keys}


def failure_message(event: DagsterEvent) -> str:
    """Return why a step failed, in the words of the error itself."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None or error.cls_name == "ChildProcessCrashException":
        return (
            "its process was killed or ran out of memory. What was published stays; "
            "the next run does what is left"
        )
    return f"unexpected {error.message.strip()} (traceback: web UI, this run's log)"
