"""Whole studies in worker processes, and what a stage that was killed keeps of those it had finished."""

import json
import shutil

import pytest
from mortal import Mortal

from engine.errors import SearchError
from engine.search import study
from engine.stages import _optimizations
from engine.stages._studies import Job, Window, fit_in_processes
from engine.stages._trials import TrialLedger

SYMBOL = "ALFA"
JOBS = [Job(Window(k, 10 * k, 10 * k + 5, f"trend fold {k + 1}/3"), ()) for k in range(3)]


def test_a_worker_that_dies_costs_the_studies_it_ran_and_these_are_run_once_more(tmp_path):
    fits = fit_in_processes(Mortal(tmp_path, mortal=10, deaths=1), JOBS, 1, tmp_path)
    assert next(fits) == [(0, 5)]
    assert list(fits) == [[(10, 15)], [(20, 25)]]
    assert (tmp_path / "begun").read_text().split() == ["0", "10", "10", "20"]


def test_a_study_that_kills_its_worker_twice_ends_with_its_name(tmp_path):
    fits = fit_in_processes(Mortal(tmp_path, mortal=10, deaths=2), JOBS, 1, tmp_path)
    assert next(fits) == [(0, 5)]
    with pytest.raises(
        SearchError, match="a worker process died twice while fitting trend fold 2/3, as when"
    ):
        list(fits)


def _ledger_files(bench):
    return {name: content for name, content in bench.files().items() if name.startswith("trials/")}


def _without_fits(small_lake, folder, **search):
    other = small_lake.copy_to(folder)
    for name in ("folds", "nightly", "trials"):
        shutil.rmtree(folder / "lake" / name)
    strategies = json.loads(json.dumps(other.raw["strategies"]))
    strategies[2]["search"] = search
    other.change(strategies=strategies)
    return other


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_worker_processes_give_the_ledger_of_one_process(small_lake, tmp_path, monkeypatch, workers):
    """Byte for byte, whatever the hash seed of each worker."""
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    other = _without_fits(small_lake, tmp_path / "data", mode="subprocess", max_concurrent=workers)
    other.chain()
    for name in ("folds", "nightly"):
        assert other.rows(name) == small_lake.rows(name)
    assert _ledger_files(other) == _ledger_files(small_lake) != {}


@pytest.mark.parametrize("mode", ["in-process", "subprocess"])
def test_studies_that_a_killed_stage_had_finished_are_not_run_again(small_lake, tmp_path, monkeypatch, mode):
    """Their trials are published once some seconds of work lie in them; the rest of the stage follows."""
    monkeypatch.setattr(_optimizations, "SAVE_BARS", 1)
    other = _without_fits(small_lake, tmp_path / "data", mode=mode, max_concurrent=1 + (mode == "subprocess"))
    real, saves = TrialLedger.publish, []

    def killed(ledger, *args):
        real(ledger, *args)
        saves.append({row["study_id"] for row in other.rows("trials")})
        if len(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrialLedger, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        other.chain()
    monkeypatch.setattr(TrialLedger, "publish", real)
    assert [len(studies) for studies in saves] == [1, 2, 3]
    assert other.lake.read("folds", SYMBOL) is None
    strategies = json.loads(json.dumps(other.raw["strategies"]))
    strategies[2]["search"] = {}  # the rest in this process, where it can be counted
    other.change(strategies=strategies)
    batches, real_batch = [], study._evaluate_batch
    monkeypatch.setattr(
        study, "_evaluate_batch", lambda task, *a: batches.append(task.study_id) or real_batch(task, *a)
    )
    other.chain()
    assert batches and not saves[2] & set(batches)
    assert _ledger_files(other) == _ledger_files(small_lake)
    assert other.rows("folds") == small_lake.rows("folds")
