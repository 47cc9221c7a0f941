"""The nightly schedule: it ticks wherever the Dagster daemon runs (``make ui``, ``dagster dev``)."""

from __future__ import annotations

import dagster as dg

from engine.config_file import SettingsFile
from engine.errors import ConfigError
from pipelines.jobs import reoptimize_nightly
from pipelines.resources import settings_file


def make_nightly(file: SettingsFile) -> dg.ScheduleDefinition:
    """Return the schedule of these settings.

    Raises
    ------
    ConfigError
        Dagster does not know such a cron expression or time zone.
    """
    asked = file.settings.schedule
    status = dg.DefaultScheduleStatus
    try:
        return dg.ScheduleDefinition(
            name="nightly",
            job=reoptimize_nightly,
            cron_schedule=asked.cron,
            execution_timezone=asked.timezone,
            default_status=status.RUNNING if asked.enabled else status.STOPPED,
            description="Prices to leaderboard for all symbols, new bars only.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise ConfigError(
            f"{file.where('schedule')}: schedule.cron {asked.cron!r} in time zone {asked.timezone!r} is no "
            "schedule; expected five cron fields such as '0 2 * * 2-6' and a zone such as America/New_York"
        ) from error


nightly = make_nightly(settings_file())
