"""Forecast levels: the exact solver against every other, its speed, its growth, and what holds up later.

Run by ``make bench-levels``; about five minutes on two cores. Arms that are compared run in turn
in one process on one thread, times are medians, and a ratio is the median of the ratios of the
rounds. Problems: benchmarks/levels_problems.py.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import levels_problems as problems  # noqa: E402
import numpy as np  # noqa: E402
from levels_objectives import SEARCHES, lean_torch_call, one_compiled_call, one_torch_call, scipy_de  # noqa: E402
from levels_solvers import compare  # noqa: E402
from levels_walkforward import rows_of as walkforward  # noqa: E402
from record import row, write  # noqa: E402

from engine.config import Settings  # noqa: E402
from engine.search.levels.backends import SOLVERS  # noqa: E402
from engine.search.levels.exact import BOUNDS  # noqa: E402
from engine.search.levels.objective import Objective  # noqa: E402
from engine.search.levels.simulations import CHOSEN, simulate  # noqa: E402
from engine.search.levels.windows import PRESETS, cut_windows  # noqa: E402
from engine.simulation.levels import value  # noqa: E402
from engine.simulation.levels_batch import LevelsBatch, levels_value  # noqa: E402
from engine.simulation.levels_problem import LevelsProblem  # noqa: E402
from engine.simulation.levels_torch import levels_grid_torch  # noqa: E402
from engine.sources import sample  # noqa: E402

EXIT = "target"
ROUNDS = 3
TORCH, LEAN, COMPILED = "one torch call per candidate", "one torch call, shortest form", "compiled objective"
FORMS = {TORCH: (one_torch_call, 6), LEAN: (lean_torch_call, 6), COMPILED: (one_compiled_call, 14)}
# of the issue for the recipe's own form of the objective; else of the design note's measurements
GOALS = {
    "scipy-de": {TORCH: 3000, LEAN: 1000, COMPILED: 500},
    "nevergrad 300": {TORCH: 3000, LEAN: 1000, COMPILED: 500},
    "scipy-direct 500": {TORCH: 400, LEAN: 400, COMPILED: 50},
}


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Return the median wall time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def exact(batch: LevelsBatch, exit: str = EXIT) -> list:
    """Solve a batch exactly."""
    return SOLVERS["exact"](batch, objective=Objective(), exit=exit, bounds=BOUNDS, budget=None, seed=0)


def job() -> list[dict]:
    """The 140-problem job: one symbol, 70 windows of 100 bars x two objectives, every window in one call."""
    found = problems.windows("AAPL", 100, 70, 20, problems.OBJECTIVES)
    batch = LevelsBatch.of(found)
    few = [found[at] for at in np.linspace(0, len(found) - 1, 14).astype(int)]
    few = few[::2] + few[1::2]  # both objectives among the first six
    for one in few:  # all forms are one objective
        for x in np.random.default_rng(0).uniform(-0.03, 0.03, (20, 2)):
            expected = -value(one, x[0], x[1], EXIT)
            assert all(abs(form(one)(x) - expected) < 1e-12 for form, _ in FORMS.values())
    for search in SEARCHES.values():  # imports and first calls
        search(one_compiled_call(few[0]))
    fast, slow = [], {(name, form): [] for form in FORMS for name in SEARCHES}
    for _ in range(ROUNDS):
        for form, (objective, count) in FORMS.items():
            ready = [objective(one) for one in few[:count]]
            for name, search in SEARCHES.items():
                fast.append(seconds(lambda: exact(batch), 5))
                spent = seconds(lambda s=search, fs=ready: [s(f) for f in fs]) * len(found) / count
                slow[name, form].append((spent, spent / fast[-1]))
    taken = 1e3 * statistics.median(fast)
    making = 1e3 * seconds(lambda: LevelsBatch.of(found), 5)
    rows = [
        row(
            "140-problem job, exact",
            taken,
            "ms",
            10,
            detail=f"one thread; making the batch {making:.1f} ms more",
        )
    ]
    for (name, form), rounds in slow.items():
        spent, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
        count = FORMS[form][1]
        rows.append(
            row(f"140-problem job, {name} against exact, {form}", ratio, "times", GOALS[name][form], "higher",
                f"{spent:.2f} s, from {count} of the problems x 140/{count}")
        )  # fmt: skip
    return rows


def small_job() -> list[dict]:
    """Seventy windows of six bars x two objectives x two exits: 280 problems."""
    found = problems.windows("AAPL", 6, 70, 1, problems.OBJECTIVES)
    batch, few = LevelsBatch.of(found), found[:6]
    ready = [one_torch_call(one) for one in few]

    def both() -> None:
        exact(batch, "target")
        exact(batch, "close")

    fast, ratios = [], []
    for _ in range(ROUNDS):
        fast.append(seconds(both, 7))
        ratios.append(seconds(lambda: [scipy_de(f) for f in ready]) * 280 / len(few) / fast[-1])
    return [
        row("280 problems of 6 bars, exact", 1e3 * statistics.median(fast), "ms", 50),
        row("280 problems of 6 bars, scipy-de against exact, one torch call per candidate",
            statistics.median(ratios), "times", 1000, "higher", "from 6 of the problems x 280/6"),
    ]  # fmt: skip


def evaluators() -> list[dict]:
    """Candidates scored per second: one torch call each, the compiled batch, the grid as a matrix product."""
    found = problems.windows("AAPL", 100, 70, 20, problems.OBJECTIVES)[:20]
    batch = LevelsBatch.of(found)
    points = np.random.default_rng(0).uniform(-0.03, 0.03, (2, len(found), 2000))
    axis = np.tile(np.linspace(-0.03, 0.03, 601), (len(found), 1))
    ready = [one_torch_call(one) for one in found]
    zero = np.zeros(2)

    def single() -> None:
        for f in ready:
            for _ in range(50):
                f(zero)

    def many() -> None:
        levels_value(batch, points[0], points[1], EXIT)

    def grid() -> None:
        levels_grid_torch(batch, axis, axis, EXIT, "cpu", "float64")

    single(), many(), grid()
    rates = []
    for _ in range(5):
        one = len(found) * 50 / seconds(single)
        rates.append((one, points[0].size / seconds(many), len(found) * 601**2 / seconds(grid)))
    one, batched, product = (statistics.median(column) for column in zip(*rates, strict=True))
    return [
        row("candidates scored, compiled batch against one torch call each",
            statistics.median(b / a for a, b, _ in rates), "times", 100, "higher",
            f"{batched / 1e6:.2f} M against {one / 1e3:.1f} k per second, n = 100, one thread"),
        row("candidates scored, torch grid as a matrix product against one torch call each",
            statistics.median(c / a for a, _, c in rates), "times", 1000, "higher",
            f"{product / 1e6:.2f} M per second, float64, CPU"),
    ]  # fmt: skip


def growth() -> list[dict]:
    """Time of one problem as the bars double: all pairs of corners, and the separable exit at the close."""

    def times(lengths: tuple[int, ...], exit: str) -> dict[int, float]:
        batches = {n: LevelsBatch.of([problems.grown(n)]) for n in lengths}
        rounds = [{n: seconds(lambda b=b: exact(b, exit), 3) for n, b in batches.items()} for _ in range(5)]
        return {n: statistics.median(found[n] for found in rounds) for n in lengths}

    squares = times((100, 200, 500, 1000, 2000), "target")
    lines = times((10_000, 20_000), "close")
    shown = ", ".join(f"{n}: {1e3 * spent:.2f} ms" for n, spent in squares.items())
    return [
        row("exact, time at n = 200 against n = 100", squares[200] / squares[100], "times", 5, detail=shown),
        row("exact, time at n = 2,000 against n = 1,000", squares[2000] / squares[1000], "times", 5,
            detail=shown),
        row("exact, exit at the close, time at n = 20,000 against n = 10,000", lines[20_000] / lines[10_000],
            "times", 3, detail=", ".join(f"{n}: {1e3 * spent:.2f} ms" for n, spent in lines.items())),
    ]  # fmt: skip


def _offsets(found: list[LevelsProblem]) -> list[tuple[float, float]]:
    return [(answer.u, answer.v) for answer in exact(LevelsBatch.of(found))]


def workers() -> list[dict]:
    """Four symbols' jobs in one process and in two: the same offsets, bit for bit."""
    jobs = [problems.windows(symbol, 100, 70, 20, problems.OBJECTIVES) for symbol in problems.SYMBOLS]
    alone = [_offsets(found) for found in jobs]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        shared = list(pool.map(_offsets, jobs))
    differ = sum(
        a != b for one, two in zip(alone, shared, strict=True) for a, b in zip(one, two, strict=True)
    )
    count = sum(map(len, jobs))
    return [
        row(
            "two workers against one, answers that differ",
            differ,
            "",
            0,
            detail=f"{count} problems, every bit",
        )
    ]


def quick() -> list[dict]:
    """The quick mode, 35 simulations at default settings, against all 70: time and standard error."""
    settings = Settings.model_validate({"symbols": {"AAPL": {}}})
    bars = sample("AAPL")
    high, low = problems.forecasts(bars)
    preset = PRESETS["long"]
    frames, spent = {}, {35: [], 70: []}

    def simulated(sims: int) -> None:
        cut = cut_windows(len(bars), sims, preset.train, preset.test, preset.step)
        frames[sims] = simulate(bars, high, low, cut, settings.levels, settings.instrument("AAPL"))

    simulated(35)
    for _ in range(ROUNDS):
        for sims, times in spent.items():
            times.append(seconds(lambda s=sims: simulated(s)))
    shares = [few / all for few, all in zip(spent[35], spent[70], strict=True)]
    detail = ", ".join(f"{sims}: {statistics.median(times):.2f} s" for sims, times in spent.items())
    rows = [
        row(
            "quick mode, 35 simulations, time against 70",
            statistics.median(shares),
            "times",
            0.75,
            detail=detail,
        )
    ]
    for strategy in problems.OBJECTIVES:
        found = {}
        for sims, frame in frames.items():
            tuned = frame[
                (frame.strategy == strategy) & (frame.policy == CHOSEN) & (frame.variant == "tuned")
            ]
            found[sims] = [
                tuned[tuned.row == kind].out_of_sample.item() for kind in ("mean", "standard_error")
            ]
        detail = ", ".join(
            f"{sims}: {mean:.2f} +- {error:.2f} bps/bar" for sims, (mean, error) in found.items()
        )
        ratio = found[35][1] / found[70][1]
        rows.append(
            row(f"quick mode, standard error against 70, AAPL {strategy}", ratio, "times", 2, detail=detail)
        )
    return rows


def main() -> None:
    import torch

    torch.set_num_threads(1)
    exact(LevelsBatch.of([problems.recipe()]))
    began = time.perf_counter()
    parts = (job, small_job, evaluators, growth, workers, quick, compare, lambda: walkforward(row))
    rows = [one for part in parts for one in part()]
    write("levels", rows)
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
