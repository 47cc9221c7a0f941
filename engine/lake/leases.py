"""Who may write, and who may compute: locks that the kernel frees when a process dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import AlreadyRunning, LakeError


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
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())  # for the messages of those who wait
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
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def slot(data_dir: Path, kind: str, count: int, waiting: Callable[[str], None]) -> Iterator[int]:
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

    Yields
    ------
    int
        Number of the slot held.
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
        if looks % 600 == 0:
            pids = ", ".join(holder(path) for path in paths)
            waiting(f"waiting for one of {count} {kind} slots, held by pid {pids}")
        looks += 1
        time.sleep(0.1)
