"""Find what a crash or a failing disk left: torn and changed files, temporary ones; `repair` mends it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import AlreadyRunning, LakeError
from engine.lake.files import sync_folder
from engine.lake.leases import lease
from engine.lake.paths import ALL_SYMBOLS, history_folder, made_by
from engine.lake.publish import UNREADABLE, conform, write_parquet
from engine.lake.records import content_sha, digest
from engine.lake.schemas import TABLES
from engine.symbol_keys import is_canonical


@dataclass(frozen=True)
class Damage:
    """One file that is not as nightfold leaves it.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        What is wrong, and what mends it by hand.
    kind : {"temporary", "table", "generation", "foreign"}
        A killed writer's file; a current table; an older generation; no file of nightfold's.
    table, key : str
        Of which table and symbol; empty where neither is known.
    """

    path: Path
    text: str
    kind: str
    table: str = ""
    key: str = ""

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.path}: {self.text}"


def examine(data_dir: Path) -> list[str]:
    """Return one line for each thing that is wrong in a lake; nothing is changed."""
    return [str(found) for found in damages(data_dir)]


def damages(data_dir: Path) -> list[Damage]:
    """Return what is wrong in a lake; nothing is changed.

    Every table file is read whole, older generations too. Its rows and its record are compared with the
    hashes in the record, and its bytes with those that the same rows give when written again.
    A temporary file is harmless; the next run of its symbol sweeps it.
    """
    lake, findings = data_dir / "lake", list[Damage]()
    for path in sorted(lake.rglob("*")):
        if path.is_dir() or ".leases" in path.parts:
            continue
        if path.suffix == ".tmp":
            key = path.name.removeprefix(".").split(".parquet.")[0]
            key = key if (is_canonical(key) or key == ALL_SYMBOLS) and not key.isdigit() else path.parent.name
            text = "left by a run that was killed; remove it when no run is on"
            findings.append(Damage(path, text, "temporary", key=key))
        elif path.suffix == ".parquet":
            findings += _examine_table(path, path.relative_to(lake).with_suffix("").parts)
        else:
            findings.append(Damage(path, "nightfold writes no such file; remove it", "foreign"))
    return findings


def _examine_table(path: Path, parts: tuple[str, ...]) -> list[Damage]:
    older = parts[0] == ".history"
    table, *names = parts[1:] if older and len(parts) > 1 else parts
    if table not in TABLES or len(names) != (2 if older or table == "trials" else 1):
        return [Damage(path, "no table lies there; remove it", "foreign")]
    try:
        problem = _problem(path, table)
    except (LakeError, KeyError, TypeError, AttributeError, *UNREADABLE) as error:
        problem = f"torn ({error})"
    if not problem:
        return []
    if older:
        return [Damage(path, f"{problem}. An older generation: remove it", "generation", table, names[0])]
    text = f"{problem}. Mend it: nightfold doctor --repair, then: {made_by(names[0])}"
    return [Damage(path, text, "table", table, names[0])]


def _problem(path: Path, table: str) -> str:
    file = pq.ParquetFile(path)
    record = json.loads((file.schema_arrow.metadata or {})[b"nightfold.record"])
    if not isinstance(record, dict):
        return "its record was changed"
    stated = record.pop("record_sha", None)
    if digest(record) != stated or record.get("table") != table:
        return "its record was changed"
    rows = file.read()
    if content_sha(rows) != record["content_sha"]:
        return "its content differs from its record"
    again = pa.BufferOutputStream()
    write_parquet(conform(table, rows).replace_schema_metadata(rows.schema.metadata), again)
    written = again.getvalue()
    by = pq.ParquetFile(pa.BufferReader(written)).metadata.created_by
    if re.fullmatch(r"parquet-cpp-arrow version [0-9.]+", file.metadata.created_by) is None:
        return f"it was written by {file.metadata.created_by!r}, not by nightfold"
    if file.metadata.created_by == by and path.read_bytes() != written.to_pybytes():
        return "its bytes differ from those that its rows give"
    return ""


def repair(data_dir: Path) -> tuple[list[str], list[str]]:
    """Mend what can be mended without a run; nothing is deleted but temporary files.

    A damaged table is moved to ``damaged/`` in the data folder, its newest sound generation takes its place.
    Where there is none the next run makes the table again.

    Returns
    -------
    (list of str, list of str)
        What was done, and what is left: files that nightfold did not write, symbols that a run holds.

    Raises
    ------
    LakeError
        The disk refuses.
    """
    done, left = list[str](), list[str]()
    for found in damages(data_dir):
        if found.kind == "foreign":
            left.append(str(found))
            continue
        try:
            with lease(data_dir, found.key):
                done.append(_mend(data_dir, found))
        except AlreadyRunning as running:
            left.append(f"{found.path}: {running}; repair again when that run has ended")
        except OSError as error:
            raise LakeError(
                f"{found.path} could not be moved: {error.strerror or error}. Expected a writable disk"
            ) from error
    return done, left


def _mend(data_dir: Path, found: Damage) -> str:
    if found.kind == "temporary":
        found.path.unlink(missing_ok=True)  # taking the lease has swept it already
        return f"{found.path}: temporary file removed"
    aside = data_dir / "damaged" / "-".join(found.path.relative_to(data_dir / "lake").parts)
    aside.parent.mkdir(exist_ok=True)
    if found.kind == "table":
        folder = history_folder(data_dir, found.table, found.key)
        for older in sorted(folder.glob("*.parquet"), reverse=True):
            if not _examine_table(older, older.relative_to(data_dir / "lake").with_suffix("").parts):
                os.replace(found.path, aside)
                os.replace(older, found.path)
                sync_folder(found.path.parent)
                return f"{found.path}: generation {older.stem} restored; then: {made_by(found.key)}"
    os.replace(found.path, aside)
    sync_folder(found.path.parent)
    again = f"; then: {made_by(found.key)}" if found.kind == "table" else ""
    return f"{found.path}: moved to {aside}{again}"
