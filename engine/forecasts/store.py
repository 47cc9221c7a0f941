"""Forecast tables in memory: which as-of bars are missing, how new rows join old ones, how to read.

Pure functions on pyarrow tables in the forms that `engine.lake.schemas` declares; a stage reads
and writes the files.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.bars.model import Bars, Floats, Ints
from engine.errors import ConfigError
from engine.forecasts.interface import FIELDS, OK, REPAIRED, Bools, Floats32, ForecasterSpec
from engine.forecasts.keys import model_key, spec_json
from engine.lake.publish import Lake
from engine.lake.schemas import schema_of

FORECAST_ORDER = ("symbol", "model_key", "as_of", "step", "field", "level")
INPUT_ORDER = ("symbol", "model_key", "as_of")


def _stamps(ts: Ints) -> pa.Array:
    return pa.array(np.asarray(ts, dtype=np.int64).view("datetime64[us]"))


def stamps_of(table: pa.Table, column: str = "as_of") -> Ints:
    """Return a stamp column as int64 microseconds, shape (rows,)."""
    return np.asarray(table[column].cast(pa.int64()).to_numpy(), dtype=np.int64)


def _sorted(table: pa.Table, order: tuple[str, ...]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in order]).combine_chunks()


def eligible(ts: Ints, min_bars: int, start: int | None) -> Ints:
    """Return the positions a forecast may be issued from.

    Parameters
    ----------
    ts : int64 array, shape (T,)
        Bar opens, microseconds UTC.
    min_bars : int
        Bars of history, the as-of bar included.
    start : int or None
        Earliest as-of stamp.

    Returns
    -------
    int64 array
        Increasing positions.
    """
    positions = np.arange(max(0, min_bars - 1), len(ts), dtype=np.int64)
    return positions if start is None else positions[ts[positions] >= start]


def missing(positions: Ints, ts: Ints, hashes: list[str], existing_inputs: pa.Table | None, key: str) -> Ints:
    """Return the positions without a stored row of the same model, as-of bar and input.

    Parameters
    ----------
    positions : int64 array
        What `eligible` returned.
    ts : int64 array, shape (T,)
        Bar opens.
    hashes : list of str, length T
        Input hash of each bar.
    existing_inputs : pyarrow.Table or None
        ``forecast_inputs`` of this symbol.
    key : str
        Model key.

    Returns
    -------
    int64 array
        The anti-join, increasing.
    """
    if existing_inputs is None:
        return positions
    stored = existing_inputs.filter(pc.field("model_key") == key)
    seen = dict(zip(stamps_of(stored).tolist(), stored["input_hash"].to_pylist(), strict=True))
    return np.array([t for t in positions.tolist() if seen.get(int(ts[t])) != hashes[t]], dtype=np.int64)


def forecast_rows(
    symbol: str, key: str, as_of: Ints, quantiles: Floats32, levels: tuple[float, ...]
) -> pa.Table:
    """Return rows of the table ``forecasts``.

    Parameters
    ----------
    symbol, key : str
        Canonical key and model key.
    as_of : int64 array, shape (B,)
        Stamps.
    quantiles : float32 array, shape (B, h, V, Q)
        Repaired values.
    levels : tuple of float, length Q
        Quantile levels.

    Returns
    -------
    pyarrow.Table
        B*h*V*Q rows, sorted by as_of, step, field, level.
    """
    b, h, v, q = quantiles.shape
    rows = b * h * v * q
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.repeat(np.arange(v, dtype=np.int8), q), b * h)), pa.array(FIELDS)
    )
    table = pa.table(
        [
            pa.repeat(pa.scalar(symbol), rows),
            pa.repeat(pa.scalar(key), rows),
            _stamps(np.repeat(as_of, h * v * q)),
            pa.array(np.tile(np.repeat(np.arange(1, h + 1, dtype=np.int16), v * q), b)),
            names.cast(pa.string()),
            pa.array(np.tile(np.array(levels, dtype=np.float32), b * h * v)),
            pa.array(quantiles.reshape(-1)),
        ],
        schema=schema_of("forecasts"),
    )
    return _sorted(table, FORECAST_ORDER)


def merge_inputs(old: pa.Table | None, new: pa.Table) -> pa.Table:
    """Return ``forecast_inputs`` with the new rows in place of old ones of the same model and as-of."""
    kept = _without(old, new) if old is not None else new.slice(0, 0)
    return _sorted(pa.concat_tables([kept, new]), INPUT_ORDER)


def merge_forecasts(old: pa.Table | None, new: pa.Table, new_inputs: pa.Table) -> pa.Table:
    """Return ``forecasts`` after an inference.

    Parameters
    ----------
    old : pyarrow.Table or None
        Stored rows of one symbol.
    new : pyarrow.Table
        Rows of the inference.
    new_inputs : pyarrow.Table
        Its ``forecast_inputs``: every as-of bar named there loses its old rows, also where the
        new answer was rejected and brought none.

    Returns
    -------
    pyarrow.Table
        Sorted by key.
    """
    kept = _without(old, new_inputs) if old is not None else new.slice(0, 0)
    return _sorted(pa.concat_tables([kept, new]), FORECAST_ORDER)


def _without(table: pa.Table, replaced: pa.Table) -> pa.Table:
    """Return the rows whose (model_key, as_of) is not among those replaced."""
    keep = np.ones(table.num_rows, dtype=bool)
    as_of = stamps_of(table)
    for key in pc.unique(replaced["model_key"]).to_pylist():
        theirs = stamps_of(replaced.filter(pc.field("model_key") == key))
        same_model = np.asarray(pc.equal(table["model_key"], key).to_numpy(), dtype=bool)
        keep &= ~(same_model & np.isin(as_of, theirs))
    return table.filter(pa.array(keep))


def model_row(
    symbol: str,
    spec: ForecasterSpec,
    inputs: pa.Table,
    cutoff: date | None = None,
    cutoff_status: str = "none",
) -> pa.Table:
    """Return the row of ``forecast_models``.

    Parameters
    ----------
    symbol : str
        Canonical key.
    spec : ForecasterSpec
        Of the model.
    inputs : pyarrow.Table
        Merged ``forecast_inputs``; the earliest answered as-of bar becomes first_as_of.
    cutoff, cutoff_status
        As in `engine.forecasts.backends.Backend`.

    Returns
    -------
    pyarrow.Table
        One row.
    """
    key = model_key(spec)
    answered = inputs.filter((pc.field("model_key") == key) & pc.field("status").isin([OK, REPAIRED]))
    row = {
        "symbol": symbol,
        "model_key": key,
        "spec": spec_json(spec),
        "knowledge_cutoff": cutoff,
        "cutoff_status": cutoff_status,
        "first_as_of": pc.min(answered["as_of"]).as_py(),
    }
    return pa.Table.from_pylist([row], schema=schema_of("forecast_models"))


def labelled(inputs: pa.Table, key: str, seen: Bools) -> pa.Table:
    """Return ``forecast_inputs`` with ``in_pretraining`` of one model's rows replaced.

    Parameters
    ----------
    inputs : pyarrow.Table
        Rows of one symbol.
    key : str
        Model key.
    seen : bool array, shape (rows,)
        The label of each row, read at the rows of that model alone.
    """
    mine = pc.equal(inputs["model_key"], key)
    labels = pc.if_else(mine, pa.array(seen, pa.bool_()), inputs["in_pretraining"])
    place = inputs.schema.get_field_index("in_pretraining")
    return inputs.set_column(place, "in_pretraining", labels).combine_chunks()


def seen_until(inputs: pa.Table, key: str) -> int | None:
    """Return the stamp of the last as-of bar that a model's weights may have been trained on.

    Parameters
    ----------
    inputs : pyarrow.Table
        ``forecast_inputs`` of one symbol.
    key : str
        Model key.

    Returns
    -------
    int or None
        Microseconds UTC; None where no row is labelled so.
    """
    seen = inputs.filter((pc.field("model_key") == key) & pc.field("in_pretraining"))
    return int(stamps_of(seen).max()) if len(seen) else None


def selection(key: str, step: int, field: str, level: float) -> pc.Expression:
    """Return the filter of one series, for a reader that pushes it down to the file.

    Raises
    ------
    ConfigError
        The field is not high, low or close.
    """
    if field not in FIELDS:
        raise ConfigError(f"forecast field {field!r} is not known. Known: {', '.join(FIELDS)}.")
    return (
        (pc.field("model_key") == key)
        & (pc.field("step") == pa.scalar(step, pa.int16()))
        & (pc.field("field") == field)
        & (pc.field("level") == pa.scalar(level, pa.float32()))
    )


def matrix(table: pa.Table, key: str, step: int, field: str, level: float, ts: Ints) -> Floats:
    """Return one series of forecasts on the bars' own axis.

    Parameters
    ----------
    table : pyarrow.Table
        ``forecasts`` of one symbol, whole or already filtered by `selection`.
    key : str
        Model key.
    step : int
        Bars ahead.
    field : {"high", "low", "close"}
        Which price.
    level : float
        Quantile level, as in the settings.
    ts : int64 array, shape (T,)
        Bar opens, increasing.

    Returns
    -------
    float64 array, shape (T,)
        At t the forecast issued with data up to the close of t: a log return against that close.
        It may be used at the open of t+1 at the earliest.

    NaN: where no forecast is stored.
    """
    rows = table.filter(selection(key, step, field, level))
    out = np.full(len(ts), np.nan)
    as_of = stamps_of(rows)
    position = np.searchsorted(ts, as_of)
    inside = position < len(ts)
    inside[inside] = ts[position[inside]] == as_of[inside]
    out[position[inside]] = rows["value"].to_numpy()[inside]
    return out


def median_forecasts(
    lake: Lake, bars: Bars, level: float, key: str | None = None
) -> tuple[Floats, Floats, str]:
    """Return the stored forecasts of the next bar's high and low at one quantile level.

    Parameters
    ----------
    lake, bars, level
        Whose, and of which level.
    key : str or None
        Key of a model that issued forecasts once; None: of the present one.

    Returns
    -------
    (float64 array, float64 array, str)
        Shape (T,): log returns against the close at which they were issued, NaN where there is
        none; and the key of the model.
    """
    key = key or str(lake.need("forecast_models", bars.symbol, "forecasts")["model_key"][0])
    stored = lake.need("forecasts", bars.symbol, "forecasts")
    high, low = (matrix(stored, key, 1, field, level, bars.ts) for field in ("high", "low"))
    return high, low, key
