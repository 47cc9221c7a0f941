"""The compiled function of a strategy of kind ``bars``, and the numbers it speaks in.

    @bar_function
    def bar(t, bars, F, p, pos, state, out):
        ...
        return 0

It is called once a bar, at the close of bar t, by `engine.simulation.expert`.
K feature columns, q parameters, m numbers of state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import ConfigError

ARGUMENTS = ("t", "bars", "F", "p", "pos", "state", "out")
ENTER_LONG, ENTER_SHORT, EXIT_LONG, EXIT_SHORT = 1, 2, 4, 8  # the bits that a bar function returns
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)  # rows of bars
QUANTITY, ENTRY_PRICE, BARS_HELD, UNREALISED, EQUITY, STOP_PRICE = range(6)  # items of pos
FRACTION, LIMIT, STOP, TARGET, SIZE = range(5)  # items of out


def bar_function(function: Callable[..., int]) -> Any:
    """Compile what a strategy of kind ``bars`` does at the close of each bar.

    The function takes these arguments, by these names, and returns the sum of 1 enter long,
    2 enter short, 4 exit long, 8 exit short:

    ========  =====================================================================================
    t         Index of the bar in the symbol's series.
    bars      float64 (5, t + 1): open, high, low, close, volume of the bars so far, read-only.
    F         float64 (K, t + 1): the columns it declares, NaN before their first value, read-only.
    p         float64 (q,): its parameters in the declared order, True as 1, read-only.
    pos       Six numbers: signed quantity (0 = flat), entry price, bars held since the entry bar,
              profit of the open quantity, equity, stop price. NaN where there is none.
    state     float64 (m,): what it keeps for later bars; zeros before the first bar of a run.
    out       float64 (5,): fraction of the first quantity to exit, limit price of an entry, distance of
              its stop and of its target in price units, value of its size. NaN at each call;
              what stays NaN has the setting's value, or is not asked for.
    ========  =====================================================================================

    An index outside an array raises, so that a later bar cannot be read through these arguments.

    Raises
    ------
    ConfigError
        The function takes other arguments.
    """
    from numba import njit

    found = function.__code__.co_varnames[: function.__code__.co_argcount]
    if found != ARGUMENTS:
        raise ConfigError(
            f"bar function {function.__name__} takes ({', '.join(found)}), expected ({', '.join(ARGUMENTS)})"
        )
    return njit(nogil=True, boundscheck=True)(function)
