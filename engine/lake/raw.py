"""The replies of network sources, kept as they came before anything is made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from engine.bars.model import iso
from engine.errors import LakeError
from engine.lake.files import write_bytes
from engine.lake.paths import table_path
from engine.sources.base import RawBatch


def keep(
    data_dir: Path, source: str, key: str, data: bytes, form: str, start: int | None, end: int | None
) -> str:
    """Store one page whole; return its sha256.

    Parameters
    ----------
    data_dir : Path
        The page goes to ``raw/<source>/<KEY>/<start>_<end>-<sha12>.<form>`` below it.
    source, key : str
        A source's name and a canonical key.
    data : bytes
        The reply as it came; the same bytes of the same span are stored once.
    form : str
        Ending of the file's name.
    start, end : int or None
        Span asked for, microseconds UTC.

    Raises
    ------
    LakeError
        The key is not canonical, or the disk refuses.
    """
    table_path(data_dir, "bars", key)  # refuses a key that could lead elsewhere
    sha = hashlib.sha256(data).hexdigest()
    span = "_".join("" if ts is None else iso(ts).replace(":", "") for ts in (start, end))
    path = data_dir / "raw" / source / key / f"{span}-{sha[:12]}.{form}"
    if not path.exists():
        write_bytes(path, data, name="raw")
    return sha


def read(data_dir: Path, source: str, key: str, sha: str) -> RawBatch:
    """Return one kept page.

    Raises
    ------
    LakeError
        It is gone, or its bytes are others.
    """
    for path in sorted((data_dir / "raw" / source / key).glob(f"*-{sha[:12]}.*")):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() == sha:
            form: Literal["csv", "parquet", "json"] = "json"
            return RawBatch(data, form, path.name)
    raise LakeError(
        f"the kept reply {sha[:12]} of {key} is not in {data_dir / 'raw' / source / key}, or was changed. "
        "Bars that came from it cannot be read again"
    )
