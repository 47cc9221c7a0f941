"""Nights in any order, killed, with lost files, edits and changed histories: the lake ends as a clean one."""

import pytest
from histories import Histories, Kind
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

TWO_STAGES = Kind(60, {"strategies": []}, 20, ("prices", "features"), ("bars", "features"))
FORECASTS = ("forecasts", "forecast_inputs", "forecast_models", "forecast_quality")
WHOLE = Kind(
    330,
    {
        "folds": {"warmup_bars": 250, "train_bars": 60, "test_bars": 8, "inner_folds": 2, "min_folds": 1},
        "search": {"max_trials": 4, "batch": 2},
        "constraints": {"min_trades": 0},
        "strategies": [
            {"strategy": "dip", "parameters": {"n": {"type": "int", "low": 2, "high": 9}}},
            {"strategy": "levels_always_on"},
        ],
    },
    110,
    (),
    ("bars", "features", *FORECASTS, "folds", "trades", "equity"),
    ("backtests", "forward", "looks", "nightly", "next_orders", "trials/ALFA"),
)

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize(
    ("kind", "examples", "steps"),
    [
        (TWO_STAGES, 8, 15),
        pytest.param(TWO_STAGES, 150, 50, marks=pytest.mark.slow),
        pytest.param(WHOLE, 12, 25, marks=pytest.mark.slow),
    ],
    ids=["a few", "many", "whole nights"],
)
def test_whatever_happens_in_whatever_order_the_lake_ends_as_a_clean_one(
    bench, alfa, with_bar, kind, examples, steps
):
    given = {"kind": kind, "bench": staticmethod(bench), "alfa": staticmethod(alfa)}
    machine = type("Drawn", (Histories,), {**given, "with_bar": staticmethod(with_bar)})
    drawn = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=True, deadline=None, database=None,
        suppress_health_check=QUIET,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=drawn)
