"""What the ``nightfold`` commands share: the group, their settings, exit codes, clock and environment.

Exit codes: 0 done (also "already running"), 1 a symbol failed or a check found an error,
2 bad settings or usage and nothing ran, 130 interrupted. Only this module of the engine reads
the clock and the environment.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from engine import kernel_cache
from engine.config_file import SettingsFile, load, stamp_us
from engine.errors import ConfigError, NightfoldError, closest
from engine.symbol_keys import is_canonical

F = TypeVar("F", bound=Callable[..., Any])


def say(text: str) -> None:
    """Print a line of progress."""
    click.echo(text)


def guarded(function: F) -> F:
    """Turn refused settings into exit code 2, other refusals into 1, each with its message alone."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NightfoldError as error:
            click.echo(str(error), err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)
        except KeyboardInterrupt:
            click.echo("interrupted; what was published stays, run again to go on", err=True)
            sys.exit(130)

    return run  # type: ignore[return-value]


def clock_of(file: SettingsFile, asof: str | None) -> int:
    """Return the run's moment, microseconds UTC: as asked for, as set, or now."""
    text = asof or file.settings.asof
    return stamp_us(text) if text else time.time_ns() // 1000


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen(file: SettingsFile, keys: Sequence[str]) -> list[str]:
    """Return the named symbols, each once, or all of them."""
    known = file.settings.symbols
    for key in keys:
        if key not in known:
            name = key.upper()
            addable = name not in known and is_canonical(name)
            from engine.sources.inbox import entry

            line = entry(name, file.data_dir)
            add = f" To add it, write '{line}' under symbols" if addable else ""
            raise ConfigError(f"symbol {key!r} is not in {file.path.name}. {closest(name, known)}{add}")
    return list(dict.fromkeys(keys)) or list(known)


@click.group(
    epilog="Exit codes: 0 done, or already running; 1 a symbol failed or a check found an error; "
    "2 bad settings or usage, nothing ran; 130 interrupted."
)
@click.option(
    "--settings",
    "path",
    type=click.Path(path_type=Path),
    default=Path("nightfold.yaml"),
    show_default=True,
    help="The settings file.",
)
@click.version_option(package_name="nightfold", prog_name="nightfold")
@click.pass_context
def main(context: click.Context, path: Path) -> None:
    """Re-optimise trading strategies and tell the truth about what came out."""
    context.obj = path


def open_settings(context: click.Context, study: Path | None = None) -> SettingsFile:
    """Read the settings, resolve their names, and prepare this process for computing.

    With ``study``, that study file is their only strategy.
    """
    if not context.obj.exists():
        raise ConfigError(
            f"there is no {context.obj.name} in {context.obj.absolute().parent}. "
            "Go to the folder that holds it, or name it: nightfold --settings FILE COMMAND"
        )
    file = load(context.obj, study)
    kernel_cache.use(file.data_dir, os.environ)
    from engine.stages.preflight import preflight

    preflight(file)
    return file
