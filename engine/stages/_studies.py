"""Fits of whole windows in worker processes: one symbol on many cores.

Each worker runs whole studies, so their trials are those of a run in one process, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import SearchError
from engine.search.fit import Clock, Fit, Fitter
from engine.search.rules_fit import RulesFitter
from engine.strategies import registry, user


class Window(NamedTuple):
    """A training window: its outer fold (-1: tonight's fit), bars [start, stop), and its name in messages."""

    fold: int
    start: int
    stop: int
    label: str


class Job(NamedTuple):
    """A window to fit, and the ledger's rows that a run which was killed left of its study."""

    window: Window
    told: Sequence[Mapping[str, Any]]


def fit_in_processes(
    fitter: Fitter, jobs: Sequence[Job], workers: int, data_dir: Path, clock: Clock | None = None
) -> Iterator[list[Fit]]:
    """Fit windows, ``workers`` at a time; yield the fits in the order of the jobs, each once it is there.

    Workers load the owner's strategies of the data folder. One that dies costs the studies it was
    running, which are run once more.

    Raises
    ------
    SearchError
        A study killed its worker twice.
    """
    done: dict[int, list[Fit]] = {}
    given = 0  # a fit that is ready waits for those before it
    for attempt in (1, 2):
        left = [number for number in range(len(jobs)) if number not in done]
        if not left:
            break
        pool = ProcessPoolExecutor(
            min(workers, len(left)), get_context("spawn"), initializer=user.load, initargs=(data_dir,)
        )
        try:
            running = {number: pool.submit(_fit, fitter, jobs[number], clock) for number in left}
            for number, future in running.items():
                try:
                    done[number] = future.result()
                except BrokenProcessPool:
                    if attempt == 2:
                        raise SearchError(
                            f"a worker process died twice while fitting {jobs[number].window.label}, "
                            "as when memory runs out (then lower search.max_concurrent) or where a file of "
                            "the data folder's strategies was broken meanwhile (nightfold check names it)"
                        ) from None
                while given in done:
                    yield done[given]
                    given += 1
        finally:  # also where the one who asks is interrupted: what has not begun is left
            pool.shutdown(cancel_futures=True)


def _fit(fitter: Fitter, job: Job, clock: Clock | None = None) -> list[Fit]:
    if isinstance(fitter, RulesFitter) and fitter.config["code"][-1] != registry.code_of(fitter.strategy):
        raise SearchError(
            f"the file of strategy {fitter.strategy.name} was edited while {job.window.label} was fitted; "
            "nothing was stored. Run again: nightfold run"
        )
    return fitter.fit(job.window.start, job.window.stop, lambda text: None, told=job.told, clock=clock)
