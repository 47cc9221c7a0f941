"""Failures of one symbol's process; faults come from a progress function that the processes import."""

import sys

import pytest

from engine.bars.synthetic import make_bars, to_csv
from engine.config_file import load
from engine.lake.publish import Lake
from engine.stages import verify, workers
from engine.stages.verify import Check

SAY = """
import os, signal
from pathlib import Path

def record(text):
    with open(Path(__file__).with_name("said.txt"), "a") as file:
        file.write(f"{os.getpid()} {text}\\n")
    if text.startswith("AAA prices"):
        os.kill(os.getpid(), signal.SIGINT)  # the terminal's Ctrl-C is the parent's to answer
    if text.startswith("BBB prices"):
        raise ZeroDivisionError("no such leg")
    if text.startswith("CCC prices"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Settings of three symbols, and a module of a progress function that fails in two of them."""
    (tmp_path / "data" / "inbox").mkdir(parents=True)
    for seed, key in enumerate(("AAA", "BBB", "CCC")):
        (tmp_path / "data" / "inbox" / f"{key}.csv").write_text(to_csv(make_bars(seed, 30, symbol=key)))
    settings = tmp_path / "nightfold.yaml"
    settings.write_text(
        "symbols: {AAA: {}, BBB: {}, CCC: {}}\nprices: {source: files}\nstrategies: []\n"
        "workers: {start_method: spawn}\n"
    )
    (tmp_path / "failing_progress.py").write_text(SAY)
    monkeypatch.syspath_prepend(tmp_path)
    yield load(settings)
    sys.modules.pop("failing_progress", None)


def test_a_defect_and_a_killed_process_cost_the_others_nothing(project):
    import failing_progress

    order = ["CCC", "BBB", "AAA"]
    outcomes = workers.run_symbols(project, order, 2, "prices", 10**18, 4, failing_progress.record)
    assert list(outcomes) == order and outcomes["AAA"] == ""
    assert outcomes["BBB"].startswith("ZeroDivisionError: no such leg (a defect of nightfold")
    assert outcomes["CCC"].startswith("its process ended with exit code -9 before it was done")
    said = (project.path.parent / "said.txt").read_text()
    assert "BBB failed\nTraceback (most recent call last)" in said and "in record" in said
    assert Lake(project.data_dir).read("bars", "AAA") is not None
    pids = {line.split()[1]: line.split()[0] for line in said.splitlines() if " prices " in line}
    assert len(set(pids.values())) == 3


def test_one_worker_computes_in_this_process(project):
    said = []
    outcomes = workers.run_symbols(project, ["BBB", "AAA"], 1, "prices", 10**18, 4, said.append)
    assert outcomes == {"BBB": "", "AAA": ""}
    assert [text.split()[0] for text in said if "rows" in text] == ["BBB", "AAA"]


@pytest.mark.parametrize("stage", ["prices", None])
def test_a_failed_check_stops_the_symbol(project, monkeypatch, stage):
    def check(lake, symbol, settings):
        return Check("prices_look_right", symbol != "AAA", True, "3 of 30 bars do not")

    monkeypatch.setitem(verify.CHECKS, "prices", (check,))
    said = []
    outcome = workers.run_symbols(project, ["AAA"], 1, stage, 10**18, 4, said.append)["AAA"]
    assert outcome.startswith("AAA prices: check prices_look_right failed (3 of 30 bars do not)")
    assert not any(text.startswith("AAA features") for text in said)


def test_an_interrupt_is_no_failure_of_the_symbol(project):
    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.run_symbols(project, ["AAA"], 1, "prices", 10**18, 4, interrupt)
