import numpy as np
import pytest

from engine.forecasts.draws import stream_key, uniforms

AS_OF = 1_704_171_600_000_000


def test_the_draws_are_those_of_the_design():
    assert stream_key(0, "AAPL", AS_OF) == 5870116959350155636
    drawn = uniforms(0, ["AAPL"], np.array([AS_OF]), 2, 2)[0]
    assert drawn[0, 0].tolist() == [0.6952445168492152, 0.3711560094592999]
    assert drawn[1, 1].tolist() == [0.5674317425217583, 0.5228150786920116]


def test_a_draw_depends_on_what_it_is_for_alone():
    names, as_of = ["A", "B", "C"], np.array([5, 6, 7])
    drawn = uniforms(3, names, as_of, 4, 5)
    assert np.array_equal(uniforms(3, ["C", "A"], np.array([7, 5]), 4, 5), drawn[[2, 0]])
    assert np.array_equal(uniforms(3, names, as_of, 8, 6)[:, :4, :5], drawn)


@pytest.mark.parametrize("other", [(4, "A", 5), (3, "B", 5), (3, "A", 6)])
def test_seed_symbol_and_bar_each_give_other_draws(other):
    seed, name, t = other
    drawn = uniforms(3, ["A"], np.array([5]), 2, 3)
    assert not np.isin(uniforms(seed, [name], np.array([t]), 2, 3), drawn).any()


def test_the_draws_are_uniform_and_unrelated():
    drawn = uniforms(1, [f"S{i}" for i in range(100)], np.arange(100), 100, 5)  # 1e5 draws
    assert abs(drawn.mean() - 0.5) < 0.003 and abs(drawn.var() - 1 / 12) < 0.002
    assert 0.0 < drawn.min() and drawn.max() < 1.0
    flat = drawn - drawn.mean()
    neighbours = [(flat[1:], flat[:-1]), (flat[:, 1:], flat[:, :-1]), (flat[:, :, 1:], flat[:, :, :-1])]
    neighbours.append((flat[..., 1], flat[..., 0]))
    for a, b in neighbours:
        assert abs((a * b).mean() / flat.var()) < 0.02
