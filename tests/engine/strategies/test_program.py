import re
from dataclasses import replace

import numpy as np
import pytest

from engine.errors import ConfigError, SimulationError
from engine.strategies import registry
from engine.strategies.params import Choice, Float, Int
from engine.strategies.program import (
    PER_CONFIG,
    Names,
    compile_configs,
    compile_rules,
)
from engine.strategies.registry import Strategy, defaults, get, rules_of, valid
from engine.strategies.rules import (
    Fraction,
    Notional,
    Risk,
    Rules,
    Units,
    adx,
    atr,
    cross_above,
    cross_below,
    ema,
    price,
    rsi,
    sma,
)


def made(rules, **declared):
    """A class that was not registered."""
    return type("Made", (Strategy,), {"name": "made", "parameters": declared, "rules": staticmethod(rules)})


def crossing(p):
    fast, slow = sma("close", p.fast), sma("close", p.slow)
    return Rules(enter_long=cross_above(fast, slow), exit_long=cross_below(fast, slow))


def everything(p):
    band = (p.width * 2 - 1) * atr(p.n) + p.shift
    return Rules(
        enter_long=(price("close") > ema("close", p.n * 2).lag(p.back) * p.width - 0.5)
        | (rsi(p.n + 1) <= 100 - p.shift) & (p.shift < adx(14)),
        enter_short=(-p.shift >= rsi(14)) & (price("close").lag(1) < price("close").lag(p.back + 1)),
        exit_long=rsi(p.n + 1) <= 100 - p.shift,
        stop=band,
        targets=((p.width * atr(p.n), 1.0),),
        trail=atr(14) * 2,
        enter_limit=price("close") - p.shift,
        size=Risk(p.width * 0.01, atr=p.width),
    )


def branching(p):
    return crossing(p) if p.slow - p.fast > 50 else replace(crossing(p), stop=2 * atr(p.fast))


def branching_on_choices(p):
    entry = price("close") > sma(p.on, p.fast)
    if p.filtered is True:
        entry = entry & (adx(p.slow) > 20)
    return Rules(enter_long=entry, size=Units(p.fast) if p.mode == "units" else Notional(p.slow * 100.0))


def swallowing(p):
    try:
        n = int(p.fast)
    except Exception:
        n = 9
    return Rules(enter_long=rsi(n) > 20)


def looking_at_types(p):
    return Rules(enter_long=rsi(p.fast if type(p.fast) is int else 99) > 20)


def several_targets(p):
    return Rules(
        enter_long=rsi(5) > p.x, targets=((p.x * atr(5), 0.5), (p.x * 2 * atr(5), p.x / 100)), stop=atr(5)
    )


def failing(p):
    return Rules(enter_long=rsi(5) > p.n.nothing)


def from_stop(p):
    return Rules(enter_long=rsi(5) > p.x, stop=p.x * atr(p.fast), size=Risk(0.02))


FAST, SLOW, X = Int(2, 30, default=5), Int(31, 200, default=60), Float(0.5, 9.0, default=2.0)
STRATEGIES = {
    "crossing": made(crossing, fast=FAST, slow=SLOW),
    "everything": made(
        everything, n=FAST, back=Int(0, 3, default=1), width=X, shift=Float(0.0, 60.0, default=0.0)
    ),
    "branching": made(branching, fast=FAST, slow=SLOW),
    "branching_on_choices": made(
        branching_on_choices,
        fast=FAST,
        slow=SLOW,
        on=Choice(("close", "high"), "close"),
        filtered=Choice((True, False, 1), True),
        mode=Choice(("units", "money"), "units"),
    ),
    "swallowing": made(swallowing, fast=FAST),
    "looking_at_types": made(looking_at_types, fast=FAST),
    "several_targets": made(several_targets, x=X),
    "from_stop": made(from_stop, x=X, fast=FAST),
    "nothing": made(lambda p: Rules(), fast=FAST),
    **{name: get(name) for name in registry.names() if get(name).kind == "rules"},
}
TRACED = {"crossing", "everything", "branching_on_choices", "from_stop", "nothing", "trend"}


def draw(cls, rng):
    """One valid config, some parameters left to their defaults."""
    while True:
        config = {}
        for name, declared in cls.parameters.items():
            if isinstance(declared, Int):
                config[name] = int(rng.integers(declared.low, declared.high + 1))
            elif isinstance(declared, Float):
                config[name] = float(rng.uniform(declared.low, declared.high))
            else:
                config[name] = declared.choices[rng.integers(len(declared.choices))]
            if rng.random() < 0.1:
                del config[name]
        if valid(cls, {**defaults(cls), **config}):
            return config


def assert_same_as_one_by_one(cls, configs, programs, rows, **options):
    assert sorted(p for program in programs for p in program.configs) == list(range(len(configs)))
    for program in programs:
        assert all(len(getattr(program, name)) == len(program.configs) for name in PER_CONFIG)
        for k, p in enumerate(program.configs):
            alone = compile_rules(rules_of(cls, configs[p]), rows, **options)
            assert program.same_as(alone, k), configs[p]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("options", [{}, {"sides": "long", "size": Fraction(0.3)}])
def test_many_configs_give_the_program_of_each_one(name, options):
    cls, rng = STRATEGIES[name], np.random.default_rng(3)
    configs = [draw(cls, rng) for _ in range(60)]
    rows = Names()
    programs = compile_configs(cls, configs, rows, **options)
    assert_same_as_one_by_one(cls, configs, programs, rows, **options)
    assert sorted(rows.values()) == list(range(len(rows)))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_is_called_once_for_many_configs_where_that_can_be_done(name):
    cls, rng, calls = STRATEGIES[name], np.random.default_rng(3), []

    def counted(p):
        calls.append(p)
        return cls.rules(p)

    counting = type("Counting", (cls,), {"rules": staticmethod(counted)})
    configs = [draw(cls, rng) for _ in range(200)]
    compile_configs(counting, configs, Names())
    assert (len(calls) <= 24) == (name in TRACED)  # two calls for each combination of choices


def test_a_pair_that_is_compared_twice_is_one_pair():
    program = compile_configs(
        STRATEGIES["crossing"], [{"fast": n, "slow": 50} for n in range(5, 25)], Names()
    )[0]
    assert program.code.tolist() == [[0, 4, 3, 1], [0, 5, 3, 4]]
    assert program.rows.shape == (20, 4)


def test_the_program_of_written_out_rules():
    rows = {"close": 3, "atr.n=14": 0, "rsi.n=5": 7}
    rules = Rules(
        enter_long=(2 * price("close").lag(1) > price("close") + 1) & (rsi(5) < 20) | (rsi(5) >= 80),
        exit_short=rsi(5) < 20,
        stop=2 * atr(14) + 0.25,
        targets=((atr(14) * 3, 1.0), (atr(14).lag(0), 0.5)),
        enter_limit=price("close").lag(2),
        size=Risk(0.01, atr=1.5),
    )
    program = compile_rules(rules, rows)
    assert program.code.tolist() == [[0, 0, 1, 1], [1, 2, 2, 1], [2, 1, 3, 1], [1, 2, 3, 8]]
    assert program.rows.tolist() == [[3, 1, 3, 0, 7, 0, -1, 0, 7, 0, -1, 0]]
    assert program.constants.tolist() == [[2, 0, 1, 1, 1, 0, 1, 20, 1, 0, 1, 80]]
    assert program.level_rows.tolist() == [[0, -1, 0, 3, 0, 0]]
    assert program.level_lags.tolist() == [[0, 0, 0, 2, 0, 0]]
    assert program.level_scales.tolist() == [[2, 1, 1.5, 1, 1, 3]]
    assert program.level_offsets.tolist() == [[0.25, 0, 0, 0, 0, 0]]
    assert (program.shares.tolist(), program.size_kind, program.size_values.tolist()) == (
        [[0.5, 1]],
        1,
        [0.01],
    )


def test_sides_long_leaves_short_entries_out():
    rules = Rules(enter_long=rsi(5) > 1, enter_short=rsi(5) < 1, exit_short=rsi(5) > 2)
    assert compile_rules(rules, Names()).code[:, 3].tolist() == [1, 2, 8]
    assert compile_rules(rules, Names(), sides="long").code[:, 3].tolist() == [1, 8]


@pytest.mark.parametrize(
    ("size", "kind", "value"),
    [(Fraction(0.5), 0, 0.5), (Risk(0.1, 2), 1, 0.1), (Units(7), 2, 7), (Notional(9), 3, 9)],
)
def test_the_size_is_that_of_the_rules_or_else_of_the_execution(size, kind, value):
    for rules, other in ((Rules(size=size), Units(1)), (Rules(), size)):
        program = compile_rules(rules, Names(), size=other)
        assert (program.size_kind, program.size_values.tolist()) == (kind, [value])


def test_a_risk_without_distance_needs_a_stop():
    with pytest.raises(
        ConfigError, match="^size Risk without atr takes the stop's distance, but there is no stop$"
    ):
        compile_rules(Rules(), Names(), size=Risk(0.1))
    program = compile_rules(Rules(stop=3 * atr(5)), Names(), size=Risk(0.1))
    assert program.level_rows[0, 2] == program.level_rows[0, 0] and program.level_scales[0, 2] == 3.0


@pytest.mark.parametrize(
    ("rules", "declared", "error", "message"),
    [
        (
            lambda p: Rules(enter_long=sma("clse", p.n) > 1),
            Int(1, 99, 5),
            ConfigError,
            "strategy made on ABC with {'n': 10}: column 'sma.clse.n=10': price column 'clse' is not known. "
            "Closest: close.",
        ),
        (
            lambda p: Rules(enter_long=rsi(p.n - 10) > 1),
            Int(1, 99, 5),
            ConfigError,
            "strategy made on ABC with {'n': 10}: feature rsi: n was 0, expected an integer from 2 to 100000",
        ),
        (
            lambda p: Rules(enter_long=rsi(5) > 1, size=Units(p.n - 12)),
            Float(1, 99, 5),
            ConfigError,
            "strategy made on ABC with {'n': 10.0}: size Units was -2.0, expected a number above 0",
        ),
        (
            lambda p: Rules(enter_long=rsi(5) > 1, size=Risk(0.1, atr=p.n - 10)),
            Float(1, 99, 5),
            ConfigError,
            "strategy made on ABC with {'n': 10.0}: size Risk, atr was 0.0, expected a number above 0",
        ),
        (
            lambda p: Rules(enter_long=rsi(5).lag(p.n - 11) > 1),
            Int(1, 99, 5),
            ConfigError,
            "strategy made on ABC with {'n': 10}: rsi.n=5: lag was -1, expected a whole number of bars >= 0",
        ),
        (
            failing,
            Int(1, 99, 5),
            SimulationError,
            "strategy made on ABC with {'n': 10}: failing(p) raised AttributeError: "
            "'int' object has no attribute 'nothing'",
        ),
    ],
)
def test_an_error_is_that_of_the_first_config_that_makes_it(rules, declared, error, message):
    configs = [{"n": n} for n in (10, 11, 12, 13, 14, 15)]
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        compile_configs(made(rules, n=declared), configs, Names(), symbol="ABC")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (lambda p: Units(p.n - 12), "size Units was 0.0, expected a number above 0"),
        (lambda p: Risk(0.1, atr=p.n - 12), "size Risk, atr was 0.0, expected a number above 0"),
    ],
)
def test_an_impossible_size_of_a_later_config_is_found(size, message):
    cls = made(lambda p: Rules(enter_long=rsi(5) > 1, size=size(p)), n=Float(1, 99, 5))
    with pytest.raises(ConfigError) as caught:
        compile_configs(cls, [{"n": n} for n in (15, 14, 13, 12, 11)], Names())
    assert str(caught.value) == f"strategy made with {{'n': 12.0}}: {message}"


def test_a_refusal_that_the_strategy_caught_is_not_forgotten():
    configs = [{"fast": n} for n in (9, 10, 11, 12, 13)]  # the first one is what it falls back to
    rows = Names()
    programs = compile_configs(STRATEGIES["swallowing"], configs, rows)
    assert_same_as_one_by_one(STRATEGIES["swallowing"], configs, programs, rows)


def test_no_configs_are_no_programs():
    assert compile_configs(get("trend"), [], Names()) == []
