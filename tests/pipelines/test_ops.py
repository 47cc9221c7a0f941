"""The ops of ``backtest_all``: one symbol's failure, re-execution, a symbol that is held, messages."""

import os
import re
import sys

import dagster as dg
import pytest
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._utils.error import serializable_error_info_from_exc_info

from engine.lake.leases import lease
from pipelines.ops import failure_message

REEXECUTE = """
import sys
import dagster as dg
from pipelines.jobs import make_backtest_all
if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        options = dg.ReexecutionOptions.from_failure(sys.argv[1], instance)
        job = dg.reconstructable(make_backtest_all)
        result = dg.execute_job(job, instance, reexecution_options=options, raise_on_error=False)
    sys.exit(0 if result.success else 1)
"""


def _steps(deployment):
    return {e.dagster_event.step_key for e in deployment.events(dg.DagsterEventType.STEP_START)}


def test_check_3_bad_data_fails_one_symbol_and_re_execution_runs_one_op(deployment):
    path = deployment.data / "inbox" / "AAA.csv"
    lines = path.read_text().splitlines()
    cells = lines[200].split(",")
    cells[2], cells[3] = cells[3], cells[2]  # high < low
    path.write_text("\n".join([*lines[:200], ",".join(cells), *lines[201:]]) + "\n")

    failed = deployment.call("pipelines.run")
    assert failed.returncode == 1
    assert failed.stdout.count("AAA FAILED: E05 ") == 2 and "Traceback" not in failed.stdout
    assert "AAA.csv line 201" in failed.stdout
    assert set(deployment.statuses("AAA").values()) == {"FAILED"}
    assert set(deployment.statuses("BTC-USD").values()) == {"MATERIALIZED"}
    assert _steps(deployment) == {"symbol_AAA", "symbol_BTC_x2DUSD", "leaderboard"}
    (event,) = deployment.events(dg.DagsterEventType.STEP_FAILURE)
    error = event.dagster_event.step_failure_data.error
    assert "E05 " in error.message and error.cause is None
    assert "AAA.csv line 201" in (deployment.data / "reports" / "index.html").read_text()

    deployment.bars("AAA")
    (deployment.root / "reexecute.py").write_text(REEXECUTE)
    home = {"DAGSTER_HOME": str(deployment.data / "dagster")}
    again = deployment.call("reexecute", deployment.runs()[0].run_id, **home)
    assert again.returncode == 0, again.stderr
    assert _steps(deployment) == {"symbol_AAA"}
    assert set(deployment.materialised()) == {
        *((stage, "AAA") for stage in deployment.stages),
        ("leaderboard", ""),
    }
    assert set(deployment.statuses("AAA").values()) == {"MATERIALIZED"}
    assert "AAA.csv line 201" not in (deployment.data / "reports" / "index.html").read_text()


def test_check_10_an_op_whose_symbol_is_held_elsewhere_says_so_and_succeeds(continued):
    with lease(continued.data, "AAA"):
        found = continued.call("pipelines.run")
    assert found.returncode == 0, found.stderr
    assert f"already running: AAA by pid {os.getpid()}; nothing was materialised" in found.stdout
    planned = continued.events(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    partitions = {e.dagster_event.asset_materialization_planned_data.partition for e in planned}
    assert partitions == {"BTC-USD"}
    assert {key for _, key in continued.materialised()} == {"BTC-USD", ""}
    assert set(continued.statuses("AAA").values()) == {"MATERIALIZED"}  # its last state


class Boom(Exception):
    """Something nobody foresaw."""


def _failure(error, described=None):
    try:
        raise error
    except Exception:
        info = serializable_error_info_from_exc_info(sys.exc_info())
    user = None if described is None else UserFailureData("intentional-failure", described, {})
    data = StepFailureData(error=info, user_failure_data=user)
    return dg.DagsterEvent("STEP_FAILURE", "backtest_all", step_key="symbol_AAA", event_specific_data=data)


def _wrapped(inner):
    outer = RuntimeError("Error occurred while executing op")
    outer.__cause__ = inner
    return outer


ChildProcessCrashException = type("ChildProcessCrashException", (Exception,), {})


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (_failure(dg.Failure("E17 too few bars"), "E17 too few bars"), "E17 too few bars"),
        (
            _failure(_wrapped(Boom("no such thing"))),
            r"unexpected .*Boom: no such thing \(traceback: web UI, this run's log\)",
        ),
        (
            _failure(ChildProcessCrashException()),
            "its process was killed or ran out of memory. What was published stays; "
            "the next run does what is left",
        ),
    ],
)
def test_failure_message_is_the_words_of_the_error_itself(event, message):
    assert re.fullmatch(message, failure_message(event))
