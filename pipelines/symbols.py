"""Symbols as Dagster partitions and op names, read from the settings when definitions load."""

from __future__ import annotations

import re

import dagster as dg

from pipelines.resources import settings_file

KEYS: tuple[str, ...] = tuple(settings_file().settings.symbols)
PARTITIONS = dg.StaticPartitionsDefinition(list(KEYS))


def op_name(key: str) -> str:
    """Return a symbol's op name: any character but letters and digits becomes ``_x`` and its hex code.

    >>> op_name("BTC-USD")
    'symbol_BTC_x2DUSD'
    """
    return "symbol_" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_x{ord(match[0]):02X}", key)
