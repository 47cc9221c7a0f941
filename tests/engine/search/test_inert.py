"""Parameters whose values made no difference to the trades."""

import pytest
from landscape import Landscape

from engine.config_sections import Leaf, Search
from engine.search.inert import inert_parameters
from engine.search.space import Space
from engine.search.trial import Trial


def trials(*rows, state="COMPLETE", trades=3):
    return [
        Trial(k, 0, {}, dict(config), state=state, trades=trades, trades_hash=fills)
        for k, (config, fills) in enumerate(rows)
    ]


A, B, C = {"x": 1, "y": 1, "u": 1}, {"x": 1, "y": 1, "u": 2}, {"x": 1, "y": 2, "u": 2}


@pytest.mark.parametrize(
    "rows, inert",
    [
        ([(A, "a"), (B, "a"), ({**A, "u": 3}, "a")], ["u"]),
        ([(A, "a"), (B, "a")], []),  # one pair may be chance
        ([(A, "a"), (B, "b")], []),
        ([(A, "a"), (C, "a"), ({"x": 1, "y": 3, "u": 3}, "a")], ["u", "y"]),  # both differ in all pairs
        ([(A, "a"), (B, "a"), ({**A, "u": 3}, "a"), ({**A, "u": 4}, "b")], []),  # u alone made a difference
        ([(A, "a"), (C, "a"), (B, "a")], ["u", "y"]),  # alone and together
        ([(A, "a"), (B, "a"), ({"x": 9, "y": 9, "u": 3}, "a")], ["u"]),  # u differs in all three pairs
        ([(A, "a"), ({"x": 2, "y": 1, "u": 1}, "a"), (B, "b"), ({"x": 1, "y": 3, "u": 3}, "b")], []),
        ([(A, "a")], []),
        ([], []),
    ],
)
def test_inert_is_what_explains_every_pair_with_the_same_trades(rows, inert):
    assert inert_parameters(trials(*rows)) == inert


def test_trials_that_were_cut_or_made_no_trade_say_nothing():
    assert inert_parameters(trials((A, "a"), (B, "a"), state="PRUNED")) == []
    assert inert_parameters(trials((A, ""), (B, ""), trades=0)) == []


def test_a_planted_inert_parameter_is_named_once_and_no_other():
    space = Space(
        {"x": Leaf(type="int", low=0, high=9), "y": Leaf(type="int", low=0, high=9),
         "unused": Leaf(type="float", low=0.0, high=1.0)}, {},
    )  # fmt: skip

    class Unused(Landscape):
        def _columns(self, configs, start):
            columns = super()._columns(configs, start)
            return (*columns[:-1], [f"{start}:{c['x']}:{c['y']}" for c in configs])

    study = Search(screen=128, max_trials=16, batch=16, pruner="none")
    assert inert_parameters(Unused().run(study, space=space)) == ["unused"]
    assert inert_parameters(Landscape().run(study, space=space)) == []
