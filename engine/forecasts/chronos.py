"""Chronos-2 through its own package: `ChronosForecaster`, a thin adapter.

High, low and close of a window go in together, as log returns against the as-of close; quantiles
of the same come out in one pass, without sampling. Windows never learn from each other.

Source: Ansari et al. 2025, arXiv 2510.15821; package chronos-forecasting (Apache-2.0).
Axes: B windows, T bars, h steps, V fields, Q levels.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError, ForecastError, require
from engine.forecasts.baselines import empty_quantiles
from engine.forecasts.interface import (
    FIELDS,
    OK,
    SKIPPED,
    ForecastBatch,
    ForecasterSpec,
    ForecastRequest,
    validate,
)
from engine.forecasts.keys import model_key
from engine.forecasts.kronos.weights import (
    CONFIG,
    TENSORS,
    load,
    part_files,
    read_json,
    sha256,
    stored_shapes,
)

CHRONOS_VERSION = 1  # raise it whenever an output changes
DEFAULT_LOOKBACK, MIN_LOOKBACK = 400, 32
CHRONOS_2 = "amazon/chronos-2"
SERIES_AT_ONCE = 256  # of one pass, V per window
_SIZES = ("context_length", "output_patch_size", "quantiles")


def sizes_of(folder: Path) -> dict[str, Any]:
    """Return what a folder's config says of context, patches and quantiles."""
    path = folder / CONFIG
    values = read_json(path)
    sizes = values.get("chronos_config")
    missing = [name for name in ("chronos_pipeline_class", "architectures") if name not in values]
    if missing or not isinstance(sizes, dict) or any(name not in sizes for name in _SIZES):
        raise ForecastError(
            f"{path} is no config of Chronos-2: expected chronos_pipeline_class, architectures, and "
            f"chronos_config with {', '.join(_SIZES)}"
        )
    return sizes


def served_levels(folder: Path, levels: tuple[float, ...], fetch: str) -> tuple[float, ...]:
    """Return the levels that the model was trained on, of those asked for; others are left out.

    Raises
    ------
    WeightsNotFound, ForecastError
        The folder is incomplete or damaged.
    """
    part_files(folder, fetch)
    trained = [float(level) for level in sizes_of(folder)["quantiles"]]
    return tuple(level for level in levels if any(abs(level - one) < 1e-9 for one in trained))


def _package_version() -> str:
    """Return major.minor of the package, part of the model key; importing it would take seconds."""
    try:
        return ".".join(metadata.version("chronos-forecasting").split(".")[:2])
    except metadata.PackageNotFoundError:
        require("chronos", needed_by="forecasts.model chronos-2", extra="chronos")
        raise


def chronos_spec(
    folder: Path,
    *,
    model_id: str,
    revision: str,
    fetch: str,
    frame: str,
    calendar: str,
    horizon: int,
    levels: tuple[float, ...],
    lookback: int | None,
) -> ForecasterSpec:
    """Return the specification of a Chronos-2 folder for bars of that frame and calendar.

    Parameters
    ----------
    folder : Path
        Holds ``config.json`` and ``model.safetensors``.
    model_id, revision, fetch, frame, calendar, horizon, levels, lookback
        As in `engine.forecasts.kronos.forecaster.kronos_spec`.

    Raises
    ------
    WeightsNotFound, ForecastError
        The folder is incomplete or damaged.
    ConfigError
        The lookback is longer than the context, or the horizon than one pass.
    MissingExtra
        The package chronos-forecasting is not installed.
    """
    given = served_levels(folder, levels, fetch)
    sizes = sizes_of(folder)
    context = sizes["context_length"]
    pass_bars = sizes["output_patch_size"] * sizes.get("max_output_patches", 1)
    asked = DEFAULT_LOOKBACK if lookback is None else lookback
    if lookback is not None and asked > context or horizon > pass_bars:
        raise ConfigError(
            f"forecasts.lookback was {asked} and horizon {horizon}; expected at most {context} and "
            f"{pass_bars} bars, the context and one pass of the model in {folder}"
        )
    used = min(asked, context)
    files = tuple((path.name, sha256(path)) for path in part_files(folder, fetch))
    return ForecasterSpec(
        "chronos-2", frame, calendar, horizon, given, used, min(MIN_LOOKBACK, used), CHRONOS_VERSION,
        dtype="fp32", model_id=model_id, revision=revision, weights=files,
        options=(("package", _package_version()),),
    )  # fmt: skip


class ChronosForecaster:
    """Chronos-2 behind the interface of all forecasters.

    Parameters
    ----------
    spec : ForecasterSpec
        From `chronos_spec`.
    device : str
        ``cpu`` or ``cuda:N``.
    folder : Path
        The same folder; read here, once.

    Raises
    ------
    MissingExtra
        The package chronos-forecasting is not installed.
    ForecastError
        A file is damaged, or a tensor is unknown, missing or of another shape.
    """

    def __init__(self, spec: ForecasterSpec, device: str, folder: Path) -> None:
        self.spec, self.model_key, self.device = spec, model_key(spec), device
        chronos = require("chronos", needed_by="forecasts.model chronos-2", extra="chronos")
        import torch

        stored_shapes(folder / TENSORS)  # refuses a damaged file
        try:
            pipeline = chronos.BaseChronosPipeline.from_pretrained(
                str(folder), device_map=device, dtype=torch.float32, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            raise ForecastError(
                f"{folder} cannot be loaded as Chronos-2: {error}; expected what its package saved"
            ) from error
        shapes = {name: tuple(tensor.shape) for name, tensor in pipeline.model.state_dict().items()}
        load(folder / TENSORS, shapes)  # what is missing would have been drawn at random, silently
        trained = [float(level) for level in pipeline.quantiles]
        self._take = [int(np.argmin([abs(level - one) for one in trained])) for level in spec.levels]
        self._pipeline = pipeline

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many of ``n`` windows one request should hold."""
        return max(1, min(n, SERIES_AT_ONCE // len(FIELDS)))

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window in one pass.

        Raises
        ------
        ForecastInputError
            Wrong shape, dtype or columns.
        """
        import torch

        spec = self.spec
        reasons = validate(request, spec.min_lookback)
        out = empty_quantiles(len(reasons), spec)
        usable = np.flatnonzero([not reason for reason in reasons]).tolist()
        columns = [request.columns.index(name) for name in FIELDS]
        windows = []
        for i in usable:
            length = min(int(request.mask[i].sum()), spec.lookback)
            prices = request.bars[i, -length:][:, columns]  # (T, V)
            windows.append(torch.from_numpy(np.log(prices / prices[-1, -1]).T.astype(np.float32)))
        if windows:
            with torch.inference_mode():
                answers = self._pipeline.predict(
                    windows, prediction_length=spec.horizon, batch_size=SERIES_AT_ONCE,
                    context_length=spec.lookback, cross_learning=False, limit_prediction_length=True,
                    unrolled_quantiles=self._pipeline.quantiles,  # read, though one pass unrolls none
                )  # fmt: skip
            for i, answer in zip(usable, answers, strict=True):  # (V, all levels, h)
                out[i] = answer.float().cpu().numpy()[:, self._take].transpose(2, 0, 1)
        status = tuple(SKIPPED if reason else OK for reason in reasons)
        levels = np.array(spec.levels, dtype=np.float32)
        return ForecastBatch(out.astype(np.float32), levels, status, reasons, {"device": self.device})
