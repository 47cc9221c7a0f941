"""A whole night of one symbol, and its leaderboard, killed: a rerun ends as a night without faults."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from engine.errors import LakeError
from engine.lake import faults, space
from engine.lake.doctor import examine
from engine.stages.chain import holding, run_chain, run_leaderboard

SYMBOL = "ALFA"
pytestmark = pytest.mark.slow


def tree_hash(data_dir):
    files = [p for name in ("lake", "raw") for p in (data_dir / name).rglob("*") if p.is_file()]
    files = sorted(p for p in files if ".leases" not in p.parts)
    return [f"{p.relative_to(data_dir)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]


def night(project):
    def quiet(text):
        pass

    with holding(project.lake, SYMBOL, project.settings, 4, quiet):
        results = list(run_chain(project.lake, SYMBOL, project.settings, quiet, asof=None))
    run_leaderboard(project.lake, project.settings, quiet, cpus=4, asof=None, problems={})
    return results


@pytest.fixture
def tonight(early, alfa):
    """The lake of a night before, and a file with more bars."""
    run_leaderboard(early.lake, early.settings, lambda text: None, cpus=4, asof=None, problems={})
    early.write(alfa(len(early.table("bars")) + 5))
    return early


@pytest.fixture
def clean(tonight, tmp_path):
    project = tonight.copy_to(tmp_path / "clean")
    hits = []
    faults.listener = hits.append
    try:
        began = time.perf_counter()
        night(project)
        project.seconds = time.perf_counter() - began
    finally:
        faults.listener = None
    project.hits, project.tree = hits, tree_hash(project.data_dir)
    return project


def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def ended(project, clean, where):
    """Assert that what is there is whole, and that a rerun ends as the clean night."""
    assert not [line for line in examine(project.data_dir) if ".tmp" not in line], where
    results = night(project)
    assert tree_hash(project.data_dir) == clean.tree, where
    return results


def test_kill_9_at_every_point_of_a_night_then_a_rerun_is_the_tree_of_a_clean_run(tonight, clean, tmp_path):
    assert len(clean.hits) >= 50 and "champions.after_replace" in clean.hits
    for at, name in enumerate(clean.hits, 1):
        project = tonight.copy_to(tmp_path / f"killed{at}")

        def killed(project=project, at=at):
            count = 0

            def listen(_):
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            faults.listener = listen
            night(project)

        _, status = os.waitpid(in_child(killed), 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, name
        results = ended(project, clean, name)
        finished = [result.stage for result in results if result.unchanged]
        if name.startswith("backtests."):  # the last table of the last stage
            assert finished[:4] == ["prices", "features", "forecasts", "optimizations"], name
        shutil.rmtree(project.data_dir)


def test_200_random_kills_of_a_night(tonight, clean, tmp_path):
    rng = random.Random("kills")
    for number in range(200):
        project = tonight.copy_to(tmp_path / f"random{number}")
        for _ in range(rng.choice([1, 1, 2, 4])):  # some nights are killed more than once
            child = in_child(lambda project=project: night(project))
            time.sleep(rng.random() * clean.seconds)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        ended(project, clean, number)
        shutil.rmtree(project.data_dir)


def test_a_small_full_disk_refuses_the_night_and_keeps_what_was_there(tonight, clean, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(p.stat().st_size for p in tonight.data_dir.rglob("*") if p.is_file()) + 300_000
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        project = tonight.copy_to(disk / "data")
        with pytest.raises(LakeError, match=r"disk nearly full: .* MB free; expected \d+ MB"):
            night(project)
        monkeypatch.setattr(space, "free_bytes", lambda folder: 10**12)  # it fills up in the middle
        before = {p: p.read_bytes() for p in project.data_dir.rglob("*.parquet")}
        filler = disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        with pytest.raises(LakeError, match="No space left on device"):
            night(project)
        assert all(p.read_bytes() == was for p, was in before.items())
        filler.unlink()
        moved = project.copy_to(tmp_path / "room")
        ended(moved, clean, "a full disk")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
