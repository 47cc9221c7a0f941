"""A writer may die, or be refused by the disk, anywhere: what was published is whole, a rerun ends alike.

A child process listens to the crash points of `engine.lake.faults` and kills itself at one of them.
"""

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from engine.errors import AlreadyRunning, LakeError
from engine.lake import faults, leases, raw, warehouse
from engine.lake.doctor import examine, repair
from engine.lake.files import replace_atomically
from engine.lake.leases import is_held, lease
from engine.lake.publish import Lake
from engine.lake.quarantine import add


def tree_hash(data_dir):
    """sha256 over (path, sha256) of all of lake/ but the leases, and of raw/."""
    files = [p for name in ("lake", "raw") for p in (data_dir / name).rglob("*") if p.is_file()]
    files = sorted(p for p in files if ".leases" not in p.parts)
    lines = [f"{p.relative_to(data_dir)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return "\n".join(lines)


def row(line):
    return {
        "ts": line, "rule": "E04", "version": "row", "source": "files", "raw_sha": "a", "line": line,
        "text": "2024-01-02,0", "reason": "price is 0 or negative",
    }  # fmt: skip


@pytest.fixture
def night(bars, record, rows_for):
    """night(data_dir) writes as a night does: every kind of file, in order, under the lease."""

    def run(data_dir, generation=2):
        lake = Lake(data_dir)
        with lease(data_dir, "AAPL"):
            raw.keep(data_dir, "yahoo", "AAPL", b"[1]" * 100 * generation, "json", 0, None)
            add(lake, "AAPL", [row(n) for n in range(generation)])
            lake.publish("bars", "AAPL", bars(20 * generation), record(params=generation))
            for year in ("2012", "2013")[:generation]:
                lake.publish(
                    "trials", "AAPL", rows_for("trials", generation), record(params=generation), year
                )
            lake.publish("folds", "AAPL", rows_for("folds", generation), record(params=generation))
            if generation == 2:  # a new table: the warehouse has another view
                lake.publish("nightly", "AAPL", rows_for("nightly", 2), record(params=generation))
        with lease(data_dir, "_all"):
            lake.publish("champions", "_all", rows_for("champions", generation), record(params=generation))
        warehouse.refresh(data_dir)

    return run


@pytest.fixture
def before(tmp_path, night):
    """A data folder after the first night."""
    night(tmp_path / "before", 1)
    return tmp_path / "before"


def listened(action, work):
    """Do work with a listener that calls ``action(number, name)`` at each crash point."""
    hits = []

    def listen(name):
        hits.append(name)
        action(len(hits), name)

    faults.listener = listen
    try:
        work()
    finally:
        faults.listener = None
    return hits


def killed(work, at):
    """Do work in a child that kills itself at the n-th crash point; say whether it came so far."""
    child = os.fork()
    if child == 0:
        listened(lambda n, _: n == at and os.kill(os.getpid(), signal.SIGKILL), work)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


POINTS = ("before_tmp", "after_tmp", "after_fsync", "after_replace", "after_dirsync")


def test_every_write_path_has_its_named_points(before, night):
    hits = listened(lambda *_: None, lambda: night(before))
    for what in ("raw", "quarantine", "bars", "trials", "folds", "champions", "warehouse"):
        assert {f"{what}.{point}" for point in POINTS} <= set(hits), what
    for table in ("bars", "folds", "champions"):
        assert f"{table}.after_link" in hits
    assert hits.count("lease.after_take") == 2 and len(hits) >= 50


def test_kill_9_at_every_point_then_a_rerun_is_the_tree_of_a_clean_run(before, night, tmp_path):
    shutil.copytree(before, tmp_path / "clean")
    hits = listened(lambda *_: None, lambda: night(tmp_path / "clean"))
    clean = tree_hash(tmp_path / "clean")
    for at in range(1, len(hits) + 1):
        folder = tmp_path / f"killed{at}"
        shutil.copytree(before, folder)
        assert killed(lambda folder=folder: night(folder), at), hits[at - 1]
        assert not [line for line in examine(folder) if ".tmp: " not in line], hits[
            at - 1
        ]  # tables are whole
        night(folder)
        assert tree_hash(folder) == clean, hits[at - 1]
        shutil.rmtree(folder)


SLOW = [pytest.param(c, 1, marks=pytest.mark.slow) for c in (errno.ENOSPC, errno.EROFS, errno.EIO)]


@pytest.mark.parametrize(("code", "step"), [(errno.ENOSPC, 5), *SLOW])
def test_every_nth_operation_failing_is_one_refusal_and_a_rerun_ends_alike(
    before, night, tmp_path, code, step
):
    shutil.copytree(before, tmp_path / "clean")
    hits = listened(lambda *_: None, lambda: night(tmp_path / "clean"))
    clean = tree_hash(tmp_path / "clean")

    def fail(at):
        def action(number, name):
            if number == at:
                raise OSError(code, os.strerror(code))

        return action

    for at, name in enumerate(hits, 1):
        if at % step or name == "lease.after_take":  # a point of its own; no operation of the disk follows
            continue
        folder = tmp_path / f"failed{at}"
        shutil.copytree(before, folder)
        with pytest.raises(LakeError, match=f"{os.strerror(code)}"):
            listened(fail(at), lambda folder=folder: night(folder))
        night(folder)
        assert tree_hash(folder) == clean, name
        shutil.rmtree(folder)


def in_child(work):
    """Do work in a forked child; return 0, or 7 where the lake refused with a path in its message."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except LakeError as error:
            code = 7 if "lake/" in str(error) or "raw/" in str(error) else 8
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_full_disk_is_refused_with_the_path_and_leaves_what_was_there(before, night):
    tree = tree_hash(before)

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        night(before)

    assert in_child(full) == 7
    assert tree_hash(before) == tree and not list((before / "lake").rglob("*.tmp"))
    night(before)
    assert examine(before) == []


def test_a_read_only_folder_is_refused_with_the_path_and_can_be_read(before, night, bars):
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        shutil.copytree(before, folder / "data")
        paths = [folder / "data", *(folder / "data").rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def as_a_user():
            if os.getuid() == 0:  # root may write everywhere
                os.setuid(65534)
            assert Lake(folder / "data").read("bars", "AAPL").num_rows == 20
            night(folder / "data")

        assert in_child(as_a_user) == 7
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert tree_hash(folder / "data") == tree_hash(before)
    finally:
        shutil.rmtree(folder)


def test_what_a_killed_writer_left_is_swept_by_the_next_lease_of_its_symbol_alone(before):
    left = [
        before / "lake/bars/.AAPL.parquet.7.tmp",
        before / "lake/trials/AAPL/.2012.parquet.7.tmp",
        before / "raw/yahoo/AAPL/.x.json.7.tmp",
    ]
    other = before / "lake/bars/.IBM.parquet.7.tmp"
    for path in (*left, other):
        path.write_bytes(b"half")
    with lease(before, "AAPL"):
        assert not any(path.exists() for path in left) and other.exists()


# leases


def test_a_lease_whose_lock_was_removed_cannot_publish(lake, bars, record):
    with lease(lake.data_dir, "AAPL"):
        lake.publish("bars", "AAPL", bars(20), record())
        (lake.data_dir / "lake/.leases/AAPL.lock").unlink()
        with pytest.raises(LakeError, match=r"^lease lost: .*AAPL\.lock was removed while AAPL was held"):
            lake.publish("bars", "AAPL", bars(30), record())
    assert lake.read("bars", "AAPL").num_rows == 20 and not list(lake.data_dir.rglob("*.tmp"))


RUN = """
import multiprocessing, os, sys, time
from pathlib import Path

def work(data_dir):
    import numpy as np, pyarrow as pa
    from engine.lake import leases
    from engine.lake.publish import Lake
    if sys.argv[2:] == ["deaf"]:
        leases._die_with_parent = lambda: None  # as where a thread cannot end it in time
    lake, number = Lake(data_dir), 0
    with leases.lease(data_dir, "AAPL"):
        print(os.getpid(), flush=True)
        while True:
            number += 1
            values = np.full(100, float(number))
            names = ("open", "high", "low", "close", "volume", "adj", "dividend")
            stamps = pa.array(np.arange(100), pa.timestamp("us"))
            rows = pa.table({"symbol": ["AAPL"] * 100, "ts": stamps,
                             **{name: values for name in names}})
            lake.publish("bars", "AAPL", rows, {"result_id": str(number)})

if __name__ == "__main__":
    context = multiprocessing.get_context("METHOD")
    process = context.Process(target=work, args=(Path(sys.argv[1]),))
    process.start()
    process.join()
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("deaf", [False, True], ids=["ends", "deaf"])
def test_an_orphan_publishes_nothing_once_its_run_is_killed(tmp_path, method, deaf):
    script = tmp_path / "run.py"
    script.write_text(RUN.replace("METHOD", method))
    data_dir = tmp_path / "data"
    call = [sys.executable, str(script), str(data_dir), *(["deaf"] if deaf else [])]
    run = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    orphan = int(run.stdout.readline())
    path = data_dir / "lake/bars/AAPL.parquet"
    while not path.exists():
        time.sleep(0.01)
    run.kill()
    run.wait()
    killed_at = time.time()
    while alive(orphan):
        assert time.time() - killed_at < 20
        time.sleep(0.02)
    run.stdout.close()
    assert path.stat().st_mtime <= killed_at + 2  # nothing after a last publish that had begun
    while is_held(data_dir, "AAPL"):  # the lock goes with the last of its threads
        assert time.time() - killed_at < 20
        time.sleep(0.02)
    with lease(data_dir, "AAPL"):
        assert examine(data_dir) == []


def test_of_many_that_want_a_symbol_one_has_it_and_the_others_name_it(tmp_path):
    with lease(tmp_path, "AAPL"):
        for _ in range(20):
            with pytest.raises(AlreadyRunning, match=f"^already running: AAPL by pid {os.getpid()}$"):
                leases.lease(tmp_path, "AAPL").__enter__()


# history and repair


def test_the_last_three_generations_stay_and_no_more(lake, bars, record):
    for n in range(1, 8):
        lake.publish("bars", "AAPL", bars(10 * n), record(params=n))
    folder = lake.data_dir / "lake/.history/bars/AAPL"
    assert sorted(p.stem for p in folder.iterdir()) == ["000004", "000005", "000006"]
    assert lake.read("bars", "AAPL").num_rows == 70


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:100], lambda b: b[:300] + bytes([b[300] ^ 255]) + b[301:], lambda b: b""]
)
def test_repair_restores_the_newest_sound_generation_and_a_rerun_ends_alike(before, night, tmp_path, spoil):
    night(before)
    clean = tree_hash(before)
    tables = [p for p in (before / "lake").glob("*/*.parquet")] + [before / "lake/trials/AAPL/2012.parquet"]
    for number, path in enumerate(sorted(tables)):
        folder = tmp_path / f"damaged{number}"
        shutil.copytree(before, folder)
        there = folder / path.relative_to(before)
        there.write_bytes(spoil(there.read_bytes()))
        done, left = repair(folder)
        assert left == [] and len(done) == 1 and str(there) in done[0]
        restored = (folder / "lake/.history" / path.parent.name / path.stem).exists()
        assert ("generation 000001 restored" in done[0]) is restored
        assert examine(folder) == [] and len(list((folder / "damaged").iterdir())) == 1
        night(folder)
        assert tree_hash(folder) == clean, path
        shutil.rmtree(folder)


def test_repair_leaves_what_it_did_not_write_and_what_a_run_holds(before):
    (before / "lake/bars/notes.txt").write_text("mine")
    (before / "lake/bars/AAPL.parquet").write_bytes(b"torn")
    with lease(before, "AAPL"):
        pid = subprocess.run(
            [sys.executable, "-c", "import sys; from pathlib import Path\n"
             "from engine.lake.doctor import repair\n"
             "print(*repair(Path(sys.argv[1])), sep='\\n')", str(before)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    assert pid.startswith("[]\n") and "already running: AAPL" in pid and "notes.txt" in pid
    assert (before / "lake/bars/notes.txt").read_text() == "mine"


def test_without_a_listener_a_point_does_nothing(tmp_path):
    assert faults.listener is None
    replace_atomically(tmp_path / "a.txt", lambda path: path.write_text("a"))
    assert (tmp_path / "a.txt").read_text() == "a"
