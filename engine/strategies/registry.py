"""The registered strategies, and the `strategy` decorator that registers one.

Strategies of the user's own, files of the data folder, are registered by `engine.strategies.user`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from engine.errors import ConfigError, SimulationError, closest
from engine.lake.records import code_id
from engine.strategies.params import Choice, Declaration, Float, Int, Params
from engine.strategies.rules import Rules, column

KINDS = ("rules", "bars", "levels")
BUILT_IN = ("engine.strategies.trend", "engine.strategies.levels")

Relation = tuple[str, str, str]


class Strategy:
    """What a strategy declares; a subclass writes only what differs.

    Parameters
    ----------
    name : str
        Set by the decorator.
    kind : str
        ``rules``: `rules` says what to do at each bar. ``bars``: the compiled function `bar` does.
        ``levels``: entries at price levels that are solved per fold; `objective` names the problem.
    parameters : mapping of str to Int, Float or Choice
        What a search may vary, with bounds and defaults.
    relations : tuple of (str, "<" or "<=", str)
        What must hold between two parameters, e.g. ``("fast", "<", "slow")``.
    holding_bars : int or None
        Most bars a position is held after its entry bar, where the strategy guarantees it; 0: it is
        closed inside the entry bar.
    objective : str or None
        Of levels strategies only.
    bar, state_size
        Of strategies of kind ``bars`` only: a function under `engine.strategies.expert.bar_function`,
        and how many numbers it keeps from bar to bar.
    code : str
        Hash of the file that declares it, where that is the user's own; set when it is loaded.
    """

    name: ClassVar[str]
    kind: ClassVar[str] = "rules"
    parameters: ClassVar[Mapping[str, Declaration]] = MappingProxyType({})
    relations: ClassVar[tuple[Relation, ...]] = ()
    holding_bars: ClassVar[int | None] = None
    objective: ClassVar[str | None] = None
    bar: ClassVar[Any] = None
    state_size: ClassVar[int] = 0
    code: ClassVar[str] = ""

    @staticmethod
    def rules(p: Params) -> Rules:
        """Return the rules for one set of parameters; a strategy of kind ``rules`` writes this."""
        raise ConfigError("this strategy has no rules: it is of another kind")

    @staticmethod
    def columns(p: Params) -> Sequence[str]:
        """Return the names of the columns that `bar` reads, in the order of their rows there."""
        return ()


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


def rules_of(cls: StrategyClass, params: Mapping[str, Any], symbol: str = "") -> Rules:
    """Return the rules of a strategy for one set of parameters, those left out at their defaults.

    Parameters
    ----------
    cls : StrategyClass
        Of kind ``rules``.
    params : mapping
        By name.
    symbol : str
        Named in errors.

    Raises
    ------
    ConfigError
        A parameter that `check` refuses, or rules that ask for a column that does not exist.
    SimulationError
        ``rules`` raised something else, or returned no `Rules`.
    """
    rules, who = _ask(cls, cls.rules, params, symbol)
    if not isinstance(rules, Rules):
        raise SimulationError(f"{who}: rules(p) returned {rules!r}, expected Rules(...)")
    return rules


def columns_of(cls: StrategyClass, params: Mapping[str, Any], symbol: str = "") -> tuple[str, ...]:
    """Return the columns that a strategy reads with one set of parameters.

    Returns
    -------
    tuple of str
        Of kind ``rules``: feature columns, sorted. Of kind ``bars``: in the declared order, columns
        of the bars among them. Of kind ``levels``: none.

    Raises
    ------
    ConfigError, SimulationError
        As in `rules_of`.
    """
    if cls.kind == "rules":
        return rules_of(cls, params, symbol).columns()
    names, who = _ask(cls, cls.columns, params, symbol)
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise SimulationError(f"{who}: columns(p) returned {names!r}, expected a list such as ['atr.n=14']")
    try:
        return tuple(column(name).name for name in names)
    except ConfigError as error:
        raise ConfigError(f"{who}: {error}") from error


def code_of(cls: StrategyClass) -> str:
    """Return the hash of a strategy's code; it is part of every id that rests on the strategy.

    Raises
    ------
    ConfigError
        It was declared neither in the engine nor in a file of the user's own, so that nobody could
        say later what code a stored result came from.
    """
    if cls.code:
        return cls.code
    if not cls.__module__.startswith("engine."):
        raise ConfigError(f"strategy {cls.name} was declared in {cls.__module__}, expected a file of the "
                          "data folder's strategies/: only its results can be stored")  # fmt: skip
    return code_id(cls.__module__)[0]


def drop(package: str) -> None:
    """Forget the strategies declared below a package."""
    for name in [name for name, cls in _STRATEGIES.items() if cls.__module__.startswith(f"{package}.")]:
        del _STRATEGIES[name]


def declared_in(module: str) -> list[StrategyClass]:
    """Return the registered strategies that a module declares."""
    return [cls for cls in _STRATEGIES.values() if cls.__module__ == module]


def _ask(
    cls: StrategyClass, function: Callable[[Params], Any], params: Mapping[str, Any], symbol: str
) -> tuple[Any, str]:
    """Return what a strategy answers, and the words that name it; whatever it raises has them too."""
    checked = check(cls, params)
    who = f"strategy {cls.name}{f' on {symbol}' if symbol else ''} with {dict(checked)}"
    try:
        return function(checked), who
    except ConfigError as error:
        raise ConfigError(f"{who}: {error}") from error
    except Exception as error:
        found = f"{function.__name__}(p) raised {type(error).__name__}: {error}"
        raise SimulationError(f"{who}: {found}") from error


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
    if not isinstance(cls.parameters, Mapping):
        raise ConfigError(f"{where}: parameters were {cls.parameters!r}, expected {{name: Int(...), ...}}")
    for key, declared in cls.parameters.items():
        if not isinstance(declared, Int | Float | Choice):
            raise ConfigError(f"{where}: parameter {key} was {declared!r}, expected Int, Float or Choice")
    for attribute, value in (("holding_bars", cls.holding_bars or 0), ("state_size", cls.state_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"{where}: {attribute} was {value!r}, expected a whole number >= 0")
    _check_bar(where, cls)
    for a, operator, b in cls.relations:
        for key in (a, b):
            if key not in cls.parameters:
                raise ConfigError(f"{where}: relation names {key!r}. {closest(key, cls.parameters)}")
        if operator not in ("<", "<="):
            raise ConfigError(f"{where}: relation was {operator!r}, expected < or <=")
    if not valid(cls, defaults(cls)):
        raise ConfigError(f"{where}: the defaults break a relation")


def _check_bar(where: str, cls: StrategyClass) -> None:
    if (cls.kind == "bars") != hasattr(cls.bar, "py_func"):
        found = type(cls.bar).__name__
        raise ConfigError(f"{where}: bar was a {found}, expected @bar_function for kind bars, else none")
    texts = [
        key
        for key, declared in cls.parameters.items()
        if isinstance(declared, Choice) and any(isinstance(choice, str) for choice in declared.choices)
    ]
    if cls.kind == "bars" and texts:
        raise ConfigError(f"{where}: the choices of {texts[0]} are text, expected numbers for kind bars")
