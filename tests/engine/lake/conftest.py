import numpy as np
import pyarrow as pa
import pytest

from engine.lake.publish import Lake
from engine.lake.records import digest


def bars_table(n, seed=0, symbol="AAPL"):
    """Rows of table bars; every value tells which seed made it."""
    values = np.random.default_rng(seed).normal(100, 5, n)
    columns = {name: values + i for i, name in enumerate(["open", "high", "low", "close", "volume"])}
    return pa.table(
        {
            "symbol": [symbol] * n,
            "ts": pa.array(np.arange(n) * 86_400_000_000, pa.timestamp("us")),
            **columns,
            "adj": np.ones(n),
            "dividend": np.zeros(n),
        }
    )


def record_of(**parts):
    record = {"stage": "prices", "symbol": "AAPL", "inputs": {}, "params": {}, "device": "cpu", **parts}
    return {**record, "result_id": digest(record)}


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "data")


@pytest.fixture
def bars():
    """bars(n, seed) -> rows of table bars."""
    return bars_table


@pytest.fixture
def record():
    """record(**parts) -> a lineage record with its result_id."""
    return record_of


@pytest.fixture
def full_lake(lake):
    """One file of each kind that the lake holds: plain, wide, nested, in parts, over all symbols."""
    lake.publish("bars", "AAPL", bars_table(50), record_of())
    features = (
        bars_table(50)
        .select(["symbol", "ts"])
        .append_column("rsi.n=14", pa.array([np.nan] * 14 + [50.0] * 36))
    )
    lake.publish("features", "AAPL", features, record_of(stage="features"))
    fill = {"ts": 5, "side": "long", "quantity": 1.0, "price": 2.0, "fee": 0.1, "reason": "target"}
    lake.publish(
        "trades",
        "AAPL",
        rows_for("trades", 3, fills=[[fill], [], [fill, fill]]),
        record_of(stage="backtests"),
    )
    lake.publish(
        "trials", "AAPL", rows_for("trials", 3, fold_scores=[[1.0], None, []]), record_of(stage="o"), "2012"
    )
    lake.publish("champions", "_all", rows_for("champions", 1), record_of(stage="leaderboard"))
    return lake


def rows_for(table, n, **columns):
    """Rows of any table: nulls, but for the symbol and what is given."""
    from engine.lake.schemas import schema_of

    schema = schema_of(table)
    given = {"symbol": ["AAPL"] * n, **columns}
    return pa.table({f.name: pa.array(given.get(f.name, [None] * n), f.type) for f in schema}, schema=schema)


@pytest.fixture(name="rows_for")
def rows_for_fixture():
    """rows_for(table, n) -> rows of any table: nulls, but for the symbol and what is given."""
    return rows_for
