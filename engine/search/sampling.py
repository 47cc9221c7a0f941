"""Where a study looks next: quasi-random points first, then a sampler by name.

Every draw comes from a generator seeded for its batch, and the sampler's study is rebuilt from the
finished trials before each batch: the same trials give the same next ones, wherever they run.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.config_sections import Leaf, Search
from engine.lake.records import digest
from engine.search.space import Space, Value
from engine.search.trial import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Chosen = dict[str, Value]
Valid = Callable[[Mapping[str, Value]], bool]
STARTUP_TRIALS = 10  # drawn at random before the model of TPE has a say
MOST_SEEN = 256  # trials that TPE learns from
REACH = 0.1  # of a parameter's range: how far from a centre `near` looks


def batch_seed(seeded_by: str, batch_no: int) -> int:
    """Return the seed of one batch's draws: the first 4 bytes of a hash."""
    return int.from_bytes(hashlib.sha256(f"{seeded_by}:{batch_no}".encode()).digest()[:4], "little")


def screen(space: Space, valid: Valid, size: int, seed: int) -> list[Chosen]:
    """Return up to ``size`` distinct valid points, spread evenly over the space.

    Parameters
    ----------
    space : Space
        What is searched.
    valid : callable
        Whether a configuration meets the strategy's relations.
    size : int
        Points wanted; a small space gives fewer. At most eight times as many are drawn.
    seed : int
        Scrambles the sequence.

    Source: scrambled Sobol sequence (scipy.stats.qmc), whose first 2^m points fill the space evenly.
    """
    from scipy.stats import qmc

    leaves = space.searched
    sequence = qmc.Sobol(len(leaves), scramble=True, rng=np.random.default_rng(seed))
    found: dict[str, Chosen] = {}
    block = max(1, math.ceil(math.log2(max(size, 1))))
    for _ in range(8):
        for point in sequence.random(2**block):
            chosen = {
                name: at(leaf, u) for (name, leaf), u in zip(leaves.items(), point.tolist(), strict=True)
            }
            if valid(space.config(chosen)):
                found.setdefault(digest(chosen, 16), chosen)
            if len(found) == size:
                return list(found.values())
    return list(found.values())


def at(leaf: Leaf, u: float) -> Value:
    """Return the value of a searched parameter at ``u`` in [0, 1): uniform, or in its logarithm.

    >>> at(Leaf(type="int", low=5, high=9, step=2), 0.99)
    9
    """
    if leaf.choices is not None:
        return leaf.choices[int(u * len(leaf.choices))]
    low, high = float(leaf.low or 0.0), float(leaf.high or 0.0)
    whole = leaf.type == "int"
    if leaf.log:
        top = math.log(high + 1) if whole else math.log(high)
        drawn = math.exp(math.log(low) + u * (top - math.log(low)))
        return int(min(max(math.floor(drawn), low), high)) if whole else min(max(drawn, low), high)
    step = leaf.step or (1.0 if whole else None)
    if step is None:
        return low + u * (high - low)
    drawn = low + math.floor(u * (round((high - low) / step) + 1)) * step
    return int(drawn) if whole else min(drawn, high)


def near(space: Space, valid: Valid, centres: Sequence[Chosen], size: int, seed: int) -> list[Chosen]:
    """Return up to ``size`` distinct valid points within a tenth of each parameter's range of the centres.

    Parameters
    ----------
    space : Space
        What is searched. A categorical parameter mostly keeps its choice.
    valid : callable
        Whether a configuration meets the strategy's relations.
    centres : sequence of dict
        Points to look around, by turns. At most eight times ``size`` are drawn.
    size, seed : int
        Points wanted, and what seeds the draws.
    """
    leaves = space.searched
    draws = np.random.default_rng(seed).random((8 * size, len(leaves), 2)).tolist()
    found: dict[str, Chosen] = {}
    for draw, centre in zip(draws, itertools.cycle(centres), strict=False):
        chosen = {
            name: _moved(leaf, centre[name], *u) for (name, leaf), u in zip(leaves.items(), draw, strict=True)
        }
        if valid(space.config(chosen)):
            found.setdefault(digest(chosen, 16), chosen)
        if len(found) == size:
            break
    return list(found.values())


def _moved(leaf: Leaf, value: Value, u: float, v: float) -> Value:
    if leaf.choices is not None:
        return value if u > REACH else at(leaf, v)
    return at(leaf, min(max(place(leaf, value) + REACH * (2 * u - 1), 0.0), math.nextafter(1.0, 0.0)))


def place(leaf: Leaf, value: Value) -> float:
    """Return where in [0, 1] a number lies in its range: `at` gives it back.

    >>> place(Leaf(type="float", low=0.0, high=10.0), 2.5)
    0.25
    """
    low, high, x = float(leaf.low or 0.0), float(leaf.high or 0.0), float(value)
    whole = leaf.type == "int"
    if high <= low:
        return 0.0
    if leaf.log:
        top = math.log(high + 1) if whole else math.log(high)
        return (math.log(x + 0.5 if whole else x) - math.log(low)) / (top - math.log(low))
    step = leaf.step or (1.0 if whole else None)
    if step is None:
        return (x - low) / (high - low)
    return (round((x - low) / step) + 0.5) / (round((high - low) / step) + 1)


def grid(space: Space) -> list[Chosen]:
    """Return every point of a space, the first parameter slowest; all floats need a step."""
    axes = [_values(leaf) for leaf in space.searched.values()]
    return [dict(zip(space.searched, point, strict=True)) for point in itertools.product(*axes)]


def grid_size(space: Space) -> int | None:
    """Return the number of points of the grid; None where a parameter is continuous."""
    sizes = [0 if leaf.type == "float" and leaf.step is None else len(_values(leaf))
             for leaf in space.searched.values()]  # fmt: skip
    return None if 0 in sizes else math.prod(sizes)


def _values(leaf: Leaf) -> list[Value]:
    if leaf.choices is not None:
        return list(leaf.choices)
    low, high, step = float(leaf.low or 0.0), float(leaf.high or 0.0), float(leaf.step or 1.0)
    points = [min(low + k * step, high) for k in range(round((high - low) / step) + 1)]
    return [int(point) for point in points] if leaf.type == "int" else list(points)


def ask(space: Space, search: Search, told: Sequence[Trial], size: int, seed: int) -> list[Chosen]:
    """Return the next points to try, by TPE or at random.

    Parameters
    ----------
    space, search : Space, Search
        What is searched and how.
    told : sequence of Trial
        All trials so far; TPE sees those of `seen_by_sampler`.
    size : int
        Points asked for.
    seed : int
        Of this batch.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = space.distributions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler: Any
        if search.sampler == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=STARTUP_TRIALS
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([frozen(trial, distributions) for trial in seen_by_sampler(told)])
        return [dict(study.ask(distributions).params) for _ in range(size)]


def seen_by_sampler(told: Sequence[Trial]) -> list[Trial]:
    """Return what TPE learns from, in trial order: the complete trials, filled up to 256 by pruned ones.

    Complete trials alone are the survivors of a pruner: without the pruned, TPE has nothing bad to
    tell them from. An ask costs more with every trial seen, hence the limit.
    """
    ran = [trial for trial in told if trial.state != "FAIL" and trial.duplicate_of is None]
    room = MOST_SEEN - sum(trial.state == "COMPLETE" for trial in ran)
    pruned = {trial.number for trial in [t for t in ran if t.state == "PRUNED"][: max(room, 0)]}
    return [trial for trial in ran if trial.state == "COMPLETE" or trial.number in pruned]


def frozen(trial: Trial, distributions: dict[str, Any]) -> FrozenTrial:
    """Return a finished trial in Optuna's form, with the mean score after its last fold."""
    import optuna

    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=states[trial.state],
        value=trial.value if trial.state == "COMPLETE" else None,
        params=dict(trial.chosen),
        distributions=distributions,
        intermediate_values={len(trial.scores): trial.value},
        constraints=dict(sorted(trial.constraints.items())) or None,
    )
