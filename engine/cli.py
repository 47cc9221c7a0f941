"""The ``nightfold`` command: the same stages as in Dagster, without a daemon.

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
from engine.errors import AlreadyRunning, ConfigError, NightfoldError, closest
from engine.symbol_keys import is_canonical

F = TypeVar("F", bound=Callable[..., Any])


def _say(text: str) -> None:
    click.echo(text)


def _guarded(function: F) -> F:
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


def _clock(file: SettingsFile, asof: str | None) -> int:
    text = asof or file.settings.asof
    return stamp_us(text) if text else time.time_ns() // 1000


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen(file: SettingsFile, keys: Sequence[str]) -> list[str]:
    """Return the named symbols, each once, or all of them."""
    known = file.settings.symbols
    for key in keys:
        if key not in known:
            name = key.upper()
            addable = name not in known and is_canonical(name)
            add = f" To add it, write '{name}: {{}}' under symbols" if addable else ""
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
@click.pass_context
def main(context: click.Context, path: Path) -> None:
    """Re-optimise trading strategies and tell the truth about what came out."""
    context.obj = path


def _open(context: click.Context) -> SettingsFile:
    """Read the settings, resolve their names, and prepare this process for computing."""
    if not context.obj.exists():
        raise ConfigError(
            f"there is no {context.obj.name} in {context.obj.absolute().parent}. "
            "Go to the folder that holds it, or name it: nightfold --settings FILE COMMAND"
        )
    file = load(context.obj)
    kernel_cache.use(file.data_dir, os.environ)
    from engine.stages.preflight import preflight

    preflight(file)
    return file


@main.command()
@click.argument("keys", nargs=-1)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Symbols at a time.")
@click.option("--stage", help="Only this stage of the symbols.")
@click.option("--asof", help="ISO time: take only bars complete by then. Default: now.")
@click.pass_context
@_guarded
def run(
    context: click.Context, keys: tuple[str, ...], workers: int, stage: str | None, asof: str | None
) -> None:
    """Run the six stages of the named symbols (default: all)."""
    file = _open(context)
    from engine.stages.common import STAGES

    if stage is not None and stage not in STAGES:
        raise ConfigError(f"stage {stage!r} is not known. {closest(stage, STAGES)}")
    symbols, clock = _chosen(file, keys), _clock(file, asof)
    from engine.stages.workers import Outcome, attempt, run_symbols

    outcomes: dict[str, Outcome] = {}
    if stage != "leaderboard":
        outcomes = run_symbols(file, symbols, workers, stage, clock, _cpus(), _say)
    problems = {symbol: outcome for symbol, outcome in outcomes.items() if outcome}
    idle = bool(outcomes) and all(outcome is None for outcome in outcomes.values())
    if stage in (None, "leaderboard") and not idle:
        outcome = attempt("leaderboard", lambda: _leaderboard(file, symbols, problems, clock), _say)
        problems |= {"leaderboard": outcome} if outcome else {}
    for name, message in problems.items():
        click.echo(f"{name} failed: {message}", err=True)
    sys.exit(1 if problems else 0)


def _leaderboard(file: SettingsFile, symbols: Sequence[str], problems: dict[str, str], clock: int) -> None:
    """Run the last stage and print what came out."""
    from engine.lake.publish import Lake
    from engine.reports import terminal
    from engine.stages.chain import run_leaderboard

    lake, console = Lake(file.data_dir), terminal.console()
    try:
        result = run_leaderboard(lake, file.settings, _say, cpus=_cpus(), asof=clock, problems=problems)
    except AlreadyRunning:
        _say("leaderboard: another run writes it now; when that is done: nightfold run --stage leaderboard")
        return
    terminal.print_next_orders(console, lake, symbols, problems)
    terminal.print_leaderboard(console, lake, symbols, problems)
    click.echo(f"report: {result.metadata['report']}")


@main.command()
@click.argument("file_or_key", required=False)
@click.option("--print", "print_settings", is_flag=True, help="Print the settings, defaults filled in.")
@click.option("--strategies", is_flag=True, help="List the strategies and their parameters.")
@click.option("--features", is_flag=True, help="List the features and their parameters.")
@click.pass_context
@_guarded
def check(
    context: click.Context, file_or_key: str | None, print_settings: bool, strategies: bool, features: bool
) -> None:
    """Check the settings and every symbol's data, or one data file; nothing is stored."""
    lists = print_settings or strategies or features
    if lists and file_or_key is not None:
        raise click.UsageError(
            f"--print, --strategies and --features take no file or key; found {file_or_key}"
        )
    file = _open(context)
    from engine.stages import examine

    if lists:
        if print_settings:
            import yaml

            values = file.settings.model_dump(mode="json", by_alias=True)
            click.echo(yaml.safe_dump(values, sort_keys=False), nl=False)
        for line in examine.strategies() if strategies else ():
            click.echo(line)
        for line in examine.features() if features else ():
            click.echo(line)
    elif file_or_key is not None and file_or_key not in file.settings.symbols:
        click.echo(examine.data_file(Path(file_or_key), file.settings, file.data_dir))
    else:
        click.echo(f"{file.path.name}: settings are sound")
        failed = False
        for symbol in [file_or_key] if file_or_key else file.settings.symbols:
            try:
                click.echo(examine.symbol_data(symbol, file.settings, file.data_dir, _clock(file, None)))
            except NightfoldError as error:
                failed = True
                click.echo(f"{symbol}: {error}", err=True)
        sys.exit(1 if failed else 0)


@main.command()
@click.argument("key")
@click.option(
    "--num-simulations",
    type=click.IntRange(2),
    help="Simulations, newest first; 35 is the quick mode. Default: levels.num_simulations, if they fit.",
)
@click.option("--solver", help="In place of levels.solver.")
@click.pass_context
@_guarded
def levels(context: click.Context, key: str, num_simulations: int | None, solver: str | None) -> None:
    """Print both levels strategies of KEY over many simulations of stored forecasts; nothing is stored."""
    file = _open(context)
    symbol = _chosen(file, [key])[0]
    from engine.lake.publish import Lake
    from engine.reports import terminal
    from engine.search.levels import backtest_forecasts

    frame = backtest_forecasts(
        Lake(file.data_dir), symbol, num_simulations, settings=file.settings, solver=solver
    )
    terminal.print_levels(terminal.console(), symbol, frame)


@main.command()
@click.argument("key", required=False)
@click.option("--why", help="Explain the decisions on this symbol.")
@click.pass_context
@_guarded
def champions(context: click.Context, key: str | None, why: str | None) -> None:
    """Show the next orders and the champions (paper only: nightfold places no orders)."""
    file = _open(context)
    from engine.lake.publish import Lake
    from engine.reports import terminal

    lake, console = Lake(file.data_dir), terminal.console()
    if why is not None:
        terminal.print_reasons(console, lake, _chosen(file, [why])[0])
        return
    symbols = _chosen(file, [key] if key else [])
    terminal.print_next_orders(console, lake, symbols)
    terminal.print_leaderboard(console, lake, symbols)


@main.command()
@click.argument("key", required=False)
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.pass_context
@_guarded
def report(context: click.Context, key: str | None, open_it: bool) -> None:
    """Write the HTML report anew from the lake; name (and open) its first page or KEY's."""
    file = _open(context)
    chosen = _chosen(file, [key])[0] if key else None
    from engine.lake.publish import Lake
    from engine.reports.parts import page_name
    from engine.stages.chain import write_report

    path = write_report(Lake(file.data_dir), file.settings, asof=_clock(file, None))
    path = path.with_name(page_name(chosen)) if chosen else path
    click.echo(f"report: {path}")
    if open_it:
        click.launch(path.as_uri())


@main.command()
@click.argument("key", required=False)
@click.pass_context
@_guarded
def status(context: click.Context, key: str | None) -> None:
    """Show what the lake holds per symbol and who is writing; of KEY also the trials of each study."""
    file = _open(context)
    from engine.stages import examine

    failed = False
    for symbol in _chosen(file, [key] if key else []):
        try:
            for line in examine.status(symbol, file.settings, file.data_dir, studies=key is not None):
                click.echo(line)
        except NightfoldError as error:
            failed = True
            click.echo(f"{symbol}: {error}", err=True)
    sys.exit(1 if failed else 0)


@main.command()
@click.pass_context
@_guarded
def doctor(context: click.Context) -> None:
    """Look for torn files and leftovers of killed runs; changes nothing."""
    file = _open(context)
    from engine.lake.doctor import examine

    findings = examine(file.data_dir)
    for finding in findings:
        click.echo(finding)
    click.echo(f"{len(findings)} findings in {file.data_dir / 'lake'}")
    sys.exit(1 if findings else 0)


@main.command()
@click.argument("sql", required=False)
@click.pass_context
@_guarded
def warehouse(context: click.Context, sql: str | None) -> None:
    """Make data/warehouse.duckdb anew, or run one SELECT over its views."""
    file = _open(context)
    from engine.lake import warehouse as views
    from engine.lake.schemas import TABLES

    if sql is None:
        click.echo(views.refresh(file.data_dir))
        click.echo(f"views: {', '.join(sorted(TABLES))}")
        click.echo('a query: nightfold warehouse "select * from bars limit 5"')
        return
    names, rows = views.query(file.data_dir, sql)
    click.echo("\t".join(names))
    for row in rows:
        click.echo("\t".join("" if value is None else str(value) for value in row))
