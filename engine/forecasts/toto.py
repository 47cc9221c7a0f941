"""Toto 2 through its own package: `TotoForecaster`, a thin adapter.

High, low and close of a window go in together as one group, as log returns against the as-of close;
nine quantiles of the same come out in one pass, without sampling.

Source: Datadog, Toto 2.0, arXiv 2605.20119; package toto-2 (Apache-2.0).
Axes: B windows, T bars padded to whole patches, h steps, V fields, Q levels.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np

from engine.bars.model import Ints
from engine.errors import ConfigError, ForecastError, require
from engine.forecasts.baselines import empty_quantiles
from engine.forecasts.interface import (
    FIELDS,
    OK,
    SKIPPED,
    Bools,
    Floats32,
    ForecastBatch,
    ForecasterSpec,
    ForecastRequest,
    validate,
)
from engine.forecasts.keys import model_key
from engine.forecasts.kronos.weights import CONFIG, TENSORS, part_files, read_json, sha256, stored_shapes

TOTO_VERSION = 1  # raise it whenever an output changes
DEFAULT_LOOKBACK, MIN_LOOKBACK, MAX_LOOKBACK = (
    400,
    32,
    4096,
)  # the last: a bound of ours, the files state none
PUBLISHED_TOTO = tuple(f"Datadog/Toto-2.0-{size}" for size in ("4m", "22m", "313m", "1B", "2.5B"))
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # that every Toto 2 gives
WINDOWS_AT_ONCE = 64
_SIZES = ("patch_size", "d_model", "num_heads", "num_layers", "layer_group_size")


def patch_of(folder: Path) -> int:
    """Return the bars of one patch, after a look at the folder's config.

    Raises
    ------
    ForecastError
        It is no config of Toto 2.
    """
    path = folder / CONFIG
    values = read_json(path)
    if any(type(values.get(name)) is not int or values[name] < 1 for name in _SIZES):
        raise ForecastError(f"{path} is no config of Toto 2: expected whole numbers {', '.join(_SIZES)}")
    return int(values["patch_size"])


def _package_version() -> str:
    """Return major.minor of the package, part of the model key; importing it would take seconds."""
    try:
        return ".".join(metadata.version("toto-2").split(".")[:2])
    except metadata.PackageNotFoundError:
        require("toto2", needed_by="forecasts.model toto-2", extra="toto")
        raise


def toto_spec(
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
    """Return the specification of a Toto 2 folder for bars of that frame and calendar.

    Parameters
    ----------
    folder : Path
        Holds ``config.json`` and ``model.safetensors``.
    model_id, revision, fetch, frame, calendar, horizon, levels, lookback
        As in `engine.forecasts.kronos.forecaster.kronos_spec`; levels but the nine are left out.

    Raises
    ------
    WeightsNotFound, ForecastError
        The folder is incomplete or damaged.
    ConfigError
        The lookback is longer than 4,096 bars or shorter than one patch.
    MissingExtra
        The package toto-2 is not installed.
    """
    paths = part_files(folder, fetch)
    patch = patch_of(folder)
    used = DEFAULT_LOOKBACK if lookback is None else lookback
    if not patch <= used <= MAX_LOOKBACK:
        raise ConfigError(
            f"forecasts.lookback was {used}; expected {patch} (one patch of the model in {folder}) to "
            f"{MAX_LOOKBACK} bars"
        )
    given = tuple(level for level in levels if any(abs(level - one) < 1e-9 for one in LEVELS))
    # the last patch is always read as observed, so a window has to fill it
    return ForecasterSpec(
        "toto-2", frame, calendar, horizon, given, used, min(max(MIN_LOOKBACK, patch), used), TOTO_VERSION,
        dtype="fp32", model_id=model_id, revision=revision,
        weights=tuple((path.name, sha256(path)) for path in paths),
        options=(("package", _package_version()),),
    )  # fmt: skip


class TotoForecaster:
    """Toto 2 behind the interface of all forecasters.

    Parameters
    ----------
    spec : ForecasterSpec
        From `toto_spec`.
    device : str
        ``cpu`` or ``cuda:N``.
    folder : Path
        The same folder; read here, once.

    Raises
    ------
    MissingExtra
        The package toto-2 is not installed.
    ForecastError
        A file is damaged, a tensor is unknown, missing or of another shape, or the model has other
        levels than the nine.
    """

    def __init__(self, spec: ForecasterSpec, device: str, folder: Path) -> None:
        self.spec, self.model_key, self.device = spec, model_key(spec), device
        toto2 = require("toto2", needed_by="forecasts.model toto-2", extra="toto")
        stored_shapes(folder / TENSORS)  # refuses a damaged file
        try:
            model = toto2.Toto2Model.from_pretrained(str(folder), local_files_only=True, strict=True)
        except (OSError, ValueError, TypeError, RuntimeError, AssertionError) as error:
            raise ForecastError(
                f"{folder} cannot be loaded as Toto 2: {error}; expected what its package saved"
            ) from error
        knots = [float(level) for level in model.output_head.knots]
        if not np.allclose(knots, LEVELS):
            raise ForecastError(f"{folder}: the model gives the levels {knots}; expected {list(LEVELS)}")
        self._take = [int(np.argmin(np.abs(np.array(LEVELS) - level))) for level in spec.levels]
        self._model, self._patch = model.to(device), int(model.config.patch_size)

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many of ``n`` windows one request should hold."""
        return max(1, min(n, WINDOWS_AT_ONCE))

    def _padded(self, request: ForecastRequest, windows: Ints) -> tuple[Floats32, Bools]:
        """Return log returns and what is observed, (n, V, T); T is the same whatever the windows."""
        longest = -(-self.spec.lookback // self._patch) * self._patch
        target = np.zeros((len(windows), len(FIELDS), longest), dtype=np.float32)
        observed = np.zeros(target.shape, dtype=np.bool_)
        columns = [request.columns.index(name) for name in FIELDS]
        for row, i in enumerate(windows.tolist()):
            length = min(int(request.mask[i].sum()), self.spec.lookback)
            prices = request.bars[i, -length:][:, columns]  # (T, V)
            target[row, :, longest - length :] = np.log(prices / prices[-1, -1]).T
            observed[row, :, longest - length :] = True
        return target, observed

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
        usable = np.flatnonzero([not reason for reason in reasons])
        if len(usable):
            target, observed = (
                torch.from_numpy(part).to(self.device) for part in self._padded(request, usable)
            )
            group = torch.zeros(target.shape[:2], dtype=torch.long, device=self.device)  # one per window
            inputs = {"target": target, "target_mask": observed, "series_ids": group}
            with torch.inference_mode():
                answers = self._model.forecast(
                    inputs, horizon=spec.horizon, decode_block_size=None, has_missing_values=True
                )  # (all levels, n, V, h)
            out[usable] = answers.float().cpu().numpy()[self._take].transpose(1, 3, 2, 0)
        status = tuple(SKIPPED if reason else OK for reason in reasons)
        levels = np.array(spec.levels, dtype=np.float32)
        return ForecastBatch(out.astype(np.float32), levels, status, reasons, {"device": self.device})
