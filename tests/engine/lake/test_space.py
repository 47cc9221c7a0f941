import pytest

from engine.errors import LakeError
from engine.lake import space
from engine.lake.leases import is_held
from engine.lake.space import refuse_full, table_bytes

MB = 1024**2


def test_needed_is_one_and_a_half_times_the_current_tables_and_64_mb(full_lake, monkeypatch, bars, record):
    current = sum(p.stat().st_size for p in (full_lake.data_dir / "lake").rglob("*.parquet"))
    full_lake.publish("bars", "AAPL", bars(50, seed=1), record(params=1))  # leaves an older generation
    assert list((full_lake.data_dir / "lake/.history").rglob("*.parquet"))
    assert abs(table_bytes(full_lake.data_dir) - current) < 100
    needed = int(1.5 * table_bytes(full_lake.data_dir)) + 64 * MB
    monkeypatch.setattr(space, "free_bytes", lambda folder: needed)
    refuse_full(full_lake.data_dir)
    monkeypatch.setattr(space, "free_bytes", lambda folder: needed - 1)
    with pytest.raises(LakeError) as caught:
        refuse_full(full_lake.data_dir)
    assert str(caught.value) == (
        f"disk nearly full: {full_lake.data_dir} has 67 MB free; expected 67 MB (1.5 x the 0 MB of tables, "
        "and 67 MB). Nothing was begun. Free some, or set data_dir in nightfold.yaml"
    )


def test_a_folder_that_is_not_there_yet_is_measured_where_it_will_be(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(space, "free_bytes", lambda folder: asked.append(folder) or 0)
    with pytest.raises(LakeError, match="has 0 MB free"):
        refuse_full(tmp_path / "a" / "b")
    assert asked == [tmp_path]


def test_a_night_on_a_nearly_full_disk_begins_nothing(early, alfa, monkeypatch):
    from engine.stages.chain import holding

    early.write(alfa(900))
    before = early.files()
    monkeypatch.setattr(space, "free_bytes", lambda folder: 60 * MB)
    with (
        pytest.raises(
            LakeError, match=rf"disk nearly full: {early.data_dir} has 63 MB free; expected 6[89] MB"
        ),
        holding(early.lake, "ALFA", early.settings, 4, lambda text: None),
    ):
        early.chain()
    assert early.files() == before and not is_held(early.data_dir, "ALFA")
