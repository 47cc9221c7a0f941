"""Is there room for what a run will write: asked before it begins, so that a night does not end half way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine.errors import LakeError

SHARE, LEAST_BYTES = 1.5, 64 * 1024**2  # each table anew beside the old one; raw replies and reports


def free_bytes(folder: Path) -> int:
    """Return what a file system has left; tests put another in its place."""
    return shutil.disk_usage(folder).free


def table_bytes(data_dir: Path) -> int:
    """Return the bytes of all current tables; older generations are not counted."""
    total = 0
    for folder, names, files in os.walk(data_dir / "lake"):
        names[:] = [name for name in names if not name.startswith(".")]
        total += sum(
            os.stat(os.path.join(folder, name)).st_size for name in files if name.endswith(".parquet")
        )
    return total


def refuse_full(data_dir: Path) -> None:
    """Refuse to begin where the disk has less room than the tables take 1.5 times, and 64 MB.

    Raises
    ------
    LakeError
        Names the path, what is free and what is needed.
    """
    folder = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists())
    free, tables = free_bytes(folder), table_bytes(data_dir)
    needed = int(SHARE * tables) + LEAST_BYTES
    if free < needed:
        raise LakeError(
            f"disk nearly full: {folder} has {free / 1e6:,.0f} MB free; expected {needed / 1e6:,.0f} MB "
            f"(1.5 x the {tables / 1e6:,.0f} MB of tables, and 67 MB). Nothing was begun. "
            "Free some, or set data_dir in nightfold.yaml"
        )
