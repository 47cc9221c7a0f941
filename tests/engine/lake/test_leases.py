import os
import subprocess
import sys
import time

import pytest

from engine.errors import AlreadyRunning, LakeError
from engine.lake.leases import holder, is_held, lease, slot

HOLDER = """
import sys
from pathlib import Path
from engine.lake.leases import lease, slot
kind, data_dir = sys.argv[1], Path(sys.argv[2])
with lease(data_dir, "AAPL") if kind == "lease" else slot(data_dir, "cpu", 2, print) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def process(tmp_path):
    """process(kind) -> a process that holds the lease of AAPL, or one of two CPU slots."""
    started = []

    def start(kind):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, kind, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        child.first_line = child.stdout.readline().strip()
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def test_a_second_process_is_told_who_holds_the_symbol(tmp_path, process):
    pid = process("lease").pid
    with pytest.raises(AlreadyRunning) as caught, lease(tmp_path, "AAPL"):
        pass
    assert str(caught.value) == f"already running: AAPL by pid {pid}"
    assert is_held(tmp_path, "AAPL") == str(pid)
    second = process("lease")
    assert f"already running: AAPL by pid {pid}" in second.communicate()[1]


def test_another_symbol_is_free(tmp_path, process):
    process("lease")
    with lease(tmp_path, "IBM"):
        assert is_held(tmp_path, "IBM") == str(os.getpid())


def test_a_symbol_is_free_at_once_when_its_holder_is_killed(tmp_path, process):
    child = process("lease")
    child.kill()
    child.wait()
    assert is_held(tmp_path, "AAPL") == ""
    with lease(tmp_path, "AAPL"):
        assert holder(tmp_path / "lake/.leases/AAPL.lock") == str(os.getpid())


@pytest.mark.parametrize("error", [None, ValueError("a stage failed")])
def test_a_symbol_is_free_after_the_block_whatever_happened(tmp_path, error):
    try:
        with lease(tmp_path, "AAPL"):
            if error:
                raise error
    except ValueError:
        pass
    assert is_held(tmp_path, "AAPL") == ""
    with lease(tmp_path, "AAPL"):
        pass


def test_a_look_at_a_lease_takes_nothing(tmp_path):
    assert is_held(tmp_path, "AAPL") == ""
    assert not (tmp_path / "lake").exists()
    with lease(tmp_path, "AAPL"):
        for _ in range(3):
            assert is_held(tmp_path, "AAPL") == str(os.getpid())


LOOKER = """
import sys
from pathlib import Path
from engine.lake.leases import is_held
print("ready", flush=True)
while True:
    is_held(Path(sys.argv[1]), "AAPL")
"""


def test_looks_of_another_process_are_no_run(tmp_path):
    with lease(tmp_path, "AAPL"):
        pass
    looker = subprocess.Popen([sys.executable, "-c", LOOKER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert looker.stdout.readline() == b"ready\n"
        for _ in range(100):
            with lease(tmp_path, "AAPL"):
                pass
    finally:
        looker.kill()
        looker.communicate()


TAKER = """
import os, sys, time
from pathlib import Path
from engine.errors import AlreadyRunning
from engine.lake.leases import confirm, lease
data_dir, rounds = Path(sys.argv[1]), int(sys.argv[2])
while rounds:
    try:
        with lease(data_dir, "AAPL"):
            alone = os.open(data_dir / "alone", os.O_CREAT | os.O_EXCL)
            confirm(data_dir, "AAPL")
            os.close(alone)
            os.unlink(data_dir / "alone")
        rounds -= 1
    except AlreadyRunning:
        time.sleep(0.001)
"""


@pytest.mark.slow
def test_in_1000_rounds_of_eight_takers_no_two_hold_a_symbol_at_once(tmp_path):
    call = [sys.executable, "-c", TAKER, str(tmp_path), "125"]
    takers = [subprocess.Popen(call, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    said = [taker.communicate(timeout=300)[1] for taker in takers]
    assert [taker.returncode for taker in takers] == [0] * 8, said


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "lake").write_text("a file where the folder belongs")
    with (
        pytest.raises(LakeError, match=r"AAPL\.lock cannot be locked: .*Expected a writable folder"),
        lease(tmp_path, "AAPL"),
    ):
        pass


def test_the_children_of_a_holder_do_not_hold(tmp_path):
    """A program started under the lease lives on after it; the symbol must be free then."""
    with lease(tmp_path, "AAPL"):
        call = [sys.executable, "-c", "print('ready', flush=True); input()"]
        pipe = subprocess.PIPE
        child = subprocess.Popen(call, stdin=pipe, stdout=pipe, close_fds=False)
        assert child.stdout.readline() == b"ready\n"
    try:
        assert is_held(tmp_path, "AAPL") == ""
    finally:
        child.communicate(b"\n")


class Waited(Exception):
    pass


def give_up(message):
    raise Waited(message)


def test_slots_are_as_many_as_asked_for(tmp_path, process):
    first, second = process("slot"), process("slot")
    assert {first.first_line, second.first_line} == {"0", "1"}
    with pytest.raises(Waited) as caught, slot(tmp_path, "cpu", 2, give_up):
        pass
    holders = [first.pid, second.pid] if first.first_line == "0" else [second.pid, first.pid]
    assert str(caught.value) == f"waiting for one of 2 cpu slots, held by pid {holders[0]}, {holders[1]}"


def test_slots_of_another_kind_are_free(tmp_path):
    with slot(tmp_path, "cpu", 1, give_up) as first, slot(tmp_path, "gpu", 1, give_up) as second:
        assert first == second == 0


def test_a_waiter_gets_the_slot_of_a_killed_process(tmp_path, process):
    first, second = process("slot"), process("slot")
    told = []

    def kill_second(message):
        told.append(message)
        second.kill()
        second.wait()

    with slot(tmp_path, "cpu", 2, kill_second) as number:
        assert str(number) == second.first_line and first.poll() is None
    assert len(told) == 1


def test_a_slot_is_free_after_the_block(tmp_path):
    for _ in range(3):
        with pytest.raises(ValueError, match="failed"), slot(tmp_path, "cpu", 1, give_up):
            raise ValueError("failed")


def test_whoever_waits_is_told_at_once_and_then_once_a_minute(tmp_path, monkeypatch):
    told, naps = [], []
    monkeypatch.setattr("engine.lake.leases.time.sleep", naps.append)

    def listen(message):
        told.append(len(naps))
        if len(told) == 3:
            raise Waited

    with slot(tmp_path, "cpu", 1, give_up), pytest.raises(Waited), slot(tmp_path, "cpu", 1, listen):
        pass
    assert told[0] == 0 and sum(naps[: told[1]]) == pytest.approx(60) and sum(naps) == pytest.approx(120)


def test_a_lock_file_from_before_a_reboot_holds_nothing_even_where_its_pid_lives_again(tmp_path):
    path = tmp_path / "lake" / ".leases" / "AAPL.lock"
    path.parent.mkdir(parents=True)
    path.write_text(str(os.getppid()))  # another process has that number now
    began = time.perf_counter()
    assert is_held(tmp_path, "AAPL") == ""
    with lease(tmp_path, "AAPL"):
        assert path.read_text() == str(os.getpid())
    assert time.perf_counter() - began < 1
