"""The search of a rules strategy: what pruning loses, what the screen finds, what recording costs.

Run by ``make bench-search``. 40 sweeps of 200 trials each: with 8 inner folds the trend strategy on
ten training windows of each of the sample's four symbols, with 32 on all bars of its three long ones;
what they are and two other sets: search_sweeps.py. Everything runs in one process on one core.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from record import row, write  # noqa: E402
from search_sweeps import TRIALS, fitter_of, sweeps, task_of, windows  # noqa: E402


class TimeUp(Exception):  # noqa: N818
    """Raised to stop a study when its time is used."""


def halved(scores: np.ndarray, fold_bars: int, batch: int, first: float | None = None) -> np.ndarray:
    """Return after how many folds a study with halving stops each trial of a sweep, shape (trials,).

    `first`: share that goes on at the first cut, instead of the default.
    """
    from engine.config_sections import Constraints, Leaf, Search
    from engine.search import study
    from engine.search.space import Space
    from engine.search.trial import SpanResult

    count, folds = scores.shape
    usual = study.share_kept

    def look_up(configs, start: int, stop: int) -> SpanResult:  # noqa: ANN001
        rows = [config["row"] for config in configs]
        zeros, ones = np.zeros(len(rows)), np.ones(len(rows), np.int64)
        return SpanResult(
            scores[rows, start // fold_bars], ones, ones, *[zeros] * 6,
            np.zeros((len(rows), 5), np.int64), np.zeros((len(rows), 4)), [""] * len(rows),
        )  # fmt: skip

    task = study.Task(
        look_up,
        Space({"row": Leaf(type="int", low=0, high=count - 1)}, {}),
        lambda config: True,
        [(fold_bars * k, fold_bars * (k + 1)) for k in range(folds)],
        Search(sampler="grid", screen=0, max_trials=count, batch=batch),
        Constraints(min_trades=None, max_drawdown=None),
        "bench",
        "0",
    )
    study.share_kept = lambda rung, size: first if first and rung == 0 else usual(rung, size)
    try:
        return np.array([len(trial.scores) for trial in study.run_study(task)])
    finally:
        study.share_kept = usual


def raced(scores: np.ndarray) -> np.ndarray:
    """Return the same for the race, trial after trial."""
    from engine.search.pruning import loses_race

    count, folds = scores.shape
    done, best = np.full(count, folds), 0
    for k in range(1, count):
        lost = (n for n in range(1, folds) if loses_race(scores[k, :n].tolist(), scores[best].tolist()))
        done[k] = next(lost, folds)
        if done[k] == folds and scores[k].mean() > scores[best].mean():
            best = k
    return done


def by_median(scores: np.ndarray) -> np.ndarray:
    """Return the same for Optuna's median pruner, trial after trial."""
    from engine.config_sections import Leaf
    from engine.search.pruning import OptunaJudge
    from engine.search.space import Space
    from engine.search.trial import Trial

    count, folds = scores.shape
    space = Space({"row": Leaf(type="int", low=0, high=count - 1)}, {})
    judge, done = OptunaJudge("median", space, [], folds, 0), np.full(count, folds)
    for k in range(count):
        trial = Trial(k, 0, {"row": k}, {"row": k})
        for n in range(1, folds + 1):
            trial.fold_scores.append(float(scores[k, n - 1]))
            if judge.prunes(trial) and n < folds:
                done[k], trial.state = n, "PRUNED"
                break
        trial.value = float(scores[k].mean())
        judge.close(trial)
    return done


def lost(scores: np.ndarray, done: np.ndarray) -> tuple[float, float, float, bool]:
    """Return share of bars, regret in sd of the trials and in bps a bar, and whether the best was found."""
    means = scores.mean(axis=1)
    gap = means.max() - means[done == scores.shape[1]].max()
    return done.mean() / scores.shape[1], gap / means.std(ddof=1), gap, gap == 0


SETS = {
    "trend": "the trend strategy on the sample",
    "made": "the trend strategy on made markets, half random walks, half with trends",
    "average": "crossings of two random averages on the sample, one continuous run",
}


def pruning_rows() -> list[dict]:
    """Return what each rule costs and loses, for each set of sweeps and number of folds."""
    rows = []
    for kind, text in SETS.items():
        for folds, most_bars in ((32, 0.30), (8, 0.55)):
            found = sweeps(kind, folds)
            fold_bars = 125 if folds == 8 else 94
            rules = {
                "halving, 200 at once": lambda s, bars=fold_bars: halved(s, bars, TRIALS),
                "race": raced,
            }
            goals_of = {"halving, 200 at once": (most_bars, 0.1, 85), "race": (0.7, 0.02, 90)}
            if kind == "trend":
                rules |= {
                    "halving, batches of 64": lambda s, bars=fold_bars: halved(s, bars, 64),
                    "halving, batches of 16": lambda s, bars=fold_bars: halved(s, bars, 16),
                    "optuna:median": by_median,
                }
            if kind == "trend" and folds == 32:  # the curve: more bars, more found; the default is 3/8
                for first in (0.25, 0.5, 0.75, 1.0):
                    rules[f"halving, 200 at once, {first:.0%} past the first cut"] = (
                        lambda s, bars=fold_bars, first=first: halved(s, bars, TRIALS, first)
                    )
            for name, rule in rules.items():
                bars, regret, bps, best = np.mean([lost(s, rule(s)) for s in found], axis=0)
                detail = f"{len(found)} sweeps of {TRIALS} trials: {text}; {bps:.3f} bps/bar lost"
                label, goals = f"{kind}: {name}, {folds} folds", goals_of.get(name, (None, None, None))
                rows += [
                    row(f"{label}: {what}", value, unit, goal, better, detail)
                    for what, value, unit, goal, better in (
                        ("bars evaluated", bars, "share", goals[0], "lower"),
                        ("mean regret", regret, "sd", goals[1], "lower"),
                        ("best found", 100 * best, "%", goals[2], "higher"),
                    )
                ]
    return rows


def phase_rows(found: list) -> list[dict]:
    """Return how often the two phases find more than TPE alone in the same time.

    Processor time: both run in one thread, and other programs do not count.
    """
    from engine.search.study import run_study
    from engine.search.trial import best_of

    gains, seconds, sizes = [], [], []
    for draw, (fitter, start, stop) in enumerate(found):
        began = time.process_time()
        two = best_of(run_study(task_of(fitter, start, stop, 8, draw)))
        budget = time.process_time() - began
        kept: list = []
        began = time.process_time()

        def keep(trials: list, kept: list = kept, began: float = began, budget: float = budget) -> None:
            kept.extend(trials)
            if time.process_time() - began > budget:
                raise TimeUp

        try:
            run_study(
                task_of(fitter, start, stop, 8, draw, screen=0, max_trials=10**6), save=keep, save_bars=1
            )
        except TimeUp:
            pass
        gains.append(two.value - best_of(kept).value)
        seconds.append(budget)
        sizes.append(len(kept))
    detail = (
        f"{len(found)} sweeps, {gains.count(0.0)} ties, {statistics.mean(seconds):.2f} s each; TPE alone "
        f"tries {statistics.mean(sizes):.0f} configurations, finds {statistics.mean(gains):.2f} bps/bar less"
    )
    share = 100 * sum(gain > 0 for gain in gains) / len(gains)
    return [row("two phases find more than TPE alone in the same time", share, "%", 80, "higher", detail)]


def cost_rows(found: list) -> list[dict]:
    """Return the rate of the screen with recording, what the sampler costs, and how fast a study resumes."""
    from engine.search import sampling
    from engine.search.ledger import from_rows, to_rows
    from engine.search.study import run_study
    from engine.stages.common import to_table

    fitter, start, stop = found[0]
    common = {
        "symbol": "AAPL",
        "strategy": "trend",
        "fold": 0,
        "study_id": "x",
        "data_id": "x",
        "config_hash": "x",
        "seed": 0,
    }
    task = task_of(
        fitter, start, stop, 5, screen=4096, max_trials=1, batch=1, sampler="random", pruner="none"
    )
    run_study(task)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        trials = [t for t in run_study(task) if t.batch == 0]
        table = to_table("trials", to_rows(trials, common))
        rates.append(len(trials) / (time.perf_counter() - began))
    told = run_study(task_of(fitter, start, stop, 8))
    began = time.perf_counter()
    sampling.ask(fitter.space, fitter.entry.search, told, 16, 0)
    ask = (time.perf_counter() - began) / 16
    rows = table.to_pylist() * 3
    for number, found in enumerate(rows):
        found["trial_number"], found["batch_no"] = number, number // 16
    began = time.perf_counter()
    back = from_rows(rows[:10_000], fitter.space)
    sampling.ask(fitter.space, fitter.entry.search, back, 16, 0)
    resumed = time.perf_counter() - began
    return [
        row(
            "screen, recording included",
            statistics.median(rates),
            "trials/s",
            5000,
            "higher",
            f"{stop - start} bars in 5 inner folds, 4,096 candidates, one core",
        ),
        row(
            "TPE, one ask", 1e3 * ask, "ms", None, "lower", f"after {len(told)} trials, of which it sees 256"
        ),
        row(
            "a study of 10,000 trials goes on after",
            resumed,
            "s",
            3,
            "lower",
            "rows read back, next batch asked",
        ),
    ]


def saving_rows() -> list[dict]:
    """Return what cutting a run into spans costs, and what halving costs and saves on long series."""
    from engine.bars.synthetic import make_bars
    from engine.search import sampling, study
    from engine.search.trial import Trial

    fitter = fitter_of("AAPL", make_bars(1, 100_250))
    configs = [
        fitter.space.config(point)
        for point in sampling.screen(fitter.space, lambda c: c["fast"] < c["slow"], 10_000, 0)
    ]

    def spent(spans: list[tuple[int, int]]) -> float:
        began = time.process_time()
        for start, stop in spans:
            fitter._evaluate(configs, start, stop)
        return time.process_time() - began

    spent([(250, 2250)])
    whole, cut = (min(spent(spans) for _ in range(3)) for spans in (
        [(250, 2250)], [(250 + 500 * k, 750 + 500 * k) for k in range(4)]))  # fmt: skip

    def batch_of(trials: int, folds: int, bars: int, pruner: str) -> tuple[float, float]:
        """Return seconds of one batch: all of it, and the compiled simulator's part."""
        inside = [0.0]

        def timed(configs, start: int, stop: int):  # noqa: ANN001, ANN202
            began = time.process_time()
            result = fitter._evaluate(configs, start, stop)
            inside[0] += time.process_time() - began
            return result

        task = replace(task_of(fitter, 250, 250 + bars, folds, pruner=pruner), evaluate=timed)
        batch = [Trial(k, 0, config, config) for k, config in enumerate(configs[:trials])]
        began = time.process_time()
        study._evaluate_batch(task, batch, [])
        return time.process_time() - began, inside[0]

    total, inside = min(batch_of(200, 8, 100_000, "halving") for _ in range(3))
    full, halving = (batch_of(10_000, 32, 32_000, pruner)[0] for pruner in ("none", "halving"))
    return [
        row("a run cut into spans of 500 bars costs more", 100 * (cut / whole - 1), "%", 5, "lower",
            "10,000 configurations, 2,000 bars; each span starts flat and has metrics of its own"),
        row("a study's own work beside the simulator", 100 * (total / inside - 1), "%", 2, "lower",
            "200 trials, 8 inner folds of 12,500 bars, halving; without drawing the points"),
        row("halving takes so much less processor time", full / halving, "x", 2, "higher",
            f"10,000 configurations, 32 inner folds of 1,000 bars; {full:.1f} s without"),
    ]  # fmt: skip


def main() -> None:
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache

    kernel_cache.warm()
    found = windows()
    write("search", cost_rows(found) + saving_rows() + phase_rows(found) + pruning_rows())


if __name__ == "__main__":
    main()
