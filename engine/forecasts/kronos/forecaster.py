"""Kronos as a forecaster: `KronosForecaster`, and `kronos_spec`, all that decides its numbers.

The tokens of a window's bars are read once, S paths of h bars are sampled from there, and the
paths become quantiles. Axes: B windows, T bars, S samples, h steps, V fields, Q levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.bars.model import Floats, Ints
from engine.errors import ConfigError
from engine.forecasts.baselines import empty_quantiles
from engine.forecasts.calendar import stamp_rule, wall_clock
from engine.forecasts.draws import uniforms
from engine.forecasts.interface import (
    FIELDS,
    OK,
    REPAIRED,
    SKIPPED,
    Floats32,
    ForecastBatch,
    ForecasterSpec,
    ForecastRequest,
    validate,
)
from engine.forecasts.keys import model_key
from engine.forecasts.kronos.config import ModelConfig, TokenizerConfig, max_context
from engine.forecasts.kronos.inputs import normalise, time_features, unit_scale, with_amount
from engine.forecasts.kronos.weights import TENSORS, configs, files_of, load, sha256
from engine.forecasts.paths import in_order, quantiles, served_levels

if TYPE_CHECKING:
    from engine.forecasts.kronos.model import Model
    from engine.forecasts.kronos.tokenizer import Tokenizer

KRONOS_VERSION = 2  # raise it whenever an output changes
DEFAULT_LOOKBACK, MIN_LOOKBACK = 400, 32
OHLCV = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Sampling:
    """How paths are drawn.

    Parameters
    ----------
    samples : int
        S.
    temperature, top_k, top_p
        As in `decode.filtered`.
    price_scale : str
        ``unit`` scales each window first, ``none`` does not.
    """

    samples: int
    temperature: float
    top_k: int
    top_p: float
    price_scale: str


def kronos_spec(
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
    dtype: str,
    seed: int,
    sampling: Sampling,
) -> ForecasterSpec:
    """Return the specification of a Kronos folder for bars of that frame and calendar.

    Parameters
    ----------
    folder : Path
        Holds ``model`` and ``tokenizer``.
    model_id, revision : str
        Of the hub; empty for a folder of one's own.
    fetch : str
        What would bring the folder, for messages.
    frame, calendar, horizon, levels, dtype, seed
        As in `ForecasterSpec`; levels that S paths cannot tell are left out.
    lookback : int or None
        Bars of a window; None = 400. Cut to what the context leaves beside the horizon.
    sampling : Sampling
        How paths are drawn.

    Raises
    ------
    WeightsNotFound, ForecastError
        The folder is incomplete or damaged.
    ConfigError
        The lookback is longer than the model's context.
    """
    files = files_of(folder, fetch)
    context = max_context(configs(folder)[0])
    asked = DEFAULT_LOOKBACK if lookback is None else lookback
    if asked > context or horizon >= context:
        raise ConfigError(
            f"forecasts.lookback was {asked} and horizon {horizon}; expected a lookback of at most "
            f"{context} bars, the context of the model in {folder}"
        )
    used = min(asked, context - horizon)
    return ForecasterSpec(
        "kronos", frame, calendar, horizon, served_levels(levels, sampling.samples),
        used, min(MIN_LOOKBACK, used), KRONOS_VERSION, dtype=dtype, model_id=model_id, revision=revision,
        weights=tuple((f"{path.parent.name}/{path.name}", sha256(path)) for path in files), seed=seed,
        options=(
            ("samples", sampling.samples), ("temperature", sampling.temperature), ("top_k", sampling.top_k),
            ("top_p", sampling.top_p), ("price_scale", sampling.price_scale),
            ("norm", "float32 moments of the window"), ("stamps", stamp_rule(frame, calendar)),
        ),
    )  # fmt: skip


class KronosForecaster:
    """Kronos behind the interface of all forecasters.

    Parameters
    ----------
    spec : ForecasterSpec
        From `kronos_spec`.
    device : str
        ``cpu`` or ``cuda:N``.
    folder : Path
        The same folder; read here, once.

    Raises
    ------
    ForecastError
        A file is damaged or a tensor is not as its config says.
    ConfigError
        bf16 was asked for on a CPU.
    """

    def __init__(self, spec: ForecasterSpec, device: str, folder: Path) -> None:
        if spec.dtype == "bf16" and device == "cpu":
            raise ConfigError("forecasts.dtype bf16 needs a CUDA device; this run computes on the CPU")
        self.spec, self.model_key, self.device = spec, model_key(spec), device
        self.options: dict[str, Any] = dict(spec.options)
        self.sizes, self.tokenizer_sizes = configs(folder)
        self._model, self._tokenizer = _load(folder, self.sizes, self.tokenizer_sizes, device, spec.dtype)

    def plan(self, n: int, free_bytes: int) -> int:
        """Return how many of ``n`` windows one request should hold: half the free memory's worth."""
        return max(1, min(n, free_bytes // (2 * self.window_bytes())))

    def window_bytes(self) -> int:
        """Return the bytes one window needs: keys and values, logits, and what one layer computes."""
        c, s, t, h = self.sizes, int(self.options["samples"]), self.spec.lookback, self.spec.horizon
        number = 2 if self.spec.dtype == "bf16" else 4
        kept = 2 * (c.n_layers + 1) * c.d_model * (t + s * h) * number
        tokenizer = 2 * self.tokenizer_sizes.d_model * self.tokenizer_sizes.n_dec_layers * (t + s * h) * 4
        passing = (t + s * h) * (4 * c.d_model + 2 * c.ff_dim) * number
        return kept + tokenizer + passing + 4 * s * c.vocabulary * 4

    def run(self, request: ForecastRequest) -> ForecastBatch:
        """Answer every window.

        Parameters
        ----------
        request : ForecastRequest
            Volume and amount are optional: without volume both are 0, without amount it is volume
            times the mean price.

        Returns
        -------
        ForecastBatch
            With paths. A window whose paths had to be put in order is ``repaired`` and says how many.

        Raises
        ------
        ForecastInputError
            Wrong shape, dtype or columns.
        """
        spec = self.spec
        reasons = list(validate(request, spec.min_lookback))
        status = [SKIPPED if reason else OK for reason in reasons]
        b, samples = len(reasons), int(self.options["samples"])
        out = empty_quantiles(b, spec).astype(np.float32)
        paths = np.full((b, samples, spec.horizon, len(FIELDS)), np.nan, dtype=np.float32)
        lengths = np.minimum(request.mask.sum(axis=1), spec.lookback)
        usable = np.flatnonzero([not reason for reason in reasons])
        together = 1 if self.device == "cpu" else b  # on a CPU one window fills the cache, two spill
        for length in np.unique(lengths[usable]).tolist():
            same = usable[lengths[usable] == length]
            for first in range(0, len(same), together):
                windows = same[first : first + together]
                paths[windows], changed = self._paths(request, windows, length)
                out[windows] = quantiles(paths[windows], spec.levels)
                for window, count in zip(windows.tolist(), changed.tolist(), strict=True):
                    if count:
                        status[window] = REPAIRED
                        reasons[window] = f"{count} of {samples * spec.horizon} path bars put in order"
        levels = np.array(spec.levels, dtype=np.float32)
        meta = {"device": self.device, "dtype": spec.dtype, "lookback": spec.lookback}
        return ForecastBatch(out, levels, tuple(status), tuple(reasons), meta, paths)

    def _paths(self, request: ForecastRequest, windows: Ints, length: int) -> tuple[Floats32, Ints]:
        """Return the paths (n, S, h, V) of windows of one length, and the bars put in order in each."""
        from engine.forecasts.kronos.decode import counter_choice, sample_paths

        spec, options = self.spec, self.options
        bars = _columns(request, windows, length)
        scaled = unit_scale(bars) if options["price_scale"] == "unit" else bars
        normal = normalise(scaled)
        clocks = (request.stamps[windows, -length:], request.future_stamps[windows, : spec.horizon])
        time_x, time_y = (time_features(wall_clock(ts, spec.frame, str(options["stamps"]))) for ts in clocks)
        names, as_of = [request.symbols[i] for i in windows.tolist()], request.as_of[windows]
        samples = int(options["samples"])
        draws = uniforms(int(spec.seed or 0), names, as_of, samples, spec.horizon)
        choose = counter_choice(draws, options["temperature"], options["top_k"], options["top_p"])
        sampled = sample_paths(self._model, self._tokenizer, normal.z, time_x, time_y, samples, choose)
        return in_order(normal.restore(sampled)[..., :4], scaled[:, -1, 3])


def _columns(request: ForecastRequest, windows: Ints, length: int) -> Floats:
    """Return open, high, low, close, volume, amount of windows, shape (n, T, 6)."""
    bars = request.bars[windows, -length:]
    columns = request.columns
    if "volume" not in columns:
        prices = bars[..., [columns.index(name) for name in OHLCV[:4]]]
        return np.concatenate([prices, np.zeros((*prices.shape[:2], 2))], axis=-1)
    ohlcv = bars[..., [columns.index(name) for name in OHLCV]]
    if "amount" in columns:
        return np.concatenate([ohlcv, bars[..., [columns.index("amount")]]], axis=-1)
    return with_amount(ohlcv)


def _load(
    folder: Path, sizes: ModelConfig, tokenizer_sizes: TokenizerConfig, device: str, dtype: str
) -> tuple[Model, Tokenizer]:
    import torch

    from engine.forecasts.kronos.model import Model
    from engine.forecasts.kronos.tokenizer import Tokenizer

    model = load(folder / "model" / TENSORS, sizes.shapes())
    tokenizer = load(folder / "tokenizer" / TENSORS, tokenizer_sizes.shapes(), tokenizer_sizes.ignored())
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    return (
        Model(sizes, {name: tensor.to(device) for name, tensor in model.items()}, kind),
        Tokenizer(tokenizer_sizes, {name: tensor.to(device) for name, tensor in tokenizer.items()}),
    )
