import pytest

from engine.strategies import registry


@pytest.fixture
def own_strategies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies registered by a test vanish after it."""
    registry.names()  # the built-in ones first
    monkeypatch.setattr(registry, "_STRATEGIES", dict(registry._STRATEGIES))
