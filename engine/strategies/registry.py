"""The registered strategies, and the `strategy` decorator that registers one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from engine.errors import ConfigError, closest
from engine.strategies.params import Choice, Declaration, Float, Int, Params
from engine.strategies.rules import Rules

KINDS = ("rules", "levels")
BUILT_IN = ("engine.strategies.trend", "engine.strategies.levels")

Relation = tuple[str, str, str]


class Strategy:
    """What a strategy declares; a subclass writes only what differs.

    Parameters
    ----------
    name : str
        Set by the decorator.
    kind : str
        ``rules``: `rules` says what to do at each bar. ``levels``: entries at price levels that
        are solved per fold; `objective` names the problem.
    parameters : mapping of str to Int, Float or Choice
        What a search may vary, with bounds and defaults.
    relations : tuple of (str, "<" or "<=", str)
        What must hold between two parameters, e.g. ``("fast", "<", "slow")``.
    holding_bars : int or None
        Most bars a position is held after its entry bar, where the strategy guarantees it; 0: it is
        closed inside the entry bar.
    objective : str or None
        Of levels strategies only.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = "rules"
    parameters: ClassVar[Mapping[str, Declaration]] = MappingProxyType({})
    relations: ClassVar[tuple[Relation, ...]] = ()
    holding_bars: ClassVar[int | None] = None
    objective: ClassVar[str | None] = None

    @staticmethod
    def rules(p: Params) -> Rules:
        """Return the rules for one set of parameters; a strategy of kind ``rules`` writes this."""
        raise ConfigError("this strategy has no rules: it is of kind levels")


StrategyClass = type[Strategy]
Subclass = TypeVar("Subclass", bound=StrategyClass)

_STRATEGIES: dict[str, StrategyClass] = {}


def strategy(name: str) -> Callable[[Subclass], Subclass]:
    """Register a class under a name; its declaration is checked here, before any run.

    Raises
    ------
    ConfigError
        The name is malformed or taken, or the declaration contradicts itself.
    """

    def register(cls: Subclass) -> Subclass:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigError(f"strategy name was {name!r}, expected lower-case letters, digits and _")
        taken = _STRATEGIES.get(name)
        if taken is not None and _origin(taken) != _origin(cls):
            raise ConfigError(f"strategy {name} is already registered by {_origin(taken)}")
        _check_declaration(name, cls)
        cls.name = name
        cls.parameters = MappingProxyType(dict(cls.parameters))
        _STRATEGIES[name] = cls
        return cls

    return register


def get(name: str) -> StrategyClass:
    """Return a registered class.

    Raises
    ------
    ConfigError
        No strategy has that name; the closest three are named.
    """
    _load()
    if name not in _STRATEGIES:
        raise ConfigError(f"strategy {name!r} is not known. {closest(name, _STRATEGIES)}")
    return _STRATEGIES[name]


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    _load()
    return tuple(sorted(_STRATEGIES))


def defaults(cls: StrategyClass) -> dict[str, Any]:
    """Return the default of every declared parameter."""
    return {name: declared.default for name, declared in cls.parameters.items()}


def valid(cls: StrategyClass, params: Mapping[str, Any]) -> bool:
    """Return whether all relations between the parameters hold."""
    return all(
        params[a] < params[b] if operator == "<" else params[a] <= params[b]
        for a, operator, b in cls.relations
    )


def check(cls: StrategyClass, params: Mapping[str, Any]) -> Params:
    """Return the values of one run: defaults filled in, names, bounds and relations checked.

    Raises
    ------
    ConfigError
        An undeclared name (with the closest), a value outside its declaration, or a relation broken.
    """
    for name in params:
        if name not in cls.parameters:
            raise ConfigError(f"strategy {cls.name}: parameter {name!r} is not declared. "
                              f"{closest(name, cls.parameters)}")  # fmt: skip
    values = {
        name: declared.check(f"strategy {cls.name}: {name}", params.get(name, declared.default))
        for name, declared in cls.parameters.items()
    }
    if not valid(cls, values):
        wanted = ", ".join(" ".join(relation) for relation in cls.relations)
        raise ConfigError(f"strategy {cls.name}: found {values}, expected {wanted}")
    return Params(values)


def _load() -> None:
    for module in BUILT_IN:  # importing a module registers its strategies
        importlib.import_module(module)


def _origin(cls: StrategyClass) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _check_declaration(name: str, cls: object) -> None:
    where = f"strategy {name}"
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        raise ConfigError(f"{where}: found {cls!r}, expected a subclass of Strategy")
    if cls.kind not in KINDS:
        raise ConfigError(f"{where}: kind was {cls.kind!r}. {closest(cls.kind, KINDS)}")
    if cls.kind == "rules" and cls.rules is Strategy.rules:
        raise ConfigError(f"{where} has no rules; expected a static method rules(p) -> Rules")
    if (cls.kind == "levels") != (cls.objective is not None):
        raise ConfigError(f"{where}: objective was {cls.objective!r}, expected one for kind levels only")
    for key, declared in cls.parameters.items():
        if not isinstance(declared, Int | Float | Choice):
            raise ConfigError(f"{where}: parameter {key} was {declared!r}, expected Int, Float or Choice")
    for a, operator, b in cls.relations:
        for key in (a, b):
            if key not in cls.parameters:
                raise ConfigError(f"{where}: relation names {key!r}. {closest(key, cls.parameters)}")
        if operator not in ("<", "<="):
            raise ConfigError(f"{where}: relation was {operator!r}, expected < or <=")
    if not valid(cls, defaults(cls)):
        raise ConfigError(f"{where}: the defaults break a relation")
