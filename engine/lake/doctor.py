"""Find what a crash or a failing disk left: torn files, changed content, temporary files."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import LakeError
from engine.lake.paths import made_by
from engine.lake.publish import UNREADABLE, Lake, conform, write_parquet
from engine.lake.records import content_sha, digest
from engine.lake.schemas import TABLES


def examine(data_dir: Path) -> list[str]:
    """Return one line for each finding; nothing is changed.

    Every table file is read whole. Its rows and its record are compared with the hashes in
    the record, and its bytes with those that the same rows give when written again.
    A temporary file is harmless and can be removed when no run is on.
    """
    lake, findings = Lake(data_dir), list[str]()
    for path in sorted((data_dir / "lake").rglob("*")):
        if path.is_dir() or ".leases" in path.parts:
            continue
        if path.suffix == ".tmp":
            findings.append(f"{path}: left by a run that was killed; remove it when no run is on")
        elif path.suffix == ".parquet":
            findings += _examine_table(lake, path)
        else:
            findings.append(f"{path}: nightfold writes no such file; remove it")
    return findings


def _examine_table(lake: Lake, path: Path) -> list[str]:
    table, *names = path.relative_to(lake.data_dir / "lake").with_suffix("").parts
    if table not in TABLES or len(names) != (2 if table == "trials" else 1):
        return [f"{path}: no table lies there; remove it"]
    try:
        problem = _problem(lake, path, table, *names)
    except (LakeError, *UNREADABLE) as error:
        problem = f"torn ({error})"
    return [f"{path}: {problem}. Remove it, then: {made_by(names[0])}"] if problem else []


def _problem(lake: Lake, path: Path, table: str, key: str, part: str = "") -> str:
    record = lake.record(table, key, part) or {}
    stated = record.pop("record_sha", None)
    if digest(record) != stated or record.get("table") != table:
        return "its record was changed"
    file = pq.ParquetFile(path)
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
