"""The canonical key of a symbol: its name in nightfold.yaml, in every table and file name."""

from __future__ import annotations

import re

KEY_PATTERN = re.compile(r"[A-Z0-9][A-Z0-9._=^-]{0,31}")
_DEVICE_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{n}{i}" for n in ("COM", "LPT") for i in range(1, 10))}


def is_canonical(key: str) -> bool:
    """Say whether a symbol's key is safe as a file name on every system and in every table."""
    return (
        KEY_PATTERN.fullmatch(key) is not None
        and not key.endswith(".")
        and key.split(".")[0] not in _DEVICE_NAMES
    )
