"""Where each table lies. One builder, so that no key can name a file outside the lake."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import LakeError
from engine.symbol_keys import KEY_PATTERN, is_canonical

ALL_SYMBOLS = "_all"


def table_path(data_dir: Path, table: str, key: str, part: str = "") -> Path:
    """Return the Parquet file of one table and symbol.

    Parameters
    ----------
    data_dir : Path
        Root of all that is written.
    table : str
        Name of a table in `engine.lake.schemas`.
    key : str
        Canonical key, or `ALL_SYMBOLS`.
    part : str
        Year of a part (table ``trials`` only); empty elsewhere.

    Raises
    ------
    LakeError
        The key is not canonical, or another part of the path could name a file elsewhere.
    """
    if key != ALL_SYMBOLS and not is_canonical(key):
        raise LakeError(f"key {key!r} is not canonical (expected {KEY_PATTERN.pattern}); no path was built")
    if re.fullmatch(r"[a-z_]+", table) is None or re.fullmatch(r"[0-9]*", part) is None:
        raise LakeError(
            f"table {table!r}, part {part!r}: expected a table's name and a year; no path was built"
        )
    folder = data_dir / "lake" / table
    return folder / key / f"{part}.parquet" if part else folder / f"{key}.parquet"


def history_folder(data_dir: Path, table: str, key: str) -> Path:
    """Return the folder of a table's older generations; the key must have made a `table_path` before."""
    return data_dir / "lake" / ".history" / table / key


def temporary_files(data_dir: Path, key: str) -> list[Path]:
    """Return what killed writers of one symbol left: files that were never put in place."""
    lake = data_dir / "lake"
    found = [*lake.glob(f"*/.{key}.parquet.*.tmp"), *lake.glob(f"*/{key}/.*.tmp")]
    return sorted([*found, *(data_dir / "raw").glob(f"*/{key}/.*.tmp")])


def made_by(key: str) -> str:
    """Return the command that makes a symbol's missing tables again."""
    return "nightfold run --stage leaderboard" if key == ALL_SYMBOLS else f"nightfold run {key}"
