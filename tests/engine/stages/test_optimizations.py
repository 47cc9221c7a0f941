"""Rows of folds, nightly and trials, and what happens where a run was cut short."""

import json
import shutil
from functools import partial

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engine.errors import LakeError, SearchError
from engine.features.table import FeatureSet
from engine.lake import records
from engine.lake.publish import rows_of
from engine.search.folds import walk_forward
from engine.search.rules_fit import RulesFitter
from engine.simulation import Execution
from engine.stages import verify
from engine.stages._optimizations import _Work
from engine.stages._studies import Job, Window, _fit
from engine.stages._trials import TrialLedger
from engine.stages.chain import run_stage
from engine.stages.common import read_bars
from engine.strategies import registry

SYMBOL = "ALFA"


def _rows(bench, table):
    return rows_of(bench.table(table))


def test_folds_are_those_of_the_walk_forward(small_lake):
    ts = rows_of(small_lake.table("bars"))
    stamps = [row["ts"] for row in ts]
    for entry in small_lake.settings.entries(SYMBOL):
        rows = [r for r in _rows(small_lake, "folds") if r["strategy"] == entry.label and r["selected"]]
        cut = walk_forward(925, entry.folds, 0)
        assert len(rows) == len(cut)
        for row, fold in zip(rows, cut, strict=True):
            assert (row["fold"], row["open"]) == (fold.number, fold.open)
            for name in ("train_from", "train_to", "test_from", "test_to"):
                assert row[name] == getattr(fold, name)
            assert row["train_start"] == stamps[fold.train_from]
            assert row["train_end"] == stamps[fold.train_to - 1] + 1
            if fold.test_from < 925:
                assert row["test_start"] == stamps[fold.test_from]
            assert row["test_end"] == stamps[fold.test_to - 1] + 1
            assert (row["purge_bars"], row["label"], row["scheme"]) == (0, "clean", "rolling")


def test_one_policy_a_fold_is_selected(small_lake):
    chosen = {}
    for row in _rows(small_lake, "folds"):
        chosen.setdefault((row["strategy"], row["fold"]), []).append(row["selected"])
    assert all(sum(flags) == 1 for flags in chosen.values())
    assert {len(flags) for (name, _), flags in chosen.items() if name != "trend"} == {2}


def test_every_fold_points_to_its_trial(small_lake):
    trials = {(r["study_id"], r["trial_number"]): r for r in small_lake.rows("trials")}
    rows = [r for t in ("folds", "nightly") for r in small_lake.rows(t) if r["strategy"] == "trend"]
    assert len(rows) == 8
    for row in rows:
        trial = trials[row["study_id"], row["trial_number"]]
        assert (row["params"], row["in_sample"]) == (trial["params"], trial["value"])
        study = [t for key, t in trials.items() if key[0] == row["study_id"]]
        feasible = [t["value"] for t in study if t["outcome"] == "VALID"]
        assert row["in_sample"] == max(feasible)
        assert row["n_trials"] == len({t["params_hash"] for t in study if t["outcome"] != "INVALID_PARAMS"})
        assert row["n_pruned"] == sum(t["state"] == "PRUNED" and t["duplicate_of"] is None for t in study)
        assert row["fold" if "fold" in row else "asof"] is not None


def test_tonights_fit_is_on_the_newest_window(small_lake):
    stamps = [row["ts"] for row in rows_of(small_lake.table("bars"))]
    for row in _rows(small_lake, "nightly"):
        assert (row["asof"], row["train_start"], row["train_end"]) == (
            stamps[-1],
            stamps[-400],
            stamps[-1] + 1,
        )


def test_without_nightly_fits_only_folds_are_fitted(early, alfa):
    early.change(folds={"reoptimize": "when_due"})
    nights = early.rows("nightly")
    results = early.chain()
    assert results["optimizations"].metadata["fits_new"] == 0
    assert early.rows("nightly") == nights
    assert early.rows("next_orders") == []  # the last night's fit was another procedure's
    before = early.rows("trials")
    early.write(alfa(889))  # inside the open fold
    results = early.chain()
    assert not results["optimizations"].unchanged and results["optimizations"].metadata["fits_new"] == 0
    assert early.rows("trials") == before


@pytest.mark.parametrize("lost", [("folds",), ("folds", "nightly")])
def test_a_run_cut_short_between_two_tables_comes_to_the_same(full, small_lake, lost):
    """What was published first is taken up, and no trial stands twice."""
    for name in lost:
        (full.data_dir / "lake" / name / f"{SYMBOL}.parquet").unlink()
    full.chain()
    for name in ("folds", "nightly", "backtests", "next_orders"):
        assert full.rows(name) == small_lake.rows(name), name

    def by_id(bench):
        return sorted(bench.rows("trials"), key=lambda row: (row["study_id"], row["trial_number"]))

    assert by_id(full) == by_id(small_lake)


def test_trials_that_are_lost_are_tried_again_and_said(early, early_lake):
    """The ledger has no history; fits whose trials nobody counts must not stay."""
    parts = early.lake.parts("trials", SYMBOL)
    folds = early.files()["folds/ALFA.parquet"]
    (early.data_dir / "lake" / "trials" / SYMBOL / f"{parts[0]}.parquet").unlink()
    result = early.chain()["optimizations"]
    assert 0 < result.metadata["fits_new"] < 7  # of six folds and tonight, those of that year

    def by_trial(bench):
        return {(row["study_id"], row["trial_number"]): row for row in bench.rows("trials")}

    assert by_trial(early) == by_trial(early_lake)
    assert early.files()["folds/ALFA.parquet"] == folds
    assert any(f"the trials of {parts[0]} are lost: studies in force are run anew" in t for t in early.said)
    assert early.chain()["optimizations"].unchanged


def test_a_run_that_was_killed_while_it_made_lost_trials_anew_makes_the_rest_too(early, early_lake):
    """The year's file stands again after the first study of it; what counts is each study."""
    part = early.lake.parts("trials", SYMBOL)[0]
    path = early.data_dir / "lake" / "trials" / SYMBOL / f"{part}.parquet"
    table = pq.read_table(path)
    first = table["study_id"][0]
    there = table.filter(pc.equal(table["study_id"], first))
    record = dict(early.lake.record("trials", SYMBOL, part=part))
    path.unlink()
    early.lake.publish("trials", SYMBOL, there, record, part=part)
    early.chain()
    ids = [sorted({row["study_id"] for row in bench.rows("trials")}) for bench in (early, early_lake)]
    assert ids[0] == ids[1]


def test_a_longer_purge_moves_the_tests_and_trains_no_later_bar(early):
    early.change(folds={"purge_bars": 5})
    early.chain()
    for row in _rows(early, "folds"):
        assert row["train_to"] + 5 == row["test_from"]
        assert row["train_end"] < row["test_start"]


def test_anchored_folds_train_on_all_bars_since_the_warm_up(early):
    early.change(folds={"scheme": "anchored"})
    early.chain()
    rows = _rows(early, "folds")
    assert {row["train_from"] for row in rows} == {250}
    assert {row["train_to"] - row["test_from"] for row in rows} == {0}


def test_a_strategy_of_other_symbols_is_not_fitted(early):
    strategies = [dict(entry) for entry in early.raw["strategies"]]
    strategies[2]["symbols"] = ["BETA"]
    early.change(strategies=strategies, symbols={"BETA": {}})
    early.chain()
    assert {row["strategy"] for row in early.rows("folds")} == {"levels_entry_exit", "levels_always_on"}


def test_parameters_of_levels_are_two_offsets_inside_the_bounds(small_lake):
    for row in small_lake.rows("folds"):
        if row["strategy"] != "trend":
            offsets = json.loads(row["params"])
            assert set(offsets) == {"u", "v"} and np.abs(list(offsets.values())).max() <= 0.03
            assert (row["solver"], row["trial_number"]) == ("exact", None)
            assert row["objective"] == "smoothed" and row["regret"] >= 0
        else:
            assert row["regret"] is None  # NaN, printed so


def test_the_solver_is_told_with_the_stage(small_lake):
    assert small_lake.first["optimizations"].metadata["solvers"] == "exact, optuna:tpe"


def test_another_solver_is_recorded_with_its_regret(early):
    early.change(levels={"solver": "de-numba", "objective": "sup", "policies": ["target"]})
    early.chain()
    rows = [row for row in early.rows("folds") if row["strategy"] != "trend"]
    rows += [row for row in early.rows("nightly") if row["strategy"] != "trend"]
    assert rows and {(row["solver"], row["objective"]) for row in rows} == {("de-numba", "sup")}
    assert min(row["regret"] for row in rows) >= -1e-9 and max(row["regret"] for row in rows) > 0


def _of(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("qualifies", [True, False])
def test_nights_around_a_new_fold_leave_one_fit_a_fold_and_policy(early, alfa, qualifies):
    """On the night a fold begins, tonight's window is the fold's: one study serves both."""
    early.change(strategies=early.raw["strategies"][1:])
    if not qualifies:
        early.change(constraints={"min_trades": 10_000})
    for bars in (890, 891, 892):  # the test parts of both strategies begin at 890
        early.write(alfa(bars))
        results = early.chain()
        verify.refuse_failed(results["optimizations"], early.lake, early.settings)
        folds, nightly = (rows_of(early.table(name)) for name in ("folds", "nightly"))
        keys = _of(folds, "strategy", "fold", "policy")
        assert len(set(keys)) == len(keys)
        chosen = _of([row for row in folds if row["selected"]], "strategy", "fold")
        assert sorted(chosen) == sorted(set(_of(folds, "strategy", "fold")))
        nights = _of(nightly, "strategy", "asof", "policy")
        assert len(set(nights)) == len(nights)
        begun = [row for row in folds if row["test_from"] == 890 and row["strategy"] == "trend"]
        assert _of(begun, "status") == [("ok" if qualifies else "no_candidate",)]
        assert np.isnan(begun[0]["in_sample"]) == (not qualifies)
        known = _Work(
            SYMBOL, read_bars(early.lake, early.settings.instrument(SYMBOL)), early.lake, 0, {}
        )._known
        for fits in known.values():
            policies = [fit["policy"] for fit in fits]
            assert len(set(policies)) == len(policies)
            assert sum(fit["selected"] for fit in fits) == 1
        said = [line for line in early.said if " trend " in line and " tried " in line]
        assert any(" none; no trial qualified: min_trades broken by " in line for line in said) != qualifies
        assert said and not any("nan" in line for line in said)
    shared = {row["study_id"] for row in folds} & {row["study_id"] for row in nightly}
    assert {row["study_id"] for row in folds if row["test_from"] == 890} <= shared


def test_a_strategy_s_code_is_part_of_its_fits_and_of_all_that_rests_on_them(early, early_lake, edited):
    before = {stage: result.result_id for stage, result in early_lake.first.items()}
    studies = {name: _studies(early_lake, name) for name in ("trend", "levels_always_on")}

    def changed():
        results = early.chain()
        return results, [stage for stage, result in results.items() if result.result_id != before[stage]]

    edited("strategies/trend.py", lambda text: "# a comment\n" + text)
    assert changed()[1] == []
    edited("strategies/trend.py", lambda text: text.replace("fast < slow,", "fast <= slow,"))
    results, stages = changed()
    assert stages == ["optimizations", "backtests"]
    assert results["optimizations"].metadata["fits_new"] == 7  # trend alone: 6 folds and tonight
    assert not _studies(early, "trend") & studies["trend"]
    assert _studies(early, "levels_always_on") == studies["levels_always_on"]


def _studies(bench, name):
    return {row["study_id"] for row in rows_of(bench.table("folds")) if row["strategy"] == name}


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """Give code ids those of a copy of the engine: ``edited(file, change)`` edits a file of it."""
    copy = tmp_path / "engine"
    shutil.copytree(records._ENGINE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(records, "_ENGINE", copy)

    def forget():
        records.code_id.cache_clear()
        records._module.cache_clear()

    def edit(name, change):
        text = (copy / name).read_text()
        assert change(text) != text
        (copy / name).write_text(change(text))
        forget()

    forget()
    yield edit
    monkeypatch.undo()
    forget()


def test_a_stage_run_by_itself_refuses_tables_made_from_other_bars(early, alfa):
    """Stored features of an older history would be served for the new one."""
    early.chain()
    early.write(alfa(889))
    run = partial(
        run_stage, lake=early.lake, symbol=SYMBOL, settings=early.settings, progress=print, asof=None
    )
    run("prices")
    with pytest.raises(
        LakeError, match=rf"table features of {SYMBOL} was made from bars .* --stage features"
    ):
        run("optimizations")
    run("features")
    run("forecasts")
    with pytest.raises(
        LakeError, match=rf"table folds of {SYMBOL} was made from bars .* --stage optimizations"
    ):
        run("backtests")
    run("optimizations")
    assert not run("backtests").unchanged


def test_a_study_that_was_cut_short_goes_on_from_its_saved_batches(small_lake, tmp_path, monkeypatch):
    """Killed after the first save of its second study; no trial in the ledger is run again."""
    import engine.search.study as study

    other = small_lake.copy_to(tmp_path / "data")
    for name in ("folds", "nightly", "trials"):
        shutil.rmtree(tmp_path / "data" / "lake" / name)
    monkeypatch.setattr(study.run_study, "__kwdefaults__", {**study.run_study.__kwdefaults__, "save_bars": 1})
    real, saves = TrialLedger.publish, []

    def killed(ledger, *args):
        real(ledger, *args)
        saves.append(len(other.rows("trials")))
        if len(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrialLedger, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        other.chain()
    monkeypatch.setattr(TrialLedger, "publish", real)
    left = other.rows("trials")
    assert 0 < len(left) < len(small_lake.rows("trials"))
    ran, real_batch = [], study._evaluate_batch

    def counted(task, batch, earlier):
        ran.extend((task.study_id, trial.number) for trial in batch)
        real_batch(task, batch, earlier)

    monkeypatch.setattr(study, "_evaluate_batch", counted)
    other.chain()
    assert ran and not set(ran) & {(row["study_id"], row["trial_number"]) for row in left}
    ledgers = ({k: v for k, v in b.files().items() if k.startswith("trials/")} for b in (other, small_lake))
    assert next(ledgers) == next(ledgers)  # byte for byte
    assert other.rows("folds") == small_lake.rows("folds")


def test_nights_before_the_newest_thirty_become_one_row_each(small_lake, tmp_path, monkeypatch):
    from engine.stages import _trials

    other = small_lake.copy_to(tmp_path / "data")
    rows = other.rows("trials")
    night = {row["study_id"] for row in rows if row["fold"] == _trials.TONIGHT}
    ledger = _trials.TrialLedger(
        other.lake, read_bars(other.lake, other.settings.instrument(SYMBOL)), {"result_id": "x"}
    )
    ledger.publish(night)
    after = other.rows("trials")
    (summary,) = (row for row in after if row["state"] == "SUMMARY")
    before = [row for row in rows if row["study_id"] in night]
    assert len(after) == len(rows) - len(before) + 1
    distinct = [row for row in before if row["duplicate_of"] is None and row["fold_scores"]]
    told = json.loads(summary["summary"])
    assert told["n_configs"] == len(distinct) > 5
    assert told["sr_mean"] == pytest.approx(np.mean([row["sr"] for row in distinct if row["sr"] is not None]))
    (chosen,) = (row for row in other.rows("nightly") if row["study_id"] in night)
    assert (summary["params"], summary["value"], summary["trial_number"]) == (
        chosen["params"],
        chosen["in_sample"],
        -1,
    )
    ledger.publish(night)
    assert other.rows("trials") == after  # once only


@pytest.mark.parametrize("nights, old", [(30, 0), (31, 1), (35, 5)])
def test_thirty_nights_of_a_strategy_are_kept_whole(nights, old):
    from engine.stages._trials import old_nights

    nightly = [{"strategy": name, "asof": asof, "study_id": f"{name}{asof}"}
               for name in ("a", "b") for asof in range(nights)]  # fmt: skip
    found = old_nights(nightly, [{"study_id": "a0"}])  # an outer fold rests on the oldest one of a
    assert found == {f"{name}{asof}" for name in ("a", "b") for asof in range(old)} - {"a0"}


def test_a_worker_refuses_a_strategy_that_was_edited_after_the_run_began(small_lake):
    """Its fit would be stored under the id of the code before."""
    entry = next(e for e in small_lake.settings.entries(SYMBOL) if e.strategy == "trend")
    bars = read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))
    fitter = RulesFitter(FeatureSet(bars, 0.01), registry.get("trend"), entry, Execution(), 0)
    job = Job(Window(0, 250, 650, "trend fold 1/2"), ())
    assert _fit(fitter, job)[0].trials
    fitter.config["code"][-1] = "the code before"
    with pytest.raises(SearchError, match="trend was edited while trend fold 1/2 was fitted"):
        _fit(fitter, job)
