"""The inbox sensor: takes a file that two looks see alike, once, and names the line that others need."""

import json
from types import SimpleNamespace

import pytest

from engine.config import Settings
from engine.sources.inbox import Dropped, advice


@pytest.fixture
def project(tmp_path):
    (tmp_path / "inbox").mkdir()
    settings = Settings.model_validate({"symbols": {"AAA": {"source": "files"}, "IBM": {}}, "strategies": []})
    return SimpleNamespace(settings=settings, data_dir=tmp_path, inbox=tmp_path / "inbox")


@pytest.fixture
def look():
    from pipelines.sensors import look

    return look


def keys(result):
    return [request.partition_key for request in result.run_requests or []]


def test_a_file_is_taken_when_two_looks_see_it_unchanged_and_once(project, look):
    path = project.inbox / "AAA.csv"
    path.write_text("half")
    first = look(None, project)
    assert keys(first) == [] and "AAA.csv: new or growing" in first.skip_reason.skip_message
    path.write_text("half and more")
    second = look(first.cursor, project)
    assert keys(second) == []
    third = look(second.cursor, project)
    assert keys(third) == ["AAA"] and third.run_requests[0].run_key.startswith("AAA.csv 13 ")
    fourth = look(third.cursor, project)
    assert keys(fourth) == [] and fourth.skip_reason.skip_message == "nothing new in data/inbox"
    path.write_text("another night's file")
    fifth = look(fourth.cursor, project)
    assert keys(fifth) == [] and keys(look(fifth.cursor, project)) == ["AAA"]


def test_a_file_that_is_no_symbol_is_named_with_the_line_to_add(project, look):
    for name in ("SPY.csv", "spy2.parquet", "my prices.csv", "IBM.csv", ".hidden.csv", "notes.txt"):
        (project.inbox / name).write_text("x")
    said = look(None, project).skip_reason.skip_message
    assert "SPY.csv: add under symbols in nightfold.yaml: 'SPY: {source: files}'" in said
    assert "spy2.parquet: rename it SPY2.parquet" in said and "my prices.csv: its name makes no key" in said
    assert "IBM.csv: IBM is read from sample, not from files" in said
    assert "hidden" not in said and "notes" not in said


def test_an_empty_or_absent_inbox_is_no_error(project, look):
    project.inbox.rmdir()
    assert json.loads(look(None, project).cursor) == {"seen": {}, "taken": {}}


def test_a_known_file_needs_no_advice():
    assert advice(Dropped("AAA.csv", "AAA", ""), ["AAA"]) == ""


def test_the_settings_make_the_sensor(project):
    import dagster as dg

    from pipelines.sensors import make_inbox

    for enabled, status in ((True, dg.DefaultSensorStatus.RUNNING), (False, dg.DefaultSensorStatus.STOPPED)):
        asked = {"symbols": {"AAA": {}}, "inbox": {"enabled": enabled, "poll_s": 45}}
        made = make_inbox(SimpleNamespace(settings=Settings.model_validate(asked)))
        assert (made.default_status, made.minimum_interval_seconds) == (status, 45)
        assert made.job_name == "backtest_symbol"
