import pytest

from engine.errors import LakeError
from engine.lake.paths import ALL_SYMBOLS, made_by, table_path
from engine.lake.schemas import TABLES

HOSTILE = [
    "../../evil",
    "/etc/passwd",
    "..",
    "A/../../B",
    "O'Neil",
    "CON",
    "<script>",
    "btc",
    "",
    "A\0",
    "A" * 240,
    "_ALL",
]


@pytest.mark.parametrize("table", TABLES)
def test_each_table_lies_in_its_own_folder(table, tmp_path):
    assert table_path(tmp_path, table, "BTC-USD") == tmp_path / "lake" / table / "BTC-USD.parquet"
    assert table_path(tmp_path, table, ALL_SYMBOLS) == tmp_path / "lake" / table / "_all.parquet"
    assert table_path(tmp_path, table, "A", "2012") == tmp_path / "lake" / table / "A" / "2012.parquet"


@pytest.mark.parametrize("key", HOSTILE)
def test_no_path_is_built_from_a_key_that_is_not_canonical(key, tmp_path):
    with pytest.raises(LakeError, match="is not canonical .*; no path was built"):
        table_path(tmp_path, "bars", key)


@pytest.mark.parametrize(
    ("table", "part"), [("../x", ""), ("bars", "../x"), ("/x", ""), ("bars", "x"), ("", "")]
)
def test_no_path_is_built_from_another_part_that_could_lead_elsewhere(table, part, tmp_path):
    with pytest.raises(LakeError, match="expected a table's name and a year; no path was built"):
        table_path(tmp_path, table, "AAPL", part)


def test_the_command_that_makes_a_table_again():
    assert made_by("AAPL") == "nightfold run AAPL"
    assert made_by(ALL_SYMBOLS) == "nightfold run --stage leaderboard"
