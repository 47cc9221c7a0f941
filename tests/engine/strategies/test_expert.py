"""The function of a strategy of kind ``bars``: what stops it, and that it reads no later bar."""

from dataclasses import replace

import numpy as np
import pytest
from bar_functions import made
from numba import njit
from numpy.lib.stride_tricks import as_strided

from engine.bars.synthetic import make_bars
from engine.errors import ConfigError, SimulationError
from engine.features.table import FeatureSet
from engine.features.truncation import look_ahead
from engine.simulation import Execution, run, sweep
from engine.simulation.backtest import workspace_of
from engine.simulation.expert import Expert
from engine.strategies import Int, registry

TICK = 0.01
EXECUTION = Execution(tick=TICK, borrow_bps_year=50.0)


@pytest.fixture(scope="module")
def bars():
    return make_bars(11, 700, tick=TICK, volatility=0.015, dividends=True)


@pytest.fixture(scope="module")
def features(bars):
    return FeatureSet(bars, TICK)


# ---- what cannot be compiled ------------------------------------------------------------------


def _write_bars(t, bars, F, p, pos, state, out):
    bars[3, t] = 1.0
    return 0


def _write_columns(t, bars, F, p, pos, state, out):
    F[0, t] = 1.0
    return 0


def _write_parameters(t, bars, F, p, pos, state, out):
    p[0] = 1.0
    return 0


def _float(t, bars, F, p, pos, state, out):
    return 1.0


def _unknown(t, bars, F, p, pos, state, out):
    return len(unknown)  # noqa: F821


@pytest.mark.parametrize("bar, message", [
    (_write_bars, "bar cannot be compiled: .*(readonly|immutable|read-only)"),
    (_write_columns, "bar cannot be compiled: .*(readonly|immutable|read-only)"),
    (_write_parameters, "bar cannot be compiled: .*(readonly|immutable|read-only)"),
    (_unknown, "bar cannot be compiled: .*unknown"),
    (_float, "bar returns float64, expected a whole number$"),
])  # fmt: skip
def test_what_cannot_be_compiled_is_refused_with_its_line(features, bar, message):
    cls = made(bar, columns=["atr.n=14"])
    first = bar.__code__.co_firstlineno
    with pytest.raises(
        ConfigError, match=rf"^test_expert\.py:({first}|{first + 1}): strategy own: {message}"
    ):
        run(features, cls, {}, EXECUTION, start=0, stop=700)


# ---- what stops it ----------------------------------------------------------------------------


def _raises(t, bars, F, p, pos, state, out):
    if t == 31:
        raise ValueError("enough")
    return 0


def _divides(t, bars, F, p, pos, state, out):
    return 1 if 1.0 / (t - 31) > 2.0 else 0


def _beyond(t, bars, F, p, pos, state, out):
    return 1 if bars[3, t + 1] > bars[3, t] else 0


def _before(t, bars, F, p, pos, state, out):
    return 1 if F[0, t - 400] > 0 else 0


def _sixteen(t, bars, F, p, pos, state, out):
    return 16 if t == 31 else 0


def _minus(t, bars, F, p, pos, state, out):
    return -1 if t == 31 else 0


def _infinite(t, bars, F, p, pos, state, out):
    out[3] = np.inf if t == 31 else 2.0
    return 0


def _no_share(t, bars, F, p, pos, state, out):
    out[0] = 0.0 if t == 31 else 1.0
    return 0


STOPS = [
    (_raises, 31, "raised ValueError: enough"),
    (_divides, 31, "raised ZeroDivisionError: division by zero"),
    (_beyond, 0, "raised IndexError: index is out of bounds"),
    (_before, 0, "raised IndexError: index is out of bounds"),
    (_sixteen, 31, "returned 16, expected a sum of 1 enter long, 2 enter short, 4 exit long, 8 exit short"),
    (_minus, 31, "returned -1, expected a sum of 1 enter long, 2 enter short, 4 exit long, 8 exit short"),
    (_infinite, 31, "set out to fraction nan, limit nan, stop nan, target inf, size nan; expected finite "
     "numbers, NaN for the setting's value, and a fraction above 0"),
    (_no_share, 31, "set out to fraction 0, limit nan, stop nan, target nan, size nan; expected finite "
     "numbers, NaN for the setting's value, and a fraction above 0"),
]  # fmt: skip


@pytest.mark.parametrize("bar, t, message", STOPS, ids=[bar.__name__ for bar, *_ in STOPS])
@pytest.mark.parametrize("start", [0, 10])
def test_a_function_that_fails_names_strategy_symbol_bar_and_parameters(
    features, bars, bar, t, message, start
):
    cls = made(bar, columns=["atr.n=14"], parameters={"n": Int(1, 9, default=4)})
    stamp = np.datetime_as_string(np.datetime64(int(bars.ts[max(t, start)]), "us"), "D")
    with pytest.raises(SimulationError) as caught:
        run(features, cls, {"n": 3}, EXECUTION, start=start, stop=700)
    found = str(caught.value)
    assert found.startswith(f"strategy own on {bars.symbol}, bar {stamp}")
    assert found.split(", with ")[1] == f"{{'n': 3}}: {message}"
    with pytest.raises(SimulationError):
        sweep(features, cls, [{"n": 3}], EXECUTION, start=start, stop=200)


# ---- no later bar ---------------------------------------------------------------------------


def decisions(cls, params, part):
    """Bits, equity and position of a run over all the bars."""
    features = FeatureSet(part, TICK)
    work = workspace_of(features, replace(EXECUTION, close_at_end=False), 0, len(part))
    bits = np.zeros(len(part), dtype=np.uint8)
    expert = Expert(features, cls, params, work.span)
    work.start(bits, expert.plan, expert.loop)
    work.go(0, None)
    return [bits, work.equity, work.position]


@njit(nogil=True)
def _peek(values, t):
    return values[3, t + 1]  # compiled without the check of the index: beyond its part of the array


def _looks_ahead(t, bars, F, p, pos, state, out):
    return 1 if _peek(bars, t) > bars[3, t] else 4


def test_planted_look_ahead_is_caught(bars):
    cls = made(_looks_ahead)
    assert look_ahead(lambda part: decisions(cls, {}, part), bars, seed=3) != []


def _reaches_on(t, bars, F, p, pos, state, out):
    """One bar more than there is, past the check of the index."""
    wide = as_strided(bars, (5, bars.shape[1] + 1), bars.strides)
    return 1 if wide[3, t + 1] > 0.0 else 4


def test_behind_the_current_bar_there_is_no_price(bars):
    told = decisions(made(_reaches_on), {}, bars)[0]
    assert set(told[:-1].tolist()) == {4}  # the last bar has only the next row's memory behind it


def _rises(t, bars, F, p, pos, state, out):
    """Its state is what it says: every third rise, out after five bars."""
    if t and bars[3, t] > bars[3, t - 1]:
        state[0] += 1
    out[2] = 2.0 * F[0, t] if F[0, t] > 0.0 else 1.0
    return 12 if pos[2] >= 5 else 1 + int(state[0]) % 2 if state[0] % 3 == 0 else 0


def test_a_function_reads_no_later_bar(bars):
    cls = made(_rises, columns=["atr.n=14"], state_size=1)
    assert look_ahead(lambda part: decisions(cls, {}, part), bars, seed=3) == []
    assert len(set(decisions(cls, {}, bars)[0].tolist())) > 2


def test_no_registered_function_reads_later_bars(bars):
    """Those of the engine; `tests/test_docs_strategies.py` looks at the examples of the docs."""
    for name in registry.names():
        cls = registry.get(name)
        if cls.kind == "bars":
            assert look_ahead(lambda part, cls=cls: decisions(cls, {}, part), bars, seed=3) == []
