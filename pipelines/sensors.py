"""The drop folder's sensor: a new or changed file of data/inbox starts its symbol's six stages."""

from __future__ import annotations

import json

import dagster as dg

from engine.config_file import SettingsFile
from pipelines import resources
from pipelines.jobs import backtest_symbol


def make_inbox(file: SettingsFile) -> dg.SensorDefinition:
    """Return the sensor of these settings.

    A file is taken when two looks in a row see the same size and time of change, so that a copy in progress
    is left alone. The cursor holds the looks, and what was taken.
    """
    asked = file.settings.inbox
    status = dg.DefaultSensorStatus

    @dg.sensor(
        name="inbox",
        job=backtest_symbol,
        minimum_interval_seconds=asked.poll_s,
        default_status=status.RUNNING if asked.enabled else status.STOPPED,
        description="New and changed files of data/inbox; a file that is no symbol is named.",
    )
    def inbox(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return look(context.cursor, resources.settings_file())

    return inbox


def look(cursor: str | None, file: SettingsFile) -> dg.SensorResult:
    """Return the runs that the inbox asks for now, and what is to be said of files that start none.

    Parameters
    ----------
    cursor : str or None
        What the look before returned as its cursor; None at the first.
    file : SettingsFile
        The settings as they are now.
    """
    from engine.sources.inbox import advice, dropped

    before = json.loads(cursor) if cursor else {"seen": {}, "taken": {}}
    settings = file.settings
    wanted, said, seen, taken = [], [], {}, {}
    for one in dropped(file.data_dir):
        if text := advice(one, settings.symbols):
            said.append(text)
            continue
        if settings.instrument(one.key).source != "files":
            said.append(
                f"{one.name}: {one.key} is read from {settings.instrument(one.key).source}, not from files"
            )
            continue
        seen[one.name] = one.look
        done = before["taken"].get(one.name)
        if done == one.look:
            taken[one.name] = done
        elif before["seen"].get(one.name) == one.look:
            taken[one.name] = one.look
            wanted.append(dg.RunRequest(run_key=f"{one.name} {one.look}", partition_key=one.key))
        else:
            said.append(f"{one.name}: new or growing; taken when the next look sees it unchanged")
            if done:
                taken[one.name] = done
    return dg.SensorResult(
        run_requests=wanted,
        skip_reason=None if wanted else dg.SkipReason("; ".join(said) or "nothing new in data/inbox"),
        cursor=json.dumps({"seen": seen, "taken": taken}, sort_keys=True),
    )


inbox = make_inbox(resources.settings_file())
