"""The objective of one problem as searching optimizers call it, and those optimizers on any objective.

Three forms of the same number, `engine.simulation.levels.value` at exit `target`, touch fills: one
candidate per torch call as the public recipe writes it, the same in as few torch operations as it
takes, and one candidate per compiled call. Optimizers minimise, so all return -F.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numba import njit

from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import ROWS, LevelsProblem
from engine.simulation.levels_torch import one_value_torch

Objective = Callable[[np.ndarray], float]
BOUNDS = ((-0.03, 0.03), (-0.03, 0.03))


def one_torch_call(problem: LevelsProblem) -> Objective:
    """Return -F of one (u, v) by torch operations on tensors made once.

    In the recipe's form: signed positions, fills as masks, every candidate a call of its own; where
    both legs trade on every bar, one call for the buys and one for the sells.
    """
    import torch

    close, high, low, up, down, long, short, _ = (torch.tensor(getattr(problem, name)) for name in ROWS)
    f_e, f_t, f_c = problem.fee_entry, problem.fee_target, problem.fee_close
    both = bool(((long > 0) & (short > 0)).any())
    positions = [long, -short] if both else [long - short]

    def profit(position: torch.Tensor, sell: torch.Tensor, buy: torch.Tensor) -> torch.Tensor:
        sell, buy = torch.clamp(sell, 0.0, 10.0), torch.clamp(buy, -1.0, 0.0)
        bought, sold = torch.clamp(position, 0.0, 10.0), torch.clamp(-position, 0.0, 10.0)
        enters_long, enters_short = (buy > low).double(), (sell < high).double()
        leaves_long, leaves_short = (sell <= high).double(), (buy >= low).double()
        to_close = close - f_c - buy
        long_move = to_close + leaves_long * (sell - f_t - buy - to_close)
        to_close = sell - close - f_c
        short_move = to_close + leaves_short * (sell - buy - f_t - to_close)
        gains = bought * enters_long * (long_move - f_e) + sold * enters_short * (short_move - f_e)
        return torch.sum(gains)

    def negative(x: np.ndarray) -> float:
        return -sum(profit(position, up + float(x[0]), down + float(x[1])).item() for position in positions)

    return negative


def lean_torch_call(problem: LevelsProblem) -> Objective:
    """Return -F of one (u, v) by the fewest torch operations: both legs in one expression."""
    score = one_value_torch(LevelsBatch.of([problem]), 0, "target")
    return lambda x: -score(float(x[0]), float(x[1]))


@njit(cache=True, nogil=True, error_model="numpy")
def _one(close, high, low, up, down, long, short, f_e, f_t, f_c, u, v):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(close)):
        sell = min(max(up[i] + u, 0.0), 10.0)
        buy = min(max(down[i] + v, -1.0), 0.0)
        if buy > low[i]:
            total += long[i] * ((sell - f_t if sell <= high[i] else close[i] - f_c) - buy - f_e)
        if sell < high[i]:
            total += short[i] * (sell - (buy + f_t if buy >= low[i] else close[i] + f_c) - f_e)
    return -total


def one_compiled_call(problem: LevelsProblem) -> Objective:
    """Return -F of one (u, v) by one call of a compiled loop."""
    columns = [getattr(problem, name) for name in ROWS[:-1]]
    fees = problem.fee_entry, problem.fee_target, problem.fee_close
    return lambda x: _one(*columns, *fees, x[0], x[1])


def scipy_de(f: Objective, seed: int = 0) -> np.ndarray:
    """Return the answer of scipy's differential evolution, 50 generations of 20."""
    from scipy.optimize import differential_evolution

    found = differential_evolution(f, BOUNDS, maxiter=50, popsize=10, atol=1e-5, polish=True, rng=seed)
    return np.asarray(found.x)


def scipy_direct(f: Objective) -> np.ndarray:
    """Return the answer of scipy's DIRECT, 500 evaluations."""
    from scipy.optimize import direct

    return np.asarray(direct(f, BOUNDS, maxfun=500).x)


def nevergrad_de(f: Objective, seed: int = 0) -> np.ndarray:
    """Return the best point that Nevergrad's TwoPointsDE evaluates in 300."""
    import nevergrad

    lower, upper = (np.array([bounds[side] for bounds in BOUNDS]) for side in (0, 1))
    space = nevergrad.p.Array(init=(lower + upper) / 2, lower=lower, upper=upper)
    space.random_state.seed(seed)
    best, where = np.inf, np.zeros(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = nevergrad.optimizers.registry["TwoPointsDE"](parametrization=space, budget=300)
        for _ in range(300):
            candidate = search.ask()
            loss = float(f(candidate.value))
            search.tell(candidate, loss)
            if loss < best:
                best, where = loss, np.array(candidate.value)
    return where


SEARCHES = {"scipy-de": scipy_de, "nevergrad 300": nevergrad_de, "scipy-direct 500": scipy_direct}
