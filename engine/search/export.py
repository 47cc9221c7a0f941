"""A study as an Optuna storage file, for optuna-dashboard and any other program that reads one.

The ledger knows no clock, so every trial carries the same made-up time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.config_sections import Leaf
from engine.errors import ConfigError
from engine.lake.files import replace_atomically
from engine.search.ledger import from_rows
from engine.search.sampling import frozen
from engine.search.space import Space

NO_TIME = datetime(1970, 1, 1)  # noqa: DTZ001  (Optuna's storages hold times without a zone)
ATTRIBUTES = (
    "outcome", "batch_no", "duplicate_of", "trades", "signals", "bars_done", "pruned_step", "fees",
    "max_drawdown", "sr", "trades_hash", "constraints", "blocked", "error",
)  # fmt: skip


def space_of(config: Mapping[str, Any]) -> Space:
    """Return what a study searched, from the settings that the ledger keeps of it."""
    searched = {name: Leaf.model_validate(leaf) for name, leaf in config["searched"].items()}
    return Space(searched, dict(config["fixed"]))


def export_study(path: Path, name: str, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
    """Write a study as an SQLite file of Optuna's storage.

    Parameters
    ----------
    path : Path
        A file that does not exist yet; it appears whole or not at all.
    name : str
        Of the study in the file.
    rows : sequence of mappings
        Its trials, as the ledger holds them.
    config : mapping
        Its settings, as the ledger holds them.

    Raises
    ------
    ConfigError
        The file exists.
    LakeError
        It could not be written.

    NaN: an attribute that is not finite is left out.
    """

    def refuse() -> None:
        if path.exists():
            raise ConfigError(f"{path} exists already and is left as it is. Name another file, or remove it")

    refuse()
    replace_atomically(path, lambda temporary: _write(temporary, name, rows, config), before=refuse)


def _write(path: Path, name: str, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> None:
    import optuna

    space = space_of(config)
    distributions = space.distributions()
    ordered = sorted(rows, key=lambda row: int(row["trial_number"]))
    made = []
    for row, trial in zip(ordered, from_rows(ordered, space), strict=True):
        one = frozen(trial, distributions)
        one.datetime_start = one.datetime_complete = NO_TIME
        one.intermediate_values = trial.steps()
        one.user_attrs = {key: row[key] for key in ATTRIBUTES if _says_something(row[key])}
        made.append(one)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        for key in ("strategy", "objective", "seed", "code"):
            study.set_user_attr(key, config[key])
        study.add_trials(made)
    finally:
        storage.engine.dispose()


def _says_something(value: Any) -> bool:
    return value is not None and value == value and value not in (float("inf"), -float("inf"))
