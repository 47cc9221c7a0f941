"""The nightly schedule: it ticks wherever the Dagster daemon runs (``make ui``, ``dagster dev``)."""

from __future__ import annotations

import dagster as dg

from engine.config_file import SettingsFile
from pipelines.jobs import reoptimize_nightly
from pipelines.resources import settings_file


def make_nightly(file: SettingsFile) -> dg.ScheduleDefinition:
    """Return the schedule of these settings; `engine.config_schedule` has checked cron and time zone."""
    asked = file.settings.schedule
    status = dg.DefaultScheduleStatus
    return dg.ScheduleDefinition(
        name="nightly",
        job=reoptimize_nightly,
        cron_schedule=asked.cron,
        execution_timezone=asked.timezone,
        default_status=status.RUNNING if asked.enabled else status.STOPPED,
        description="Prices to leaderboard for all symbols, new bars only.",
    )


nightly = make_nightly(settings_file())
