"""Parameters that changed nothing: two configurations of a study that made the very same trades."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from engine.search.trial import Trial

FEWEST_PAIRS = 3  # one may be chance
MOST_ALIKE = 64  # trials with the same trades that are compared with each other


def inert_parameters(trials: Sequence[Trial]) -> list[str]:
    """Return the parameters that explain every pair of trials with the same trades, sorted.

    Parameters
    ----------
    trials : sequence of Trial
        Of one study. Compared are those that ran every inner fold and traded.

    Returns
    -------
    list of str
        Those in which a pair differs alone, if every pair differs in one of these; otherwise those in
        which all pairs differ. Empty where neither explains every pair, there are under 3 pairs, or two
        trials that differ in it alone traded differently.
    """
    by_trades: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        if trial.state == "COMPLETE" and trial.trades and trial.duplicate_of is None:
            by_trades.setdefault((trial.trades_hash, trial.trades), []).append(trial)
    pairs = [_between(one, other) for alike in by_trades.values() for one, other in _pairs(alike)]
    if len(pairs) < FEWEST_PAIRS:
        return []
    alone = frozenset(name for pair in pairs if len(pair) == 1 for name in pair)
    found = alone if all(pair & alone for pair in pairs) else frozenset.intersection(*pairs)
    ran = [trial for alike in by_trades.values() for trial in alike]
    mattered = [_between(one, other) for one, other in _pairs(ran) if one.trades_hash != other.trades_hash]
    return sorted(found - {name for names in mattered if len(names) == 1 for name in names})


def _pairs(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    return itertools.combinations(trials[:MOST_ALIKE], 2)


def _between(one: Trial, other: Trial) -> frozenset[str]:
    return frozenset(name for name, value in one.config.items() if other.config[name] != value)
