"""Stage ``forecasts``: quantiles of the next bars' high, low and close; each as-of bar inferred once."""

from __future__ import annotations

from engine.config import Settings, plain
from engine.forecasts import store
from engine.forecasts.infer import infer
from engine.forecasts.quality import quality
from engine.lake.publish import Lake
from engine.lake.records import make_record
from engine.stages.common import Progress, StageResult, held, read_bars, unchanged

TABLES = ("forecast_inputs", "forecast_models", "forecast_quality", "forecasts")


def forecasts(lake: Lake, symbol: str, settings: Settings, progress: Progress) -> StageResult:
    """Forecast the as-of bars that have none yet.

    Raises
    ------
    LakeError
        The symbol has no bars yet, or the disk refuses.
    DeviceUnavailable
        A CUDA device was asked for and is absent.
    """
    bars = read_bars(lake, settings.instrument(symbol))
    # the device is not part of the id: a night on another one with nothing to infer is unchanged
    record = make_record(
        __name__,
        symbol,
        inputs={"bars": lake.result_id("bars", symbol) or ""},
        params=plain(settings.forecasts),
    )
    if held(lake, TABLES, symbol, record["result_id"]):
        return unchanged(lake, "forecasts", "forecasts", symbol, record["result_id"])
    old_inputs = lake.read("forecast_inputs", symbol)
    made = infer(bars, settings.forecasts, settings.devices.device, old_inputs)
    inputs = store.merge_inputs(old_inputs, made.inputs)
    rows = store.merge_forecasts(lake.read("forecasts", symbol), made.forecasts, made.inputs)
    scores = quality(bars, rows, inputs, made.spec)
    lake.publish("forecasts", symbol, rows, record)
    lake.publish("forecast_models", symbol, store.model_row(symbol, made.spec, inputs), record)
    lake.publish("forecast_quality", symbol, scores, record)
    lake.publish("forecast_inputs", symbol, inputs, record)
    device = made.device.name if made.device else "none needed"
    where = f" on {made.device.name}" if made.device else ", none was missing"
    progress(f"{symbol} forecasts {made.model_calls} as-of bars inferred{where}")
    skill = {
        f"skill vs FHS {row['field']} %": round(100 * row["skill_fhs"], 2)
        for row in scores.filter(scores["step"].to_numpy() == 1).to_pylist()
    }
    return StageResult(
        "forecasts",
        symbol,
        len(rows),
        record["result_id"],
        False,
        {
            "bars": len(bars),
            "forecasts_new": made.model_calls,
            "model_key": made.model_key,
            "device": device,
            **skill,
        },
    )
