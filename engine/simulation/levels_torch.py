"""The levels objective in torch, on a CPU or a GPU: whole grids of P problems as one matrix product.

At an offset u each row has factors of the high side (a sell trades or not, and at what level),
at an offset v those of the low side. The legs meet only in the product of the two, so that a
grid of J x K pairs is A(v) + B(u) + left(u) @ right(v), of rank 2 T: one ``bmm`` for all problems.
With the corners of each problem as grid it is an exact solver: `engine.search.levels.exact_torch`.

A width s > 0 per problem gives the mean over offsets blurred by N(0, s^2) on each axis
(the smoothed objective): the factors become normal integrals, the algebra stays.

Axes: P problems, T rows, J points of u, K points of v (or K pairs). Torch is imported at first use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from engine.bars.model import Floats
from engine.errors import LevelsInputError
from engine.forecasts.devices import choose_device
from engine.simulation.levels_batch import LevelsBatch, offsets
from engine.simulation.levels_problem import (
    BOTTOM,
    CLOSE,
    DOWN,
    EXITS,
    HIGH,
    LONG,
    LOW,
    SHORT,
    TOP,
    UP,
    one_of,
)

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor

MEMORY_BYTES = 2**30
DTYPES = ("float64", "float32")


def refuse_finer(batch: LevelsBatch, exit: str, what: str) -> None:
    """Refuse exit `path` of problems with finer bars, which the torch forms cannot read.

    Raises
    ------
    LevelsInputError
        Names the problem, and what reads finer bars.
    """
    held = [problem.name for problem in batch.problems if problem.finer is not None]
    if exit == "path" and held:
        raise LevelsInputError(
            f"{held[0]}: {what} cannot read finer bars, which exit path needs; use a solver that does "
            "(exact, de-numba, scipy-de, scipy-direct, nevergrad, optuna, botorch) or levels.policies "
            "without path"
        )


def _sides(levels: Tensor, reach: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return the chance that a sell at ``levels`` + noise trades below ``reach``, and its mean level."""
    import torch

    def density(x: Tensor) -> Tensor:
        return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)

    far, near = (reach - levels) / spread, -levels / spread
    chance = torch.special.ndtr(far)
    level = levels * (chance - torch.special.ndtr(near)) + spread * (density(near) - density(far))
    return chance, level


def high_factors(
    rows: Tensor, touch: Tensor, u: Tensor, width: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return S, S h, R, R h: short entry and long target, each with its level.

    Parameters
    ----------
    rows : tensor, shape (10, ..., T)
        `LevelsBatch.rows`.
    touch : bool tensor, shape (..., 1, 1)
        Entries fill strictly beyond the level.
    u : tensor, shape (..., J)
        Offsets, return units.
    width : tensor, shape (..., 1, 1), or None
        Standard deviation of the blur; None = plain.

    Returns
    -------
    tuple of four tensors, shape (..., T, J)
        Source: section 2 of the objective; blurred, E[R] and E[R h] with h clipped at 0.
    """
    import torch

    level, top = rows[UP][..., :, None] + u[..., None, :], rows[TOP][..., :, None]
    if width is None:
        h = level.clamp(0.0, 10.0)
        target = (h <= top).to(h.dtype)
        entry = torch.where(touch, (h < top).to(h.dtype), target)
        return entry, entry * h, target, target * h
    chance, mean = _sides(level, top, width)
    reached = (top >= 0).to(level.dtype)
    passed = torch.where(touch, (rows[HIGH][..., :, None] > 0).to(level.dtype), reached)
    return chance * passed, mean * passed, chance * reached, mean * reached


def low_factors(
    rows: Tensor, touch: Tensor, v: Tensor, width: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return E, E l, Q, Q l: long entry and short target, each with its level; see `high_factors`.

    Parameters
    ----------
    rows : tensor, shape (10, ..., T)
        `LevelsBatch.rows`.
    touch, width : tensor, shape (..., 1, 1)
        As in `high_factors`.
    v : tensor, shape (..., K)
        Offsets, return units.
    """
    import torch

    level, bottom = rows[DOWN][..., :, None] + v[..., None, :], rows[BOTTOM][..., :, None]
    if width is None:
        l = level.clamp(-1.0, 0.0)  # noqa: E741
        target = (l >= bottom).to(l.dtype)
        entry = torch.where(touch, (l > bottom).to(l.dtype), target)
        return entry, entry * l, target, target * l
    chance, mean = _sides(-level, -bottom, width)  # the high side mirrored
    reached = (bottom <= 0).to(level.dtype)
    passed = torch.where(touch, (rows[LOW][..., :, None] < 0).to(level.dtype), reached)
    return chance * passed, -mean * passed, chance * reached, -mean * reached


def _terms(
    rows: Tensor, fees: Tensor, touch: Tensor, u: Tensor, v: Tensor, live: bool, width: Tensor | None
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Return B(u) by row (..., T, J), A(v) by row (..., T, K), and the pairs whose products are summed."""
    touch = touch[..., None, None]
    width = None if width is None else width[..., None, None]
    f_e, f_t, f_c = (fees[..., k, None, None] for k in range(3))
    close, a, b = (rows[k][..., :, None] for k in (CLOSE, LONG, SHORT))
    short, short_level, sold, sold_level = high_factors(rows, touch, u, width)
    long, long_level, bought, bought_level = low_factors(rows, touch, v, width)
    high_side = b * (short_level - short * (close + f_c + f_e))
    low_side = a * (long * (close - f_c - f_e) - long_level)
    if not live:
        return high_side, low_side, []
    left, right = sold_level - sold * (close - f_c + f_t), bought * (close + f_c - f_t) - bought_level
    return high_side, low_side, [(left, a * long), (b * short, right)]


def values_of(
    rows: Tensor, fees: Tensor, touch: Tensor, u: Tensor, v: Tensor, live: bool, width: Tensor | None = None
) -> Tensor:
    """Return the objective at K pairs; tensor twin of `levels_value`.

    Parameters
    ----------
    rows : tensor, shape (10, ..., T)
        `LevelsBatch.rows`; leading axes may be none (one problem, as under ``vmap``).
    fees, touch : tensor, shapes (..., 3) and (...)
        Of the batch.
    u, v : tensor, shape (..., K)
        Pairs of offsets, return units.
    live : bool
        Same-bar targets count (exit `target`).
    width : tensor, shape (...), or None
        Of the blur, return units; None = plain.

    Returns
    -------
    tensor, shape (..., K)
        Return units.
    """
    high_side, low_side, pairs = _terms(rows, fees, touch, u, v, live, width)
    total = high_side + low_side
    for left, right in pairs:
        total = total + left * right
    return total.sum(-2)


class BatchTensors:
    """A batch on a device.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    device : str
        As in `engine.forecasts.devices.choose_device`.
    dtype : str
        `float64` or `float32`.
    widths : float64 array, shape (P,), or None
        Blur of each problem, return units, > 0; None = plain objective.

    Raises
    ------
    LevelsInputError
        A width is not a number above 0.
    DeviceUnavailable
        The device asked for is absent.
    """

    def __init__(self, batch: LevelsBatch, device: str, dtype: str, widths: Floats | None = None) -> None:
        import torch

        one_of("dtype", dtype, DTYPES)
        self.batch = batch
        self.options = {"device": choose_device(device).name, "dtype": getattr(torch, dtype)}
        self.rows, self.fees = self.tensor(batch.rows), self.tensor(batch.fees)
        self.touch = torch.as_tensor(batch.touch, device=self.options["device"])
        if widths is not None and (np.shape(widths) != (len(batch),) or not np.all(np.asarray(widths) > 0)):
            raise LevelsInputError(
                f"smoothing widths were {widths}, expected a number above 0 for each of {len(batch)} problems"
            )
        self.widths = None if widths is None else self.tensor(np.asarray(widths))

    def tensor(self, array: Floats) -> Tensor:
        """Return an array on the device, in the dtype of the batch."""
        import torch

        return torch.as_tensor(array, **self.options)

    def values(self, u: Tensor, v: Tensor, live: bool) -> Tensor:
        """Return the objective at pairs, shapes (P, K)."""
        return values_of(self.rows, self.fees, self.touch, u, v, live, self.widths)

    def grid(self, part: slice, u: Tensor, v: Tensor, live: bool) -> Tensor:
        """Return the objective on the grids (J, K) of the problems ``part``; u and v are theirs alone."""
        import torch

        width = None if self.widths is None else self.widths[part]
        rows, fees, touch = self.rows[:, part], self.fees[part], self.touch[part]
        high_side, low_side, pairs = _terms(rows, fees, touch, u, v, live, width)
        total = high_side.sum(1)[:, :, None] + low_side.sum(1)[:, None, :]
        if not pairs:
            return total
        left, right = (torch.cat(factors, 1) for factors in zip(*pairs, strict=True))  # (p, 2 T, J or K)
        return torch.baddbmm(total, left.transpose(1, 2), right)

    def chunks(
        self, u: Floats, v: Floats, live: bool, memory_bytes: int = MEMORY_BYTES
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield grids of as many problems as stay under the memory cap, at least one at a time."""
        wide, tall, deep = u.shape[1], v.shape[1], self.rows.shape[2]
        size = self.options["dtype"].itemsize * (2 * wide * tall + 16 * deep * (wide + tall))
        step = max(1, memory_bytes // max(1, size))
        for start in range(0, len(self.batch), step):
            part = slice(start, start + step)
            yield part, self.grid(part, self.tensor(u[part]), self.tensor(v[part]), live)


def levels_value_torch(
    batch: LevelsBatch, u: Floats, v: Floats, exit: str, device: str = "cpu", dtype: str = "float64",
    widths: Floats | None = None,
) -> Floats:  # fmt: skip
    """Return the objective at K pairs of each problem; the twin of `levels_value`.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    u, v : float64 array, shape (P, K)
        Pairs of offsets, return units.
    exit : str
        `close`, `path` or `target`.
    device, dtype, widths
        As in `BatchTensors`.

    Returns
    -------
    float64 array, shape (P, K)
        Return units. NaN: refused in the offsets.
    """
    one_of("levels.policies", exit, EXITS)
    refuse_finer(batch, exit, "the torch evaluator")
    tensors = BatchTensors(batch, device, dtype, widths)
    u, v = offsets(batch, "u", u), offsets(batch, "v", v)
    out = tensors.values(tensors.tensor(u), tensors.tensor(v), exit == "target")
    return np.asarray(out.cpu().numpy(), dtype=np.float64)


def levels_grid_torch(
    batch: LevelsBatch, u: Floats, v: Floats, exit: str, device: str = "cpu", dtype: str = "float64",
    widths: Floats | None = None, memory_bytes: int = MEMORY_BYTES,
) -> Floats:  # fmt: skip
    """Return the objective on the grid of each problem; the twin of `levels_grid`.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    u, v : float64 array, shapes (P, J) and (P, K)
        Offsets of the high and of the low, return units.
    exit : str
        `close`, `path` or `target`.
    device, dtype, widths
        As in `BatchTensors`.
    memory_bytes : int
        Cap of what one product holds on the device.

    Returns
    -------
    float64 array, shape (P, J, K)
        Return units. NaN: refused in the offsets.
    """
    one_of("levels.policies", exit, EXITS)
    refuse_finer(batch, exit, "the torch evaluator")
    tensors = BatchTensors(batch, device, dtype, widths)
    u, v = offsets(batch, "u", u), offsets(batch, "v", v)
    out = np.empty((*u.shape, v.shape[1]))
    for part, values in tensors.chunks(u, v, exit == "target", memory_bytes):
        out[part] = values.cpu().numpy()
    return out


def one_value_torch(batch: LevelsBatch, p: int, exit: str) -> Callable[[float, float], float]:
    """Return a function of one pair of offsets that scores problem ``p`` with a torch call per candidate.

    The familiar slow form, for comparison: a dozen tensor operations for every candidate.
    """
    import torch

    one_of("levels.policies", exit, EXITS)
    refuse_finer(batch.take([p]), exit, "the form torch")
    rows = torch.as_tensor(batch.take([p]).rows[:, 0])
    close, up, down, a, b, top, bottom = (rows[k] for k in (CLOSE, UP, DOWN, LONG, SHORT, TOP, BOTTOM))
    (f_e, f_t, f_c), touch = batch.fees[p].tolist(), bool(batch.touch[p])

    def score(u: float, v: float) -> float:
        h, l = torch.clamp(up + u, 0.0, 10.0), torch.clamp(down + v, -1.0, 0.0)  # noqa: E741
        long, short = (l > bottom, h < top) if touch else (l >= bottom, h <= top)
        out_of_long, out_of_short = close - f_c, close + f_c
        if exit == "target":
            out_of_long = torch.where(h <= top, h - f_t, out_of_long)
            out_of_short = torch.where(l >= bottom, l + f_t, out_of_short)
        gain = a * long * (out_of_long - l - f_e) + b * short * (h - out_of_short - f_e)
        return float(gain.sum())

    return score
