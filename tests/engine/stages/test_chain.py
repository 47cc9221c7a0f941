"""The five stages of a symbol as a whole: unchanged, one more bar, closing bar, truncation, settings."""

import json
import os
import subprocess
import sys

import pytest

from engine.errors import AlreadyRunning, ConfigError, DataError, LakeError
from engine.lake.leases import lease
from engine.lake.records import content_sha
from engine.stages.chain import holding, run_stage
from engine.stages.common import PER_SYMBOL

SYMBOL, CLOSING_BAR, FULL_BARS = "ALFA", 890, 925
RULES, LEVELS = ("trend",), ("levels_entry_exit", "levels_always_on")


def _closed(bench):
    """Number of closed folds of each strategy."""
    rows = bench.rows("folds")
    return {name: sum(not r["open"] and r["selected"] for r in rows if r["strategy"] == name)
            for name in (*RULES, *LEVELS)}  # fmt: skip


def _of_closed(rows, closed, *, without=()):
    """Rows of folds that are closed in ``closed``; some columns left out."""
    kept = [row for row in rows if 0 <= row["fold"] < closed[row["strategy"]]]
    return [{k: v for k, v in row.items() if k not in without} for row in kept]


def test_a_second_run_is_unchanged_everywhere_and_writes_no_file(full):
    before, content = full.stamps(), full.files()
    results = full.chain()
    assert [result.unchanged for result in results.values()] == [True] * len(PER_SYMBOL)
    assert full.stamps() == before
    assert full.files() == content


def test_a_second_run_writes_no_file_of_any_kind_but_its_locks(full):
    def stamps():
        found = [path for path in full.data_dir.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {path: path.stat().st_mtime_ns for path in found}

    seen = []
    for _ in range(2):  # the first one makes the warehouse of this folder
        with holding(full.lake, SYMBOL, full.settings, 1, print):
            full.chain()
        seen.append(stamps())
    assert seen[0] == seen[1] and full.data_dir / "warehouse.duckdb" in seen[0]


def test_an_unchanged_chain_tells_the_same_ids_and_rows(full, small_lake):
    assert {s: (r.result_id, r.rows) for s, r in full.chain().items()} == {
        s: (r.result_id, r.rows) for s, r in small_lake.first.items()
    }


def test_one_more_bar_is_one_forecast_and_one_study_a_searched_strategy(early, early_lake, alfa):
    early.write(alfa(len(early_lake.table("bars")) + 1))
    results = early.chain()
    assert results["prices"].metadata["bars_new"] == 1
    assert results["forecasts"].metadata["forecasts_new"] == 1
    assert results["optimizations"].metadata["fits_new"] == 3  # tonight's, one a strategy

    old, new = early_lake.table("forecasts"), early.table("forecasts")
    last = new["as_of"].combine_chunks()[-1]
    assert new.slice(0, len(old)).equals(old)
    assert set(new.slice(len(old))["as_of"].to_pylist()) == {last.as_py()}

    studies = {row["study_id"] for row in early_lake.rows("trials")}
    trials = early.rows("trials")
    assert [row for row in trials if row["study_id"] in studies] == early_lake.rows("trials")
    added = {(row["strategy"], row["fold"]) for row in trials if row["study_id"] not in studies}
    assert added == {("trend", -1)}
    nights = {row["asof"] for row in early.rows("nightly")}
    assert nights == {row["asof"] for row in early_lake.rows("nightly")} | {last.as_py()}


def test_one_more_bar_in_an_open_fold_changes_no_fold_but_its_length(early, early_lake, alfa):
    early.write(alfa(len(early_lake.table("bars")) + 1))
    early.chain()
    grown = {"test_to", "test_end"}
    for old, new in zip(early_lake.rows("folds"), early.rows("folds"), strict=True):
        changed = {key for key in old if old[key] != new[key]}
        assert changed == (grown if old["open"] else set())


def test_the_bar_that_closes_a_fold_starts_one_study_a_strategy(early, early_lake, alfa):
    early.write(alfa(CLOSING_BAR - 1))
    early.chain()
    before, known = _closed(early), {row["study_id"] for row in early.rows("folds")}
    early.write(alfa(CLOSING_BAR))
    results = early.chain()
    assert _closed(early) == {name: count + 1 for name, count in before.items()}
    # the fold that begins is trained up to the last bar, and so is tonight's fit: one study serves both
    assert results["optimizations"].metadata["fits_new"] == 3
    begun = [row for row in early.rows("folds") if row["study_id"] not in known]
    assert {(row["strategy"], row["open"], row["test_from"] == row["test_to"]) for row in begun} == {
        (name, True, True) for name in (*RULES, *LEVELS)
    }
    tonight = {row["study_id"] for row in early.rows("nightly") if row["asof"] == _last(early)}
    assert tonight == {row["study_id"] for row in begun}


def _last(bench):
    return bench.table("bars")["ts"][-1].as_py()


def test_bar_by_bar_comes_to_the_same_as_one_run(early, small_lake, alfa):
    for bars in (CLOSING_BAR - 1, CLOSING_BAR, CLOSING_BAR + 2, FULL_BARS):
        early.write(alfa(bars))
        early.chain()
    for name in ("bars", "features", "forecasts", "forecast_inputs", "forecast_quality", "forecast_models"):
        assert content_sha(early.table(name)) == content_sha(small_lake.table(name)), name
    for name in ("folds", "trades", "equity"):
        assert early.rows(name) == small_lake.rows(name), name
    assert {row["bars"] for row in early.rows("forward")} == {1, 2, 33}  # one row a night that ran
    orders = ([r for r in b.rows("next_orders") if r["strategy"] in LEVELS] for b in (early, small_lake))
    assert next(orders) == next(orders)  # those of trend follow from the position of the record
    assert small_lake.rows("forward") == []
    history = ("n_trials", "n_eff", "dsr")  # they count what was tried, the nights between included
    for many, one in zip(early.rows("backtests"), small_lake.rows("backtests"), strict=True):
        assert {k: v for k, v in many.items() if k not in history} == {
            k: v for k, v in one.items() if k not in history
        }
        assert one["n_trials"] is None or many["n_trials"] > one["n_trials"]

    def by_id(bench):
        return {(row["study_id"], row["trial_number"]): row for row in bench.rows("trials")}

    one_run, many = by_id(small_lake), by_id(early)
    assert set(one_run) < set(many)  # the nights between left their studies, too
    for key, row in one_run.items():
        assert {**many[key], "fold": 0} == {**row, "fold": 0}


class TestNothingKnowsALaterBar:
    """What the chain gave when 888 bars were known stands when 37 more are known."""

    def test_folds(self, early_lake, small_lake):
        closed = _closed(early_lake)
        assert min(closed.values()) >= 5
        old, new = (_of_closed(b.rows("folds"), closed) for b in (early_lake, small_lake))
        assert old and old == new

    def test_parameters_of_the_open_fold(self, early_lake, small_lake):
        frozen = ("strategy", "fold", "policy", "params", "study_id", "train_start", "train_end",
                  "test_start", "in_sample", "selected")  # fmt: skip
        for old in (row for row in early_lake.rows("folds") if row["open"]):
            assert {name: old[name] for name in frozen} in [
                {name: row[name] for name in frozen} for row in small_lake.rows("folds")
            ]

    def test_trials(self, early_lake, small_lake):
        outer = [row for row in early_lake.rows("trials") if row["fold"] >= 0]
        later = {(row["study_id"], row["trial_number"]): row for row in small_lake.rows("trials")}
        assert len(outer) == 6 * 20
        assert all(later[row["study_id"], row["trial_number"]] == row for row in outer)

    @pytest.mark.parametrize("variant", ["tuned", "untuned", "buy_and_hold"])
    def test_equity(self, early_lake, small_lake, variant):
        closed = _closed(early_lake)
        old, new = (
            [row for row in _of_closed(b.rows("equity"), closed) if row["variant"] == variant]
            for b in (early_lake, small_lake)
        )
        assert len(old) == 200 + 220 + 220
        assert old == new

    def test_trades(self, early_lake, small_lake):
        closed = _closed(early_lake)
        old, new = (_of_closed(b.rows("trades"), closed) for b in (early_lake, small_lake))
        assert {row["strategy"] for row in old} == set(closed)
        assert old == new

    def test_rows_of_closed_folds_against_every_benchmark(self, early_lake, small_lake):
        closed = _closed(early_lake)
        old, new = (_of_closed(b.rows("backtests"), closed) for b in (early_lake, small_lake))
        assert {row["variant"] for row in old} == {
            "tuned", "untuned", "buy_and_hold", "matched_hold", "no_trade"
        }  # fmt: skip
        assert any(row["dividends"] for row in old if row["variant"] == "buy_and_hold")
        assert old == new

    def test_a_changed_future_changes_nothing_that_was_decided(self, early, early_lake, alfa, with_bar):
        """Other bars after the first test span: its folds, trades and equity stay."""
        bars, cut = alfa(len(early_lake.table("bars"))), 700
        early.write(with_bar(bars, cut, 1.05))
        early.chain()
        before = {row["fold"] for row in early_lake.rows("folds") if row["test_to"] <= cut}
        for name in ("folds", "trades"):
            old, new = (
                [
                    r
                    for r in b.rows(name)
                    if r["fold"] in before and r["strategy"] == "trend" and r["fold"] < 1
                ]
                for b in (early_lake, early)
            )
            assert old and old == new, name
        old_forecasts, forecasts = early_lake.rows("forecasts"), early.rows("forecasts")
        stamp = early_lake.table("bars")["ts"][cut].as_py()
        assert [r for r in old_forecasts if r["as_of"] < stamp] == [
            r for r in forecasts if r["as_of"] < stamp
        ]
        assert old_forecasts != forecasts


CHANGES = [
    ({"costs": {"stock": {"fee_bps": 9.0}}}, "optimizations"),
    ({"seed": 5}, "optimizations"),
    ({"execution": {"leverage": 2.0}}, "optimizations"),
    ({"features": {"columns": ["sma.close.n=20"]}}, "features"),
    ({"forecasts": {"levels": [0.2, 0.5, 0.8]}}, "forecasts"),
    ({"promotion": {"confidence": 0.9}}, None),
    ({"workers": {"max_concurrent": 1}}, None),
    ({"report": {"charts": True}}, None),
    ({"prices": {"source": "files", "overlap_bars": {"daily": 3}}}, None),
]


@pytest.mark.parametrize("change, first", CHANGES, ids=[str(change) for change, _ in CHANGES])
def test_changed_settings_rerun_only_what_depends_on_them(early, change, first):
    early.change(**change)
    unchanged = {stage: result.unchanged for stage, result in early.chain().items()}
    touched = list(PER_SYMBOL[PER_SYMBOL.index(first) :]) if first else []
    if first == "features":
        touched.remove("forecasts")
    assert [stage for stage, same in unchanged.items() if not same] == touched


def test_changed_costs_leave_levels_solved_anew_and_forecasts_as_they_were(early, early_lake):
    early.change(costs={"stock": {"fee_bps": 9.0}})
    results = early.chain()
    assert (
        results["optimizations"].metadata["fits_new"]
        == early_lake.first["optimizations"].metadata["fits_new"]
    )
    assert early.table("forecasts").equals(early_lake.table("forecasts"))
    assert {r["study_id"] for r in early_lake.rows("trials")} < {r["study_id"] for r in early.rows("trials")}


def test_a_study_of_other_settings_is_found_again_when_they_return(early):
    ids = {stage: early.lake.result_id("folds", SYMBOL) for stage in ("folds",)}
    early.change(constraints={"min_trades": 4})
    assert early.chain()["optimizations"].metadata["fits_new"] == 7  # trend only: 6 folds and tonight
    early.change(constraints={"min_trades": 5})
    results = early.chain()
    trials = early.rows("trials")
    assert len({(row["study_id"], row["trial_number"]) for row in trials}) == len(trials)
    assert results["optimizations"].result_id == ids["folds"]


@pytest.mark.parametrize("rule", ["E01", "E02", "E04", "E05", "E06", "E07"])
def test_a_bad_file_fails_and_leaves_the_lake_as_it_was(early, rule):
    from engine.bars.synthetic import spoil

    file, before = early.data_dir / "inbox" / f"{SYMBOL}.csv", early.files()
    file.write_text(spoil(file.read_text(), rule))
    with pytest.raises(DataError, match=rf"^{rule} "):
        early.chain()
    assert early.files() == before


def test_a_shorter_file_is_refused(early, alfa):
    before = early.files()
    early.write(alfa(880))
    with pytest.raises(
        DataError,
        match=r"E13 history became shorter: ALFA 1d has 880 bars .* 888 to 2018.*source lacks is 2018-",
    ) as e:
        early.chain()
    assert "nightfold check ALFA --accept-revision" in str(e.value)
    assert early.files() == before


def test_corrected_history_is_told_and_taken(early, alfa, with_bar):
    early.write(with_bar(alfa(888), 300))
    assert early.chain()["prices"].metadata["bars_new"] == 0
    assert any("1 stored bars replaced, first 2016-" in line for line in early.said)


def test_too_few_bars_for_any_strategy_name_both_numbers(bench, tmp_path, alfa):
    short = bench(tmp_path / "data")
    short.write(alfa(600))
    # 250 + 400 + 4 x 20
    with pytest.raises(DataError, match=r"(?s)^E17 .*found 600; expected at least 730"):
        short.chain()
    assert short.files() == {}


def test_only_the_strategy_that_lacks_bars_is_left_out(early, early_lake):
    strategies = [dict(entry) for entry in early.raw["strategies"]]
    strategies[2]["folds"] = {"train_bars": 800}
    early.change(strategies=strategies)
    results = early.chain()
    # 250 + 800 + 4 x 40
    assert results["optimizations"].metadata["left out: trend"] == "has 888 bars, needs 1210"
    assert any("trend left out: has 888 bars, needs 1210" in line for line in early.said)
    for name in ("folds", "backtests", "equity", "next_orders"):
        assert {row["strategy"] for row in early.rows(name)} == set(LEVELS), name
        assert early.rows(name) == [r for r in early_lake.rows(name) if r["strategy"] in LEVELS], name


def test_a_symbol_in_work_refuses_a_second_writer(early):
    with lease(early.data_dir, SYMBOL), pytest.raises(AlreadyRunning, match="already running: ALFA by pid"):
        with holding(early.lake, SYMBOL, early.settings, 1, print):
            raise AssertionError("held twice")


def test_an_unknown_stage_names_the_closest(early):
    with pytest.raises(ConfigError, match=r"stage 'backtest' is not known\. Closest: backtests"):
        run_stage("backtest", early.lake, SYMBOL, early.settings, print, asof=None)


@pytest.mark.parametrize(
    "stage, needs", [("features", "prices"), ("forecasts", "prices"), ("optimizations", "prices")]
)
def test_a_stage_alone_names_the_one_before(bench, tmp_path, stage, needs):
    empty = bench(tmp_path / "data")
    with pytest.raises(LakeError, match=rf"nightfold run ALFA --stage {needs}"):
        run_stage(stage, empty.lake, SYMBOL, empty.settings, print, asof=None)


def test_an_asof_before_the_stored_bars_is_refused(early):
    with pytest.raises(ConfigError, match="asof 2015-06-01 lies before the last stored bar of ALFA"):
        run_stage("prices", early.lake, SYMBOL, early.settings, print, asof=1_433_116_800_000_000)


SCRIPT = """
import hashlib, json, sys
from pathlib import Path
from engine.config import Settings
from engine.lake.publish import Lake
from engine.stages.chain import run_chain
data, settings = Path(sys.argv[1]), Settings.model_validate(json.loads(sys.argv[2]))
list(run_chain(Lake(data), "ALFA", settings, lambda text: None, asof=None))
files = sorted((data / "lake").rglob("*.parquet"))
print(json.dumps({str(f.relative_to(data)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}))
"""


def test_the_lake_holds_the_same_bytes_in_every_process(bench, tmp_path, alfa):
    running = []
    for seed, zone in (("0", "America/New_York"), ("1", "Asia/Kolkata")):
        one = bench(tmp_path / seed)
        one.change(folds={"train_bars": 200, "min_folds": 1})
        one.write(alfa(520))
        command = [sys.executable, "-c", SCRIPT, str(one.data_dir), json.dumps(one.raw)]
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone}
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    found = [json.loads(process.communicate()[0]) for process in running]
    assert len(found[0]) >= 13
    assert found[0] == found[1]
