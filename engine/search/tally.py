"""What the trials of one batch did on each inner fold, and how that adds up to their rows.

Folds may be run in any order and by some trials only. They are added up in order of time, so a
trial's row has the same bits whichever fold came first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from engine.search.trial import GATES, SpanResult, Trial

SUMS = ("trades", "signals", "gross_profit", "gross_loss", "fees")
MEANS = ("turnover", "exposure")  # over the bars done
WHOLE = ("trades", "signals")
EMPTY: Mapping[int, int] = MappingProxyType({})


class Tally:
    """Keeps the results of a batch by inner fold.

    Parameters
    ----------
    trials : sequence of Trial
        Those that are run.
    bars : sequence of int
        Bars of each inner fold, in order of time.
    """

    def __init__(self, trials: Sequence[Trial], bars: Sequence[int]) -> None:
        self._row = {trial.number: row for row, trial in enumerate(trials)}
        self._bars = np.array(bars, np.int64)
        shape = (len(bars), len(trials))
        self._ran = np.zeros(shape, np.int64)  # bars
        self._of = {name: np.zeros(shape) for name in ("score", "max_drawdown", *SUMS, *MEANS)}
        self._moments = np.zeros((*shape, 4))
        self._blocked = np.zeros((*shape, len(GATES)), np.int64)
        self._hashes = np.full(shape, "", object)

    def add(
        self, fold: int, trials: Sequence[Trial], result: SpanResult, parts: Mapping[int, int] = EMPTY
    ) -> None:
        """Keep what these trials did on one inner fold.

        ``parts``: bars that a trial ran of it, by number, where that is not the whole fold: the rest of its
        result counts, but no score, and its value is left to the caller.
        """
        rows = [self._row[trial.number] for trial in trials]
        self._ran[fold, rows] = [parts.get(trial.number, int(self._bars[fold])) for trial in trials]
        for name, kept in self._of.items():
            kept[fold, rows] = getattr(result, name)
        self._moments[fold, rows], self._blocked[fold, rows] = result.moments, result.blocked
        self._hashes[fold, rows] = list(result.trades_hash)

    def score(self, trials: Sequence[Trial]) -> None:
        """Give trials what a pruner looks at: scores and value so far, trades, drawdown."""
        rows = [self._row[trial.number] for trial in trials]
        whole = self._ran[:, rows] == self._bars[:, None]
        cut = ((self._ran[:, rows] > 0) & ~whole).any(axis=0).tolist()
        ran = whole.T.tolist()
        scores = self._of["score"][:, rows].T.tolist()
        trades = self._of["trades"][:, rows].sum(axis=0).tolist()
        drawdown = self._of["max_drawdown"][:, rows].max(axis=0).tolist()
        for k, trial in enumerate(trials):
            done = [score for score, there in zip(scores[k], ran[k], strict=True) if there]
            last = len(done)
            if not all(ran[k][:last]):
                last = len(ran[k]) - ran[k][::-1].index(True)
            trial.fold_scores = [
                score if there else None for score, there in zip(scores[k][:last], ran[k], strict=False)
            ]
            # exactly rounded, so it does not matter in which order the folds were run
            if done and not cut[k]:
                trial.value = math.fsum(done) / len(done)
            trial.trades, trial.max_drawdown = int(trades[k]), drawdown[k]

    def close(self, trials: Sequence[Trial]) -> None:
        """Give trials their whole rows."""
        self.score(trials)
        rows = [self._row[trial.number] for trial in trials]
        total = {name: np.zeros(len(rows)) for name in (*SUMS, *MEANS)}
        moments, blocked = np.zeros((len(rows), 4)), np.zeros((len(rows), len(GATES)), np.int64)
        bars = np.zeros(len(rows), np.int64)
        hashes = [""] * len(rows)
        for fold in range(len(self._bars)):
            length = self._ran[fold, rows]
            there = length > 0
            before, bars = bars, bars + length
            for name in SUMS:
                total[name] += self._of[name][fold, rows]
            for name in MEANS:
                mean = (total[name] * before + self._of[name][fold, rows] * length) / np.maximum(bars, 1)
                total[name] = np.where(there, mean, total[name])
            moments += self._moments[fold, rows]
            blocked += self._blocked[fold, rows]
            for k in np.flatnonzero(there).tolist():
                both = (hashes[k] + self._hashes[fold, rows[k]]).encode()
                hashes[k] = hashlib.sha256(both).hexdigest()[:16]
        columns = {
            name: (column.astype(np.int64) if name in WHOLE else column).tolist()
            for name, column in total.items()
        }
        for k, trial in enumerate(trials):
            for name, column in columns.items():
                setattr(trial, name, column[k])
            trial.bars_done, trial.trades_hash = int(bars[k]), hashes[k]
            trial.moments, trial.blocked = moments[k], blocked[k]
