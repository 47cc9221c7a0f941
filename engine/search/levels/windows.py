"""Walk-forward windows of the named functions: many simulations, newest first.

The pipeline does not use these: its folds are aligned at the start of the series (`engine.search.folds`).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import LevelsInputError


@dataclass(frozen=True)
class Window:
    """One simulation, as half-open ranges of outcome bars; the outcome of bar j is known at its close.

    ``sim`` counts from 0, the newest; ``train_end`` equals ``test_start``.
    """

    sim: int
    train_start: int
    train_end: int
    test_start: int
    test_end: int


@dataclass(frozen=True)
class Preset:
    """Lengths of a simulation in outcome bars."""

    train: int
    test: int
    step: int


PRESETS = {
    "long": Preset(500, 20, 20),
    "seed70": Preset(6, 1, 1),  # as first published: neighbours share 5 of their 6 training bars
}


def windows_that_fit(n: int, train: int, test: int, step: int, *, first: int = 0) -> int:
    """Return how many windows fit into the outcome bars [first, n).

    Raises
    ------
    LevelsInputError
        A length is below 1.
    """
    for name, length in (("train", train), ("test", test), ("step", step)):
        if length < 1:
            raise LevelsInputError(f"levels windows: {name} was {length}, expected at least 1 bar")
    spare = n - first - train - test
    return spare // step + 1 if spare >= 0 else 0


def cut_windows(n: int, sims: int, train: int, test: int, step: int, *, first: int = 0) -> list[Window]:
    """Cut ``sims`` windows, the newest ending at ``n``, each ``step`` bars before the one above.

    Parameters
    ----------
    n : int
        One past the last outcome bar.
    sims, train, test, step : int, >= 1
        How many windows; bars of their parts; bars between two of them.
    first : int
        The first outcome bar that may be used.

    Returns
    -------
    list of Window
        Newest first. Every test part lies behind its training part.

    Raises
    ------
    LevelsInputError
        They do not fit; says how many do.

    >>> cut_windows(10, 2, train=6, test=1, step=1)[1]
    Window(sim=1, train_start=2, train_end=8, test_start=8, test_end=9)
    """
    fit = windows_that_fit(n, train, test, step, first=first)
    if not 1 <= sims <= fit:
        needed = train + test + (max(sims, 1) - 1) * step
        raise LevelsInputError(
            f"levels windows: {sims} simulations of {train} + {test} bars, {step} apart, were asked for; "
            f"{max(n - first, 0)} outcome bars hold {fit} and {needed} are needed. "
            f"Ask for 1 to {fit}, or bring a longer history"
            if fit
            else f"levels windows: {max(n - first, 0)} outcome bars hold no simulation of {train} + {test} "
            "bars; bring a longer history"
        )
    ends = [n - sim * step for sim in range(sims)]
    return [Window(sim, end - test - train, end - test, end - test, end) for sim, end in enumerate(ends)]
