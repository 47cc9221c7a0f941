"""What the warehouse shows: the lake at one moment, as hard links whose names never get another content.

DuckDB opens a Parquet file more than once in a query. Where a file is replaced in between, it mixes the two:
an error, and rarely a wrong count. So its views read links, made anew as a whole when a table has changed. A
snapshot stays while a connection is open on the warehouse file that names it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import LakeError
from engine.lake.schemas import TABLES

KEEP = 3  # the newest, whoever reads them: a reader may have opened the file and not yet locked it
WAREHOUSE = "warehouse.duckdb"


def folder_of(data_dir: Path) -> Path:
    """Return where the snapshots lie."""
    return data_dir / "cache" / "warehouse"


def pattern(table: str) -> str:
    """Return which files of a table's folder are its rows."""
    return "*/*.parquet" if table == "trials" else "*.parquet"


def tables_of(folder: Path) -> dict[str, int]:
    """Return the table files of a lake or a snapshot and their inodes, by path below the folder."""
    found = {}
    for table in TABLES:
        for path in (folder / table).glob(pattern(table)):
            if not path.name.startswith("."):
                found[str(path.relative_to(folder))] = path.stat().st_ino
    return found


def snapshots(data_dir: Path) -> list[Path]:
    """Return the snapshots, oldest first."""
    return sorted(path for path in folder_of(data_dir).glob("*") if path.name.isdigit())


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """Hold what only one process at a time may do: make and remove snapshots."""
    folder = folder_of(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a")  # noqa: SIM115  (closed below; another error has another text)
    except OSError as error:
        raise LakeError(
            f"{folder} cannot be written: {error.strerror or error}. Expected a writable folder: "
            "give this user the right to write there, or set data_dir in nightfold.yaml"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take(data_dir: Path) -> Path:
    """Link every table of the lake into a new snapshot; the caller is `alone`.

    Raises
    ------
    LakeError
        The disk refuses.
    """
    there = snapshots(data_dir)
    final = folder_of(data_dir) / f"{int(there[-1].name) + 1 if there else 1:06d}"
    temporary = final.with_suffix(".tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        for name in tables_of(data_dir / "lake"):
            link = temporary / name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(data_dir / "lake" / name, link)
        os.replace(temporary, final)
    except OSError as error:
        raise LakeError(
            f"{final} was not made: {error.strerror or error}. Expected lake/ and cache/ on one writable "
            "disk that has hard links and free space"
        ) from error
    return final


def is_open(path: Path, *, writing: bool = False) -> bool:
    """Say whether another process has a DuckDB file open, or open for writing: it holds a lock on it then."""
    try:
        with open(path, "rb" if writing else "rb+") as file:
            fcntl.lockf(file, (fcntl.LOCK_SH if writing else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def sweep(data_dir: Path) -> None:
    """Remove old snapshots that nobody reads; the caller is `alone`."""
    for left in folder_of(data_dir).glob("*.tmp"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    for old in snapshots(data_dir)[:-KEEP]:
        if not is_open(old / WAREHOUSE):
            gone = old.with_suffix(".tmp")  # a late reader finds no file, never some of them
            os.replace(old, gone)
            shutil.rmtree(gone, ignore_errors=True)
