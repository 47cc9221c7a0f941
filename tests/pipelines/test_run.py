"""``python -m pipelines.run``, what ``make backtest`` calls: progress, outcome, exit code, interruption."""

import os
import re
import signal

import dagster as dg
import psutil
import pytest

from pipelines import run

LONG_FOR_AAA = [  # a study that outlasts any test, for one symbol
    {"strategy": "levels_entry_exit"},
    {"strategy": "trend", "symbols": ["BTC-USD"]},
    {
        "strategy": "trend",
        "name": "long",
        "symbols": ["AAA"],
        "parameters": {"fast": {"type": "int", "low": 5, "high": 60}},
        "search": {"screen": 0, "max_trials": 1_000_000, "batch": 16},
    },
]
SHORT_FOR_AAA = [*LONG_FOR_AAA[:2], {**LONG_FOR_AAA[2], "search": {"screen": 0, "max_trials": 4, "batch": 4}}]


def _process_of(deployment, key):
    """Return the pid of the process that runs a symbol, once it has made its forecasts."""

    def ready():
        runs = deployment.runs()
        return runs and ("forecasts", key) in deployment.materialised(runs[0])

    deployment.wait_for(ready)
    started = deployment.events(dg.DagsterEventType.STEP_WORKER_STARTED)
    pids = {
        e.dagster_event.step_key: e.dagster_event.event_specific_data.metadata["pid"].value for e in started
    }
    return int(pids[f"symbol_{key}"])


def test_check_1_a_run_materialises_six_assets_and_every_partition(finished):
    assert finished.first.returncode == 0, finished.first.stderr
    partitions = {(stage, key) for stage in finished.stages for key in finished.keys}
    (only,) = finished.runs()
    assert only.status == dg.DagsterRunStatus.SUCCESS
    assert set(finished.materialised(only)) == {*partitions, ("leaderboard", "")}
    for key in finished.keys:
        assert set(finished.statuses(key).values()) == {"MATERIALIZED"}


def test_check_1_the_report_is_written_and_headed_by_the_next_orders(finished):
    page = (finished.data / "reports" / "index.html").read_text()
    assert (
        0 < page.lower().index("paper only: nightfold places no orders") < page.lower().index("leaderboard")
    )


def test_the_outcome_is_printed_in_the_order_in_which_it_is_read(finished):
    lines = finished.first.stdout
    places = [
        lines.index(text)
        for text in (
            "backtest_all: AAA, BTC-USD (nightfold.yaml)",
            "AAA prices 470 rows",
            "paper only: nightfold places no orders",
            "Out of sample, after costs",
            f"report: {finished.data / 'reports' / 'index.html'}",
            "web UI: make ui",
            "dagster job launch -j backtest_all",
            "run: succeeded",
        )
    ]
    assert places == sorted(places)
    assert finished.first.stderr == ""


def test_check_5_a_second_run_finds_all_done(continued):
    second = continued.call("pipelines.run")
    assert second.returncode == 0, second.stderr
    for key in continued.keys:
        for stage in continued.stages:
            assert re.search(rf"^{key} {stage} unchanged ", second.stdout, re.M)
    assert not re.search(r" tried |as-of bars inferred", second.stdout)
    found = continued.materialised()
    assert len(found) == 11 and all(one.metadata["unchanged"].value is True for one in found.values())


def test_check_2_job_launch_as_typed_in_the_root_needs_no_daemon(deployment):
    launched = deployment.call("dagster", "job", "launch", "-j", "backtest_all")
    assert launched.returncode == 0, launched.stderr

    def ended():
        (only,) = deployment.runs()
        return only if only.is_finished else None

    assert deployment.wait_for(ended).status == dg.DagsterRunStatus.SUCCESS
    assert len(deployment.materialised()) == 11


def test_check_4_a_killed_symbol_fails_alone_and_only_its_unfinished_stages_run_again(deployment):
    deployment.settings(strategies=LONG_FOR_AAA)
    process = deployment.start("pipelines.run")
    pid = _process_of(deployment, "AAA")
    assert deployment.statuses("AAA") == {
        "prices": "MATERIALIZED",
        "features": "MATERIALIZED",
        "forecasts": "MATERIALIZED",
        "optimizations": "IN_PROGRESS",
        "backtests": "IN_PROGRESS",
    }
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1 and err == ""
    assert (
        out.count("AAA FAILED: its process was killed or ran out of memory.") == 2
    )  # at once, and at the end
    assert "run: FAILED" in out
    states = deployment.statuses("AAA")
    assert (states["forecasts"], states["optimizations"], states["backtests"]) == (
        "MATERIALIZED",
        "FAILED",
        "FAILED",
    )
    assert "\nAAA: failed in this run; no orders\n" in out and "  BTC-USD " in out
    assert set(deployment.statuses("BTC-USD").values()) == {"MATERIALIZED"}
    assert ("leaderboard", "") in deployment.materialised()

    deployment.settings(strategies=SHORT_FOR_AAA)
    again = deployment.call("pipelines.run")
    assert again.returncode == 0, again.stderr
    done = {
        stage: one.metadata["unchanged"].value
        for (stage, key), one in deployment.materialised().items()
        if key == "AAA"
    }
    assert done == {
        "prices": True,
        "features": True,
        "forecasts": True,
        "optimizations": False,
        "backtests": False,
    }
    assert set(deployment.statuses("AAA").values()) == {"MATERIALIZED"}


@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGINT, True), pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_says_so_in_one_line_and_leaves_nothing_running(deployment, number, to_all):
    """Ctrl-C in a terminal reaches every process of the group, ``kill`` the one that was named."""
    deployment.settings(strategies=LONG_FOR_AAA)
    process = deployment.start("pipelines.run", new_session=True)
    _process_of(deployment, "AAA")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    (os.killpg if to_all else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == run.INTERRUPTED + "\n"
    assert "FAILED" not in out and "Traceback" not in out
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    (only,) = deployment.runs()
    assert only.status == dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategies": [{"strategy": "trned"}]}, "trend"),
        ({"serch": {}}, "unknown key 'serch'. Closest: search"),
        ({"schedule": {"cron": "0 25 * * 2-6"}}, "schedule.cron: hour '25': 25 is outside 0 to 23"),
        ({"schedule": {"timezone": "America/NewYork"}}, "Closest: America/New_York"),
    ],
)
def test_refused_settings_end_with_code_2_before_any_work(deployment, changes, message):
    deployment.settings(**changes)
    refused = deployment.call("pipelines.run")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("nightfold.yaml:") and message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (deployment.data / "lake").exists() and deployment.runs() == []


@pytest.mark.parametrize(
    ("exported", "home"),
    [
        ({}, f"{run.ROOT}/data/dagster"),
        ({"DAGSTER_HOME": "/elsewhere"}, f"{run.ROOT}/data/dagster"),
        ({"NIGHTFOLD_SETTINGS": "other.yaml"}, f"{run.ROOT}/data/dagster"),
        ({"NIGHTFOLD_SETTINGS": "other.yaml", "DAGSTER_HOME": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_environment_file_wins_as_with_the_dagster_command_unless_other_settings_are_named(
    monkeypatch, exported, home
):
    monkeypatch.setattr(os, "environ", environment := {"PWD": "/", **exported})
    run._environment()
    assert environment["DAGSTER_HOME"] == home
    assert environment["OMP_NUM_THREADS"] == "1"
