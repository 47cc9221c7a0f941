"""Classes of bar functions as `strategy` would register them."""

import functools

from engine.strategies import Strategy, bar_function, registry

compiled = functools.cache(bar_function)  # a compilation a function


def made(bar, *, name="own", columns=(), state_size=0, parameters=None):
    """Return a class as `strategy` would register it, without its name being taken."""
    kind = {
        "kind": "bars",
        "bar": compiled(bar),
        "state_size": state_size,
        "parameters": parameters or {},
    }
    cls = type("Own", (Strategy,), {**kind, "columns": staticmethod(lambda p: list(columns)), "name": name})
    registry._check_declaration(name, cls)
    return cls
