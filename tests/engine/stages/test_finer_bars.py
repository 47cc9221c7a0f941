"""Finer bars in the stages: fit, backtest, next order and report read the same ones, and their id enters."""

import json
from dataclasses import replace

import numpy as np
import pytest
from finer import parted

from engine.bars.model import COLUMNS
from engine.errors import LakeError
from engine.reports.results import load
from engine.reports.words import policy_words
from engine.search.fit import bars_sha
from engine.search.levels_fit import LevelsFitter
from engine.simulation.levels import value
from engine.stages import _backtests, _optimizations
from engine.stages.common import finer_terms, median_forecasts, read_bars
from engine.strategies import registry

SYMBOL, NAME = "ALFA", "levels_always_on"


@pytest.fixture(scope="module")
def finer(request, tmp_path_factory):
    """The small lake, its two last stages made again with finer bars that a lake would hold."""
    full = request.getfixturevalue("small_lake").copy_to(tmp_path_factory.mktemp("finer") / "data")
    base = parted(read_bars(full.lake, full.settings.instrument(SYMBOL)))
    with pytest.MonkeyPatch.context() as patch:
        for stage in (_optimizations, _backtests):
            patch.setattr(stage, "base_bars_of", lambda lake, symbol, settings: base)
        for run in (_optimizations.optimizations, _backtests.backtests):
            assert not run(full.lake, SYMBOL, full.settings, lambda text: None).unchanged
    return full, base


def chosen(bench, table, **which):
    rows = [row for row in bench.rows(table) if row["strategy"] == NAME]
    return [row for row in rows if all(row[name] == wanted for name, wanted in which.items())]


def test_only_the_fits_that_read_them_differ(finer, small_lake):
    full, _ = finer
    for policy, same in (("close", True), ("path", False)):
        ours, theirs = (chosen(bench, "folds", policy=policy) for bench in (full, small_lake))
        assert ([row["params"] for row in ours] == [row["params"] for row in theirs]) is same
        assert all(a["study_id"] != b["study_id"] for a, b in zip(ours, theirs, strict=True))
    trend = [[row["study_id"] for row in bench.rows("folds") if row["strategy"] == "trend"]
             for bench in (full, small_lake)]  # fmt: skip
    assert trend[0] == trend[1]


def test_the_backtest_scores_what_the_fit_would(finer):
    full, base = finer
    instrument = full.settings.instrument(SYMBOL)
    bars = read_bars(full.lake, instrument)
    entry = next(e for e in full.settings.entries(SYMBOL) if e.label == NAME)
    forecasts = median_forecasts(full.lake, bars, 0.5)
    fitter = LevelsFitter(bars, *forecasts, registry.get(NAME), entry, instrument, base=base)
    tested = 0
    for fold in chosen(full, "folds", policy="path", status="ok"):
        if fold["test_to"] == fold["test_from"]:
            continue
        offsets = json.loads(fold["params"])
        rows = fitter.problem(fold["test_from"], fold["test_to"], 1.0)
        expected = (
            1e4 * value(rows, offsets["u"], offsets["v"], "path") / (fold["test_to"] - fold["test_from"])
        )
        (row,) = chosen(full, "backtests", policy="path", fold=fold["fold"], variant="tuned")
        assert row["bps_per_bar"] == pytest.approx(expected, rel=1e-9)
        tested += 1
    assert tested > 3
    taken = {row["reason"] for row in full.rows("trades") if row["strategy"] == NAME}
    policies = {row["policy"] for row in chosen(full, "folds", selected=True)}
    assert ("target" in taken) == ("path" in policies)


def test_what_was_read_of_them_is_part_of_both_results(finer, small_lake):
    full, base = finer
    for table in ("folds", "backtests"):
        ours, theirs = (bench.lake.record(table, SYMBOL) for bench in (full, small_lake))
        assert (
            ours["params"]["finer"] == f"1h {bars_sha(base, len(base))}" and "finer" not in theirs["params"]
        )
        assert ours["result_id"] != theirs["result_id"]


def test_finer_bars_behind_the_last_bar_change_no_result(finer):
    full, base = finer
    instrument = full.settings.instrument(SYMBOL)
    early = finer_terms(full.lake, instrument, base)
    assert finer_terms(full.lake, instrument, None) == {}
    bars = read_bars(full.lake, instrument)
    later = parted(replace(bars, ts=bars.ts + (bars.ts[-1] - bars.ts[0]) + 2 * 86_400_000_000))
    columns = {name: np.r_[getattr(base, name), getattr(later, name)] for name in ("ts", *COLUMNS)}
    assert finer_terms(full.lake, instrument, replace(base, **columns)) == early
    moved = base.low.copy()
    moved[100] -= 1e-9
    assert finer_terms(full.lake, instrument, replace(base, low=moved)) != early


def test_a_backtest_of_fits_that_read_other_finer_bars_is_refused(finer):
    full, _ = finer  # its settings name no base frame: without the patch there are none
    with pytest.raises(LakeError, match=r"read other finer bars .* --stage optimizations"):
        _backtests.backtests(full.lake, SYMBOL, full.settings, lambda text: None)


def test_the_report_says_whether_they_were_read(finer, small_lake):
    full, _ = finer
    with_them, without = (load(bench.lake, SYMBOL).finer for bench in (full, small_lake))
    assert with_them and not without
    assert "no finer bars were read" in policy_words("path", without)
    assert "no finer bars" not in policy_words("path", with_them) + policy_words("close", without)


def test_an_order_of_policy_path_has_a_target_where_finer_bars_are_read(finer):
    from engine.features.table import FeatureSet
    from engine.stages.next_orders import next_orders

    full, _ = finer
    instrument = full.settings.instrument(SYMBOL)
    bars = read_bars(full.lake, instrument)
    entry = next(e for e in full.settings.entries(SYMBOL) if e.label == NAME)
    fit = {"strategy": NAME, "asof": int(bars.ts[-1]), "selected": True, "policy": "path", "status": "ok",
           "params": json.dumps({"u": 0.0, "v": 0.0})}  # fmt: skip
    features = FeatureSet(bars, 0.01)
    finer_rows, plain = (
        next_orders(full.lake, bars, features, instrument, entry, [fit], finer=flag) for flag in (True, False)
    )
    assert len(finer_rows) == len(plain) > 0
    for ours, theirs in zip(finer_rows, plain, strict=True):
        assert np.isfinite(ours["target"]) and ours["note"] == "out at the target or the close"
        assert np.isnan(theirs["target"]) and theirs["note"] == "out at the bar's close"
        assert ours["limit"] == theirs["limit"]
