"""`nightfold run` as a user types it; in this process where it can be, in real ones where it must."""

import os
import re
import signal
import subprocess

import pytest
from click.testing import CliRunner

from engine import cli
from engine.bars.synthetic import spoil
from engine.errors import LakeError
from engine.lake.leases import is_held, lease
from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake
from engine.stages.common import PER_SYMBOL


def last_lines(text, count):
    return text.rstrip().splitlines()[-count:]


# run


def test_run_does_every_stage_and_ends_with_orders_leaderboard_and_report(finished):
    result, page = finished.result, finished.data / "reports" / "index.html"
    assert result.exit_code == 0 and result.stderr == ""
    for symbol in finished.csv:
        for stage in PER_SYMBOL:
            assert f"\n{symbol} {stage} " in f"\n{result.stdout}"
    assert re.search(r"^AAA optimizations trend fold 1/\d+ tried 2 pruned 0 best ", result.stdout, re.M)
    for text in (
        "Next orders after the bar of ",
        "Out of sample, after costs",
        "0 of 2 symbols have a champ",
    ):
        assert text in result.stdout
    assert last_lines(result.stdout, 1) == [f"report: {page}"] and page.is_file()


def test_a_second_run_says_unchanged_and_writes_no_table(done):
    before = {path: path.stat().st_mtime_ns for path in done.data.rglob("lake/*/*.parquet")}
    result = done("run")
    assert result.exit_code == 0
    for symbol in done.csv:
        for stage in PER_SYMBOL:
            assert f"{symbol} {stage} unchanged" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in done.data.rglob("lake/*/*.parquet")} == before


def test_run_takes_only_the_named_symbols_each_once(fresh):
    result = fresh("run", "BBB", "BBB", "--stage", "prices")
    assert result.exit_code == 0
    assert "AAA" not in result.stdout and "unchanged" not in result.stdout
    assert "BBB prices 350 rows" in result.stdout


def test_stages_can_be_run_one_by_one(fresh):
    for stage in (*PER_SYMBOL, "leaderboard"):
        assert not (fresh.data / "reports" / "index.html").exists()
        result = fresh("run", "AAA", "--stage", stage)
        assert result.exit_code == 0, result.output
        assert all(f"AAA {other} " not in result.stdout for other in PER_SYMBOL if other != stage)
    assert "0 of 1 symbols have a champion" in result.stdout
    assert (fresh.data / "reports" / "index.html").is_file()


def test_a_stage_whose_input_is_missing_names_the_stage_before(fresh):
    result = fresh("run", "AAA", "--stage", "features")
    assert result.exit_code == 1
    assert "Run the stage before: nightfold run AAA --stage prices" in result.stderr


def test_asof_leaves_later_bars_out_and_a_later_one_brings_them(fresh):
    lake = Lake(fresh.data)
    assert fresh("run", "AAA", "--stage", "prices", "--asof", "2016-03-01").exit_code == 0
    first = lake.read("bars", "AAA")["ts"].to_pylist()
    assert str(first[-1]) < "2016-03-01" and len(first) < 350
    assert fresh("run", "AAA", "--stage", "prices").exit_code == 0
    later = lake.read("bars", "AAA")["ts"].to_pylist()
    assert later[: len(first)] == first and len(later) == 350


def test_asof_of_the_settings_counts_where_none_is_given(fresh):
    fresh.edit("data_dir: store", "data_dir: store\nasof: 2016-03-01")
    fresh("run", "AAA", "--stage", "prices")
    assert len(Lake(fresh.data).read("bars", "AAA")) < 350
    fresh("run", "AAA", "--stage", "prices", "--asof", "2026-01-01")
    assert len(Lake(fresh.data).read("bars", "AAA")) == 350


def test_an_asof_before_the_stored_bars_is_refused_and_keeps_them(done):
    before = done.lake_files()
    result = done("run", "AAA", "--asof", "2015-09-01")
    assert result.exit_code == 1
    assert "asof 2015-09-01 lies before the last stored bar of AAA" in result.stderr
    assert done.lake_files() == before


BAD_FILES = [
    ("E02", "first BBB.csv line 176", "correct BBB.csv line 176, then: nightfold check BBB"),
    ("E05", "(BBB.csv line 176)", "correct BBB.csv line 176 or ask its vendor, then: nightfold check BBB"),
    ("E06", "(BBB.csv line 177)", "correct BBB.csv line 177 or ask its vendor, then: nightfold check BBB"),
    ("empty", "E17 too few bars: BBB 1d, BBB.csv", "bring BBB.csv again, then: nightfold check BBB"),
    ("E17", "found a header line and no bar", "bring BBB.csv again, then: nightfold check BBB"),
    ("absent", "E16 symbol not known to its source", "put the file there, or declare file: {path: ...}"),
]


@pytest.mark.parametrize(("damage", "where", "remedy"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_a_bad_file_fails_its_symbol_alone_with_place_and_remedy(done, damage, where, remedy):
    path, before = done.inbox / "BBB.csv", done.lake_files()
    if damage == "absent":
        path.unlink()
    else:
        path.write_text("" if damage == "empty" else spoil(done.csv["BBB"], damage))
    result = done("run")
    assert result.exit_code == 1
    assert result.stderr.count("failed") == 1 and result.stderr.startswith("BBB failed: E")
    assert where in result.stderr and remedy in result.stderr
    assert "AAA backtests unchanged" in result.stdout
    assert re.search(r"^BBB failed: E\d\d \(reason below\)$", result.stdout, re.M)
    said = result.stdout[result.stdout.index("Next orders") :].splitlines()
    assert "BBB: failed in this run; no orders (results of an earlier run are kept)" in said
    assert not any(line.startswith("  BBB ") for line in said) and any(x.startswith("  AAA ") for x in said)
    assert {line.split("  ")[0] for line in said if " trend " in line and line[0] != " "} == {
        "AAA",
        "BBB (earlier run)",
    }
    assert done.lake_files() == before


def test_a_symbol_that_never_worked_costs_the_others_nothing(fresh):
    (fresh.inbox / "AAA.csv").write_text(spoil(fresh.csv["AAA"], "E05"))
    result = fresh("run")
    assert result.exit_code == 1 and "BBB backtests" in result.stdout
    assert "AAA: failed in this run; no orders\n" in result.stdout and "earlier run" not in result.stdout
    assert "AAA failed: E05" in result.stderr and "E05" in (fresh.data / "reports" / "index.html").read_text()
    assert Lake(fresh.data).read("bars", "AAA") is None


def test_too_few_bars_name_both_numbers(fresh):
    (fresh.inbox / "BBB.csv").write_text("\n".join(fresh.csv["BBB"].splitlines()[:101]) + "\n")
    result = fresh("run", "BBB")
    assert result.exit_code == 1
    assert "E17 too few bars: BBB 1d, 100 bars\n  found 100; expected at least 250" in result.stderr
    assert last_lines(result.stdout, 3)[1] == "no results of BBB yet. Make them: nightfold run"


def test_the_samples_short_symbol_and_an_unknown_one_are_refused(fresh):
    fresh.edit("  AAA: {source: files}", "  AAA: {source: files}\n  FB: {}\n  APPL: {}")
    result = fresh("run", "FB", "APPL")
    assert result.exit_code == 1
    assert "FB failed: E17 too few bars: FB 1d, 196 bars" in result.stderr
    assert "APPL failed: E16" in result.stderr and "Closest: AAPL" in result.stderr


def test_a_defect_in_one_symbol_shows_its_traceback_and_costs_the_others_nothing(done, monkeypatch):
    from engine.stages import workers

    real = workers.run_chain

    def broken(lake, symbol, *rest, **options):
        if symbol == "AAA":
            raise ValueError("an odd number of legs")
        return real(lake, symbol, *rest, **options)

    monkeypatch.setattr(workers, "run_chain", broken)
    result = done("run")
    assert result.exit_code == 1 and "BBB backtests unchanged" in result.stdout
    assert "AAA failed\nTraceback (most recent call last)" in result.stdout and "in broken" in result.stdout
    assert result.stderr.startswith("AAA failed: ValueError: an odd number of legs (a defect of nightfold")


def test_a_leaderboard_that_fails_hides_no_symbols_failure(done, monkeypatch):
    from engine.stages import chain

    def full(*_, **__):
        raise LakeError("the disk is full")

    monkeypatch.setattr(chain, "run_leaderboard", full)
    (done.inbox / "BBB.csv").unlink()
    result = done("run")
    assert result.exit_code == 1
    assert "BBB failed: E16" in result.stderr and "leaderboard failed: the disk is full" in result.stderr


def test_symbols_that_another_run_holds_are_left_to_it(done):
    before = done.lake_files()
    with lease(done.data, "AAA"):
        alone, both = done("run", "AAA"), done("run")
    assert alone.exit_code == 0
    assert alone.output == f"already running: AAA by pid {os.getpid()}\n"
    assert both.exit_code == 0 and "BBB backtests unchanged" in both.stdout
    assert "Out of sample" in both.stdout and done.lake_files() == before


def test_a_leaderboard_that_another_run_writes_is_left_to_it(done):
    with lease(done.data, ALL_SYMBOLS):
        result = done("run", "AAA")
    assert result.exit_code == 0
    assert last_lines(result.stdout, 1)[0].endswith("nightfold run --stage leaderboard")


# real processes


@pytest.mark.parametrize("method", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_run_in_two_processes_stores_the_same_bytes(fresh, finished, method):
    fresh.edit("report:", f"workers: {{start_method: {method}}}\nreport:")
    done = subprocess.run(**fresh.command("run", "--workers", "2"), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "AAA backtests" in done.stdout and "BBB backtests" in done.stdout
    assert fresh.lake_files() == finished.lake_files() and len(fresh.lake_files()) > 20


def test_of_two_runs_one_says_that_the_other_has_the_symbol(fresh):
    with lease(fresh.data, "AAA"):
        for workers in ("1", "2"):
            line = fresh.command("run", "AAA", "--workers", workers)
            second = subprocess.run(**line, capture_output=True, timeout=60)
            assert second.returncode == 0
            assert second.stdout == f"already running: AAA by pid {os.getpid()}\n"


@pytest.mark.slow
def test_of_two_runs_started_at_once_one_works_and_the_other_names_it(fresh, finished):
    line = fresh.command("run", "AAA")
    pair = [subprocess.Popen(**line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    (refused,) = [n for n in range(2) if "AAA backtests" not in said[n]]
    assert f"already running: AAA by pid {pair[1 - refused].pid}\n" in said[refused]
    of_aaa = {name: data for name, data in fresh.lake_files().items() if "AAA" in name}
    assert of_aaa == {name: data for name, data in finished.lake_files().items() if "AAA" in name}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_ends_the_run_with_130_and_keeps_what_was_published(fresh, workers):
    line = fresh.command("run", "AAA", "--workers", workers)
    with subprocess.Popen(
        **line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        for text in process.stdout:
            if text.startswith("AAA features"):
                break
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the run
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "AAA backtests" not in out
    assert err == "interrupted; what was published stays, run again to go on\n"
    lake = Lake(fresh.data)
    assert len(lake.read("bars", "AAA")) == 350 and lake.read("backtests", "AAA") is None
    assert is_held(fresh.data, "AAA") == "" and not list(fresh.data.rglob("*.tmp"))


def test_runs_from_another_folder_with_data_beside_the_settings(fresh, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    line = fresh.command("run", "AAA", "--stage", "prices") | {"cwd": elsewhere}
    line["args"][line["args"].index(str(fresh.settings))] = os.path.relpath(fresh.settings, elsewhere)
    result = subprocess.run(**line, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert (fresh.data / "lake" / "bars" / "AAA.parquet").is_file() and not list(elsewhere.iterdir())


def test_without_settings_it_says_where_it_looked(project, tmp_path):
    line = project(tmp_path).command("run")
    del line["args"][-3:-1]  # no --settings
    result = subprocess.run(**line, capture_output=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.startswith(f"there is no nightfold.yaml in {tmp_path}. ")
    assert list(tmp_path.iterdir()) == []


# refused before any work

USAGE = [
    (("run", "AAB"), "symbol 'AAB' is not in nightfold.yaml. Closest: AAA. To add it, write 'AAB: {}' under"),
    (("run", "aaa"), "symbol 'aaa' is not in nightfold.yaml. Closest: AAA.\n"),
    (("run", "a/b"), "symbol 'a/b' is not in nightfold.yaml. Known: AAA, BBB.\n"),
    (("run", "--stage", "price"), "stage 'price' is not known. Closest: prices."),
    (("run", "--asof", "yesterday"), "asof is 'yesterday'; expected an ISO time such as 2013-03-01"),
    (("run", "--workers", "0"), "0 is not in the range x>=1"),
    (("run", "--worker", "2"), "--workers"),
    (("champions", "AAB"), "Closest: AAA."),
    (("champions", "--why", "AAB"), "Closest: AAA."),
    (("champions", "--why"), "requires an argument"),
    (("champions", "AAA", "--why", "AAA"), "give a KEY, or --why KEY, or --rollback KEY"),
    (("champions", "--rollback", "AAB"), "Closest: AAA."),
    (("export", "AAB"), "Closest: AAA."),
    (("report", "AAB"), "Closest: AAA."),
    (("status", "AAB"), "Closest: AAA."),
    (("check", "aab"), "aab is neither a file nor a symbol of the settings. Closest: AAA."),
    (("check", "AAA", "--print"), "--print, --strategies and --features take no file or key; found AAA"),
    (("chekc",), "No such command 'chekc'"),
    ((), "Missing command."),
]


@pytest.mark.parametrize(("arguments", "text"), USAGE, ids=[" ".join(case[0]) or "none" for case in USAGE])
def test_wrong_usage_is_refused_with_2_before_any_work(fresh, arguments, text):
    result = fresh(*arguments)
    assert result.exit_code == 2 and text in result.output
    assert not (fresh.data / "lake").exists() and not (fresh.data / "reports").exists()


MISTAKES = [
    ("folds:", "fold:", "nightfold.yaml:9:1: unknown key 'fold'. Closest: folds."),
    ("source: files", "source: file", "nightfold.yaml:4:9: symbols.AAA.source is 'file'"),
    (
        "strategy: trend",
        "strategy: tren",
        "nightfold.yaml:15:5: strategy 'tren' is not known. Closest: trend.",
    ),
    ("sma.close", "sme.close", "nightfold.yaml:6:22: "),
    ("max_trials: 2, ", "max_trials: 2 ", "not valid YAML"),
    ("data_dir: store", "asof: 2016-13-01", "2016-13-01"),
]


@pytest.mark.parametrize("command", ["run", "check", "status"])
@pytest.mark.parametrize(("old", "new", "text"), MISTAKES, ids=[case[1] for case in MISTAKES])
def test_wrong_settings_are_refused_with_2_their_place_and_the_closest(fresh, command, old, new, text):
    fresh.edit(old, new)
    result = fresh(command)
    assert result.exit_code == 2 and text in result.stderr and result.stdout == ""
    assert not (fresh.data / "lake").exists()


def test_help_names_the_commands_and_the_exit_codes():
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0 and "130 interrupted" in result.output
    for command in ("run", "check", "champions", "export", "report", "status", "doctor", "warehouse"):
        assert f"\n  {command} " in result.output
        assert CliRunner().invoke(cli.main, [command, "--help"]).exit_code == 0
