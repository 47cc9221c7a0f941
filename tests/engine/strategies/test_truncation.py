import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.features.truncation import look_ahead
from engine.strategies import registry
from engine.strategies.params import Choice
from engine.strategies.rules import Rules, evaluate, price, sma

TICK = 0.01


def arrays(signals):
    """Every array of the signals, in a fixed order."""
    single = (signals.bits, signals.stop, signals.trail, signals.size_distance)
    return [a for a in (*single, *(distance for distance, _ in signals.targets)) if a is not None]


def parameter_sets(cls):
    """The defaults, and each parameter at both ends of its declaration where the relations allow it."""
    sets = [registry.defaults(cls)]
    for name, declared in cls.parameters.items():
        ends = declared.choices if isinstance(declared, Choice) else (declared.low, declared.high)
        sets += [{**sets[0], name: end} for end in ends]
    return [registry.check(cls, params) for params in sets if registry.valid(cls, params)]


RULES = [name for name in registry.names() if registry.get(name).kind == "rules"]


@pytest.mark.parametrize("sides", ["both", "long"])
@pytest.mark.parametrize("name", RULES)
def test_no_strategy_reads_later_bars(name, sides):
    cls = registry.get(name)
    bars = make_bars(5, 600, tick=TICK)
    fired = 0
    for params in parameter_sets(cls):
        rules = cls.rules(params)

        def compute(part, rules=rules):
            return arrays(evaluate(rules, FeatureSet(part, TICK), sides))

        assert look_ahead(compute, bars, seed=2) == []
        fired |= int(np.bitwise_or.reduce(compute(bars)[0]))
    assert fired & 1  # the check saw entries, not only quiet bars


def next_bars_close(part):
    """The planted rule: yesterday's signal moved one bar to the left, as a lag of -1 would."""
    bits = evaluate(Rules(enter_long=price("close") > sma("close", 5)), FeatureSet(part, TICK), "both").bits
    return [np.append(bits[1:], np.uint8(0))]


def threshold_over_all_bars(part):
    features = FeatureSet(part, TICK)
    limit = float(np.median(part.close))
    return [evaluate(Rules(enter_long=sma("close", 5) > limit), features, "both").bits]


@pytest.mark.parametrize("planted", [next_bars_close, threshold_over_all_bars])
def test_planted_look_ahead_is_caught(planted):
    assert look_ahead(planted, make_bars(5, 300, tick=TICK), seed=2) != []
