"""Names in the settings, held against what is registered, before any work."""

from __future__ import annotations

from engine.bars import calendars
from engine.config import Settings, Strategy
from engine.config_file import SettingsFile
from engine.errors import ConfigError, MissingExtra, require
from engine.features.table import parse
from engine.forecasts import backends
from engine.forecasts.training import history_needed
from engine.search.levels.api import check_solver, require_finer
from engine.search.rules_fit import objective_of, refuse_report
from engine.search.sampling import grid_size
from engine.search.space import make_space
from engine.simulation.expert import compile_bar
from engine.sources.loading import require_served
from engine.stages.common import size_of
from engine.strategies import registry, user
from engine.strategies.registry import StrategyClass

_NETWORK = {"yahoo": ("yfinance", "yahoo"), "exchange": ("ccxt", "exchange")}


def preflight(file: SettingsFile) -> None:
    """Refuse unknown names, absent packages, and settings that cannot work together.

    Raises
    ------
    ConfigError
        Lists every mistake, each with its place and the closest known names. Mistakes in the files of
        the user's own strategies come alone: without them no name of a strategy can be judged.
    """
    user.load(file.data_dir)
    settings, mistakes = file.settings, list[str]()

    def attempt(*location: str | int) -> _Attempt:
        return _Attempt(file.where(*location), mistakes)

    with attempt("levels", "solver"):
        check_solver(settings.levels.solver)
    for index, name in enumerate(settings.features.columns):
        with attempt("features", "columns", index):
            parse(name)
    for index, entry in enumerate(settings.strategies):
        place: tuple[str | int, ...] = ("strategies", index)
        with attempt(*place, "strategy"):
            strategy = registry.get(entry.strategy)
            for name, leaf in entry.parameters.items():
                with attempt(*place, "parameters", name):
                    make_space(strategy.parameters, {name: leaf}, search_all=False)
            with attempt(*place, "search", "sampler"):
                _check_grid(settings.resolved(entry), strategy)
            with attempt(*_where(file, place, "search", "report")):
                _check_report(settings.resolved(entry), strategy)
            levels = settings.resolved(entry).levels
            if levels.solver != settings.levels.solver:
                with attempt(*place, "levels", "solver"):
                    check_solver(levels.solver)
            if strategy.kind == "levels":
                with attempt(*_where(file, place, "levels", "solver")):
                    require_finer(levels.solver, levels.policies, _read_finer(settings, entry))
            if strategy.kind == "bars":
                compile_bar(strategy)
            served = backends.levels_of(settings.forecasts)
            if strategy.kind == "levels" and levels.level not in served:
                asked = served == settings.forecasts.levels
                limit = "" if asked else f" that {settings.forecasts.samples} samples can tell"
                raise ConfigError(
                    f"levels.level {levels.level} is not among forecasts.levels{limit} {list(served)}"
                )
            purge, holding = settings.resolved(entry).folds.purge_bars, strategy.holding_bars or 0
            if purge != "auto" and purge < holding:
                raise ConfigError(
                    f"purge_bars {purge} is less than the {holding} bars {entry.strategy} may hold"
                )
            own = (*place, "folds", "warmup_bars")
            with attempt(*(own if own in file.places else own[2:])):
                if strategy.kind == "levels":
                    _refuse_short_warmup(entry.label, settings.resolved(entry).folds.warmup_bars, settings)
    if settings.forecasts.model != "local":
        with attempt("forecasts", "model"):
            module, extra = backends.EXTRAS[settings.forecasts.model]
            require(module, needed_by=f"forecasts.model {settings.forecasts.model}", extra=extra)
    needed = history_needed(settings.forecasts.horizon)
    if settings.forecasts.min_history_bars < needed:
        where = file.where("forecasts", "min_history_bars")
        found = settings.forecasts.min_history_bars
        mistakes.append(
            f"{where}: forecasts.min_history_bars {found} is less than the {needed} bars after which the "
            f"model can answer (forecasts.horizon {settings.forecasts.horizon})"
        )
    if 0.5 not in settings.forecasts.levels:
        mistakes.append(f"{file.where('forecasts', 'levels')}: forecasts.levels must hold 0.5, the median")
    for key in settings.symbols:
        instrument = settings.instrument(key)
        source = instrument.source
        with attempt("symbols", key):
            if source in _NETWORK:
                module, extra = _NETWORK[source]
                require(module, needed_by=f"source {source!r}", extra=extra)
            require_served(source, key, instrument.as_read().frame, instrument.venue)
        with attempt(*(("symbols", key, "calendar") if settings.symbols[key].calendar else ("symbols", key))):
            calendars.require_known(instrument.calendar)
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))


def _refuse_short_warmup(label: str, warmup: int, settings: Settings) -> None:
    """Raise where a levels strategy would train on bars that no forecast was issued for."""
    first = max(settings.forecasts.min_history_bars, history_needed(settings.forecasts.horizon))
    if warmup < first:
        raise ConfigError(
            f"folds.warmup_bars {warmup} of {label} is less than the {first} bars before its first forecast "
            f"(forecasts.min_history_bars {settings.forecasts.min_history_bars}). "
            f"Set folds.warmup_bars: {first} or more"
        )


class _Attempt:
    """Collects what a block refuses, with its place."""

    def __init__(self, where: str, mistakes: list[str]) -> None:
        self.where, self.mistakes = where, mistakes

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, ConfigError | MissingExtra):
            self.mistakes.append(f"{self.where}: {error}")
            return True
        return False


def _where(file: SettingsFile, entry: tuple[str | int, ...], *key: str) -> tuple[str | int, ...]:
    """Return where a key of an entry's sections stands: in the entry, else in the file's section."""
    return (*entry, *key) if (*entry, *key) in file.places or key not in file.places else key


def _read_finer(settings: Settings, entry: Strategy) -> list[str]:
    """Return the symbols of an entry that are made from finer bars."""
    return [
        key
        for key, options in settings.symbols.items()
        if options.base_frame is not None and (entry.symbols is None or key in entry.symbols)
    ]


def _check_report(entry: Strategy, strategy: StrategyClass) -> None:
    if entry.search.report_bars is None or strategy.kind == "levels":
        return
    space = make_space(strategy.parameters, entry.parameters, search_all=entry.search.search_all)
    asked = objective_of(strategy, space, entry.search.objective, size_of(entry.execution.size))
    refuse_report(entry.search, asked, strategy)


def _check_grid(entry: Strategy, strategy: StrategyClass) -> None:
    if entry.search.sampler != "grid" or strategy.kind == "levels":
        return
    points = grid_size(make_space(strategy.parameters, entry.parameters, search_all=entry.search.search_all))
    if points is None:
        raise ConfigError("sampler grid needs a step for every searched float; found one that is continuous")
    if points > entry.search.max_trials:
        raise ConfigError(
            f"the grid has {points:,} points, more than search.max_trials {entry.search.max_trials:,}. "
            "Coarsen the steps, or raise max_trials"
        )
