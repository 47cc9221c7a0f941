"""A stage's result as Dagster shows it."""

import base64
import re
from pathlib import Path

import dagster as dg
import pytest

from pipelines.metadata import BOARD


def _plotted(metadata):
    kinds = (dg.IntMetadataValue, dg.FloatMetadataValue)
    return {name for name, value in metadata.items() if isinstance(value, kinds)}


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("prices", {"bars", "bars_new", "warnings"}),
        ("features", set()),
        ("forecasts", set()),
        ("optimizations", set()),
        ("backtests", {"bars", "trend tuned trades", "levels_entry_exit tuned trades"}),
    ],
)
def test_numbers_are_numbers_so_that_they_are_plotted_over_time(finished, stage, names):
    for key in finished.keys:
        metadata = finished.materialised()[stage, key].metadata
        assert {"dagster/row_count", "seconds", *names} <= _plotted(metadata)
        assert metadata["dagster/row_count"].value > 0
        assert list(metadata)[-3:] == ["unchanged", "seconds", "result_id"]


def test_backtests_show_an_equity_picture_of_each_strategy(finished):
    for key in finished.keys:
        shown = finished.materialised()["backtests", key].metadata["equity"]
        assert isinstance(shown, dg.MarkdownMetadataValue)
        pictures = re.findall(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,([^)]+)\)", shown.value)
        drawn = [base64.b64decode(picture).decode() for picture in pictures]
        assert [f"{key} levels_entry_exit" in drawn[0], f"{key} trend" in drawn[1]] == [True, True]
        assert len(drawn) == 2


def test_trades_of_the_backtests_are_those_of_the_leaderboard(finished):
    made = finished.materialised()
    for row in made["leaderboard", ""].metadata["leaderboard"].records:
        shown = made["backtests", row.data["symbol"]].metadata
        assert shown[f"{row.data['strategy']} tuned trades"].value == row.data["trades"]


def test_leaderboard_shows_its_table_and_the_path_of_the_report(finished):
    metadata = finished.materialised()["leaderboard", ""].metadata
    table = metadata["leaderboard"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [column.name for column in table.schema.columns] == list(BOARD)
    found = {(row.data["symbol"], row.data["strategy"]) for row in table.records}
    assert found == {(key, name) for key in finished.keys for name in ("levels_entry_exit", "trend")}
    for row in table.records:
        assert isinstance(row.data["tuned"], float) and isinstance(row.data["trades"], int)
    assert isinstance(metadata["report"], dg.PathMetadataValue)
    assert Path(metadata["report"].value) == finished.data / "reports" / "index.html"
