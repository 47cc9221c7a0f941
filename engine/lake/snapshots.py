"""What the warehouse shows: the lake at one moment, as hard links whose names never get another content.

DuckDB opens a Parquet file more than once in a query. Where a file is replaced in between, it mixes the two:
an error, and rarely a wrong count. So its views read links, made anew as a whole when a table has changed. A
snapshot stays while a connection is open on the warehouse file that names it, or while that file is the
warehouse of the data folder, or one there that a user wrote into.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import LakeError
from engine.lake.files import link
from engine.lake.schemas import TABLES

KEEP = 3  # the newest, whoever reads them: a reader may have opened the file and not yet locked it
WAREHOUSE = "warehouse.duckdb"


def folder_of(data_dir: Path) -> Path:
    """Return where the snapshots lie."""
    return data_dir / "cache" / "warehouse"


def pattern(table: str) -> str:
    """Return which files of a table's folder are its rows."""
    return "*/*.parquet" if table == "trials" else "*.parquet"


def require_links(data_dir: Path) -> None:
    """Refuse to begin where the warehouse could not be made in the end: its links are tried on an empty file.

    Raises
    ------
    LakeError
        Lake, snapshots and data folder lie on different file systems, or the disk refuses.
    """
    places = (data_dir / "lake" / ".leases", folder_of(data_dir), data_dir)
    names = [place / f".links.{os.getpid()}.tmp" for place in places]
    try:
        for name in names:
            name.parent.mkdir(parents=True, exist_ok=True)
            name.unlink(missing_ok=True)  # of a run that was killed
        try:
            names[0].touch()
            link(names[0], names[1])
            link(names[1], names[2])
        finally:
            for name in names:
                name.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            f"{error.filename} was not written: {error.strerror or error}. Nothing was begun. "
            "Expected a writable disk with free space: free some, or set data_dir in nightfold.yaml"
        ) from error


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
        The disk refuses, or lake and snapshots lie on different ones.
    """
    there = snapshots(data_dir)
    final = folder_of(data_dir) / f"{int(there[-1].name) + 1 if there else 1:06d}"
    temporary = final.with_suffix(".tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        for name in tables_of(data_dir / "lake"):
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            link(data_dir / "lake" / name, temporary / name)
        os.replace(temporary, final)
    except OSError as error:
        raise LakeError(
            f"{final} was not made: {error.strerror or error}. Expected a writable disk with free space"
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


def _is_a_warehouse(path: Path, data_dir: Path) -> bool:
    """Say whether a snapshot's file is the warehouse, or one moved aside; names elsewhere are backups."""
    return path.exists() and any(path.samefile(one) for one in data_dir.glob("warehouse*.duckdb"))


def sweep(data_dir: Path) -> None:
    """Remove old snapshots that nobody reads; the caller is `alone`."""
    for left in folder_of(data_dir).glob("*.tmp"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    for old in snapshots(data_dir)[:-KEEP]:
        if not is_open(old / WAREHOUSE) and not _is_a_warehouse(old / WAREHOUSE, data_dir):
            gone = old.with_suffix(".tmp")  # a late reader finds no file, never some of them
            os.replace(old, gone)
            shutil.rmtree(gone, ignore_errors=True)
