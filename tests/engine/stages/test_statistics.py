"""The statistics of luck as the backtests stage stores them."""

import json

import numpy as np
import pytest

from engine.lake.schemas import STATISTICS
from engine.stages import _backtests, _statistics
from engine.stages._statistics import SOLVED, read_trials
from engine.validation import overfitting
from engine.validation import statistics as st

SYMBOL = "ALFA"


def _read(bench):
    studies = [f["study_id"] for f in bench.rows("folds") if f["strategy"] == "trend"]
    return read_trials(bench.lake, SYMBOL, "trend", studies)


@pytest.fixture(scope="module")
def stitched(small_lake):
    rows = small_lake.rows("backtests")
    return {r["strategy"]: r for r in rows if r["fold"] == -1 and r["variant"] == "tuned" and r["selected"]}


def test_only_the_stitched_tuned_row_of_each_strategy_has_them(small_lake, stitched):
    for row in small_lake.rows("backtests"):
        if row in stitched.values():
            assert row["psr"] is not None and 0 <= row["psr"] <= 1
        else:
            assert row["n_trials"] is None and row["undefined"] == ""
            assert all(row[name] is None for name in STATISTICS)


def test_what_is_undefined_says_why(stitched):
    for row in stitched.values():
        why = json.loads(row["undefined"] or "{}")
        assert {name for name in ("n_trials", *STATISTICS) if row[name] is None} == set(why)
        assert all(why.values())
    levels = json.loads(stitched["levels_always_on"]["undefined"])
    assert {levels[name] for name in ("n_trials", "n_eff", "dsr", "pbo", "neighbourhood")} == {SOLVED}
    assert stitched["levels_always_on"]["n_trials"] is None


def test_n_is_the_true_count_of_distinct_sets_over_all_folds_and_nights(small_lake, stitched):
    trials = [t for t in small_lake.rows("trials") if t["strategy"] == "trend"]
    ran = [t for t in trials if t["duplicate_of"] is None and t["outcome"] != "INVALID_PARAMS"]
    assert stitched["trend"]["n_trials"] == len({t["params_hash"] for t in ran})
    assert any(t["state"] == "PRUNED" for t in ran) and {t["fold"] for t in ran} >= {-1, 0}
    found = _read(small_lake)
    assert len(found.sharpes) == sum(t["sr"] is not None and t["bars_done"] >= 30 for t in ran)
    outer = {f["study_id"] for f in small_lake.rows("folds") if f["strategy"] == "trend"}
    whole = {t["params_hash"] for t in ran if t["state"] == "COMPLETE" and t["study_id"] in outer}
    assert len(found.complete) == len(whole)
    assert 1 <= stitched["trend"]["n_eff"] <= stitched["trend"]["n_trials"]


def test_a_night_adds_its_trials_to_n(early, alfa):
    counts = [_read(early).count]
    for bars in (889, 890):
        early.write(alfa(bars))
        early.chain()
        counts.append(_read(early).count)
    assert counts[0] < counts[1] < counts[2]
    ran = [t for t in early.rows("trials") if t["strategy"] == "trend" and t["bars_done"]]
    assert counts[2] == len({t["params_hash"] for t in ran})  # of the three nights, pruned ones included
    assert any(t["state"] == "PRUNED" and t["fold"] == -1 for t in ran)
    row = next(r for r in early.rows("backtests")
               if (r["strategy"], r["fold"], r["variant"]) == ("trend", -1, "tuned"))  # fmt: skip
    assert row["n_trials"] == counts[2]


def test_what_rests_on_closed_folds_is_reused_bit_for_bit_until_one_closes(early, alfa, monkeypatch):
    dear = []
    for name, module in (("trial_returns", overfitting), ("superior_predictive_ability", _statistics)):
        made = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, _name=name, _made=made, **k: dear.append(_name) or _made(*a, **k)
        )

    def night(bars):
        dear.clear()
        early.write(alfa(bars))
        early.chain()
        rows = [r for r in early.rows("backtests") if r["n_trials"] is not None or r["spa_p"] is not None]
        assert rows
        return rows, sorted(set(dear))

    reused, ran = night(889)
    assert ran == []
    monkeypatch.setattr(_backtests, "luck", lambda *args: _statistics.luck(*args[:-1], {}))
    (early.data_dir / "lake" / "backtests" / f"{SYMBOL}.parquet").unlink()
    anew, ran = night(889)
    assert ran == ["superior_predictive_ability", "trial_returns"] and anew == reused
    monkeypatch.undo()


def test_a_closed_fold_measures_anew(early, alfa):
    key = {}
    for bars in (889, 890):
        early.write(alfa(bars))
        early.chain()
        kept = early.lake.record("backtests", SYMBOL)["until_a_fold_closes"]
        key[bars] = {name: one["key"] for name, one in kept.items()}
    assert len(key[889]) == 3 and all(key[889][name] != key[890][name] for name in key[889])


def test_psr_and_wfe_are_those_of_the_stored_account(small_lake, stitched):
    row = stitched["trend"]
    equity = [r["equity"] for r in small_lake.rows("equity")
              if (r["strategy"], r["variant"]) == ("trend", "tuned")]  # fmt: skip
    returns = np.diff(equity, prepend=1e5) / np.concatenate([[1e5], equity[:-1]])
    assert row["psr"] == pytest.approx(st.probabilistic_sharpe(returns).value, abs=1e-12)
    trials = _read(small_lake)
    wanted = st.deflated_sharpe(returns, trials.sharpes, trials.count).value
    assert row["dsr"] == pytest.approx(wanted, abs=1e-12) and row["dsr"] < row["psr"]
    if row["wfe"] is not None:
        assert row["wfe"] == pytest.approx(row["bps_per_bar"] / row["in_sample_bps_per_bar"], rel=1e-9)


def test_a_strategy_with_nothing_to_search_has_no_neighbours(early):
    early.change(strategies=[{"strategy": "trend"}], constraints={"min_trades": 0})
    early.chain()
    row = next(r for r in early.rows("backtests") if r["fold"] == -1 and r["variant"] == "tuned")
    why = json.loads(row["undefined"])
    assert why["stability"] == "no numeric parameter was searched"
    assert why["neighbourhood"] == "nothing was searched, so there are no neighbours"
    assert row["n_trials"] > 1  # the ledger keeps the trials of earlier settings
