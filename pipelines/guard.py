"""What the engine raises on purpose, as Dagster shows it; all else keeps its traceback."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from pipelines import resources

if TYPE_CHECKING:  # definitions load without numba and pyarrow
    from engine.config_file import SettingsFile
    from engine.lake.publish import Lake
    from engine.stages.common import StageResult

Context = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


@contextmanager
def refusals(context: Context) -> Iterator[None]:
    """Say that a symbol is held elsewhere and go on; fail with the message alone on any other refusal.

    Raises
    ------
    dagster.Failure
        The engine refused the data, the settings or the lake; the description is its message.
    """
    from engine.errors import AlreadyRunning, NightfoldError

    try:
        yield
    except AlreadyRunning as running:
        context.log.warning(f"{running}; nothing was materialised")
    except NightfoldError as error:
        # the message says what to do; the way through the code that raised it helps nobody
        raise dg.Failure(str(error), allow_retries=False) from None


def open_symbol(symbol: str) -> SettingsFile:
    """Return the settings as they are now, checked for the work on one symbol.

    Raises
    ------
    ConfigError
        A setting is wrong, or the symbol left the file after Dagster had read it.
    """
    from engine.errors import ConfigError, closest

    file = resources.checked_settings()
    known = file.settings.symbols
    if symbol not in known:
        raise ConfigError(
            f"symbol {symbol!r} is no longer in {file.path.name}. {closest(symbol, known)} "
            "Reload the definitions in the web UI: Deployment > Reload definitions"
        )
    return file


def leaderboard(context: Context, problems: Mapping[str, str]) -> tuple[StageResult, Lake]:
    """Run the leaderboard stage, after any other run that is writing it.

    Waiting is right here, unlike for a symbol: whoever comes last has seen the results of all.

    Raises
    ------
    NightfoldError
        As the stage.
    """
    from engine.errors import AlreadyRunning
    from engine.stages.chain import run_leaderboard

    file = resources.checked_settings()
    lake, said = resources.lake(file), False
    while True:
        try:
            result = run_leaderboard(
                lake,
                file.settings,
                context.log.info,
                cpus=resources.cpus(),
                asof=resources.asof(file),
                problems=problems,
            )
            return result, lake
        except AlreadyRunning as running:
            if not said:
                context.log.info(f"leaderboard waits for its turn ({running})")
            said = True
            time.sleep(0.2)
