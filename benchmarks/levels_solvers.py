"""Every solver on the same problems: how much of the exact optimum it finds, in how much time.

`% of exact` = profit found / profit of the exact optimum; `gain` = the share of the improvement
over zero offsets, (found - zero) / (exact - zero). Every answer is re-scored by
`engine.simulation.levels.value`. Each solver takes its own default budget. Time is
wall time of the whole set in one call, per problem.
"""

from __future__ import annotations

import statistics
import time

import levels_problems as problems
import numpy as np
from record import row

from engine.errors import MissingExtra
from engine.search.levels.backends import SOLVERS
from engine.search.levels.exact import BOUNDS, solve
from engine.search.levels.objective import Objective
from engine.simulation.levels import value
from engine.simulation.levels_batch import LevelsBatch
from engine.simulation.levels_problem import LevelsProblem

EXIT = "target"
SEEDS = (0, 1, 2)
SPREAD_ON = 10  # problems solved with every seed


def answers(name: str, batch: LevelsBatch, seed: int) -> tuple[list, float]:
    """Return a solver's answers on a batch and the seconds it took."""
    began = time.perf_counter()
    found = SOLVERS[name](batch, objective=Objective(), exit=EXIT, bounds=BOUNDS, budget=None, seed=seed)
    return found, time.perf_counter() - began


def compare() -> list[dict]:
    """Return one row per solver and set of problems; a solver whose extra is absent is left out and named."""
    sets = {"real": problems.real(), "synthetic": problems.synthetic(), "seed recipe": [problems.recipe()]}
    rows = []
    for name in SOLVERS:
        try:
            answers(name, LevelsBatch.of([problems.recipe()]), 0)  # imports and first calls
        except MissingExtra as absent:
            print(f"{name}: left out. {absent}")
            continue
        rows += [measured(name, which, found) for which, found in sets.items()]
    return rows


def measured(name: str, which: str, found: list[LevelsProblem]) -> dict:
    """Return the row of one solver on one set."""
    batch = LevelsBatch.of(found)
    best = np.array([solve(one, exit=EXIT).profit for one in found])
    zero = np.array([value(one, 0.0, 0.0, EXIT) for one in found])

    def profits(made: list, of: list[LevelsProblem]) -> np.ndarray:
        return np.array([value(one, a.u, a.v, EXIT) for one, a in zip(of, made, strict=True)])

    made, spent = answers(name, batch, SEEDS[0])
    profit = profits(made, found)
    gain = (profit - zero) / (best - zero)
    few = found[:: max(1, len(found) // SPREAD_ON)][:SPREAD_ON]
    at = [found.index(one) for one in few]
    small = LevelsBatch.of(few)
    gains = [(profits(answers(name, small, seed)[0], few) - zero[at]) / (best - zero)[at] for seed in SEEDS]
    spread = float(np.ptp(gains, axis=0).mean())
    evaluations = statistics.mean(a.evaluations for a in made)
    shares = 100 * profit / best
    share = which != "seed recipe"  # its best pair loses: shares of a loss mean nothing
    extra = {
        "table": "solvers", "solver": name, "set": which, "problems": len(found),
        "evaluations": round(evaluations), "ms": round(1e3 * spent / len(found), 4),
        "mean_share": round(shares.mean(), 2) if share else None,
        "worst_share": round(shares.min(), 2) if share else None,
        "gain": round(float(gain.mean()), 4), "spread": round(spread, 4),
    }  # fmt: skip
    detail = f"{evaluations:.0f} evaluations, {extra['ms']:.3g} ms a problem, "
    detail += f"gain {extra['gain']:.3f}, seed spread {spread:.3f}"
    what, reached = f"{which}, {name}: gain", 100 * float(gain.mean())
    if share:
        what, reached = f"{which}, {name}: mean profit", float(shares.mean())
        detail = f"worst {shares.min():.1f} %, {detail}"
    return row(what, round(reached, 9), "% of exact", 100, "higher", detail) | extra
