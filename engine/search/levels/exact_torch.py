"""The exact solver as one matrix product: every problem's grid of corners at once, in torch.

Where a GPU is at hand, thousands of problems are one tensor. On one CPU thread the compiled
sweep (`engine.search.levels.exact`) is faster and gives the same answers.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.search.levels.exact import TIE, Bounds
from engine.simulation.levels_batch import LevelsBatch, levels_value
from engine.simulation.levels_problem import (
    BOTTOM,
    DELTA,
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
from engine.simulation.levels_torch import MEMORY_BYTES, BatchTensors, levels_value_torch, refuse_finer

STEP = {"float64": 1e-9, "float32": 1e-6}  # from a break to the side that trades
ROUNDING = {"float64": 1e-12, "float32": 1e-6}  # cells so near the best are scored again


def candidates(batch: LevelsBatch, bounds: Bounds, step: float) -> list[Floats]:
    """Return the corners of both axes, float64 (P, T + 3), return units; one out of bounds is a bound."""
    rows = batch.rows
    axes = []
    breaks = (  # in the order of the compiled exact solver, so that both give the same bits
        (rows[HIGH] - rows[UP] - rows[DELTA] - step, rows[TOP] >= 0),
        (rows[LOW] - rows[DOWN] + rows[DELTA] + step, rows[BOTTOM] <= 0),
    )
    for (points, trades), (lower, upper) in zip(breaks, bounds, strict=True):
        trades = trades & ((rows[LONG] != 0) | (rows[SHORT] != 0))
        fixed = np.tile([lower, upper, min(max(0.0, lower), upper)], (len(batch), 1))
        axes.append(
            np.hstack([fixed, np.where(trades & (lower <= points) & (points <= upper), points, lower)])
        )
    return axes


def best_on_grid(
    tensors: BatchTensors, u: Floats, v: Floats, exit: str, memory_bytes: int = MEMORY_BYTES
) -> tuple[Floats, Floats]:
    """Return the best pair of each problem's grid, two arrays of shape (P,), return units.

    Cells within rounding of the best are scored again one row after the other; among values
    within 1e-15 * max(1, |F|) the smallest |u| + |v|, then u, then v is taken. So neither
    padding nor the order of rows or the blocking of the product decides.

    Parameters
    ----------
    tensors : BatchTensors
        P problems.
    u, v : float64 array, shapes (P, J) and (P, K)
        Grid of each problem, return units.
    exit : str
        `close`, `path` or `target`.
    memory_bytes : int
        Cap of what one product holds on the device.
    """
    batch = tensors.batch
    slack = np.full(len(batch), ROUNDING["float64"])
    if tensors.options["dtype"].itemsize == 4:  # a level at its very break may look traded: one step a row
        slack = ROUNDING["float32"] * (1.0 + 2.0 * batch.rows[[LONG, SHORT]].sum((0, 2)))
    best_u, best_v = np.zeros(len(batch)), np.zeros(len(batch))
    for part, values in tensors.chunks(u, v, exit == "target", memory_bytes):
        top = values.amax((1, 2), keepdim=True)
        reach = tensors.tensor(slack[part])[:, None, None] * top.abs().clamp(min=1.0)
        near = (values >= top - reach).nonzero().cpu().numpy()
        of, starts = np.unique(near[:, 0], return_index=True)
        for q, cells in zip(of, np.split(near, starts[1:]), strict=True):
            p = part.start + int(q)
            us, vs = u[p, cells[:, 1]], v[p, cells[:, 2]]
            if len(cells) > 1:
                one = batch.take([p])
                if tensors.widths is None:
                    scores = levels_value(one, us[None], vs[None], exit)[0]
                else:
                    width = tensors.widths[p : p + 1].double().cpu().numpy()
                    scores = levels_value_torch(one, us[None], vs[None], exit, widths=width)[0]
                kept = scores >= scores.max() - TIE * max(1.0, abs(scores.max()))
                us, vs = us[kept], vs[kept]
            first = np.lexsort((vs, us, np.abs(us) + np.abs(vs)))[0]
            best_u[p], best_v[p] = us[first], vs[first]
    return best_u, best_v


def solve_torch(
    batch: LevelsBatch, exit: str, bounds: Bounds, device: str = "cpu",
    dtype: str = "float64", memory_bytes: int = MEMORY_BYTES,
) -> tuple[Floats, Floats, Floats, Ints]:  # fmt: skip
    """Solve every problem exactly, as solver `exact-torch`: the grid of its corners, all in one tensor.

    Parameters
    ----------
    batch : LevelsBatch
        P problems.
    exit : str
        `close`, `path` or `target`.
    bounds : pair of (lower, upper)
        Of u, then of v, return units.
    device, dtype
        As in `BatchTensors`. `float32` stands 1e-6 off the breaks instead of 1e-9.
    memory_bytes : int
        Cap of what one product holds on the device.

    Returns
    -------
    tuple of arrays, shape (P,)
        u, v and profit (return units, scored by `levels_value` in float64), pairs looked at.
    """
    one_of("levels.policies", exit, EXITS)
    refuse_finer(batch, exit, "the torch solver")
    tensors = BatchTensors(batch, device, dtype)
    u, v = candidates(batch, bounds, STEP[dtype])
    best_u, best_v = best_on_grid(tensors, u, v, exit, memory_bytes)
    profit = levels_value(batch, best_u[:, None], best_v[:, None], exit)[:, 0]
    return best_u, best_v, profit, np.full(len(batch), u.shape[1] * v.shape[1], dtype=np.int64)
