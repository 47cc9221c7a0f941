"""Shared parts of the forecast tests: settings, a forecaster that counts, changed copies of bars."""

from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.local import LocalForecaster


@dataclass(frozen=True)
class Settings:
    horizon: int = 1
    levels: tuple[float, ...] = DEFAULT_LEVELS
    min_history_bars: int = 250
    start: str | date | None = None


class CountingForecaster:
    """Counts how often it is built and which as-of bars it answers."""

    def __init__(self):
        self.built, self.seen = 0, []

    def build(self, spec, device):
        self.built += 1
        self.inner = LocalForecaster(spec, device)
        self.spec, self.model_key = spec, self.inner.model_key
        return self

    def plan(self, n, free_bytes):
        return self.inner.plan(n, free_bytes)

    def run(self, request):
        self.seen += request.as_of.tolist()
        return self.inner.run(request)


def changed(bars: Bars, position: int, factor: float = 1.01) -> Bars:
    """Return bars with one bar moved by a factor, its high by twice that."""
    columns = {f.name: getattr(bars, f.name).copy() for f in fields(bars)[3:]}
    for name in ("open", "high", "low", "close"):
        columns[name][position] *= factor
    columns["high"][position] *= max(factor, 1.0)
    return replace(bars, **columns)


def scaled(bars: Bars, ratio: float) -> Bars:
    """Return bars as a later split of ``ratio`` would leave them."""
    prices = {name: getattr(bars, name) / ratio for name in ("open", "high", "low", "close")}
    return replace(bars, **prices, volume=bars.volume * ratio, adj=bars.adj * ratio)


@pytest.fixture
def settings():
    return Settings


@pytest.fixture
def counting():
    return CountingForecaster()


@pytest.fixture
def change_bar():
    return changed


@pytest.fixture
def split():
    return scaled


@pytest.fixture
def positions_of():
    def positions(bars, table):
        stamps = np.asarray(table["as_of"].cast("int64").to_numpy())
        return np.searchsorted(bars.ts, stamps).tolist()

    return positions
