import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.lake.doctor import examine
from engine.lake.leases import lease

KINDS = ["bars/AAPL", "features/AAPL", "trades/AAPL", "trials/AAPL/2012", "champions/_all"]


def command(kind):
    return "nightfold run --stage leaderboard" if kind.endswith("_all") else "nightfold run AAPL"


def test_a_sound_lake_has_no_findings(full_lake):
    with lease(full_lake.data_dir, "AAPL"):
        assert examine(full_lake.data_dir) == []


def test_no_lake_has_no_findings(tmp_path):
    assert examine(tmp_path / "data") == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, -1])
def test_a_truncated_file_is_named_with_the_command_that_makes_it_again(full_lake, kind, kept):
    path = full_lake.data_dir / "lake" / f"{kind}.parquet"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] if kept == -1 else raw[: int(kept * len(raw))])
    (found,) = examine(full_lake.data_dir)
    assert found.startswith(f"{path}: torn (") and found.endswith(
        f". Mend it: nightfold doctor --repair, then: {command(kind)}"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip", [0xFF, 0x01])
def test_a_flipped_byte_is_found_wherever_it_is(full_lake, kind, flip):
    path = full_lake.data_dir / "lake" / f"{kind}.parquet"
    raw = path.read_bytes()
    version = raw.rindex(b"parquet-cpp-arrow version")  # another version is no damage
    for at in range(0, len(raw), 151):
        if flip == 0x01 and version <= at < version + 40:
            continue
        path.write_bytes(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
        found = examine(full_lake.data_dir)
        assert len(found) == 1 and found[0].startswith(f"{path}: ") and command(kind) in found[0], at


def rewritten(path, rows=None, **footer):
    """Write a table again, sound as a Parquet file, with other rows or another footer."""
    old = pq.ParquetFile(path).read()
    rows = old if rows is None else rows(old)
    metadata = {**old.schema.metadata, **{key.encode(): value for key, value in footer.items()}}
    pq.write_table(rows.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": lambda rows: rows.slice(1)}, "its content differs from its record"),
        (
            {"rows": lambda rows: rows.set_column(5, "close", rows["open"])},
            "its content differs from its record",
        ),
        ({}, "its bytes differ from those that its rows give"),
        ({"nightfold.record": b"{}"}, "its record was changed"),
        ({"nightfold.record": b"[]"}, "its record was changed"),
        ({"nightfold.record": b"no json"}, "torn"),
    ],
)
def test_a_table_that_was_edited_by_hand_is_named(full_lake, change, said):
    path = full_lake.data_dir / "lake/bars/AAPL.parquet"
    rewritten(path, **change)
    (found,) = examine(full_lake.data_dir)
    assert found.startswith(f"{path}: {said}")


def test_a_file_copied_over_another_table_is_named(full_lake):
    folder = full_lake.data_dir / "lake"
    (folder / "features/AAPL.parquet").write_bytes((folder / "bars/AAPL.parquet").read_bytes())
    (found,) = examine(full_lake.data_dir)
    assert found.startswith(f"{folder / 'features/AAPL.parquet'}: its record was changed")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bars/.AAPL.parquet.77.tmp", "left by a run that was killed; remove it when no run is on"),
        ("bars/notes.txt", "nightfold writes no such file; remove it"),
        ("bars/AAPL/2012.parquet", "no table lies there; remove it"),
        ("trials/AAPL.parquet", "no table lies there; remove it"),
        ("stray.parquet", "no table lies there; remove it"),
        ("candles/AAPL.parquet", "no table lies there; remove it"),
    ],
)
def test_a_file_that_does_not_belong_there_is_named(full_lake, name, said):
    path = full_lake.data_dir / "lake" / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"a": [1]}), path)
    assert examine(full_lake.data_dir) == [f"{path}: {said}"]


def test_nothing_is_changed_by_looking(full_lake):
    path = full_lake.data_dir / "lake/bars/AAPL.parquet"
    path.write_bytes(path.read_bytes()[:100])
    before = {p: p.stat().st_mtime_ns for p in full_lake.data_dir.rglob("*")}
    assert len(examine(full_lake.data_dir)) == 1
    assert {p: p.stat().st_mtime_ns for p in full_lake.data_dir.rglob("*")} == before
