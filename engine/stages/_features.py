"""Stage ``features``: indicator columns of one symbol, each value known at the close of its bar."""

from __future__ import annotations

import pyarrow as pa

from engine.config import Settings
from engine.features.table import FeatureSet, expand
from engine.lake.publish import Lake
from engine.lake.records import make_record
from engine.simulation import adjusted_tick
from engine.stages.common import (
    Progress,
    StageResult,
    default_columns,
    held,
    read_bars,
    unchanged,
)


def features(lake: Lake, symbol: str, settings: Settings, progress: Progress) -> StageResult:
    """Compute and store the feature columns of a symbol.

    Raises
    ------
    LakeError
        The symbol has no bars yet, or the disk refuses.
    """
    instrument = settings.instrument(symbol)
    bars = read_bars(lake, instrument)
    columns = expand(default_columns(settings, symbol))
    record = make_record(
        __name__,
        symbol,
        inputs={"bars": lake.result_id("bars", symbol) or ""},
        params={"columns": columns, "tick": instrument.tick},
    )
    if held(lake, ["features"], symbol, record["result_id"]):
        return unchanged(lake, "features", "features", symbol, record["result_id"])
    made = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
    rows = pa.table(
        {
            "symbol": pa.array([symbol] * len(bars)),
            "ts": pa.array(bars.ts, pa.timestamp("us")),
            **{name: pa.array(made.column(name)) for name in columns},
        }
    )
    lake.publish("features", symbol, rows, record)
    return StageResult(
        "features",
        symbol,
        len(bars),
        record["result_id"],
        False,
        {"bars": len(bars), "columns": len(columns)},
    )
