"""Where settings, lake and clock come from: the only place here that reads environment or time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config_file import SettingsFile, load, stamp_us
from pipelines import ROOT

if TYPE_CHECKING:  # definitions load without pyarrow
    from engine.lake.publish import Lake


def settings_path() -> Path:
    """Return the settings file: ``NIGHTFOLD_SETTINGS``, else nightfold.yaml in the project's root."""
    return Path(os.environ.get("NIGHTFOLD_SETTINGS", ROOT / "nightfold.yaml"))


def settings_file() -> SettingsFile:
    """Read the settings afresh: a run uses what the file says when it starts."""
    return load(settings_path())


def checked_settings() -> SettingsFile:
    """Read the settings afresh, with every name in them held against what is registered.

    Raises
    ------
    ConfigError
        Lists every mistake, each with its place.
    """
    from engine.stages.preflight import preflight

    file = settings_file()
    preflight(file)
    return file


def lake(file: SettingsFile) -> Lake:
    """Return the lake of these settings."""
    from engine.lake.publish import Lake

    return Lake(file.data_dir, file.settings.prices.keep_generations)


def asof(file: SettingsFile) -> int:
    """Return the settings' ``asof``, else now, in microseconds UTC."""
    return stamp_us(file.settings.asof) if file.settings.asof else time.time_ns() // 1000


def cpus() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
