"""What a person does with champions: roll back, export. The edge is planted in table ``looks``."""

import ast
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import engine
from engine.errors import LakeError
from engine.lake.doctor import examine
from engine.lake.publish import rows_of
from engine.stages import _leaderboard
from engine.stages.chain import run_leaderboard
from engine.stages.champions import export, rollback

SYMBOL = "ALFA"


@pytest.fixture
def board(early, monkeypatch):
    monkeypatch.setattr(_leaderboard, "_report_if_new", lambda *args: "page")
    early.change(
        promotion={"min_oos_bars": 100, "min_oos_trades": 1},
        forecasts={"allow_losing_forecasts": True},  # the made bars are a random walk
    )
    early.decide = lambda: run_leaderboard(
        early.lake, early.settings, early.said.append, cpus=1, asof=None, problems={}
    )
    early.chain()
    return early


def _plant(bench, winner, later=0):
    """Give one strategy a large edge and the others a loss; ``later``: days added to the newest bar."""
    looks = bench.table("looks").sort_by([("procedure", "ascending"), ("ts", "ascending")])
    names, strategies = looks["procedure"].to_pylist(), np.array(looks["strategy"].to_pylist())
    draws = 2e-3 + 2e-3 * np.random.default_rng(1).normal(size=len(looks))
    x = np.where(strategies == winner, draws, -draws)
    ts = looks["ts"].cast(pa.int64()).to_numpy().copy()
    last = [i for i, name in enumerate(names) if i + 1 == len(names) or names[i + 1] != name]
    ts[last] += later * 86_400_000_000
    columns = {"ts": pa.array(ts, pa.timestamp("us")), "net": pa.array(x), "x": pa.array(x)}
    for name, column in columns.items():
        looks = looks.set_column(looks.schema.get_field_index(name), name, column)
    key = f"{winner}{later}"
    bench.lake.publish("looks", SYMBOL, looks, {"result_id": key})
    bench.lake.publish("backtests", SYMBOL, bench.table("backtests"), {"result_id": key})


def _rows(bench):
    return rows_of(bench.lake.read("champions", "_all"))


@pytest.fixture
def replaced(board):
    """Two champions, one after the other: trend, then levels_entry_exit."""
    _plant(board, "trend")
    board.decide()
    _plant(board, "levels_entry_exit", later=1)
    board.decide()
    return board


def test_a_challenger_that_shone_in_sample_and_lost_out_of_sample_replaces_nobody(board):
    _plant(board, "trend")
    board.decide()
    folds = board.table("folds")
    shone = [{**row, "in_sample": 1e6 * (row["strategy"] != "trend")} for row in folds.to_pylist()]
    folds = pa.Table.from_pylist(shone, schema=folds.schema)
    board.lake.publish("folds", SYMBOL, folds, board.lake.record("folds", SYMBOL))
    _plant(board, "trend", later=1)
    board.decide()
    said = {(row["strategy"], row["decision"]) for row in _rows(board)[3:]}
    assert said == {("trend", "kept"), ("levels_entry_exit", "rejected"), ("levels_always_on", "rejected")}


def _back(bench):
    return rollback(bench.lake, SYMBOL, bench.settings, bench.said.append, cpus=1)


def test_rollback_restores_the_row_of_the_champion_before(replaced):
    before = _rows(replaced)
    first, second = (next(r for r in before[part] if r["decision"] == "promoted")
                     for part in (slice(0, 3), slice(3, 6)))  # fmt: skip
    assert (first["strategy"], second["strategy"]) == ("trend", "levels_entry_exit")
    assert second["predecessor"] == first["seq"]
    row = _back(replaced)
    after = _rows(replaced)
    assert after[:-1] == [{**old, "in_force": False} for old in before]
    own = ("seq", "decision", "reasons", "in_force")
    assert {k: v for k, v in after[-1].items() if k not in own} == {
        k: v for k, v in first.items() if k not in own
    }
    assert (row["seq"], row["decision"], row["in_force"]) == (6, "rolled_back", True)
    assert row["reasons"] == f"rolled back by hand from decision {second['seq']}, until new evidence"
    assert examine(replaced.data_dir) == []


def test_a_rollback_stands_until_new_evidence(replaced):
    _back(replaced)
    held = _rows(replaced)
    replaced.decide()
    _plant(replaced, "levels_entry_exit", later=0)  # the same bars again
    replaced.decide()
    assert _rows(replaced) == held
    _plant(replaced, "levels_entry_exit", later=5)
    replaced.decide()
    latest = {row["strategy"]: row["decision"] for row in _rows(replaced)[-3:]}
    assert latest["trend"] == "demoted" and latest["levels_entry_exit"] == "promoted"


def test_without_a_predecessor_there_is_no_champion_again(board):
    _plant(board, "trend")
    board.decide()
    assert _back(board)["in_force"] is False
    assert not any(row["in_force"] for row in _rows(board))
    with pytest.raises(LakeError, match="ALFA has no champion to roll back. See: nightfold champions --why"):
        _back(board)


def test_a_predecessor_that_left_the_settings_cannot_come_back(replaced):
    replaced.change(strategies=replaced.raw["strategies"][:2])
    before = _rows(replaced)
    with pytest.raises(LakeError, match="the champion before was trend with settings that are no longer"):
        _back(replaced)
    assert _rows(replaced) == before


def test_export_names_the_champion_with_tonights_parameters_and_orders(replaced):
    found = json.loads(json.dumps(export(replaced.lake, [SYMBOL], replaced.settings), allow_nan=False))
    assert found["note"] == "paper only: nightfold places no orders"
    assert found["without_champion"] == [] and found["not_current"] == []
    (champion,) = found["champions"]
    tonight = next(r for r in replaced.rows("nightly")
                   if r["strategy"] == "levels_entry_exit" and r["selected"])  # fmt: skip
    assert champion["strategy"] == "levels_entry_exit" and champion["p"] < 0.05
    assert champion["parameters"] == json.loads(tonight["params"])
    assert champion["evidence"]["looked"] == 3 and champion["evidence"]["thresholds"]["confidence"]
    assert {order["action"] for order in champion["next_orders"]} <= {"enter", "none"}
    assert all(order["asof"] == champion["parameters_asof"] for order in champion["next_orders"])
    assert champion["forward_record"] is None  # the first night
    marked = {order["strategy"]: order["is_champion"] for order in found["next_orders"]}
    assert marked == {"levels_entry_exit": True, "levels_always_on": False, "trend": False}
    own = ("symbol", "strategy", "is_champion")
    assert [{k: v for k, v in order.items() if k not in own} for order in found["next_orders"]
            if order["is_champion"]] == champion["next_orders"]  # fmt: skip


def test_export_leaves_out_a_champion_of_other_settings_and_says_so(replaced):
    """Its parameters of now are those of nobody until the symbol has run."""
    replaced.change(levels={"level": 0.6})
    found = export(replaced.lake, [SYMBOL], replaced.settings)
    assert found["champions"] == [] and not any(order["is_champion"] for order in found["next_orders"])
    said = "ALFA levels_entry_exit: settings changed since it became champion; run nightfold run ALFA"
    assert said in found["not_current"]


def test_a_lake_of_an_older_version_is_read(replaced):
    """Without table looks a symbol is not judged; rows of champions may lack the newer columns."""
    for name in ("looks", "champions"):
        path = replaced.data_dir / "lake" / name / f"{SYMBOL if name == 'looks' else '_all'}.parquet"
        if name == "looks":
            path.unlink()
            continue
        old = pq.read_table(path)
        new = ["q", "trial_number", "predecessor", "diff"]
        pq.write_table(old.drop_columns(new).replace_schema_metadata(old.schema.metadata), path)
    before = [(row["seq"], row["decision"], row["in_force"]) for row in _rows(replaced)]
    replaced.lake.publish("backtests", SYMBOL, replaced.table("backtests"), {"result_id": "later"})
    replaced.decide()
    assert [(row["seq"], row["decision"], row["in_force"]) for row in _rows(replaced)] == before
    assert json.loads(json.dumps(export(replaced.lake, [SYMBOL], replaced.settings), allow_nan=False))[
        "champions"
    ]
    assert _back(replaced)["in_force"] is False  # its predecessor is not known


def test_no_stage_and_no_pipeline_reaches_what_a_person_does():
    """No code path leads from a promotion to an export: only the command line imports it."""
    root = Path(engine.__file__).parents[1]
    users = set()
    for path in [*(root / "engine").rglob("*.py"), *(root / "pipelines").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom | ast.Import):
                before = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                names += [before + a.name for a in node.names]
            if "engine.stages.champions" in names:
                users.add(path.relative_to(root).as_posix())
    assert users == {"engine/cli.py"}


def test_the_rule_reads_what_looks_holds_of_every_procedure(board):
    looks = board.table("looks")
    assert looks.column_names == ["symbol", "procedure", "strategy", "ts", "net", "x"]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(looks["strategy"]).to_pylist()}
    assert counts == {"trend": 200, "levels_entry_exit": 220, "levels_always_on": 220}
