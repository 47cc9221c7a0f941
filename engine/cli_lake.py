"""The ``nightfold`` commands that look at and mend what lies on the disk: lake, models, warehouse."""

from __future__ import annotations

import os
import sys

import click

from engine.cli_base import chosen, guarded, main, open_settings, say
from engine.errors import NightfoldError


@main.command()
@click.argument("key", required=False)
@click.pass_context
@guarded
def status(context: click.Context, key: str | None) -> None:
    """Show what the lake holds per symbol and who is writing; of KEY also the trials of each study."""
    file = open_settings(context)
    from engine.stages import examine

    failed = False
    for symbol in chosen(file, [key] if key else []):
        try:
            for line in examine.status(symbol, file.settings, file.data_dir, studies=key is not None):
                click.echo(line)
        except NightfoldError as error:
            failed = True
            click.echo(f"{symbol}: {error}", err=True)
    for line in examine.strangers(file.settings, file.data_dir) if key is None else ():
        click.echo(line)
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("result")
@click.argument("other", required=False)
@click.option("--verify", is_flag=True, help="Make it again from its inputs and say whether it is equal.")
@click.pass_context
@guarded
def explain(context: click.Context, result: str, other: str | None, verify: bool) -> None:
    """Show what a RESULT (its id, or a KEY) was made from, down to the files, or how OTHER differs."""
    file = open_settings(context)
    from engine.lake.publish import Lake
    from engine.stages import explain as lineage

    lake, equal = Lake(file.data_dir), True
    lines = lineage.compare(lake, result, other) if other else lineage.tree(lake, result)
    if verify:
        made, equal = lineage.verify(lake, result, file.settings)
        lines += made
    click.echo("\n".join(lines))
    sys.exit(0 if equal else 1)


@main.command()
@click.option("--repair", is_flag=True, help="Restore damaged tables from older generations, sweep the rest.")
@click.pass_context
@guarded
def doctor(context: click.Context, repair: bool) -> None:
    """Look for torn files and leftovers of killed runs; changes nothing without --repair."""
    file = open_settings(context)
    from engine.lake import doctor as lake_doctor
    from engine.lake.doctor import examine

    if repair:
        done, left = lake_doctor.repair(file.data_dir)
        click.echo("\n".join([*done, *left, f"{len(done)} repaired, {len(left)} left"]))
        sys.exit(1 if left else 0)
    findings = examine(file.data_dir)
    for finding in findings:
        click.echo(finding)
    click.echo(f"{len(findings)} findings in {file.data_dir / 'lake'}")
    sys.exit(1 if findings else 0)


@main.command()
@click.argument("action", type=click.Choice(["fetch", "list"]))
@click.argument("hub_id", metavar="[ID]", required=False)
@click.option("--revision", help="Commit of the model on the hub, 40 hex digits.")
@click.option("--tokenizer-revision", help="Commit of its tokenizer, where none is known to belong to it.")
@click.pass_context
@guarded
def models(
    context: click.Context,
    action: str,
    hub_id: str | None,
    revision: str | None,
    tokenizer_revision: str | None,
) -> None:
    """Fetch the pinned weights of model ID, the only command that does, or list those at hand."""
    given = [value is not None for value in (hub_id, revision, tokenizer_revision)]
    if any(given) if action == "list" else not all(given[:2]):
        raise click.UsageError(
            "expected nightfold models fetch ID --revision COMMIT, or nightfold models list"
        )
    file = open_settings(context)
    from engine.forecasts import fetch

    folder = file.data_dir.parent / file.settings.forecasts.models_dir
    if hub_id is not None and revision is not None:
        token = os.environ.get("HF_TOKEN")
        path = fetch.fetch(hub_id, revision, folder, say, tokenizer_revision=tokenizer_revision, token=token)
        model = {"amazon": "chronos-2", "Datadog": "toto-2"}.get(hub_id.split("/")[0], "kronos")
        use = f"forecasts: {{model: {model}, weights: {hub_id}, revision: {revision}}}"
        click.echo(f"{path}\nto use it, {use}")
        return
    lines = fetch.listed(folder)
    click.echo("\n".join(lines) if lines else f"no model in {folder}; nightfold models fetch brings one")
    sys.exit(1 if any(" damaged: " in line for line in lines) else 0)


@main.command()
@click.argument("sql", required=False)
@click.pass_context
@guarded
def warehouse(context: click.Context, sql: str | None) -> None:
    """Make data/warehouse.duckdb anew, or run one SELECT over its views."""
    file = open_settings(context)
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
