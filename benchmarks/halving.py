"""What halving loses: the best value each trend study of the sample finds, with and without it.

Run by ``make bench-halving``. Every second outer fold of the four symbols; the same trials budget
in each arm.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from record import row, write  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
ARMS = {
    "halving": ("halving", 64),
    "halving without probes": ("halving", 10**9),  # every batch cut as a small one: folds in order of time
    "no pruning": ("none", 64),
}


def main() -> None:
    import pipelines  # noqa: F401  (points numba at its cache)
    from engine import kernel_cache
    from engine.config_file import load
    from engine.features.table import FeatureSet
    from engine.search import pruning
    from engine.search.folds import walk_forward
    from engine.search.rules_fit import RulesFitter
    from engine.simulation import adjusted_tick
    from engine.sources import sample
    from engine.stages.common import execution_of
    from engine.strategies import registry

    kernel_cache.warm()
    settings = load(ROOT / "nightfold.yaml").settings
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    seconds, complete = dict.fromkeys(ARMS, 0.0), {name: [] for name in ARMS}
    for symbol in settings.symbols:
        instrument, bars = settings.instrument(symbol), sample(symbol)
        features = FeatureSet(bars, adjusted_tick(bars, instrument.tick))
        entry = next(e for e in settings.entries(symbol) if e.strategy == "trend")
        for fold in walk_forward(len(bars), entry.folds, 0)[::2]:
            for name, (pruner, large) in ARMS.items():
                pruning.LARGE_BATCH = large
                search = entry.search.model_copy(update={"pruner": pruner})
                fitter = RulesFitter(
                    features, registry.get("trend"), entry.model_copy(update={"search": search}),
                    execution_of(instrument, entry), settings.seed,
                )  # fmt: skip
                began = time.perf_counter()
                fit = fitter.fit(fold.train_from, fold.train_to, lambda text: None)[0]
                seconds[name] += time.perf_counter() - began
                found[name].append(fit.in_sample)
                complete[name].append(sum(trial.state == "COMPLETE" for trial in fit.trials))
    mean = {name: float(np.nanmean(values)) for name, values in found.items()}
    goal = mean["no pruning"] * 0.95  # halving may lose a twentieth of what a full run finds
    write(
        "halving",
        [
            row(f"best value found, {name}", mean[name], "bps/bar", goal, "higher",
                detail=f"{len(found[name])} studies, {np.mean(complete[name]):.1f} trials complete, "
                       f"{seconds[name]:.1f} s")
            for name in ARMS
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
