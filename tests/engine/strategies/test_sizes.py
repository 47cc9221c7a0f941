import pytest

from engine.errors import ConfigError
from engine.strategies.sizes import Fraction, Notional, Risk, Units


@pytest.mark.parametrize("kind", [Fraction, Risk, Units, Notional])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_is_positive(kind, value):
    with pytest.raises(ConfigError) as caught:
        kind(value)
    assert str(caught.value) == f"size {kind.__name__} was {value}, expected a number above 0"


def test_a_risk_distance_is_positive():
    with pytest.raises(ConfigError, match=r"^size Risk, atr was 0, expected a number above 0$"):
        Risk(0.01, atr=0)
