"""Every command that reads or checks, as a user types it."""

import importlib.metadata
import os

import yaml

from engine import cli
from engine.bars.synthetic import make_bars, spoil, to_csv
from engine.config import Settings
from engine.lake.leases import lease
from engine.lake.schemas import TABLES
from engine.stages.common import PER_SYMBOL


def last_lines(text, count):
    return text.rstrip().splitlines()[-count:]


# check


def test_check_reads_every_symbol_and_stores_nothing(fresh):
    result = fresh("check")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "nightfold.yaml: settings are sound"
    for symbol in fresh.csv:
        assert any(line.startswith(f"{symbol}: 350 bars 2015-01-02 to ") for line in lines)
    assert "350 not stored yet, no error" in result.stdout
    assert sorted(path.name for path in fresh.data.iterdir()) == ["inbox"]


def test_check_notes_a_strategy_that_cannot_run_and_ends_with_0(fresh):
    fresh.edit("folds: {warmup_bars: 50, train_bars: 120,", "folds: {warmup_bars: 50, train_bars: 100000,")
    result = fresh("check", "AAA")
    assert result.exit_code == 0 and result.stderr == ""
    assert last_lines(result.stdout, 1) == ["  strategy trend is left out: has 350 bars, needs 100130"]


def test_the_version_is_that_of_the_package(fresh):
    result = fresh("--version")
    assert result.exit_code == 0
    assert result.stdout == f"nightfold, version {importlib.metadata.version('nightfold')}\n"


def test_check_of_a_stored_symbol_counts_what_is_new(done):
    assert ", 0 not stored yet" in done("check", "AAA").stdout
    (done.inbox / "AAA.csv").write_text(to_csv(make_bars(0, 353, symbol="AAA")))
    result = done("check", "AAA")
    assert result.exit_code == 0 and ", 3 not stored yet" in result.stdout and "BBB" not in result.stdout


def test_check_goes_on_after_a_bad_symbol_and_ends_with_1(fresh):
    (fresh.inbox / "AAA.csv").write_text(spoil(fresh.csv["AAA"], "E04"))
    result = fresh("check")
    assert result.exit_code == 1
    assert result.stderr.startswith("AAA: E04 ") and "BBB: 350 bars" in result.stdout


def test_check_reads_one_file_and_names_the_line_to_add(fresh):
    path = fresh.inbox / "CCC.csv"
    path.write_text(fresh.csv["AAA"])
    result = fresh("check", str(path))
    assert result.exit_code == 0 and result.stdout.startswith(f"{path}: 350 bars 2015-01-02 to ")
    assert last_lines(result.stdout, 1) == ["  to use it, write 'CCC: {source: files}' under symbols"]
    path.write_text(spoil(fresh.csv["AAA"], "E05"))
    result = fresh("check", str(path))
    assert result.exit_code == 1 and "E05" in result.stderr and "CCC.csv line 176" in result.stderr


def test_check_prints_settings_that_load_again_as_the_same(fresh):
    result = fresh("check", "--print")
    printed = Settings.model_validate(yaml.safe_load(result.stdout))
    assert result.exit_code == 0 and printed == Settings.model_validate(yaml.safe_load(fresh.text))
    assert yaml.safe_load(result.stdout)["levels"]["fill"] == "through:1"  # a default, filled in


def test_check_lists_strategies_and_features(fresh):
    strategies, features = fresh("check", "--strategies"), fresh("check", "--features")
    assert strategies.exit_code == features.exit_code == 0
    assert "trend (rules): " in strategies.stdout and "  fast: Int(low=" in strategies.stdout
    assert {"sma", "rsi", "adx"} <= set(features.stdout.split())
    both = fresh("check", "--strategies", "--features").stdout
    assert both == strategies.stdout + features.stdout


# what is there


def test_champions_shows_orders_board_and_reasons(done):
    whole, one, why = done("champions"), done("champions", "BBB"), done("champions", "--why", "AAA")
    assert whole.exit_code == one.exit_code == why.exit_code == 0
    assert "paper only: nightfold places no orders" in whole.stdout
    assert "0 of 2 symbols have a champion" in whole.stdout
    assert "AAA" not in one.stdout and "Why: nightfold champions --why BBB" in one.stdout
    assert " trend: rejected (p " in why.stdout and "    trades " in why.stdout and "{" not in why.stdout


def test_champions_before_any_run_say_what_to_do(fresh):
    assert fresh("champions").stdout == "no results of AAA, BBB yet. Make them: nightfold run\n"
    why = fresh("champions", "--why", "AAA")
    assert why.exit_code == 0 and why.stdout == "no decision on AAA yet. Make one: nightfold run AAA\n"


def test_report_is_written_anew_and_opened_where_asked(done, monkeypatch):
    opened = []
    monkeypatch.setattr(cli.click, "launch", opened.append)
    page = done.data / "reports" / "index.html"
    page.unlink()
    assert done("report").stdout == f"report: {page}\n" and page.is_file() and opened == []
    assert done("report", "AAA", "--open").stdout == f"report: {page.with_name('AAA.html')}\n"
    assert opened == [page.with_name("AAA.html").as_uri()] and page.with_name("AAA.html").is_file()


def test_status_shows_rows_writers_and_of_one_symbol_its_studies(done):
    with lease(done.data, "BBB"):
        both = done("status").stdout
    assert "AAA\n  prices: 350 rows, result " in both and f"BBB (running, pid {os.getpid()})\n" in both
    assert "study" not in both and "  last bar: 2016-05-" in both
    one = done("status", "AAA").stdout
    assert (
        "BBB" not in one
        and "trend fold 1: told 2, tried 2, pruned 0, failed 0, invalid 0, duplicates 0, " in one
    )
    assert "trend tonight: told 2" in one


def test_explain_of_an_unknown_symbol_names_those_of_the_lake_alone(done):
    assert done("explain", "_all").stdout.startswith("champions _all: result ")
    refused = done("explain", "NOPE")
    assert refused.exit_code == 2 and refused.stderr.endswith(" Known: AAA, BBB.\n")


def test_status_before_any_run_says_so(fresh):
    assert fresh("status", "AAA").stdout.splitlines()[1:] == [
        f"  {stage}: nothing yet" for stage in PER_SYMBOL
    ]


def test_torn_tables_are_found_by_doctor_and_status_goes_on(done):
    assert done("doctor").exit_code == 0
    path = done.data / "lake" / "bars" / "AAA.parquet"
    path.write_bytes(path.read_bytes()[:100])
    doctor, status, run = done("doctor"), done("status"), done("run")
    assert doctor.exit_code == status.exit_code == run.exit_code == 1
    assert f"{path}: torn" in doctor.stdout and "1 findings" in doctor.stdout
    assert status.stderr.startswith(f"AAA: {path} ") and "BBB\n  prices: 350 rows" in status.stdout
    assert f"AAA failed: {path} is torn" in run.stderr and "BBB backtests unchanged" in run.stdout


def test_the_warehouse_answers_a_select_and_nothing_else(done):
    made = done("warehouse")
    assert made.exit_code == 0 and made.stdout.startswith(f"{done.data / 'warehouse.duckdb'}\n")
    assert all(name in made.stdout for name in TABLES)
    found = done("warehouse", "select symbol, count(*) as n, null as x from bars group by 1 order by 1")
    assert found.exit_code == 0 and found.stdout == "symbol\tn\tx\nAAA\t350\t\nBBB\t350\t\n"
    for sql in ("drop view bars", "select 1; select 2", "select * from nope", "selec"):
        refused = done("warehouse", sql)
        assert refused.exit_code != 0 and refused.stdout == "" and "Traceback" not in refused.output
