"""What a study is about: what is searched, how a configuration is evaluated, and by which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engine.config_sections import Constraints, Search
from engine.search import sampling
from engine.search.space import Space, Value
from engine.search.trial import SpanResult

Bools = npt.NDArray[np.bool_]


class Watch(NamedTuple):
    """Looks at an evaluation while it runs.

    Parameters
    ----------
    every : int
        Bars between two looks, while bars remain.
    look : callable (bars, value, alive) -> bool array, shape (P,)
        Told the bars done, equity / initial cash - 1 of each configuration, and which still run;
        returns which to stop there.
    """

    every: int
    look: Callable[[int, npt.NDArray[np.float64], Bools], Bools]


class Evaluate(Protocol):
    """Runs P configurations over the bars [start, stop), each from flat."""

    def __call__(
        self, configs: Sequence[Mapping[str, Value]], start: int, stop: int, watch: Watch | None = None, /
    ) -> SpanResult:
        """Return the results; those of a configuration that ``watch`` stopped are of its part."""
        ...


@dataclass(frozen=True)
class Task:
    """What a study is about; nothing in it changes while it runs.

    Parameters
    ----------
    evaluate : Evaluate
        ``(configs, start, stop) -> SpanResult`` over the bars [start, stop).
    space : Space
        What is searched; with nothing to search one trial is run.
    valid : callable
        Whether a configuration meets the strategy's declared relations.
    spans : sequence of (int, int)
        Inner folds, bar indices; each starts flat.
    search, constraints : Search, Constraints
        Settings of the study.
    study_id : str
        Names the study in messages.
    seeded_by : str
        With the batch's number it seeds every draw.
    objective : str
        What ``evaluate`` scores; with ``search.report`` in bars ``log_growth`` or ``roi``.
    """

    evaluate: Evaluate
    space: Space
    valid: sampling.Valid
    spans: Sequence[tuple[int, int]]
    search: Search
    constraints: Constraints
    study_id: str
    seeded_by: str
    objective: str = "log_growth"

    @property
    def bars(self) -> int:
        """Return the scored bars of a complete trial."""
        return sum(stop - start for start, stop in self.spans)
