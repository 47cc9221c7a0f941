"""A made landscape: the score of a configuration on a span is known in closed form."""

import math
from dataclasses import dataclass, field

import numpy as np

from engine.config_sections import Constraints, Leaf, Search
from engine.search.space import Space
from engine.search.study import Task, run_study
from engine.search.trial import SpanResult

SPANS = tuple((100 * k, 100 * (k + 1)) for k in range(8))  # 8 inner folds of 100 bars: rungs 3 and 5
SPACE = Space({"x": Leaf(type="int", low=0, high=99), "y": Leaf(type="int", low=0, high=99)}, {"z": 1.5})
NONE = Constraints(min_trades=None, max_drawdown=None)


def hill(config, start):
    """Highest at x = 70, y = 30; each span adds its own small ripple."""
    ripple = math.sin(1e-2 * start * (1 + config["x"] % 7))
    return 10 - (config["x"] - 70) ** 2 / 200 - (config["y"] - 30) ** 2 / 200 + 0.2 * ripple


@dataclass
class Landscape:
    """Evaluates configurations; keeps every call."""

    score: object = hill
    trades: object = lambda config, start: 5
    signals: object = lambda config, start: 5
    drawdown: object = lambda config, start: 0.1
    gains: object = lambda config, start: (3.0, 2.0)
    blocked: tuple = (0, 0, 0, 0, 0)
    turnover: float = 3.0
    chunk: int = 10**9
    calls: list = field(default_factory=list)
    bars: int = 0

    def __call__(self, configs, start, stop, watch=None):
        if watch is not None:
            return self._watched(configs, start, stop, watch)
        self.calls.append(([dict(config) for config in configs], start, stop))
        parts = [configs[i : i + self.chunk] for i in range(0, len(configs), self.chunk)]
        return SpanResult(*self._columns([config for part in parts for config in part], start))

    def _columns(self, configs, start):
        def column(function):
            return np.array([function(config, start) for config in configs])

        moments = np.array([[1.0, 2.0, 3.0, 4.0]] * len(configs))
        gains = np.array([self.gains(config, start) for config in configs]).reshape(-1, 2)
        hashes = [f"{start}:{sorted(config.items())}" for config in configs]
        return (
            column(self.score).astype(float), column(self.trades), column(self.signals), gains[:, 0],
            gains[:, 1], np.ones(len(configs)), column(self.drawdown), np.full(len(configs), self.turnover),
            np.full(len(configs), 0.5), np.array([self.blocked] * len(configs)), moments, hashes,
        )  # fmt: skip

    def _watched(self, configs, start, stop, watch):
        """Grow to each score's equity bar by bar, so that the value at the end is the score itself."""
        self.calls.append(([dict(config) for config in configs], start, stop))
        result = SpanResult(*self._columns(configs, start))
        alive, length = np.ones(len(configs), bool), stop - start
        for bars in range(watch.every, length, watch.every):
            value = np.expm1(result.score * bars / 1e4)
            alive &= ~watch.look(bars, value, alive.copy())
            self.bars += int(alive.sum()) * watch.every
        return result

    def run(self, search=None, limits=NONE, *, space=SPACE, valid=lambda config: True, spans=SPANS, seed=0,
            study_id="s", **more):  # fmt: skip
        search = search or Search(screen=0, max_trials=48, batch=16)
        task = Task(self, space, valid, spans, search, limits, study_id, f"{seed}")
        return run_study(task, **more)


def key_of(trials):
    return [
        (t.number, t.batch, t.config, t.state, t.outcome, t.value, t.fold_scores, t.pruned_step,
         t.constraints, t.duplicate_of, t.trades_hash, t.moments.tolist())
        for t in trials
    ]  # fmt: skip
