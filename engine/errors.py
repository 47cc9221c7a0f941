"""Every error nightfold raises on purpose, and the helper for packages that may be absent.

One tree, split by whose fault it is. A message says what was found, where, what was
expected, and the command or setting that mends it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class NightfoldError(Exception):
    """Base of the tree; never raised itself."""


class DataError(NightfoldError):
    """Data is missing or impossible.

    Parameters
    ----------
    message : str
        What was found, where, what was expected, how to mend it.
    rule : str
        Id of the broken rule, E01 to E18; it heads the message.
    symbol : str
        Canonical key of the symbol; empty where none is known.
    rows : tuple of str
        The first offending rows (stamps or line numbers).
    """

    def __init__(self, message: str, *, rule: str, symbol: str = "", rows: tuple[str, ...] = ()) -> None:
        super().__init__(f"{rule} {message}")
        self.rule, self.symbol, self.rows = rule, symbol, rows


class ConfigError(NightfoldError):
    """A setting, parameter or argument is unknown or outside its declaration."""


class DeviceUnavailable(ConfigError):
    """A device was asked for and is absent."""


class LakeError(NightfoldError):
    """A table is torn or unknown, a path is refused, or the disk is full or read-only."""


class AlreadyRunning(LakeError):
    """A live run holds the symbol; the command line says so and exits 0."""


class ForecastError(NightfoldError):
    """A model failed or gave nonsense."""


class ForecastInputError(ForecastError):
    """A forecast request has the wrong shape, dtype or columns."""


class WeightsNotFound(ForecastError):
    """A model's files are not where they were looked for; names the folder and what brings them."""


class SearchError(NightfoldError):
    """A study or solver cannot go on."""


class LevelsInputError(SearchError):
    """A levels problem with impossible inputs."""


class SimulationError(NightfoldError):
    """A strategy raised or returned what it may not; names strategy, symbol and bar."""


class MissingExtra(NightfoldError):
    """An optional package is absent; names what needs it and the pip line."""


# what an extra cannot name, because the package's own metadata refuses the Python or the pandas in use
_THEN = {
    "toto": ", then: pip install --no-deps --ignore-requires-python "
    "gluonts toto-2 dd-unit-scaling unit-scaling"
}


def require(module: str, *, needed_by: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Raises
    ------
    MissingExtra
        ``module`` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        itself = (error.name or "").split(".")[0] == module.split(".")[0]
        if not itself and extra not in _THEN:
            raise
        raise MissingExtra(
            f"{needed_by} needs {module if itself else error.name}, which is not installed. "
            f'Run, in the root of the project: pip install -c constraints.txt -e ".[{extra}]"'
            f"{_THEN.get(extra, '')}"
        ) from None


def closest(name: object, known: Iterable[str]) -> str:
    """Return ``"Closest: a, b, c."`` for an unknown name, or all known names if none is close."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    return f"Closest: {', '.join(near)}." if near else f"Known: {', '.join(names)}."
