"""The search of a rules strategy: what pruning loses, what the screen finds, what recording costs.

Run by ``make bench-search``. 40 sweeps: the trend strategy on ten training windows of each of the
sample's four symbols. Everything runs in one process on one core.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from record import row, write  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
WINDOWS, TRIALS = 10, 200


class TimeUp(Exception):  # noqa: N818
    """Raised to stop a study when its time is used."""


def sweeps() -> list:
    """Return (fitter, train_from, train_to) of 40 training windows."""
    from engine.config_file import load
    from engine.features.table import FeatureSet
    from engine.search.folds import walk_forward
    from engine.search.rules_fit import RulesFitter
    from engine.simulation import adjusted_tick
    from engine.sources import sample
    from engine.stages.common import execution_of
    from engine.strategies import registry

    settings = load(ROOT / "nightfold.yaml").settings
    found = []
    for symbol in settings.symbols:
        instrument, bars = settings.instrument(symbol), sample(symbol)
        features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
        entry = next(e for e in settings.entries(symbol) if e.strategy == "trend")
        fitter = RulesFitter(
            features, registry.get("trend"), entry, execution_of(instrument, entry), settings.seed
        )
        folds = walk_forward(len(bars), entry.folds, 0)
        for number in np.linspace(0, len(folds) - 1, WINDOWS).astype(int):
            found.append((fitter, folds[number].train_from, folds[number].train_to))
    return found


def task_of(fitter, start: int, stop: int, folds: int, **search):  # noqa: ANN001, ANN003, ANN201
    """Return the study of one window with other search settings."""
    from engine.search.folds import inner_spans
    from engine.search.study import Task
    from engine.strategies.registry import valid

    settings = fitter.entry.search.model_copy(update=search)
    limits = fitter.entry.constraints.model_copy(update={"min_trades": None, "max_drawdown": None})
    spans = inner_spans(start, stop, folds)
    return Task(
        fitter._evaluate,
        fitter.space,
        lambda c: valid(fitter.strategy, c),
        spans,
        settings,
        limits,
        "bench",
        f"{fitter.features.bars.symbol} {start}",
    )


def replay(windows: list, folds: int) -> dict[str, list[tuple[float, float, bool]]]:
    """Return (bars evaluated, regret in sd, best found) of each rule on each window, from full scores."""
    from engine.search.pruning import OptunaJudge, loses_race, rungs, survivors
    from engine.search.study import run_study
    from engine.search.trial import Trial

    out: dict[str, list[tuple[float, float, bool]]] = {}
    for fitter, start, stop in windows:
        task = task_of(
            fitter, start, stop, folds, sampler="random", screen=TRIALS, max_trials=1, batch=1, pruner="none"
        )
        trials = [t for t in run_study(task) if t.batch == 0]
        scores = np.array([t.fold_scores for t in trials])
        fold_bars = min(b - a for a, b in task.spans)

        def halved(batch: int, scores: np.ndarray = scores, fold_bars: int = fold_bars) -> np.ndarray:
            done = np.full(len(scores), folds)
            for first in range(0, len(scores), batch):
                live = list(range(first, min(first + batch, len(scores))))
                for rung in rungs(folds, fold_bars, len(live)):
                    kept = survivors(live, [scores[k, :rung].mean() for k in live], batch)
                    done[[k for k in live if k not in kept]] = rung
                    live = kept
            return done

        def raced(scores: np.ndarray = scores) -> np.ndarray:
            done, best = np.full(len(scores), folds), 0
            for k in range(1, len(scores)):
                lost = (
                    n for n in range(5, folds) if loses_race(scores[k, :n].tolist(), scores[best].tolist())
                )
                done[k] = next(lost, folds)
                if done[k] == folds and scores[k].mean() > scores[best].mean():
                    best = k
            return done

        def by_median(task=task, trials=trials, scores=scores) -> np.ndarray:  # noqa: ANN001
            judge, done = OptunaJudge("median", task.space, [], folds, 0), np.full(len(scores), folds)
            for k, full in enumerate(trials):
                trial = Trial(k, 0, full.chosen, full.config)
                for n in range(1, folds + 1):
                    trial.fold_scores.append(float(scores[k, n - 1]))
                    if judge.prunes(trial) and n < folds:
                        done[k], trial.state = n, "PRUNED"
                        break
                trial.value = float(scores[k].mean())
                judge.close(trial)
            return done

        means, spread = scores.mean(axis=1), scores.mean(axis=1).std(ddof=1)
        rules = {
            "halving, 200 at once": lambda: halved(TRIALS),
            "halving, batches of 64": lambda: halved(64),
            "halving, batches of 16": lambda: halved(16),
            "race": raced,
            "optuna:median": by_median,
        }
        for name, rule in rules.items():
            done = rule()
            kept = means[done == folds].max()
            out.setdefault(name, []).append(
                (done.sum() / (folds * len(scores)), (means.max() - kept) / spread, bool(kept == means.max()))
            )
    return out


def pruning_rows(windows: list) -> list[dict]:
    """Return one row a rule and number of folds."""
    rows = []
    for folds, most_bars in ((32, 0.30), (8, 0.55)):
        for name, found in replay(windows, folds).items():
            bars, regret, best = (float(np.mean(column)) for column in zip(*found, strict=True))
            detail = f"{len(found)} sweeps of {TRIALS} trials, {folds} inner folds"
            goals = name == "halving, 200 at once"
            rows += [
                row(
                    f"{name}, {folds} folds: bars evaluated",
                    bars,
                    "share",
                    most_bars if goals else None,
                    "lower",
                    detail,
                ),
                row(
                    f"{name}, {folds} folds: mean regret",
                    regret,
                    "sd",
                    0.1 if goals else None,
                    "lower",
                    detail,
                ),
                row(
                    f"{name}, {folds} folds: best found",
                    100 * best,
                    "%",
                    85 if goals else None,
                    "higher",
                    detail,
                ),
            ]
    return rows


def phase_rows(windows: list) -> list[dict]:
    """Return how often the two phases find more than TPE alone in the same time."""
    from engine.search.study import run_study
    from engine.search.trial import best_of

    wins, ties, seconds, sizes = 0, 0, [], []
    for fitter, start, stop in windows:
        began = time.perf_counter()
        two = best_of(run_study(task_of(fitter, start, stop, 8)))
        budget = time.perf_counter() - began
        kept: list = []
        began = time.perf_counter()

        def keep(trials: list, kept: list = kept, began: float = began, budget: float = budget) -> None:
            kept.extend(trials)
            if time.perf_counter() - began > budget:
                raise TimeUp

        try:
            run_study(task_of(fitter, start, stop, 8, screen=0, max_trials=10**6), save=keep, save_bars=1)
        except TimeUp:
            pass
        alone = best_of(kept)
        wins += two.value > alone.value
        ties += two.value == alone.value
        seconds.append(budget)
        sizes.append(len(kept))
    detail = (
        f"{len(windows)} sweeps, {ties} ties, {statistics.mean(seconds):.2f} s each; TPE alone tries "
        f"{statistics.mean(sizes):.0f} configurations in it"
    )
    return [
        row(
            "two phases find more than TPE alone in the same time",
            100 * wins / len(windows),
            "%",
            80,
            "higher",
            detail,
        )
    ]


def cost_rows(windows: list) -> list[dict]:
    """Return the rate of the screen with recording, what the sampler costs, and how fast a study resumes."""
    from engine.search import sampling
    from engine.search.ledger import from_rows, to_rows
    from engine.search.study import run_study
    from engine.stages.common import to_table

    fitter, start, stop = windows[0]
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


def main() -> None:
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache

    kernel_cache.warm()
    windows = sweeps()
    write("search", cost_rows(windows) + phase_rows(windows) + pruning_rows(windows))


if __name__ == "__main__":
    main()
