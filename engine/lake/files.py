"""Every file operation of the lake: a file is replaced whole or left as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from engine.errors import LakeError
from engine.lake.faults import crash_point

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


def replace_atomically(
    path: Path,
    write: Callable[[Path], None],
    *,
    name: str = "",
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write a file beside ``path``, force it to the disk, then rename it over ``path``.

    A reader sees the old file or the new one, never a part. The temporary name does not
    end like the final one, so that no glob over finished files meets it.

    Parameters
    ----------
    path : Path
        The final file; missing folders are made.
    write : callable
        Writes the whole content to the path it is given.
    name : str
        What is written, for crash points; default: the folder's name.
    before : callable
        Called when the new file is whole and not yet in place; what it raises keeps the old one.

    Raises
    ------
    LakeError
        The disk is full or read-only; ``path`` is whole, as it was before or new.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    name = name or path.parent.name
    try:
        crash_point(f"{name}.before_tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            crash_point(f"{name}.after_tmp")
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            crash_point(f"{name}.after_fsync")
            before()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            f"{path} was not written: {error.strerror or error}. What was there before is untouched. "
            "Expected a writable disk with free space: free some, or set data_dir in nightfold.yaml"
        ) from error
    try:
        crash_point(f"{name}.after_replace")
        sync_folder(path.parent)
        crash_point(f"{name}.after_dirsync")
    except OSError as error:
        raise LakeError(
            f"{path} is written, but its folder could not be forced to the disk: "
            f"{error.strerror or error}. Check the disk, then run again"
        ) from error


def link(path: Path, name: Path) -> None:
    """Give a file a second name.

    A copy would not do: which snapshots the warehouse's readers still need is known by the file they opened.

    Raises
    ------
    LakeError
        The two lie on different file systems, or theirs refuses hard links.
    OSError
        As ``os.link``, for any other reason.
    """
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        raise LakeError(
            f"{name} cannot be a hard link to {path}: {error.strerror}. Expected both on one file system "
            "that has hard links, and the file to be this user's: mount the data folder as a whole, not its "
            "lake/ or cache/, or set data_dir in nightfold.yaml to a folder on a local disk"
        ) from error


def link_generation(path: Path, folder: Path, keep: int, name: str) -> None:
    """Link a file that is about to be replaced into its history; the oldest beyond ``keep`` are dropped.

    Called again after a crash it finds its link and adds none.

    Parameters
    ----------
    path : Path
        The current file; nothing happens where there is none.
    folder : Path
        Its history: ``000001.parquet`` is the oldest generation.
    keep : int, >= 1
        Generations kept.
    name : str
        For crash points.
    """
    if not path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    there = sorted(folder.glob("*.parquet"))
    if not there or not path.samefile(there[-1]):
        there.append(folder / f"{int(there[-1].stem) + 1 if there else 1:06d}.parquet")
        link(path, there[-1])
        crash_point(f"{name}.after_link")
    for old in there[:-keep]:
        old.unlink()
    sync_folder(folder)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, forced to the disk; a kill leaves a part of it without its end, at most.

    Raises
    ------
    LakeError
        The disk is full or read-only.
    """
    try:
        crash_point("line.before")
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        crash_point("line.after")
    except OSError as error:
        raise LakeError(
            f"{path} was not written: {error.strerror or error}. "
            "Expected a writable disk with free space: free some, or set data_dir in nightfold.yaml"
        ) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises
    ------
    LakeError
        The disk is read-only.
    """
    try:
        crash_point("line.before_remove")
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LakeError(
            f"{path} was not removed: {error.strerror or error}. Expected a writable disk"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole, UTF-8."""
    replace_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def write_bytes(path: Path, content: bytes, *, name: str = "") -> None:
    """Replace a binary file whole; ``name`` as in `replace_atomically`."""
    replace_atomically(path, lambda temporary: _write_bytes(temporary, content), name=name)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename survives a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
