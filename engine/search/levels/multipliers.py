"""The familiar names: offsets of one window from plain arrays.

"Multipliers" is what many know these offsets as; they are **added** to the forecast moves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from engine.bars.model import Floats
from engine.errors import LevelsInputError
from engine.search.levels.api import optimize_levels
from engine.simulation.levels import LevelsProblem
from engine.simulation.levels_finer import FinerBars
from engine.simulation.levels_problem import MAX_DROPPED_SHARE, STRICT, one_of

FILLS = ("through", "touch")


class Multipliers(NamedTuple):
    """Offsets of the high and of the low in return units, and what they earn on the window (in-sample)."""

    H: float
    L: float
    profit: float


def optimize_entry_exit_multipliers(
    close: Floats, high: Floats, low: Floats, forecast_high: Floats, forecast_low: Floats, position: Floats,
    *, fee: float, slippage: float = 0.0, fee_mode: str = "per_side", fill: str = "through",
    delta: Floats | float = STRICT, long_only: bool = False, finer: FinerBars | None = None, **options: Any,
) -> Multipliers:  # fmt: skip
    """Return the best offsets where each bar trades one side, as ``position`` says.

    Parameters
    ----------
    close, high, low : float64 array, shape (n,)
        Moves of the outcome bar against the close before it, e.g. high / base - 1.
    forecast_high, forecast_low : float64 array, shape (n,)
        Forecast moves against the same base.
    position : float64 array, shape (n,)
        In [-10, 10]: long above 0, short below.
    fee, slippage : float, >= 0
        Fractions of the notional: the fee of one side, and the slippage of an exit at the close.
    fee_mode : str
        `per_side`, or `per_leg`: the fee once, on a filled entry.
    fill : str
        `through`: a level trades ``delta`` beyond it; `touch`: entries beyond the level, targets at it.
    delta : float or array, shape (n,)
        Trade-through distance in return units, such as tick / base.
    long_only : bool
        No short leg at all, as crypto wants it.
    finer : FinerBars or None
        Finer bars inside each of the n rows, which exit `path` reads; without any it is `close`.
    **options
        Of `optimize_levels`: solver, objective, smoothing, exit, bounds, budget, seed, shrink, abstain.

    Returns
    -------
    Multipliers
        H, L and the sum of net moves, not compounded. Whether to abstain, and the regret, are told by
        `optimize_levels`. H, L and profit are 0 where nothing trades.

    Raises
    ------
    LevelsInputError
        More than 20 % of the rows have a value that is not finite, or a row is impossible.

    NaN: rows with a value that is not finite are left out.
    """
    signed = np.asarray(position, dtype=np.float64)
    sides = np.maximum(signed, 0.0), np.maximum(-signed, 0.0)
    moves = close, high, low, forecast_high, forecast_low
    return _best("entry_exit", moves, sides, fee, slippage, fee_mode, fill, delta, long_only, finer, options)


def optimize_always_on_multipliers(
    close: Floats, high: Floats, low: Floats, forecast_high: Floats, forecast_low: Floats,
    buy: Floats | float = 1.0, sell: Floats | float = 1.0,
    *, fee: float, slippage: float = 0.0, fee_mode: str = "per_side", fill: str = "through",
    delta: Floats | float = STRICT, long_only: bool = False, finer: FinerBars | None = None, **options: Any,
) -> Multipliers:  # fmt: skip
    """Return the best offsets where both legs stand on every bar, each on its own.

    ``buy`` and ``sell`` are their weights, the size of each leg: scalars or arrays of shape (n,), in
    [0, 10], a sign of ``sell`` does not count. All else as in `optimize_entry_exit_multipliers`.
    """
    n = np.shape(close)
    buys = np.broadcast_to(np.asarray(buy, dtype=np.float64), n)
    sells = np.abs(np.broadcast_to(np.asarray(sell, dtype=np.float64), n))
    moves = close, high, low, forecast_high, forecast_low
    rules = fee, slippage, fee_mode, fill, delta, long_only, finer, options
    return _best("always_on", moves, (buys, sells), *rules)


def _best(
    name: str, moves: tuple[Floats, ...], sides: tuple[Floats, Floats], fee: float, slippage: float,
    fee_mode: str, fill: str, delta: Floats | float, long_only: bool, finer: FinerBars | None,
    options: dict[str, Any],
) -> Multipliers:  # fmt: skip
    """Return the answer of one problem made of plain arrays."""
    one_of("fee_mode", fee_mode, ("per_side", "per_leg"))
    one_of("fill", fill, FILLS)
    columns = [np.asarray(column, dtype=np.float64) for column in (*moves, *sides)]
    shape = columns[0].shape
    if len(shape) != 1 or any(column.shape != shape for column in columns):
        raise LevelsInputError(
            f"{name}: shapes were {[column.shape for column in columns]}, expected one value a row in each"
        )
    distance = (
        np.zeros(shape) if fill == "touch" else np.broadcast_to(np.asarray(delta, dtype=np.float64), shape)
    )
    finite = np.isfinite(np.stack([*columns, distance])).all(axis=0)
    dropped = int((~finite).sum())
    if dropped > MAX_DROPPED_SHARE * shape[0]:
        raise LevelsInputError(
            f"{name}: {dropped} of {shape[0]} rows have a value that is not finite, the first is row "
            f"{int((~finite).argmax())}; at most {100 * MAX_DROPPED_SHARE:.0f} % may. Repair the inputs"
        )
    close, high, low, up, down, a, b, distance = (column[finite] for column in (*columns, distance))
    crossed = down >= up
    a = np.where(crossed, 0.0, a)
    b = np.zeros_like(b) if long_only else np.where(crossed, 0.0, b)
    late = fee if fee_mode == "per_side" else 0.0
    rows = LevelsProblem(
        close, high, low, up, down, a, b, distance, np.ones(len(close)), np.flatnonzero(finite),
        fee, late, late + slippage, fill == "touch", name=name, n_dropped=dropped,
        n_crossed=int(crossed.sum()), finer=None if finer is None else finer.take(np.flatnonzero(finite)),
    )  # fmt: skip
    result = optimize_levels(rows, **options)
    u, v = result.offsets[0].tolist()
    return Multipliers(u, v, float(result.profit[0]))
