import pytest

from engine.strategies.registry import defaults, get


@pytest.mark.parametrize(
    ("name", "objective"), [("levels_entry_exit", "entry_exit"), ("levels_always_on", "always_on")]
)
def test_names_its_problem_and_has_nothing_to_search(name, objective):
    cls = get(name)
    assert (cls.kind, cls.objective, cls.holding_bars, defaults(cls)) == ("levels", objective, 0, {})
