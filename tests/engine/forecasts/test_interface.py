from dataclasses import replace

import numpy as np
import pytest

from engine.errors import ConfigError, ForecastInputError
from engine.forecasts.interface import ForecasterSpec, ForecastRequest, validate

COLUMNS = ("open", "high", "low", "close")


def request(**changes):
    windows, length = 2, 5
    stamps = np.tile(np.arange(1, length + 1, dtype=np.int64), (windows, 1))
    plain = ForecastRequest(
        np.full((windows, length, 4), 10.0), COLUMNS, np.ones((windows, length), dtype=bool),
        stamps, ("A",) * windows, stamps[:, -1].copy(), np.full((windows, 1), length + 1),
    )  # fmt: skip
    return replace(plain, **changes)


def test_a_good_request_has_no_reasons():
    assert validate(request(), 5) == ("", "")


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ((1, 2, 0), np.nan, "a value is not finite"),
        ((1, 2, 3), 0.0, "a price is not positive"),
        ((1, 2, 1), -1.0, "a price is not positive"),
    ],
)
def test_marks_a_window_with_impossible_values(where, value, reason):
    bars = np.full((2, 5, 4), 10.0)
    bars[where] = value
    assert validate(request(), 5) == ("", "")
    assert validate(replace(request(), bars=bars), 5) == ("", reason)


def test_marks_stamps_that_do_not_increase():
    stamps = request().stamps.copy()
    stamps[0, 2] = stamps[0, 1]
    assert validate(replace(request(), stamps=stamps), 5) == ("stamps do not increase", "")


def test_marks_a_window_with_too_few_bars_and_ignores_its_padding():
    mask, bars = np.ones((2, 5), dtype=bool), np.full((2, 5, 4), 10.0)
    mask[0, :2], bars[0, :2] = False, np.nan
    short = replace(request(), mask=mask, bars=bars)
    assert validate(short, 3) == ("", "")
    assert validate(short, 4) == ("3 bars, 4 needed", "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bars": np.zeros((2, 5, 4), dtype=np.float32)},
            r"bars was float32 \[2, 5, 4\]; expected float64 \[B, T, C\]",
        ),
        (
            {"mask": np.ones((2, 4), dtype=bool)},
            r"mask was bool \[2, 4\]; expected bool \[2, 5\]",
        ),
        ({"as_of": np.zeros(2)}, r"as_of was float64 \[2\]; expected int64 \[2\]"),
        ({"future_stamps": np.zeros((1, 1), dtype=np.int64)}, r"future_stamps was int64 \[1, 1\]; expected"),
        ({"symbols": ("A",)}, "1 symbols for 2 windows; expected one for each"),
        ({"columns": ("open", "high", "low", "last")}, "expected open, high, low, close once each"),
        ({"columns": ("open", "high", "low")}, "for 4 values per bar"),
        ({"as_of": np.array([5, 4])}, "expected its last bar"),
        (
            {"mask": np.array([[True, False, True, True, True], [True] * 5])},
            "expected real bars at the right end only",
        ),
    ],
)
def test_refuses_a_malformed_request(changes, message):
    with pytest.raises(ForecastInputError, match=message):
        validate(request(**changes), 1)


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.1, 0.9), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_refuses_levels_no_forecaster_can_serve(levels):
    with pytest.raises(ConfigError, match=r"forecasts.levels was \["):
        ForecasterSpec("local", "1d", "observed", 1, levels, 1000, 100, 1)


def test_refuses_a_horizon_below_one():
    with pytest.raises(ConfigError, match="forecasts.horizon was 0; expected 1 or more bars"):
        ForecasterSpec("local", "1d", "observed", 0, (0.5,), 1000, 100, 1)
