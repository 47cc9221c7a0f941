"""Stage ``forecasts``: quantiles of the next bars' high, low and close; each as-of bar inferred once."""

from __future__ import annotations

from functools import partial

from engine.config import Settings
from engine.forecasts import backends, store
from engine.forecasts.devices import gpu_slot
from engine.forecasts.infer import infer
from engine.forecasts.keys import model_key
from engine.forecasts.parts import Parts
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
        A CUDA device was asked for and is absent, or came not free in time.
    WeightsNotFound, ForecastError
        The model's files are absent or damaged, or it does not fit the device. Nothing is written.
    ConfigError
        The lookback does not fit the model.
    """
    bars, devices = read_bars(lake, settings.instrument(symbol)), settings.devices
    chosen = settings.forecasts
    model = backends.backend(chosen, bars.frame, bars.calendar, settings.seed, lake.data_dir.parent)
    # the device is not part of the id: a night on another one with nothing to infer is unchanged
    record = make_record(
        __name__,
        symbol,
        inputs={"bars": lake.result_id("bars", symbol) or ""},
        params={**chosen.inferred(), "model_key": model_key(model.spec)},  # names the weights too
    )
    if held(lake, TABLES, symbol, record["result_id"]):
        return unchanged(lake, "forecasts", "forecasts", symbol, record["result_id"])
    old, old_inputs = lake.read("forecasts", symbol), lake.read("forecast_inputs", symbol)
    of = [lake.result_id(table, symbol) for table in ("forecasts", "forecast_inputs")]
    if old_inputs is not None and of[0] not in (of[1], record["result_id"]):
        # a file was lost, or an older one restored: which row was made from which input is not known
        progress(f"{symbol} forecasts and forecast_inputs are of two runs: every as-of bar is inferred anew")
        old_inputs = None
    parts = Parts(lake.data_dir, symbol, model_key(model.spec))
    made = infer(
        bars,
        chosen,
        devices.device,
        old_inputs,
        backend=model,
        allow_cpu_fallback=devices.allow_cpu_fallback,
        parts=parts if model.spec.weights else None,  # the local model answers years in seconds
        hold=partial(
            gpu_slot, data_dir=lake.data_dir, slots=devices.slots_per_gpu, wait_s=devices.gpu_wait_s,
            progress=lambda text: progress(f"{symbol} {text}"),
        ),
    )  # fmt: skip
    inputs = store.merge_inputs(old_inputs, made.inputs)
    seen = backends.in_pretraining(model, store.stamps_of(inputs))
    inputs = store.labelled(inputs, made.model_key, seen)  # a cut-off stated since labels old rows too
    rows = store.merge_forecasts(old, made.forecasts, made.inputs)
    scores = quality(bars, rows, inputs, made.spec, has_cutoff=model.cutoff_status != backends.NONE)
    about = store.model_row(symbol, made.spec, inputs, model.cutoff, model.cutoff_status)
    lake.publish("forecasts", symbol, rows, record)
    lake.publish("forecast_inputs", symbol, inputs, record)
    lake.publish("forecast_models", symbol, about, record)
    lake.publish("forecast_quality", symbol, scores, record)
    parts.drop()
    device = made.device.name if made.device else "none needed"
    where = f" on {made.device.name}" if made.device else ", none was missing"
    before = f", {made.taken_over} kept by a run that was killed" if made.taken_over else ""
    again = f", batches halved {made.halvings} times for want of memory" if made.halvings else ""
    progress(f"{symbol} forecasts {made.model_calls} as-of bars inferred{where}{before}{again}")
    skill = {
        f"skill vs FHS {row['field']}{'' if row['span'] == 'clean' else ' ' + row['span']} %": round(
            100 * row["skill_fhs"], 2
        )
        for row in scores.filter(scores["step"].to_numpy() == 1).to_pylist()
    }
    cutoff = model.cutoff.isoformat() if model.cutoff else model.cutoff_status
    return StageResult(
        "forecasts",
        symbol,
        len(rows),
        record["result_id"],
        False,
        {
            "bars": len(bars),
            "forecasts_new": made.model_calls,
            "model": made.spec.backend,
            "model_key": made.model_key,
            "knowledge_cutoff": cutoff,
            "lookback": made.spec.lookback,
            "device": device,
            "batches_halved": made.halvings,
            **skill,
        },
    )
