import builtins
import errno
import io
import os
import subprocess
import sys

import pytest

from engine.errors import LakeError
from engine.lake.files import link, replace_atomically, write_bytes, write_text


def left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_writes_a_file_and_the_folders_above_it(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "Zürich")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "Zürich".encode()
    write_bytes(tmp_path / "a" / "d.bin", b"\0\1")
    assert left(tmp_path) == ["c.txt", "d.bin"]


def test_while_it_is_written_the_old_file_stands_and_the_new_matches_no_glob(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        assert temporary.parent == path.parent  # else the rename would be a copy
        assert path.read_text() == "old" and list(tmp_path.glob("*.parquet")) == [path]

    replace_atomically(path, write)
    assert path.read_text() == "new" and left(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("old", ["old", None])
def test_a_write_that_raises_leaves_what_was_there_and_no_temporary(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        replace_atomically(path, write)
    assert left(tmp_path) == (["a.txt"] if old else [])
    assert not old or path.read_text() == old


def test_a_full_disk_is_said_with_the_path_and_the_remedy(tmp_path):
    def write(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(LakeError) as caught:
        replace_atomically(tmp_path / "a.txt", write)
    assert str(caught.value) == (
        f"{tmp_path / 'a.txt'} was not written: No space left on device. What was there before is untouched. "
        "Expected a writable disk with free space: free some, or set data_dir in nightfold.yaml"
    )


def test_a_folder_that_cannot_be_made_is_a_refusal(tmp_path):
    (tmp_path / "data").write_text("a file where the folder belongs")
    with pytest.raises(LakeError, match="was not written: "):
        write_text(tmp_path / "data" / "a.txt", "x")


OPERATIONS = ((io, "open"), (builtins, "open"), (os, "fsync"), (os, "replace"), (os, "open"), (os, "fsync"))


def test_whichever_operation_fails_the_file_is_whole_and_nothing_else_is_left(tmp_path, monkeypatch):
    """The n-th operation fails, n = 1, 2, ... until none does."""
    countdown = 0

    def counted(real):
        def operation(*args, **kwargs):
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                raise OSError(errno.EIO, "Input/output error")
            return real(*args, **kwargs)

        return operation

    path, outcomes = tmp_path / "a.txt", []
    for n in range(1, 20):
        write_text(path, "old")
        with monkeypatch.context() as patch:
            for module, name in dict.fromkeys(OPERATIONS):
                patch.setattr(module, name, counted(getattr(module, name)))
            countdown = n
            try:
                write_text(path, "new")
            except LakeError as error:
                outcomes.append(str(error))
            else:
                break
        now = path.read_text()
        assert left(tmp_path) == ["a.txt"]
        assert outcomes[-1].startswith(
            f"{path} was not written: Input/output error. What was there before is untouched."
            if now == "old"
            else f"{path} is written, but its folder could not be forced to the disk: Input/output error."
        )
    assert len(outcomes) == len(OPERATIONS) and path.read_text() == "new"


CHILD = """
import sys
from pathlib import Path
from engine.lake.files import write_text
path = Path(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    number += 1
    write_text(path, f"{number}\\n" * 20_000)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        while not path.exists():
            assert child.poll() is None
        for _ in range(20):  # read while it is replaced
            assert len(set(path.read_text().splitlines())) == 1
        child.kill()
        child.wait()
        child.stdout.close()
        lines = path.read_text().splitlines()
        assert len(lines) == 20_000 and len(set(lines)) == 1
    assert all(name.endswith(".tmp") for name in left(tmp_path) if name != "a.txt")


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.ENOTSUP])
def test_a_link_that_the_file_system_refuses_names_both_paths_and_the_remedy(tmp_path, monkeypatch, code):
    def refuse(path, name):
        raise OSError(code, os.strerror(code), str(path), None, str(name))

    monkeypatch.setattr("engine.lake.files.os.link", refuse)
    with pytest.raises(LakeError) as caught:
        link(tmp_path / "lake" / "a", tmp_path / "cache" / "b")
    text, cannot = str(caught.value), f"{tmp_path}/cache/b cannot be a hard link to {tmp_path}/lake/a"
    assert text.startswith(f"{cannot}: {os.strerror(code)}. ")
    assert "mount the data folder as a whole" in text and "set data_dir in nightfold.yaml" in text


def test_a_link_that_fails_otherwise_stays_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        link(tmp_path / "absent", tmp_path / "b")
