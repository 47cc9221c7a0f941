"""The replies of network sources, kept as they came before anything is made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine.bars.model import FRAME_US, iso
from engine.errors import LakeError
from engine.lake.files import append_line, remove, write_bytes, write_text
from engine.lake.paths import table_path
from engine.sources.base import RawBatch, Request


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


class Download:
    """Keeps the pages of one download as they come, and finds those of one that broke off.

    Beside the pages lies a list of them while the download is under way. A later run with the same request
    reads what it names and asks for the rest; of a download that came to its end no list is left, so that
    history is never compared with, or taken from, what was kept long ago.

    Parameters
    ----------
    data_dir, source, key
        As of `keep`.
    """

    def __init__(self, data_dir: Path, source: str, key: str) -> None:
        self.data_dir, self.source, self.key = data_dir, source, key
        self.list = data_dir / "raw" / source / key / "unfinished.jsonl"
        self.head = ""  # first line of a new list
        self.listed = 0  # pages still to come that the list names already

    def begun(self, request: Request) -> Sequence[RawBatch]:
        """Return the pages that the same request brought before it broke off, oldest first.

        One that is gone or changed, and all after it, are asked for again.
        """
        options = request.options
        asked = json.dumps([request.frame, options.venue, options.provider_symbol, request.start])
        text = self.list.read_text(errors="replace") if self.list.exists() else ""
        first, *lines = text.split("\n")[:-1] or [""]  # a last line without its end was cut off
        pages = []
        for line in lines if first == asked else ():
            try:
                start, end, origin, sha = json.loads(line)
                if request.end is not None and end is not None and request.end - end > 2 * FRAME_US["1d"]:
                    break  # the vendor may have corrected it since
                data = read(self.data_dir, self.source, self.key, sha).data
            except (ValueError, TypeError, LakeError):
                break
            pages.append(RawBatch(data, "json", origin, start, end, lasting=True))
        sound = "".join(f"{line}\n" for line in (asked, *lines[: len(pages)]))
        if not pages:
            self.ended()
        elif text != sound:
            write_text(self.list, sound)
        self.head, self.listed = "" if pages else f"{asked}\n", len(pages)
        return pages

    def keep(self, batch: RawBatch) -> None:
        """Store one page, and name it in the list where a later run may go on after it."""
        sha = keep(self.data_dir, self.source, self.key, batch.data, batch.form, batch.start, batch.end)
        if self.listed:
            self.listed -= 1
        elif batch.lasting:
            append_line(self.list, self.head + json.dumps([batch.start, batch.end, batch.origin, sha]))
            self.head = ""

    def ended(self) -> None:
        """Remove the list: every page came."""
        remove(self.list)
