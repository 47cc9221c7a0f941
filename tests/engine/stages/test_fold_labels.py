"""Folds that a forecaster's training may have held: not in the headline, grey in the report, no evidence.

The forecaster is the local one, said to have learnt until a day inside the sample, or nobody knows when.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

from engine.forecasts import backends
from engine.lake.publish import rows_of
from engine.reports import terminal
from engine.stages.chain import run_leaderboard
from engine.stages.common import to_table

SYMBOL, CASH, LEVELS = "ALFA", 100_000.0, ("levels_always_on", "levels_entry_exit")


@pytest.fixture
def labelled(early, alfa, monkeypatch):
    """The early lake one bar later, under a forecaster with a cut-off; and its report."""

    def label(cutoff, status):
        plain = backends.backend
        monkeypatch.setattr(
            backends, "backend", lambda *args: replace(plain(*args), cutoff=cutoff, cutoff_status=status)
        )
        early.write(alfa(889))
        early.chain()
        done = run_leaderboard(early.lake, early.settings, print, cpus=1, asof=None, problems={})
        front = done.metadata["report"].read_text()
        page = done.metadata["report"].with_name(f"{SYMBOL}.html").read_text()
        return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)) for text in (front, page)] + [front, page]

    return early, label


def _stitched(bench, name, variant="tuned"):
    return {
        row["fold"]: row
        for row in bench.rows("backtests")
        if (row["strategy"], row["variant"], row["selected"]) == (name, variant, True) and row["fold"] < 0
    }


def test_the_headline_is_that_of_the_clean_folds_and_the_others_are_grey(labelled):
    bench, label = labelled
    cutoff = bench.table("bars")["ts"][760].as_py().date()
    front, page, _, page_html = label(cutoff, backends.STATED)
    for name in LEVELS:
        folds = [r for r in bench.rows("folds") if r["strategy"] == name and r["selected"]]
        labels = [row["label"] for row in sorted(folds, key=lambda row: row["fold"])]
        assert labels == ["contaminated"] * 6 + ["clean"] * 6  # the seventh begins at bar 770
        found = _stitched(bench, name)
        assert (found[-1]["label"], found[-1]["bars"]) == ("clean", 889 - 770)
        assert (found[-2]["label"], found[-2]["bars"]) == ("contaminated", 889 - 650)
        path = [r for r in bench.rows("equity") if (r["strategy"], r["variant"]) == (name, "tuned")]
        equity = np.array([CASH, *(row["equity"] for row in path)])
        clean = np.array([row["label"] == "clean" for row in path])
        moves = 1e4 * np.diff(equity) / CASH
        assert found[-1]["bps_per_bar"] == pytest.approx(moves[clean].mean(), rel=1e-9)
        assert found[-2]["bps_per_bar"] == pytest.approx(moves.mean(), rel=1e-9)
        assert found[-1]["psr"] is not None and found[-2]["psr"] is None
        assert f"{found[-1]['bps_per_bar']:+.2f}".replace("-", "\N{MINUS SIGN}") in front
    assert set(_stitched(bench, "trend")) == {-1}  # it reads no forecast
    looks = [row for row in bench.rows("looks") if row["strategy"] != "trend"]
    assert len(looks) == 2 * 5 * 20  # clean and closed, no other bar is evidence
    said = "6 of 12 folds are left out of these numbers (contaminated: their test bars lie before the end of"
    assert page.count(said) == 2 and "not clean" not in front
    assert len(re.findall(r'<span class="quiet">[^<]*forecasts contaminated', page_html)) == 12
    assert "contaminated" not in front


def test_where_nobody_knows_when_training_ended_no_fold_is_clean(labelled):
    bench, label = labelled
    front, page, front_html, _ = label(None, backends.UNKNOWN)
    for name in LEVELS:
        assert {r["label"] for r in bench.rows("folds") if r["strategy"] == name} == {"unknown"}
        (row,) = _stitched(bench, name).values()
        assert (row["fold"], row["label"], row["bars"], row["psr"]) == (-2, "unknown", 889 - 650, None)
        assert '"psr":"no test fold is clean"' in row["undefined"]
    (row,) = _stitched(bench, "trend").values()
    assert (row["fold"], row["label"]) == (-1, "clean")
    said = "No fold of 12 is clean (unknown: nobody states when the forecaster"
    assert page.count(said) == 2 and "they prove nothing, and no champion rests on them" in page
    assert front_html.count('class="tag bad">unknown') == 2
    assert front.index("trend") < front.index("levels_always_on unknown")
    console = terminal.console()
    with console.capture() as printed:
        terminal.print_leaderboard(console, bench.lake, [SYMBOL])
    assert printed.get().count(" (unknown)") == 2
    decided = {row["strategy"]: row for row in rows_of(bench.lake.read("champions", "_all"))}
    assert all(decided[name]["reasons"].startswith("0 out-of-sample bars") for name in LEVELS)


def test_a_champion_whose_folds_are_no_longer_clean_is_demoted(labelled, alfa):
    """Its evidence is gone with the label; the rule judges it on nothing, also where nothing else is new."""
    bench, label = labelled
    run_leaderboard(bench.lake, bench.settings, print, cpus=1, asof=None, problems={})
    rows = rows_of(bench.lake.read("champions", "_all"))
    rows = [{**row, "in_force": row["strategy"] == LEVELS[0]} for row in rows]
    bench.lake.publish("champions", "_all", to_table("champions", rows), {"result_id": "planted"})
    label(None, backends.UNKNOWN)
    after = rows_of(bench.lake.read("champions", "_all"))
    assert len(rows) == 3 and not any(row["in_force"] for row in after)
    latest = {row["strategy"]: row for row in after[3:]}
    assert latest[LEVELS[0]]["decision"] == "demoted" and latest[LEVELS[1]]["decision"] == "rejected"
    assert latest[LEVELS[0]]["reasons"].startswith("0 out-of-sample bars")
