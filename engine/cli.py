"""The ``nightfold`` command: the same stages as in Dagster, without a daemon."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from engine import cli_lake  # noqa: F401  (importing it adds its commands)
from engine.cli_backtest import named_values, print_single
from engine.cli_base import chosen, clock_of, cpus, guarded, main, open_settings, say
from engine.config_file import SettingsFile
from engine.errors import AlreadyRunning, ConfigError, NightfoldError, closest

__all__ = ["main"]


@main.command()
@click.argument("keys", nargs=-1)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Symbols at a time.")
@click.option("--stage", help="Only this stage of the symbols.")
@click.option("--asof", help="ISO time: take only bars complete by then. Default: now.")
@click.option("--study", help="Go on with this study's symbol; refused where its settings have changed.")
@click.pass_context
@guarded
def run(
    context: click.Context,
    keys: tuple[str, ...],
    workers: int,
    stage: str | None,
    asof: str | None,
    study: str | None,
) -> None:
    """Run the six stages of the named symbols (default: all)."""
    file = open_settings(context)
    if study is not None:
        keys = _symbol_of(file, keys, study)
    from engine.stages.common import STAGES

    if stage is not None and stage not in STAGES:
        raise ConfigError(f"stage {stage!r} is not known. {closest(stage, STAGES)}")
    symbols, clock = chosen(file, keys), clock_of(file, asof)
    from engine.stages.workers import Outcome, attempt, run_symbols

    outcomes: dict[str, Outcome] = {}
    if stage != "leaderboard":
        outcomes = run_symbols(file, symbols, workers, stage, clock, cpus(), say)
    problems = {symbol: outcome for symbol, outcome in outcomes.items() if outcome}
    idle = bool(outcomes) and all(outcome is None for outcome in outcomes.values())
    if stage in (None, "leaderboard") and not idle:
        outcome = attempt("leaderboard", lambda: _leaderboard(file, symbols, problems, clock), say)
        problems |= {"leaderboard": outcome} if outcome else {}
    for name, message in problems.items():
        click.echo(f"{name} failed: {message}", err=True)
    sys.exit(1 if problems else 0)


def _symbol_of(file: SettingsFile, keys: tuple[str, ...], study_id: str) -> tuple[str, ...]:
    """Return the symbol of a study whose settings are those of now; say where it cannot go on."""
    from engine.lake.publish import Lake
    from engine.stages import study

    lake = Lake(file.data_dir)
    found = study.find(lake, chosen(file, keys), study_id)
    study.refuse_other(lake, file.settings, found)
    say(study.state_note(lake, found))
    return (found.symbol,)


def _leaderboard(file: SettingsFile, symbols: Sequence[str], problems: dict[str, str], clock: int) -> None:
    """Run the last stage and print what came out."""
    from engine.lake.publish import Lake
    from engine.reports import terminal
    from engine.stages.chain import run_leaderboard, stale_symbols
    from engine.stages.common import procedures

    lake, console = Lake(file.data_dir, file.settings.prices.keep_generations), terminal.console()
    try:
        result = run_leaderboard(lake, file.settings, say, cpus=cpus(), asof=clock, problems=problems)
    except AlreadyRunning:
        say("leaderboard: another run writes it now; when that is done: nightfold run --stage leaderboard")
        return
    problems = {**stale_symbols(lake, symbols), **problems}
    now = {symbol: procedures(symbol, file.settings) for symbol in symbols}
    terminal.print_next_orders(console, lake, symbols, problems, procedures=now)
    terminal.print_leaderboard(console, lake, symbols, problems)
    click.echo(f"report: {result.metadata['report']}")


@main.command()
@click.argument("file_or_key", required=False)
@click.option("--print", "print_settings", is_flag=True, help="Print the settings, defaults filled in.")
@click.option("--strategies", is_flag=True, help="List the strategies and their parameters.")
@click.option("--features", is_flag=True, help="List the features and their parameters.")
@click.option("--adjust", metavar="R@DATE", help="Declare a split of KEY, such as 2:1@2005-02-28.")
@click.option("--scale", metavar="R@D1..D2", help="Declare that KEY was quoted times R from D1 to D2.")
@click.option("--verified", metavar="DATE", help="Declare that KEY's jump on that date is real.")
@click.option("--accept-revision", is_flag=True, help="Take over KEY's history as its source gives it now.")
@click.pass_context
@guarded
def check(
    context: click.Context,
    file_or_key: str | None,
    print_settings: bool,
    strategies: bool,
    features: bool,
    adjust: str | None,
    scale: str | None,
    verified: str | None,
    accept_revision: bool,
) -> None:
    """Check the settings and every symbol's data, or a data or study file; stores what is declared alone."""
    declared = [("split", adjust), ("scale", scale), ("verified_move", verified)]
    given = [(kind, text) for kind, text in declared if text is not None]
    lists = print_settings or strategies or features
    if lists and file_or_key is not None:
        raise click.UsageError(
            f"--print, --strategies and --features take no file or key; found {file_or_key}"
        )
    is_study = file_or_key is not None and file_or_key.endswith((".yaml", ".yml"))
    file = open_settings(context, Path(file_or_key) if file_or_key and is_study else None)
    from engine.stages import examine

    if is_study:
        click.echo(f"{file_or_key}: {examine.study_file(file.settings)}")
        return
    if given or accept_revision:
        symbol = chosen(file, [file_or_key or ""])[0]
        if given:
            clock = clock_of(file, None)
            click.echo(examine.declare(symbol, file.settings, file.data_dir, given, clock))
        if accept_revision:
            click.echo(examine.accept(symbol, file.settings, file.data_dir, clock_of(file, None), cpus()))
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
                click.echo(examine.symbol_data(symbol, file.settings, file.data_dir, clock_of(file, None)))
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
@guarded
def levels(context: click.Context, key: str, num_simulations: int | None, solver: str | None) -> None:
    """Print both levels strategies of KEY over many simulations of stored forecasts; nothing is stored."""
    file = open_settings(context)
    symbol = chosen(file, [key])[0]
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
@click.option("--rollback", "back", help="Put this symbol's champion before back, until new evidence.")
@click.pass_context
@guarded
def champions(context: click.Context, key: str | None, why: str | None, back: str | None) -> None:
    """Show the next orders and the champions (paper only: nightfold places no orders)."""
    if sum(value is not None for value in (key, why, back)) > 1:
        raise click.UsageError("give a KEY, or --why KEY, or --rollback KEY")
    file = open_settings(context)
    from engine.lake.publish import Lake
    from engine.reports import terminal

    lake, console = Lake(file.data_dir, file.settings.prices.keep_generations), terminal.console()
    if why is not None:
        terminal.print_reasons(console, lake, chosen(file, [why])[0])
        return
    if back is not None:
        from engine.stages.champions import rollback

        symbol = chosen(file, [back])[0]
        row = rollback(lake, symbol, file.settings, say, cpus=cpus())
        stands = f"champion {row['strategy']}, parameters {row['params']}"
        click.echo(f"{symbol}: {stands if row['in_force'] else 'no champion'} ({row['reasons']})")
        return
    symbols = chosen(file, [key] if key else [])
    from engine.stages.common import procedures

    now = {symbol: procedures(symbol, file.settings) for symbol in symbols}
    terminal.print_next_orders(console, lake, symbols, procedures=now)
    terminal.print_leaderboard(console, lake, symbols)


@main.command()
@click.argument("keys", nargs=-1)
@click.option(
    "--out",
    "--output",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file.",
)
@click.option(
    "--study", help="Write this study in place of the champions, for optuna-dashboard; needs --out."
)
@click.pass_context
@guarded
def export(context: click.Context, keys: tuple[str, ...], output: Path | None, study: str | None) -> None:
    """Print the champions in force as JSON (default: of all symbols); nothing goes live by itself."""
    import json

    if study is not None and output is None:
        raise click.UsageError("expected nightfold export --study ID --out FILE.db")
    file = open_settings(context)
    from engine.lake.files import write_text
    from engine.lake.publish import Lake

    if study is not None and output is not None:
        from engine.stages import study as studies

        click.echo(studies.export(Lake(file.data_dir), chosen(file, keys), study, output, say))
        return
    from engine.stages.champions import export as exported

    text = (
        json.dumps(
            exported(Lake(file.data_dir), chosen(file, keys), file.settings), indent=2, allow_nan=False
        )
        + "\n"
    )
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
        click.echo(f"export: {output}")


@main.command()
@click.argument("key", required=False)
@click.argument("strategy", required=False)
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter; others have the settings' fixed value, else the default.",
)
@click.option(
    "--range",
    "span",
    metavar="A..B",
    help="Dates UTC, B not included; indicators read the bars before. Default: all.",
)
@click.option("--trial", metavar="STUDY/NUMBER", help="Run this trial again; studies: nightfold status KEY.")
@click.pass_context
@guarded
def backtest(
    context: click.Context,
    key: str | None,
    strategy: str | None,
    given: tuple[str, ...],
    span: str | None,
    trial: str | None,
) -> None:
    """Run STRATEGY on KEY once with stated parameters, or a trial of the ledger again; stores nothing.

    Such a trial runs alone, and it is said whether it is equal bit for bit.
    """
    other = key is not None or bool(given) or span is not None
    if (trial is None and strategy is None) or (trial is not None and other):
        raise click.UsageError(
            "expected nightfold backtest KEY STRATEGY [--set NAME=VALUE]... [--range A..B], "
            "or nightfold backtest --trial STUDY/NUMBER"
        )
    chosen_values = named_values(given)
    file = open_settings(context)
    from engine.lake.publish import Lake

    if trial is None:
        from engine.stages.single import single_run

        symbol = chosen(file, [key or ""])[0]
        done = single_run(Lake(file.data_dir), file.settings, symbol, strategy or "", chosen_values, span)
        print_single(done)
        return
    from engine.stages import study

    said, equal = study.reproduce(Lake(file.data_dir), file.settings, trial)
    click.echo("\n".join(said))
    sys.exit(0 if equal else 1)


@main.command()
@click.argument("key", required=False)
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.pass_context
@guarded
def report(context: click.Context, key: str | None, open_it: bool) -> None:
    """Write the HTML report anew from the lake; name (and open) its first page or KEY's."""
    file = open_settings(context)
    only = chosen(file, [key])[0] if key else None
    from engine.lake.publish import Lake
    from engine.reports.parts import page_name
    from engine.stages.chain import write_report

    path = write_report(Lake(file.data_dir), file.settings, asof=clock_of(file, None))
    path = path.with_name(page_name(only)) if only else path
    click.echo(f"report: {path}")
    if open_it:
        click.launch(path.as_uri())
