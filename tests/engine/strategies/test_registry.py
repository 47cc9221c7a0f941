import pytest

from engine.errors import ConfigError
from engine.strategies.params import Float, Int
from engine.strategies.registry import Strategy, check, defaults, get, names, strategy, valid
from engine.strategies.rules import Rules, rsi


def test_the_built_in_strategies_are_found_without_importing_them():
    assert {"levels_always_on", "levels_entry_exit", "trend"} <= set(names())


def test_unknown_strategy_names_the_closest():
    with pytest.raises(ConfigError) as caught:
        get("trned")
    assert str(caught.value) == "strategy 'trned' is not known. Closest: trend."


def test_a_users_class_is_registered_by_the_same_decorator(own_strategies):
    @strategy("mine")
    class Mine(Strategy):
        parameters = {"n": Int(2, 30, default=3)}

        @staticmethod
        def rules(p):
            return Rules(enter_long=rsi(p.n) < 20)

    assert get("mine") is Mine and Mine.name == "mine" and "mine" in names()
    assert Mine.rules(check(Mine, {})).columns() == ("rsi.n=3",)
    with pytest.raises(TypeError):
        Mine.parameters["n"] = Int(2, 30, default=4)


def test_defaults_and_relations():
    trend = get("trend")
    assert defaults(trend) == {"fast": 20, "slow": 100, "adx_min": 20.0, "stop_atr": 2.0, "target_atr": 4.0}
    assert valid(trend, defaults(trend))
    assert not valid(trend, {**defaults(trend), "slow": 20})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fats": 5}, "strategy trend: parameter 'fats' is not declared. Closest: fast."),
        ({"fast": 1}, "strategy trend: fast was 1, expected an integer from 2 to 100"),
        ({"adx_min": "x"}, "strategy trend: adx_min was 'x', expected a number from 0 to 60"),
        (
            {"fast": 30, "slow": 30},
            "strategy trend: found {'fast': 30, 'slow': 30, 'adx_min': 20.0, 'stop_atr': 2.0, "
            "'target_atr': 4.0}, expected fast < slow",
        ),
    ],
)
def test_refuses_parameters_outside_the_declaration(params, message):
    with pytest.raises(ConfigError) as caught:
        check(get("trend"), params)
    assert str(caught.value) == message


class Whole(Strategy):
    parameters = {"a": Int(1, 9, default=2), "b": Float(1, 9, default=3)}

    @staticmethod
    def rules(p):
        return Rules()


def without_rules():
    class Empty(Strategy):
        pass

    return Empty


def changed(**attributes):
    return lambda: type("Changed", (Whole,), attributes)


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (without_rules, "own", "strategy own has no rules; expected a static method rules(p) -> Rules"),
        (lambda: Whole, "Own", "strategy name was 'Own', expected lower-case letters, digits and _"),
        (lambda: Whole, "trend", "strategy trend is already registered by engine.strategies.trend.Trend"),
        (lambda: int, "own", "strategy own: found <class 'int'>, expected a subclass of Strategy"),
        (changed(kind="rule"), "own", "strategy own: kind was 'rule'. Closest: rules."),
        (
            changed(kind="levels"),
            "own",
            "strategy own: objective was None, expected one for kind levels only",
        ),
        (changed(objective="x"), "own", "strategy own: objective was 'x', expected one for kind levels only"),
        (
            changed(parameters={"a": 3}),
            "own",
            "strategy own: parameter a was 3, expected Int, Float or Choice",
        ),
        (changed(relations=(("a", "<", "bb"),)), "own", "strategy own: relation names 'bb'. Closest: b."),
        (changed(relations=(("a", ">", "b"),)), "own", "strategy own: relation was '>', expected < or <="),
        (changed(relations=(("b", "<", "a"),)), "own", "strategy own: the defaults break a relation"),
    ],
)
def test_refuses_a_declaration_that_contradicts_itself(own_strategies, build, name, message):
    with pytest.raises(ConfigError) as caught:
        strategy(name)(build())
    assert str(caught.value) == message


def test_less_or_equal_is_a_relation(own_strategies):
    cls = strategy("own")(changed(relations=(("a", "<=", "b"),))())
    assert valid(cls, {"a": 3, "b": 3}) and not valid(cls, {"a": 4, "b": 3})


def test_levels_have_no_rules():
    with pytest.raises(ConfigError, match="^this strategy has no rules: it is of another kind$"):
        get("levels_always_on").rules({})
