"""Champions over nights. Evidence is planted by rewriting the stored equity of the trend strategy."""

import copy
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.stages import _leaderboard, common
from engine.stages.chain import run_leaderboard

SYMBOL, CASH = "ALFA", 100_000.0
EASY = {"promotion": {"min_oos_bars": 100, "min_oos_trades": 1}}


@pytest.fixture
def board(early, monkeypatch):
    """The early lake without its report; ``board.decide()`` runs the stage."""
    monkeypatch.setattr(_leaderboard, "_report_if_new", lambda *args: "page")
    early.change(**EASY)
    early.decide = lambda: run_leaderboard(
        early.lake, early.settings, early.said.append, cpus=1, asof=None, problems={}
    )
    early.chain()
    return early


def _plant(bench, returns, strategy="trend", position=None):
    """Give a strategy's tuned account these returns, and no position unless one is given."""
    equity = bench.table("equity")
    mine = pc.and_(pc.equal(equity["strategy"], strategy), pc.equal(equity["variant"], "tuned"))
    mine = mine.to_numpy(zero_copy_only=False)
    path = equity["equity"].to_numpy().copy()
    held = equity["position"].to_numpy().copy()
    path[mine] = CASH * np.cumprod(1 + returns(int(mine.sum())))
    held[mine] = 0.0 if position is None else position
    for name, column in (("equity", path), ("position", held)):
        equity = equity.set_column(equity.schema.get_field_index(name), name, pa.array(column))
    key = bench.lake.result_id("backtests", SYMBOL) + "x"
    bench.lake.publish("equity", SYMBOL, equity, {"result_id": key})
    bench.lake.publish("backtests", SYMBOL, bench.table("backtests"), {"result_id": key})


def edge(n):
    return 2e-3 + 2e-3 * np.random.default_rng(1).normal(size=n)


def loss(n):
    return -edge(n)


def _champions(bench):
    return bench.rows("champions", "_all")


def _decisions(bench):
    return [(row["strategy"], row["decision"], row["in_force"]) for row in _champions(bench)]


def test_without_an_edge_there_is_no_champion_and_the_reasons_are_said(board):
    _plant(board, loss)
    result = board.decide()
    trend = next(row for row in _champions(board) if row["strategy"] == "trend")
    assert (trend["decision"], trend["in_force"]) == ("rejected", False)
    assert "basis points per bar, needs more than 0" in trend["reasons"]
    assert "over 3 procedures, needs 0.050" in trend["reasons"]
    assert "champions" in result.metadata and result.rows == 3


def test_a_planted_edge_is_promoted_with_its_newest_parameters(board):
    _plant(board, edge)
    _plant(board, loss, "levels_entry_exit")
    _plant(board, loss, "levels_always_on")
    result = board.decide()
    assert result.metadata["champions"] == 1
    row = next(row for row in _champions(board) if row["in_force"])
    tonight = next(r for r in board.rows("nightly") if r["strategy"] == "trend")
    assert (row["strategy"], row["decision"]) == ("trend", "promoted")
    assert (row["params"], row["study_id"], row["asof"]) == (
        tonight["params"], tonight["study_id"], tonight["asof"]
    )  # fmt: skip
    evidence = json.loads(row["evidence"])
    assert evidence["bars"] == 200  # closed folds only
    assert evidence["net_bps"] == pytest.approx(1e4 * edge(238)[:200].mean(), rel=1e-9)
    assert evidence["thresholds"]["min_oos_bars"] == 100


def test_unchanged_data_adds_no_row(board):
    board.decide()
    before, files = _champions(board), board.files()
    again = board.decide()
    assert again.unchanged and _champions(board) == before and board.files() == files


def test_a_night_without_a_closed_fold_decides_nothing(board, alfa):
    board.decide()
    before = _champions(board)
    board.write(alfa(889))
    assert not board.chain()["backtests"].unchanged
    board.decide()
    assert _champions(board) == before


def test_the_night_a_fold_closes_is_a_look(board, alfa):
    board.decide()
    before = _champions(board)
    board.write(alfa(890))
    board.chain()
    board.decide()
    after = _champions(board)
    assert after[:3] == [{**row, "in_force": False} for row in before]
    bars = {row["strategy"]: json.loads(row["evidence"])["bars"] for row in after[3:]}
    assert bars == {"trend": 240, "levels_entry_exit": 240, "levels_always_on": 240}
    assert {str(row["asof"]) for row in after[3:]} == {str(board.table("bars")["ts"][-1].as_py())}


def test_a_champion_that_stays_qualified_is_kept_though_another_is_better(board):
    _plant(board, edge)
    _plant(board, loss, "levels_entry_exit")
    _plant(board, loss, "levels_always_on")
    board.decide()
    _plant(board, lambda n: 2 * edge(n), "levels_entry_exit")
    _plant(board, lambda n: edge(n) + 1e-5)
    board.decide()
    latest = {s: (d, f) for s, d, f in _decisions(board)[3:]}
    assert latest == {
        "trend": ("kept", True),
        "levels_entry_exit": ("rejected", False),
        "levels_always_on": ("rejected", False),
    }
    reasons = {row["strategy"]: row["reasons"] for row in _champions(board)[3:]}
    assert reasons["levels_entry_exit"] == "another procedure is champion"
    assert reasons["trend"] == ""
    assert [row["seq"] for row in _champions(board)] == list(range(6))
    assert sum(row["in_force"] for row in _champions(board)) == 1


def test_a_champion_that_no_longer_qualifies_is_demoted_and_the_next_promoted(board):
    _plant(board, edge)
    _plant(board, loss, "levels_entry_exit")
    _plant(board, loss, "levels_always_on")
    board.decide()
    _plant(board, loss)
    _plant(board, edge, "levels_always_on")
    board.decide()
    latest = {s: (d, f) for s, d, f in _decisions(board)[3:]}
    assert latest["trend"] == ("demoted", False)
    assert latest["levels_always_on"] == ("promoted", True)


def test_an_incumbent_that_left_the_settings_is_demoted(board):
    _plant(board, edge)
    for name in ("levels_entry_exit", "levels_always_on"):
        _plant(board, loss, name)
    board.decide()
    held = next(row for row in _champions(board) if row["in_force"])
    board.change(strategies=board.raw["strategies"][:2])
    board.decide()
    rows = _champions(board)
    gone = rows[3]
    assert (gone["decision"], gone["reasons"], gone["in_force"]) == ("demoted", "left the settings", False)
    assert gone["settings_hash"] == held["settings_hash"]
    assert not any(row["in_force"] for row in rows)
    board.decide()
    assert _champions(board) == rows


def test_procedures_of_earlier_settings_still_count_as_looks(board):
    _plant(board, edge)
    board.decide()
    first = [row["p"] for row in _champions(board) if row["strategy"] == "levels_always_on"]
    board.change(constraints={"min_trades": 4})  # three new procedures
    board.chain()
    board.decide()
    hashes = {row["settings_hash"] for row in _champions(board)}
    assert len(hashes) == 6
    rejected = [row for row in _champions(board) if "procedures" in row["reasons"]]
    assert any("over 6 procedures" in row["reasons"] for row in rejected)
    assert first


def test_promotion_thresholds_judge_anew_but_make_no_new_procedure(board):
    _plant(board, edge)
    board.decide()
    assert any(row["in_force"] for row in _champions(board))
    board.change(promotion={"enabled": False})
    board.decide()
    rows = _champions(board)
    assert len({row["settings_hash"] for row in rows}) == 3
    assert not any(row["in_force"] for row in rows)
    assert {row["reasons"] for row in rows[3:] if row["strategy"] == "trend"} == {"promotion is off for it"}


def _in_force(bench):
    return [row["settings_hash"] for row in _champions(bench) if row["in_force"]]


def test_new_code_of_the_engine_makes_no_new_procedure_and_demotes_nobody(board, monkeypatch):
    def plant():
        _plant(board, edge)
        _plant(board, loss, "levels_entry_exit")
        _plant(board, loss, "levels_always_on")

    plant()
    board.decide()
    before, holder = _champions(board), _in_force(board)
    monkeypatch.setattr(common, "code_id", lambda module: ("edited", {}))
    assert not board.chain()["backtests"].unchanged
    plant()
    assert not board.decide().unchanged
    assert len(holder) == 1 and _in_force(board) == holder
    assert _champions(board) == before


NEW_PROCEDURES = [
    {"costs": {"stock": {"fee_bps": 9.0}}},
    {"symbols": {SYMBOL: {"sides": "long"}}},
    {"symbols": {SYMBOL: {"borrow_bps_year": 1.0}}},
    {"seed": 5},
    {"folds": {"test_bars": 41}},
]


@pytest.mark.parametrize("change", [*NEW_PROCEDURES, "range"], ids=str)
def test_what_the_user_chose_is_the_procedure(board, change):
    _plant(board, edge)
    board.decide()
    before = _champions(board)
    if change == "range":
        strategies = copy.deepcopy(board.raw["strategies"])
        strategies[2]["parameters"]["fast"]["high"] = 50
        board.change(strategies=strategies)
    else:
        board.change(**change)
    rows = _leaderboard._decide(board.lake, SYMBOL, board.settings, before)
    old = {row["settings_hash"] for row in before if row["strategy"] == "trend"}
    new = {row["settings_hash"] for row in rows[len(before) :] if row["reasons"] != "left the settings"
           and row["strategy"] == "trend"}  # fmt: skip
    assert len(new) == 1 and not new & old
    assert [row["reasons"] for row in rows if row["decision"] == "demoted"] == ["left the settings"]


def test_what_drift_earns_is_taken_off(board):
    """An account fully invested in a rising symbol has no excess over its own exposure."""
    bars = board.table("bars")
    close, dividend = bars["close"].to_numpy(), bars["dividend"].to_numpy()
    total = (close[650:] + dividend[650:]) / close[649:-1] - 1
    path = CASH * np.cumprod(1 + total)
    _plant(board, lambda n: total, position=path / close[650:])
    board.decide()
    row = next(row for row in _champions(board) if row["strategy"] == "trend")
    evidence = json.loads(row["evidence"])
    assert evidence["net_bps"] == pytest.approx(1e4 * total[:200].mean(), rel=1e-9)
    assert evidence["excess_bps"] == pytest.approx(0.0, abs=1e-9)


def test_evidence_equals_the_stored_accounts_where_no_fold_is_open(board, alfa):
    board.write(alfa(890))
    board.chain()
    board.decide()
    row = next(row for row in _champions(board) if row["strategy"] == "trend")
    evidence = json.loads(row["evidence"])
    tuned, hold = (
        next(r for r in board.rows("backtests")
             if (r["strategy"], r["fold"], r["variant"]) == ("trend", -1, variant))
        for variant in ("tuned", "matched_hold")
    )  # fmt: skip
    equity = [r for r in board.rows("equity") if r["strategy"] == "trend"]
    means = {}
    for variant in ("tuned", "matched_hold"):
        path = np.array([r["equity"] for r in equity if r["variant"] == variant])
        means[variant] = 1e4 * np.mean(path / np.concatenate([[CASH], path[:-1]]) - 1)
    assert (tuned["bars"], hold["bars"]) == (evidence["bars"], evidence["bars"])
    assert tuned["trades"] == evidence["trades"]
    assert evidence["net_bps"] == pytest.approx(means["tuned"], rel=1e-9)
    assert evidence["excess_bps"] == pytest.approx(means["tuned"] - means["matched_hold"], rel=1e-9)


def test_a_symbol_without_results_is_left_out(board):
    board.change(symbols={"BETA": {}})
    result = board.decide()
    assert result.metadata["symbols"] == 1
    assert {row["symbol"] for row in _champions(board)} == {SYMBOL}


def test_left_out_names_both_numbers(board):
    strategies = [dict(entry) for entry in board.raw["strategies"]]
    strategies[2]["folds"] = {"train_bars": 800}
    board.change(strategies=strategies)
    assert _leaderboard.left_out(board.lake, SYMBOL, board.settings) == {"trend": "has 888 bars, needs 1210"}
    assert _leaderboard.left_out(board.lake, "NONE", board.settings) == {}


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
