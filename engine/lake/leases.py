"""Who may write, and who may compute: locks that the kernel frees when a process dies."""

from __future__ import annotations

import fcntl
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import parent_process
from pathlib import Path

from engine.errors import AlreadyRunning, DeviceUnavailable, LakeError
from engine.lake.faults import crash_point
from engine.lake.paths import temporary_files

_HELD: dict[Path, int] = {}  # lock file -> handle, of the leases of this process


def _try_lock(path: Path) -> int | None:
    """Return a handle that holds the lock, or None where another process holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise LakeError(
            f"{path} cannot be locked: {error.strerror}. Expected a writable folder: "
            "give this user the right to write there, or set data_dir in nightfold.yaml"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())  # for the messages of those who wait
    except OSError as error:
        os.close(handle)
        raise LakeError(
            f"{path} was not written: {error.strerror}. Expected a disk with free space: "
            "free some, or set data_dir in nightfold.yaml"
        ) from error
    return handle


def holder(path: Path) -> str:
    """Return the pid written in a lock file, or ``unknown``."""
    try:
        return path.read_text() or "unknown"
    except OSError:
        return "unknown"


def _lease_path(data_dir: Path, key: str) -> Path:
    return data_dir / "lake" / ".leases" / f"{key}.lock"


def is_held(data_dir: Path, key: str) -> str:
    """Return the pid of the process that holds a symbol, empty where none does."""
    path = _lease_path(data_dir, key)
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return holder(path)
    return ""


@contextmanager
def lease(data_dir: Path, key: str) -> Iterator[None]:
    """Hold one symbol for writing; nobody else can publish its tables meanwhile.

    The lock is the kernel's: it goes with this process, and this process goes with the run that started it,
    so neither a reboot nor a killed run leaves a symbol locked. What a killed writer left is swept.

    Raises
    ------
    AlreadyRunning
        A live process holds the symbol.
    """
    path = _lease_path(data_dir, key)
    for _ in range(5):  # `is_held` touches the lock for a moment; that is no run
        handle = _try_lock(path)
        if handle is not None:
            break
        time.sleep(0.02)
    if handle is None:
        raise AlreadyRunning(f"already running: {key} by pid {holder(path)}")
    crash_point("lease.after_take")
    _HELD[path.absolute()] = handle
    try:
        _die_with_parent()
        for left in temporary_files(data_dir, key):  # whoever wrote them is dead
            left.unlink(missing_ok=True)
        yield
    finally:
        del _HELD[path.absolute()]
        os.close(handle)


def confirm(data_dir: Path, key: str) -> None:
    """Refuse to publish where the lease of this process is not the symbol's any more.

    A process that took no lease may publish: tools and tests are alone with their lake.

    Raises
    ------
    LakeError
        The lock file was replaced, or the process that started this one is gone.
    """
    path = _lease_path(data_dir, key)
    handle = _HELD.get(path.absolute())
    if handle is None:
        return
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise LakeError(f"lease lost: the run that started this work on {key} is gone; nothing was published")
    try:
        same = os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        same = False
    if not same:
        raise LakeError(
            f"lease lost: {path} was removed while {key} was held; nothing was published. "
            f"Run again: nightfold run {key}"
        )


@cache
def _die_with_parent() -> None:
    """End this process when the one that started it does, if it is a worker of a run."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def slot(
    data_dir: Path, kind: str, count: int, waiting: Callable[[str], None], *, wait_s: float = math.inf
) -> Iterator[int]:
    """Hold one of ``count`` machine-wide slots, waiting until one is free.

    Parameters
    ----------
    data_dir : Path
        The slots are the files ``locks/<kind><n>.lock`` below it.
    kind : str
        What the slot limits, for example ``cpu``.
    count : int, >= 1
        Slots of the machine, whatever started the processes.
    waiting : callable
        Told once a minute who holds the slots.
    wait_s : float
        Wait this long at most.

    Yields
    ------
    int
        Number of the slot held.

    Raises
    ------
    DeviceUnavailable
        None came free in that time; names the holders.
    """
    paths = [data_dir / "locks" / f"{kind}{number}.lock" for number in range(count)]
    looks = 0
    while True:
        for number, path in enumerate(paths):
            handle = _try_lock(path)
            if handle is None:
                continue
            try:
                yield number
            finally:
                os.close(handle)
            return
        pids = ", ".join(holder(path) for path in paths) if looks % 600 == 0 or looks > 10 * wait_s else ""
        if looks > 10 * wait_s:
            raise DeviceUnavailable(
                f"none of {count} {kind} slots came free within {wait_s:g} s; they are held by pid {pids}. "
                "Wait for those runs, or set a longer devices.gpu_wait_s"
            )
        if looks % 600 == 0:
            waiting(f"waiting for one of {count} {kind} slots, held by pid {pids}")
        looks += 1
        time.sleep(0.1)
