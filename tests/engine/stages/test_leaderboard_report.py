"""The stage writes the report anew where its results or problems changed, and only there."""

from engine.stages import _leaderboard
from engine.stages.chain import run_leaderboard


def test_the_report_is_written_once_for_the_same_results(early):
    def run(problems=None):
        return run_leaderboard(
            early.lake, early.settings, early.said.append, cpus=1, asof=None, problems=problems or {}
        )

    page = run().metadata["report"]
    assert page.is_file()
    written = page.stat().st_mtime_ns
    assert run().metadata["report"].stat().st_mtime_ns == written
    run({"BETA": "E16 no such file"})
    assert page.stat().st_mtime_ns != written
    run({"ALFA": "E16 no such file"})
    again = _leaderboard.write_report(early.lake, early.settings, asof=None)
    assert "E16 no such file" in again.read_text()  # a report written again knows what failed
    run()
    assert "E16" not in _leaderboard.write_report(early.lake, early.settings, asof=None).read_text()


def test_left_out_names_both_numbers(early):
    strategies = [dict(entry) for entry in early.raw["strategies"]]
    strategies[2]["folds"] = {"train_bars": 800}
    early.change(strategies=strategies)
    assert _leaderboard.left_out(early.lake, "ALFA", early.settings) == {"trend": "has 888 bars, needs 1210"}
    assert _leaderboard.left_out(early.lake, "NONE", early.settings) == {}


def test_a_symbol_without_results_is_left_out(early):
    early.change(symbols={"BETA": {}})
    result = run_leaderboard(early.lake, early.settings, early.said.append, cpus=1, asof=None, problems={})
    assert result.metadata["symbols"] == 1
    assert {row["symbol"] for row in early.rows("champions", "_all")} == {"ALFA"}
