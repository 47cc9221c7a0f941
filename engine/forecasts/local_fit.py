"""The local model's fit: quantiles with a location and a scale that are linear in the features.

Quantile q of target v at row i is shift + u_q * exp(logscale), with (shift, logscale) = x_i W + b
and u the unconditional quantiles (a median and positive gaps, so that levels cannot cross).
`fit` minimises the mean pinball loss plus a ridge on W by 60 full-batch steps of Adam, with the
gradient written out. Float64, fixed shapes, one thread: the same rows give the same bits.

Ideas: Koenker and Bassett 1978 (pinball loss), Kingma and Ba 2015 (Adam), Smith and Topin 2019
(one-cycle rate); the formulas follow torch's Adam and OneCycleLR.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.bars.model import Floats

if TYPE_CHECKING:
    import torch

# Axes: N training rows (fixed), F features, V fields, Q levels.
RIDGE = 0.03
STEPS, WARM_UP = 60, 0.3
PEAK_RATE, START_DIVISOR, END_DIVISOR = 0.05, 25.0, 25e4
HIGH_MOMENTUM, LOW_MOMENTUM, SQUARE_DECAY, EPSILON = 0.95, 0.85, 0.999, 1e-8
MIN_GAP = 1e-3
# At the start a quantile may be one of the targets: they count as equal within this, so that the last
# bit of exp or log on another machine decides nothing.
TIE = 1e-9
STD_FLOOR, STANDARD_CLIP = 1e-3, 5.0


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters of one (cut, step).

    Parameters
    ----------
    mean, spread : float64 array, shape (F,)
        Standardisation of the features: (x - mean) / spread, clipped to +-5.
    weights : float64 array, shape (F, 2V)
        Columns 0..V-1 give the shift, V..2V-1 the log scale.
    bias : float64 array, shape (2V,)
        Added to them.
    unit_quantiles : float64 array, shape (V, Q)
        Increasing in the level.
    """

    mean: Floats
    spread: Floats
    weights: Floats
    bias: Floats
    unit_quantiles: Floats


def schedule() -> list[tuple[float, float]]:
    """Return (rate, momentum) of each step: cosine up over the first 30 %, cosine down after."""

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))

    turn, last = WARM_UP * STEPS - 1.0, STEPS - 1.0
    start, end = PEAK_RATE / START_DIVISOR, PEAK_RATE / END_DIVISOR
    pairs = []
    for step in range(STEPS):
        if step <= turn:
            share = step / turn
            pairs.append((between(start, PEAK_RATE, share), between(HIGH_MOMENTUM, LOW_MOMENTUM, share)))
        else:
            share = (step - turn) / (last - turn)
            pairs.append((between(PEAK_RATE, end, share), between(LOW_MOMENTUM, HIGH_MOMENTUM, share)))
    return pairs


def _signs(levels: tuple[float, ...]) -> Floats:
    """Return the (Q-1, Q) matrix that turns gaps into signed distances from the median."""
    middle = levels.index(0.5)
    gap, level = np.arange(len(levels) - 1)[:, None], np.arange(len(levels))[None, :]
    above = (gap >= middle) & (gap < level)
    below = (gap < middle) & (gap >= level)
    return above.astype(np.float64) - below.astype(np.float64)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep the order of additions the same whatever the process allows."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _descend(
    start: torch.Tensor,
    x: torch.Tensor,
    z: torch.Tensor,
    row_weight: torch.Tensor,
    level: torch.Tensor,
    signs: torch.Tensor,
) -> torch.Tensor:
    """Run Adam; parameters are one flat vector: W (F, 2V), b (2V), medians (V), raw gaps (V, Q-1)."""
    import torch

    v, f, q = z.shape[0], x.shape[1], level.shape[0]
    end_w, end_b, end_m = f * 2 * v, f * 2 * v + 2 * v, f * 2 * v + 3 * v
    p, gradient = start, torch.zeros_like(start)
    m, square = torch.zeros_like(p), torch.zeros_like(p)
    columns = torch.ones((v, q, 2), dtype=p.dtype, device=p.device)
    x_transposed = x.T.contiguous()
    for number, (rate, momentum) in enumerate(schedule(), start=1):
        w = p[:end_w].view(f, 2 * v)
        raw = p[end_m:].view(v, q - 1)
        both = torch.addmm(p[end_w:end_b], x, w).T  # (2V, N)
        scale = torch.exp(both[v:])  # (V, N)
        u = p[end_b:end_m, None] + torch.nn.functional.softplus(raw) @ signs  # (V, Q)

        # d loss / d prediction = (1[target below prediction] - level) * row weight; scale > 0,
        # so target and prediction are compared in units of the scale.
        below = ((z - both[:v]) / scale)[:, :, None] < (u - TIE)[:, None, :]
        slope = (below.to(p.dtype) - level) * row_weight  # (V, N, Q)
        columns[:, :, 1] = u
        per_row = torch.bmm(slope, columns)  # (V, N, 2): d/d shift, d/d scale
        along = torch.cat([per_row[:, :, 0], per_row[:, :, 1] * scale]).T  # (N, 2V)
        per_level = torch.bmm(scale[:, None, :], slope)[:, 0, :]  # (V, Q)
        gradient[:end_w] = (x_transposed @ along + 2.0 * RIDGE * w).reshape(-1)
        gradient[end_w:end_b] = along.sum(dim=0)
        gradient[end_b:end_m] = per_level.sum(dim=1)
        gradient[end_m:] = (per_level @ signs.T * torch.sigmoid(raw)).reshape(-1)

        m.mul_(momentum).add_(gradient, alpha=1.0 - momentum)
        square.mul_(SQUARE_DECAY).addcmul_(gradient, gradient, value=1.0 - SQUARE_DECAY)
        momentum_bias, square_bias = 1.0 - momentum**number, 1.0 - SQUARE_DECAY**number
        denominator = square.sqrt().div_(math.sqrt(square_bias)).add_(EPSILON)
        p = p.addcdiv(m, denominator, value=-rate / momentum_bias)
    return p


def standardise(features: Floats, mean: Floats, spread: Floats) -> Floats:
    """Return features in units of their training spread, clipped to +-5, same shape."""
    return np.clip((features - mean) / spread, -STANDARD_CLIP, STANDARD_CLIP)


def fit(features: Floats, z: Floats, rows: int, levels: tuple[float, ...], device: str) -> Fit:
    """Fit one (cut, step) alone.

    Parameters
    ----------
    features : float64 array, shape (n, F)
        Training rows, n <= ``rows``.
    z : float64 array, shape (n, V)
        Targets over the row's volatility.
    rows : int
        Fixed number of rows N; absent ones enter with weight 0.
    levels : tuple of float, length Q
        Quantile levels, .5 among them.
    device : str
        ``cpu`` or ``cuda:N``.

    Returns
    -------
    Fit
        Bit-equal for equal rows on the same machine type and library versions.

    NaN: none allowed.
    """
    import torch

    n, f, v, q = len(z), features.shape[1], z.shape[1], len(levels)
    mean, spread = features.mean(axis=0), features.std(axis=0) + STD_FLOOR
    x_full, z_full, weight = np.zeros((rows, f)), np.zeros((v, rows)), np.zeros((rows, 1))
    x_full[rows - n :] = standardise(features, mean, spread)
    z_full[:, rows - n :] = z.T
    weight[rows - n :] = 1.0 / (n * v * q)

    unconditional = np.quantile(z, levels, axis=0).T  # (V, Q)
    gaps = np.maximum(np.diff(unconditional, axis=1), MIN_GAP)
    start = np.concatenate(
        [
            np.zeros(f * 2 * v + 2 * v),
            unconditional[:, levels.index(0.5)],
            np.log(np.expm1(gaps)).reshape(-1),  # softplus of this is the gap
        ]
    )
    signs = _signs(levels)
    # torch.tensor copies into memory aligned by torch: the order of additions in a matrix product
    # may depend on the alignment.
    arrays = (start, x_full, z_full, weight, np.array(levels), signs)
    with _one_thread(), torch.inference_mode():
        tensors = [torch.tensor(array, dtype=torch.float64, device=device) for array in arrays]
        p = _descend(*tensors).cpu().numpy()

    end_w, end_b, end_m = f * 2 * v, f * 2 * v + 2 * v, f * 2 * v + 3 * v
    unit = p[end_b:end_m, None] + np.logaddexp(0.0, p[end_m:].reshape(v, q - 1)) @ signs
    return Fit(mean, spread, p[:end_w].reshape(f, 2 * v), p[end_w:end_b], unit)


def location_scale_quantiles(fitted: Fit, features: Floats, sigma: Floats) -> Floats:
    """Return the fitted quantiles of each row.

    Parameters
    ----------
    fitted : Fit
        Parameters.
    features : float64 array, shape (n, F)
        As-of rows, not yet standardised.
    sigma : float64 array, shape (n,)
        Volatility at the same rows.

    Returns
    -------
    float64 array, shape (n, V, Q)
        Log return against the as-of close, increasing in the level.

    NaN: passed on.
    """
    x = standardise(features, fitted.mean, fitted.spread)
    both = np.repeat(fitted.bias[None, :], len(x), axis=0)  # (n, 2V)
    for column, weight in enumerate(fitted.weights):
        # One feature at a time: a matrix product's bits may depend on how many rows it has.
        both += x[:, column, None] * weight[None, :]
    v = len(fitted.unit_quantiles)
    scale = np.exp(np.ascontiguousarray(both[:, v:]))
    return (both[:, :v, None] + fitted.unit_quantiles[None] * scale[:, :, None]) * sigma[:, None, None]
