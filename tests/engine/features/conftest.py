from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from engine.bars.model import Bars
from engine.features import registry, table


@pytest.fixture
def own_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Features registered by a test vanish after it."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    yield


@pytest.fixture
def bars_of():
    """Bars from plain lists; open is the close before, volume 1 to T."""

    def build(high: Sequence[float], low: Sequence[float], close: Sequence[float]) -> Bars:
        n = len(close)
        opens = [close[0], *close[:-1]]
        high = [max(pair) for pair in zip(high, opens, strict=True)]
        low = [min(pair) for pair in zip(low, opens, strict=True)]
        ts = np.arange(n) * 86_400_000_000
        ones = np.ones(n)
        return Bars("TEST", "1d", "observed", ts, *map(np.array, (opens, high, low, close)),
                    np.arange(1.0, n + 1), ones, 0 * ones)  # fmt: skip

    return build


def sample_names() -> list[str]:
    """Names that cover every registered feature: shortest, short and usual lengths, every price column."""
    found = []
    for name in registry.names():
        declared = registry.get(name)
        columns = ("close", "high") if declared.takes_column else (None,)
        for step in (0, 3, 18):
            values = [(p.name, int(p.low) + step if p.whole else p.low + 2.5) for p in declared.parameters]
            for column in columns:
                found.append(str(table.ColumnName(declared, column, tuple(values), None)))
    return list(dict.fromkeys(found))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sample_name" in metafunc.fixturenames:
        metafunc.parametrize("sample_name", sample_names())
