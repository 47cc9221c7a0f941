"""Every file operation of the lake: a file is replaced whole or left as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from engine.errors import LakeError


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside ``path``, force it to the disk, then rename it over ``path``.

    A reader sees the old file or the new one, never a part. The temporary name does not
    end like the final one, so that no glob over finished files meets it.

    Parameters
    ----------
    path : Path
        The final file; missing folders are made.
    write : callable
        Writes the whole content to the path it is given.

    Raises
    ------
    LakeError
        The disk is full or read-only; ``path`` is whole, as it was before or new.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            f"{path} was not written: {error.strerror or error}. What was there before is untouched. "
            "Expected a writable disk with free space: free some, or set data_dir in nightfold.yaml"
        ) from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise LakeError(
            f"{path} is written, but its folder could not be forced to the disk: "
            f"{error.strerror or error}. Check the disk, then run again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole, UTF-8."""
    replace_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a binary file whole."""
    replace_atomically(path, lambda temporary: _write_bytes(temporary, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename survives a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
