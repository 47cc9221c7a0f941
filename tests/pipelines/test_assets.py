"""The six assets, materialised by themselves."""

import os

import dagster as dg
import pytest

from engine.lake.leases import lease


def _materialise(deployment, *options):
    home = {"DAGSTER_HOME": str(deployment.data / "dagster")}
    return deployment.call("dagster", "asset", "materialize", "-m", "pipelines.definitions", *options, **home)


def test_check_10_asset_run_and_op_give_one_data_version_for_one_result(continued):
    """The asset job of one symbol, all its assets and checks, over what ``backtest_all`` has made."""
    (before,) = continued.runs()
    by_op = continued.materialised(before)
    chosen = ",".join((*continued.stages, "leaderboard"))
    found = _materialise(continued, "--select", chosen, "--partition", "AAA")
    assert found.returncode == 0, found.stdout + found.stderr
    by_asset = continued.materialised()
    assert set(by_asset) == {*((stage, "AAA") for stage in continued.stages), ("leaderboard", "")}
    for place, one in by_asset.items():
        assert one.metadata["unchanged"].value is True
        assert one.tags["dagster/data_version"] == by_op[place].tags["dagster/data_version"]
        assert one.tags["dagster/data_version"] == one.metadata["result_id"].value
    evaluated = continued.events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    assert len(evaluated) == 7
    assert {e.dagster_event.asset_check_evaluation_data.partition for e in evaluated} == {"AAA"}


def test_check_10_an_asset_whose_symbol_is_held_elsewhere_says_so_and_succeeds(continued):
    with lease(continued.data, "AAA"):
        found = _materialise(continued, "--select", "prices,features", "--partition", "AAA")
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"already running: AAA by pid {os.getpid()}; nothing was materialised" in continued.said()
    assert continued.materialised() == {}
    assert continued.statuses("AAA")["prices"] == "MATERIALIZED"  # its last state


@pytest.mark.slow
def test_an_asset_that_refuses_its_data_fails_with_the_message(continued):
    (continued.data / "inbox" / "AAA.csv").unlink()
    found = _materialise(continued, "--select", "prices", "--partition", "AAA")
    assert found.returncode == 1
    (event,) = continued.events(dg.DagsterEventType.STEP_FAILURE)
    data = event.dagster_event.step_failure_data
    assert data.user_failure_data.description.startswith("E16 ")
    assert data.error.cause is None
