"""Snapshots: links that are asked for before a night, and that stay as long as somebody may read them."""

import errno
import os

import duckdb
import pytest

from engine.errors import LakeError
from engine.lake.leases import is_held
from engine.lake.snapshots import folder_of, require_links, snapshots
from engine.lake.warehouse import query, refresh


def publish(lake, bars, record, n):
    lake.publish("bars", "AAPL", bars(n), record(params=n))
    return refresh(lake.data_dir)


@pytest.mark.parametrize("place", ["lake to cache", "cache to data"])
def test_a_night_without_hard_links_begins_nothing(early, alfa, monkeypatch, place):
    """As where lake or cache is a mount of its own."""
    from engine.stages.chain import holding

    early.write(alfa(900))
    before, real = early.files(), os.link
    lake, cache = early.data_dir / "lake" / ".leases", folder_of(early.data_dir)
    crossed = (lake, cache) if place == "lake to cache" else (cache, early.data_dir)

    def link(path, name):
        if (path.parent, name.parent) == crossed:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(path, name)

    monkeypatch.setattr("engine.lake.files.os.link", link)
    message = rf"{crossed[1]}/\S+ cannot be a hard link to {crossed[0]}/\S+: Invalid cross-device link"
    with (
        pytest.raises(LakeError, match=message),
        holding(early.lake, "ALFA", early.settings, 4, lambda text: None),
    ):
        early.chain()
    assert early.files() == before and not is_held(early.data_dir, "ALFA")


def test_asking_for_links_leaves_nothing_behind(tmp_path):
    killed = folder_of(tmp_path / "data") / f".links.{os.getpid()}.tmp"  # by a process of the same number
    killed.parent.mkdir(parents=True)
    killed.touch()
    require_links(tmp_path / "data")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_views_of_a_file_moved_aside_answer_until_it_is_deleted(lake, bars, record):
    path = publish(lake, bars, record, 20)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table mine as select 42 as x")
        connection.execute("create view counted as select count(*) as n from bars")
    for n in range(21, 28):
        publish(lake, bars, record, n)
    aside = path.with_name("warehouse.user-1.duckdb")
    with duckdb.connect(str(aside), read_only=True) as theirs:
        assert theirs.execute("select n from counted").fetchone() == (20,)
    with duckdb.connect(str(path), read_only=True) as fresh:  # as docs/data-contract.md says
        fresh.execute(f"attach '{aside}' as mine (read_only)")
        found = fresh.execute(
            "select (select count(*) from bars), x, n from mine.mine, mine.counted"
        ).fetchone()
    assert found == (27, 42, 20)
    assert len(snapshots(lake.data_dir)) == 4  # theirs, and the newest three
    aside.unlink()
    publish(lake, bars, record, 30)
    assert len(snapshots(lake.data_dir)) == 3


def test_a_refused_link_makes_no_warehouse_and_names_both_paths(lake, bars, record, monkeypatch):
    def refuse(path, name):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    lake.publish("bars", "AAPL", bars(20), record())
    monkeypatch.setattr("engine.lake.files.os.link", refuse)
    with pytest.raises(
        LakeError, match=r"cache/warehouse/\S+AAPL.parquet cannot be a hard link to \S+lake/bars"
    ):
        refresh(lake.data_dir)
    assert not (lake.data_dir / "warehouse.duckdb").exists()
    monkeypatch.undo()
    assert query(lake.data_dir, "select count(*) from bars")[1] == [(20,)]


def test_a_generation_that_cannot_be_linked_is_not_replaced(lake, bars, record, monkeypatch):
    """As on a file system without hard links: its history would be lost."""

    def refuse(path, name):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    lake.publish("bars", "AAPL", bars(20), record())
    monkeypatch.setattr("engine.lake.files.os.link", refuse)
    with pytest.raises(
        LakeError, match=r"\.history/bars/AAPL/000001\.parquet cannot be a hard link to .*not perm"
    ):
        lake.publish("bars", "AAPL", bars(21), record(params=1))
    assert lake.read("bars", "AAPL").num_rows == 20 and not list(lake.data_dir.rglob("*.tmp"))
    monkeypatch.undo()
    assert lake.publish("bars", "AAPL", bars(21), record(params=1))
