"""The stage writes the report anew where its results or problems changed, and only there."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from engine.bars.gaps import said
from engine.stages import _leaderboard, examine
from engine.stages.chain import run_leaderboard
from engine.stages.common import read_bars


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


def test_the_page_tells_the_gaps_that_status_tells(early):
    def page():
        _leaderboard.write_report(early.lake, early.settings, asof=None)
        return (early.data_dir / "reports" / "ALFA.html").read_text()

    early.change(symbols={"ALFA": {"calendar": "24/7"}})
    status = list(examine.status("ALFA", early.settings, early.data_dir, studies=False))
    (line,) = (line for line in status if line.startswith("  gaps: "))
    assert "expected bars missing, first after" in line
    assert f"Bars: {line.removeprefix('  gaps: ')}." in page()
    early.change(symbols={"ALFA": {"frame": "1h"}})  # of which there are no bars yet: nothing is known
    assert "Bars: " not in page()


def test_a_symbol_without_a_gap_says_nothing(early):
    early.change(symbols={"ALFA": {"calendar": "24/7"}})
    bars = read_bars(early.lake, early.settings.instrument("ALFA"))
    days = bars.ts[0] + 86_400_000_000 * np.arange(len(bars))
    whole = replace(bars, ts=days)
    assert said(whole) == "no bar missing"
    table = early.table("bars")
    stamped = table.set_column(1, "ts", pa.array(days, table["ts"].type))
    record = early.lake.record("bars", "ALFA")
    early.lake.publish(
        "bars", "ALFA", stamped, {k: record[k] for k in ("stage", "symbol", "frame", "result_id")}
    )
    _leaderboard.write_report(early.lake, early.settings, asof=None)
    assert "Bars: " not in (early.data_dir / "reports" / "ALFA.html").read_text()


def test_a_torn_file_of_bars_is_told_on_its_page_and_stops_no_report(early):
    path = early.data_dir / "lake" / "bars" / "ALFA.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    first = _leaderboard.write_report(early.lake, early.settings, asof=None).read_text()
    for text in (first, (early.data_dir / "reports" / "ALFA.html").read_text()):
        assert "lake/bars/ALFA.parquet" in text and "nightfold doctor" in text
