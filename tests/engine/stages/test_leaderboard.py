"""Champions over nights. Evidence is planted by rewriting table ``looks``."""

import copy
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.stages import _decisions as _decisions_module
from engine.stages import _leaderboard
from engine.stages.chain import run_leaderboard
from engine.stages.common import read_bars
from engine.strategies import registry
from engine.validation import out_of_sample as oos

SYMBOL, CASH = "ALFA", 100_000.0
EASY = {
    "promotion": {"min_oos_bars": 100, "min_oos_trades": 1, "confidence": 0.95},
    "forecasts": {"allow_losing_forecasts": True},  # the made bars are a random walk
}


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


def _plant(bench, returns, strategy="trend"):
    """Give a strategy's newest procedure these returns above a hold that earned nothing."""
    looks = bench.table("looks")
    newest = [row["procedure"] for row in looks.to_pylist() if row["strategy"] == strategy][-1]
    mine = pc.equal(looks["procedure"], newest).to_numpy(zero_copy_only=False)
    for name in ("net", "x"):
        column = looks[name].to_numpy().copy()
        column[mine] = returns(int(mine.sum()))
        looks = looks.set_column(looks.schema.get_field_index(name), name, pa.array(column))
    key = bench.lake.result_id("backtests", SYMBOL) + "x"
    bench.lake.publish("looks", SYMBOL, looks, {"result_id": key})
    bench.lake.publish("backtests", SYMBOL, bench.table("backtests"), {"result_id": key})


def _verdicts(bench, of_lows):
    """Say how the forecasts of lows fare against their baselines."""
    table = bench.table("forecast_quality")
    rows = [{**row, "verdict": of_lows if row["field"] == "low" else "ties"} for row in table.to_pylist()]
    key = bench.lake.result_id("backtests", SYMBOL) + of_lows
    bench.lake.publish(
        "forecast_quality", SYMBOL, pa.Table.from_pylist(rows, table.schema), {"result_id": key}
    )
    bench.lake.publish("backtests", SYMBOL, bench.table("backtests"), {"result_id": key})


def _new_bars(bench, days=40):
    """Say that a fold has closed: every procedure's newest bar is a later one."""
    looks = bench.table("looks").sort_by([("procedure", "ascending"), ("ts", "ascending")])
    ts, names = looks["ts"].cast(pa.int64()).to_numpy().copy(), looks["procedure"].to_pylist()
    last = [i for i, name in enumerate(names) if i + 1 == len(names) or names[i + 1] != name]
    ts[last] += days * 86_400_000_000
    looks = looks.set_column(looks.schema.get_field_index("ts"), "ts", pa.array(ts, pa.timestamp("us")))
    key = bench.lake.result_id("backtests", SYMBOL) + "n"
    bench.lake.publish("looks", SYMBOL, looks, {"result_id": key})
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
    _three(board)
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
    assert evidence["net_bps"] == pytest.approx(1e4 * edge(200).mean(), rel=1e-9)
    assert evidence["thresholds"]["min_oos_bars"] == 100


def test_forecasts_that_lose_to_their_baselines_carry_no_champion(board):
    _plant(board, edge, "levels_entry_exit")
    board.change(forecasts={"allow_losing_forecasts": False})
    _verdicts(board, "loses")
    board.decide()
    row = next(row for row in _champions(board) if row["strategy"] == "levels_entry_exit")
    assert row["decision"] == "rejected"
    assert row["reasons"] == "the model's lows lose to its baselines (forecasts.allow_losing_forecasts)"
    board.change(**EASY)
    board.decide()
    assert [r["strategy"] for r in _champions(board) if r["in_force"]] == ["levels_entry_exit"]


@pytest.mark.parametrize(("champion", "stays"), [("trend", True), ("levels_entry_exit", False)])
def test_between_two_folds_a_losing_forecaster_unseats_its_champion_and_no_other(board, champion, stays):
    _plant(board, edge, champion)
    _verdicts(board, "ties")
    board.change(forecasts={"allow_losing_forecasts": False})
    board.decide()
    before = _champions(board)
    assert [r["strategy"] for r in before if r["in_force"]] == [champion]
    _verdicts(board, "loses")
    board.decide()
    assert (_champions(board) == before) == stays
    assert [r["strategy"] for r in _champions(board) if r["in_force"]] == [champion] * stays


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


def _three(board, trend=edge, entry_exit=loss, always_on=loss):
    _plant(board, trend)
    _plant(board, entry_exit, "levels_entry_exit")
    _plant(board, always_on, "levels_always_on")


@pytest.mark.parametrize("better", [0.0, 1e-5], ids=["a copy", "a hair better"])
def test_a_champion_that_stays_qualified_is_kept(board, better):
    _three(board)
    board.decide()
    _three(board, entry_exit=lambda n: edge(n) + better * np.random.default_rng(3).normal(0.3, 9, n))
    _new_bars(board)
    board.decide()
    latest = {s: (d, f) for s, d, f in _decisions(board)[3:]}
    assert latest == {
        "trend": ("kept", True),
        "levels_entry_exit": ("rejected", False),
        "levels_always_on": ("rejected", False),
    }
    rows = {row["strategy"]: row for row in _champions(board)[3:]}
    shown = "undefined" if better == 0.0 else "0."
    said = f"does not beat the champion on the common bars: p {shown}"
    assert rows["levels_entry_exit"]["reasons"].startswith(said)
    assert rows["levels_entry_exit"]["reasons"].endswith("needs 0.025")  # two others were looked at
    assert (rows["trend"]["reasons"], rows["trend"]["predecessor"]) == ("", None)
    assert [row["seq"] for row in _champions(board)] == list(range(6))
    assert sum(row["in_force"] for row in _champions(board)) == 1


def test_a_challenger_that_earned_clearly_more_on_the_common_bars_replaces_the_champion(board):
    _three(board)
    board.decide()
    before = next(row for row in _champions(board) if row["in_force"])
    _three(board, entry_exit=lambda n: 3 * edge(n))
    _new_bars(board)
    board.decide()
    rows = {row["strategy"]: row for row in _champions(board)[3:]}
    assert (rows["trend"]["decision"], rows["trend"]["in_force"]) == ("demoted", False)
    assert rows["trend"]["reasons"].startswith("replaced by levels_entry_exit, which earned more")
    new = rows["levels_entry_exit"]
    assert (new["decision"], new["in_force"], new["predecessor"]) == ("promoted", True, before["seq"])
    assert json.loads(new["diff"])["strategy"] == ["trend", "levels_entry_exit"]


def test_nothing_is_decided_between_two_closed_folds_whatever_the_bars_say(board):
    _three(board)
    board.decide()
    before = _champions(board)
    _three(board, trend=loss, entry_exit=edge)  # the same bars with other returns
    assert not board.decide().unchanged
    assert _champions(board) == before


def test_q_is_over_the_symbols_and_stands_in_the_new_rows(board):
    _three(board)
    board.decide()
    rows = _champions(board)
    assert {row["q"] for row in rows} == {min(row["p"] for row in rows)}  # one symbol: q is its smallest p


def test_a_champion_that_no_longer_qualifies_is_demoted_and_the_next_promoted(board):
    _three(board)
    board.decide()
    _three(board, trend=loss, always_on=edge)
    _new_bars(board)
    board.decide()
    latest = {s: (d, f) for s, d, f in _decisions(board)[3:]}
    assert latest["trend"] == ("demoted", False)
    assert latest["levels_always_on"] == ("promoted", True)


def test_an_incumbent_that_left_the_settings_is_demoted(board):
    _three(board)
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
    _three(board)
    board.decide()
    before, holder, looks = _champions(board), _in_force(board), board.table("looks")
    monkeypatch.setattr(registry, "code_id", lambda module: ("edited", {}))
    assert not board.chain()["backtests"].unchanged
    assert not board.decide().unchanged
    assert len(holder) == 1 and _in_force(board) == holder
    assert _champions(board) == before and board.table("looks").equals(looks)


def test_an_edited_strategy_of_the_users_own_is_a_new_procedure(board, monkeypatch):
    """What issues a user's strategy its ``code`` is the hash of its file; the built-in ones have none."""
    board.decide()
    entry = next(e for e in board.settings.entries(SYMBOL) if e.strategy == "trend")
    one = _decisions_module.procedure_hash(entry, board.settings.instrument(SYMBOL), board.settings)
    monkeypatch.setattr(registry.get("trend"), "code", "edited", raising=False)
    assert _decisions_module.procedure_hash(entry, board.settings.instrument(SYMBOL), board.settings) != one
    board.change(seed=board.settings.seed, constraints={"min_trades": 5})
    board.lake.publish("backtests", SYMBOL, board.table("backtests"), {"result_id": "again"})
    board.chain()
    assert len(set(board.table("looks")["procedure"].to_pylist())) == 4


NEW_PROCEDURES = [
    {"costs": {"stock": {"fee_bps": 9.0}}},
    {"symbols": {SYMBOL: {"sides": "long"}}},
    {"symbols": {SYMBOL: {"borrow_bps_year": 1.0}}},
    {"seed": 5},
    {"folds": {"test_bars": 41}},
]


@pytest.mark.parametrize("change", [*NEW_PROCEDURES, "range"], ids=str)
def test_what_the_user_chose_is_the_procedure(board, change):
    _three(board)
    board.decide()
    before = _champions(board)
    if change == "range":
        strategies = copy.deepcopy(board.raw["strategies"])
        strategies[2]["parameters"]["fast"]["high"] = 50
        board.change(strategies=strategies)
    else:
        board.change(**change)
    settings = board.settings
    entry = next(e for e in settings.entries(SYMBOL) if e.strategy == "trend")
    new = _decisions_module.procedure_hash(entry, settings.instrument(SYMBOL), settings)
    assert new not in {row["settings_hash"] for row in before}
    rows, _ = _decisions_module.decide_symbol(board.lake, SYMBOL, settings, before)
    assert [row["reasons"] for row in rows if row["decision"] == "demoted"] == ["left the settings"]


def test_what_drift_earns_is_taken_off(board):
    """An account fully invested in a rising symbol has no excess over its own exposure."""
    bars = read_bars(board.lake, board.settings.instrument(SYMBOL))
    total = oos.total_returns(bars, 650, 850)
    path = CASH * np.cumprod(1 + total)
    tuned = replace(oos.flat_piece(0, 650, 850, CASH, status="valid", compounded=True),
                    equity=path, position=path / bars.close[650:850])  # fmt: skip
    at = np.arange(660, 850)
    found = _decisions_module.series_of(bars, "h", "trend", tuned, CASH, at)
    np.testing.assert_allclose(found.net, total[10:], rtol=1e-9)
    np.testing.assert_allclose(found.excess, 0.0, atol=1e-12)
    assert found.ts.tolist() == bars.ts[at].tolist()


def test_contaminated_and_open_folds_are_no_evidence():
    span = dict(open=False, label="clean")
    folds = [
        dict(span, fold=2, test_from=30, test_to=33, open=True),
        dict(span, fold=1, test_from=20, test_to=23, label="contaminated"),
        dict(span, fold=0, test_from=10, test_to=13),
    ]
    assert _decisions_module.closed_bars(folds).tolist() == [10, 11, 12]
    assert _decisions_module.closed_bars(folds[:2]).tolist() == []


def test_looks_are_written_once_and_again_when_a_fold_closes(board, alfa, with_bar):
    before = board.table("looks")
    board.write(with_bar(alfa(889), 700))  # a corrected bar between two closed folds: no new look
    board.chain()
    assert board.table("looks").equals(before)
    board.write(with_bar(alfa(890), 700))
    board.chain()
    after = board.table("looks")
    assert (len(before), len(after)) == (200 + 2 * 220, 3 * 240)
    assert not after.slice(0, 200).equals(before.slice(0, 200))


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
