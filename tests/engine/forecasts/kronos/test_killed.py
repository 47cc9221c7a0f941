"""A long inference that is killed loses one batch at most, and ends as one that was left alone."""

import os
import signal

import pytest

from engine.errors import LakeError
from engine.forecasts.devices import gpu_slot
from engine.forecasts.kronos.forecaster import KronosForecaster
from engine.forecasts.parts import Parts
from engine.lake import faults
from engine.stages import _forecasts
from engine.stages._forecasts import forecasts
from engine.stages._prices import prices

BATCH = 20
KRONOS = {"model": "kronos", "weights": "weights", "samples": 10, "lookback": 40, "min_history_bars": 250}


def ignore(text):
    return None


def slot_of_a_gpu(device, **how):
    """Hold the slot of a GPU, whatever computes."""
    return gpu_slot("cuda:0", **how)


@pytest.fixture
def kronos(bench, alfa, kronos_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(KronosForecaster, "plan", lambda self, n, free_bytes: BATCH)
    monkeypatch.setattr(_forecasts, "gpu_slot", slot_of_a_gpu)
    made = bench(tmp_path / "data")
    made.write(alfa(330))
    made.change(folds={"train_bars": 40, "test_bars": 20, "min_folds": 1})
    made.change(forecasts={**KRONOS, "levels": [0.1, 0.5, 0.9]})
    prices(made.lake, "ALFA", made.settings, ignore, asof=None)
    return made


def run(made):
    return forecasts(made.lake, "ALFA", made.settings, made.said.append)


def killed_at(made, point, hit):
    """Run the stage in a child and kill it when it comes to a point for the ``hit``-th time."""
    child = os.fork()
    if child == 0:
        hits = []

        def listen(name):
            hits.append(name)
            if name == point and hits.count(point) == hit:
                os.kill(os.getpid(), signal.SIGKILL)

        faults.listener = listen
        try:
            run(made)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kept(made):
    return made.data_dir / "cache" / "forecasts"


@pytest.mark.parametrize(
    ("point", "hit", "left"),
    [
        ("forecasts_part.before_tmp", 1, 81),  # within the first batch
        ("forecasts_part.after_dirsync", 3, 41),  # the third has no inputs yet: it does not count
        ("forecast_inputs.before_tmp", 1, 0),  # all answered, not all published
    ],
)
def test_after_a_kill_only_what_was_not_kept_is_inferred(kronos, tmp_path, point, hit, left):
    alone = kronos.copy_to(tmp_path / "alone" / "data")
    (tmp_path / "alone" / "weights").symlink_to(tmp_path / "weights")
    assert run(alone).metadata["forecasts_new"] == 81
    killed_at(kronos, point, hit)
    with gpu_slot("cuda:0", data_dir=kronos.data_dir, slots=1, wait_s=0, progress=ignore):
        pass  # free at once
    assert run(kronos).metadata["forecasts_new"] == left
    assert kronos.files() == alone.files() and not kept(kronos).joinpath("ALFA").exists()


def test_rows_kept_of_a_bar_that_was_corrected_since_are_inferred_again(kronos, alfa, with_bar, tmp_path):
    killed_at(kronos, "forecast_inputs_part.after_replace", 4)  # 80 of 81 kept
    kronos.write(with_bar(alfa(330), 320, 1.01))
    prices(kronos.lake, "ALFA", kronos.settings, ignore, asof=None)
    fresh = kronos.copy_to(tmp_path / "fresh" / "data")
    (tmp_path / "fresh" / "weights").symlink_to(tmp_path / "weights")
    kept(fresh).rename(tmp_path / "elsewhere")
    again = kronos.copy_to(tmp_path / "again" / "data")
    (tmp_path / "again" / "weights").symlink_to(tmp_path / "weights")
    assert run(kronos).metadata["forecasts_new"] == 10  # all that hold the bar
    killed_at(again, "forecasts.before_tmp", 1)  # after those were kept beside what was kept before
    assert run(again).metadata["forecasts_new"] == 0 and again.files() == kronos.files()
    assert run(fresh).metadata["forecasts_new"] == 81 and kronos.files() == fresh.files()


def test_rows_kept_of_another_model_are_not_taken(kronos):
    killed_at(kronos, "forecast_inputs_part.after_replace", 3)
    kronos.change(forecasts={"temperature": 0.9})
    assert run(kronos).metadata["forecasts_new"] == 81


def test_a_damaged_part_is_refused_and_says_what_to_delete(kronos):
    killed_at(kronos, "forecast_inputs_part.after_replace", 1)
    (path,) = kept(kronos).rglob("*.forecasts.parquet")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(LakeError, match=r"000001.forecasts.parquet cannot be read .* delete the folder"):
        run(kronos)


def test_a_run_whose_lease_is_lost_keeps_nothing(tmp_path, monkeypatch):
    def lost(data_dir, key):
        raise LakeError("lost")

    monkeypatch.setattr("engine.forecasts.parts.leases.confirm", lost)
    parts = Parts(tmp_path, "ALFA", "0" * 16)
    rows, inputs = parts.read()
    assert (len(rows), len(inputs)) == (0, 0)
    with pytest.raises(LakeError, match="^lost$"):
        parts.keep(rows, inputs)
    assert not list(tmp_path.rglob("*.parquet*"))
