"""The models by name: what the settings ``forecasts`` come to for one symbol's bars.

`backend` resolves names, folders and cut-offs and reads no weights; `Backend.build` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from engine.bars.model import Ints
from engine.config_sections import Forecasts
from engine.forecasts.chronos import CHRONOS_2, ChronosForecaster, chronos_spec
from engine.forecasts.interface import Bools, Forecaster, ForecasterSpec
from engine.forecasts.kronos.config import PUBLISHED
from engine.forecasts.kronos.forecaster import KronosForecaster, Sampling, kronos_spec
from engine.forecasts.local import LocalForecaster, local_spec
from engine.forecasts.paths import served_levels
from engine.forecasts.toto import PUBLISHED_TOTO, TotoForecaster, toto_spec

NONE, STATED, UNKNOWN = "none", "stated", "unknown"  # of a knowledge cut-off
CUTOFFS = {  # of published weights, by hub id
    **dict.fromkeys(PUBLISHED, date(2024, 5, 31)),  # their validation data ends there; author, issue 204
    CHRONOS_2: date(2025, 10, 31),  # date of the paper; synthetic and public corpora
    **dict.fromkeys(PUBLISHED_TOTO, date(2026, 5, 31)),  # date of the release
}
EXTRAS = {  # package, extra
    "kronos": ("safetensors", "kronos"),
    "chronos-2": ("chronos", "chronos"),
    "toto-2": ("toto2", "toto"),
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Backend:
    """A model that is ready to be built.

    Parameters
    ----------
    spec : ForecasterSpec
        All that decides its numbers.
    build : callable
        Makes the forecaster from (spec, device name); the first to read weights.
    cutoff : date or None
        The last day whose prices the weights may have seen.
    cutoff_status : str
        ``none`` (fitted here on nothing later than each as-of bar), ``stated`` or ``unknown``.
    """

    spec: ForecasterSpec
    build: Callable[[ForecasterSpec, str], Forecaster]
    cutoff: date | None = None
    cutoff_status: str = NONE


def local(frame: str, calendar: str, horizon: int, levels: tuple[float, ...]) -> Backend:
    """Return the default model."""
    return Backend(local_spec(frame, calendar, horizon, levels), LocalForecaster)


def levels_of(settings: Forecasts) -> tuple[float, ...]:
    """Return the quantile levels that the model named gives, of those asked for."""
    if settings.model == "kronos":
        return served_levels(settings.levels, settings.samples)
    return settings.levels


def weights_folder(settings: Forecasts, project: Path) -> tuple[Path, str, str]:
    """Return where a model's files lie.

    Parameters
    ----------
    settings : Forecasts
        weights, revision, models_dir.
    project : Path
        What relative paths start from: the folder that holds the data folder.

    Returns
    -------
    (Path, str, str)
        The folder, the hub id (empty for a folder of one's own), and what would bring the files.
    """
    weights = str(settings.weights)
    if settings.revision is None:
        folder = project / weights
        fetch = "Correct forecasts.weights"
        if HUB_ID.fullmatch(weights) and not folder.exists():
            fetch = f"If {weights} is a hub id, name its commit too: forecasts.revision"
        return folder, "", fetch
    folder = project / settings.models_dir / weights / settings.revision
    return folder, weights, f"Fetch it: nightfold models fetch {weights} --revision {settings.revision}"


def backend(settings: Forecasts, frame: str, calendar: str, seed: int, project: Path) -> Backend:
    """Return the model that the settings name, for bars of that frame and calendar.

    Parameters
    ----------
    settings : Forecasts
        The section of that name.
    frame, calendar : str
        Of the bars, as in `Bars`.
    seed : int
        Of the settings.
    project : Path
        As in `weights_folder`.

    Raises
    ------
    WeightsNotFound, ForecastError
        The model's folder is absent, incomplete or damaged.
    ConfigError
        The lookback does not fit the model.
    """
    if settings.model == "local":
        return local(frame, calendar, settings.horizon, settings.levels)
    folder, hub_id, fetch = weights_folder(settings, project)
    where = {"model_id": hub_id, "revision": settings.revision or "", "fetch": fetch}
    build: Callable[[ForecasterSpec, str], Forecaster]
    if settings.model != "kronos":
        chronos = settings.model == "chronos-2"
        spec = (chronos_spec if chronos else toto_spec)(
            folder, **where, frame=frame, calendar=calendar, horizon=settings.horizon,
            levels=settings.levels, lookback=settings.lookback,
        )  # fmt: skip
        build = partial(ChronosForecaster if chronos else TotoForecaster, folder=folder)
    else:
        spec = kronos_spec(
            folder, **where, frame=frame, calendar=calendar, horizon=settings.horizon,
            levels=settings.levels, lookback=settings.lookback, dtype=settings.dtype, seed=seed,
            sampling=Sampling(
                settings.samples, settings.temperature, settings.top_k, settings.top_p, settings.price_scale
            ),
        )  # fmt: skip
        build = partial(KronosForecaster, folder=folder)
    cutoff = settings.knowledge_cutoff or CUTOFFS.get(hub_id)
    return Backend(spec, build, cutoff, STATED if cutoff else UNKNOWN)


def in_pretraining(model: Backend, as_of: Ints) -> Bools:
    """Say of each as-of stamp, shape (n,), whether the weights may have seen what came after it.

    Up to the cut-off day they may; where no cut-off is known they always may.
    """
    if model.cutoff is None:
        return np.full(len(as_of), model.cutoff_status == UNKNOWN)
    after = (np.datetime64(model.cutoff, "D") + 1).astype("datetime64[us]").astype(np.int64)
    return np.asarray(as_of < after)
