"""Points of the screen and the grid lie where Optuna's own would; draws are those of their batch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config_sections import Leaf
from engine.search.sampling import at, batch_seed, grid, grid_size, near, place, screen
from engine.search.space import Space

LEAVES = {
    "int": Leaf(type="int", low=3, high=11),
    "int step": Leaf(type="int", low=5, high=60, step=5),
    "int log": Leaf(type="int", low=1, high=500, log=True),
    "float": Leaf(type="float", low=-1.5, high=2.5),
    "float step": Leaf(type="float", low=0.5, high=3.0, step=0.25),
    "float log": Leaf(type="float", low=1e-3, high=10.0, log=True),
    "choice": Leaf(type="categorical", choices=("a", "b", "c")),
}


@pytest.mark.parametrize("name", LEAVES)
@given(u=st.floats(0, 1, exclude_max=True))
def test_a_value_lies_in_its_distribution(name, u):
    distribution = Space({"x": LEAVES[name]}, {}).distributions()["x"]
    value = at(LEAVES[name], u)
    assert distribution._contains(distribution.to_internal_repr(value))
    if name != "choice":
        assert type(value) is (int if name.startswith("int") else float)


@pytest.mark.parametrize("name, count", [("int", 9), ("int step", 12), ("float step", 11), ("choice", 3)])
def test_every_value_is_equally_likely(name, count):
    drawn = [at(LEAVES[name], u) for u in (np.arange(100 * count) + 0.5) / (100 * count)]
    values, counts = np.unique(drawn, return_counts=True)
    assert len(values) == count
    assert set(counts.tolist()) == {100}


@pytest.mark.parametrize("name", ["int log", "float log"])
def test_half_of_a_logarithmic_scale_lies_below_its_geometric_middle(name):
    leaf = LEAVES[name]
    top = leaf.high + 1 if name == "int log" else leaf.high
    drawn = np.array([at(leaf, u) for u in (np.arange(4000) + 0.5) / 4000], dtype=float)
    assert np.mean(drawn < math.sqrt(leaf.low * top)) == pytest.approx(0.5, abs=0.03)


def always(config):
    return True


def test_a_screen_fills_the_space_evenly():
    space = Space({name: Leaf(type="float", low=0.0, high=1.0) for name in "xyz"}, {})
    points = np.array([list(p.values()) for p in screen(space, always, 512, 0)])
    assert points.shape == (512, 3)
    for axis in range(3):  # a Sobol sequence puts exactly one point into each of 512 slices
        assert sorted(np.floor(points[:, axis] * 512).astype(int).tolist()) == list(range(512))


def test_a_screen_is_that_of_its_seed():
    space = Space({"x": LEAVES["float"], "y": LEAVES["int"]}, {})
    assert screen(space, always, 40, 5) == screen(space, always, 40, 5)
    assert screen(space, always, 40, 5) != screen(space, always, 40, 6)


def test_a_small_space_gives_each_point_once():
    space = Space({"x": LEAVES["choice"], "y": Leaf(type="int", low=1, high=2)}, {})
    points = screen(space, always, 1024, 0)
    assert sorted((p["x"], p["y"]) for p in points) == [(x, y) for x in "abc" for y in (1, 2)]


def test_points_that_break_a_relation_are_left_out_and_replaced():
    space = Space({"fast": Leaf(type="int", low=1, high=60), "slow": Leaf(type="int", low=1, high=60)}, {})
    points = screen(space, lambda config: config["fast"] < config["slow"], 300, 0)
    assert len(points) == 300
    assert all(p["fast"] < p["slow"] for p in points)
    assert screen(space, lambda config: False, 300, 0) == []


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "choice"])
@given(u=st.floats(0, 1, exclude_max=True))
def test_a_number_is_found_again_at_its_place(name, u):
    leaf = LEAVES[name]
    value = at(leaf, u)
    assert 0 <= place(leaf, value) <= 1
    assert at(leaf, min(place(leaf, value), math.nextafter(1.0, 0.0))) == pytest.approx(value, rel=1e-9)


def test_points_near_others_are_distinct_valid_and_within_a_tenth():
    space = Space({"x": LEAVES["float"], "k": Leaf(type="int", low=1, high=60), "c": LEAVES["choice"]}, {})
    centres = [{"x": -1.5, "k": 30, "c": "a"}, {"x": 2.0, "k": 59, "c": "b"}]
    points = near(space, lambda config: config["k"] != 31, centres, 100, 3)
    assert points == near(space, lambda config: config["k"] != 31, centres, 100, 3)
    assert points != near(space, lambda config: config["k"] != 31, centres, 100, 4)
    assert len({tuple(p.values()) for p in points}) == 100
    assert all(p["k"] != 31 for p in points)
    for point in points:
        assert any(abs(point["x"] - c["x"]) <= 0.4 and abs(point["k"] - c["k"]) <= 6 for c in centres)
    kept = sum(point["c"] == ("a" if point["x"] < 0 else "b") for point in points)
    assert 80 < kept < 100


def test_near_a_point_of_a_tiny_space_there_are_few():
    space = Space({"k": Leaf(type="int", low=1, high=3)}, {})
    assert sorted(p["k"] for p in near(space, always, [{"k": 2}], 50, 0)) == [2]


def test_a_grid_holds_every_point_once():
    space = Space({"a": LEAVES["float step"], "b": LEAVES["int step"], "c": LEAVES["choice"]}, {})
    points = grid(space)
    assert len(points) == grid_size(space) == 11 * 12 * 3 == len({tuple(p.values()) for p in points})
    assert points[0] == {"a": 0.5, "b": 5, "c": "a"} and points[-1] == {"a": 3.0, "b": 60, "c": "c"}
    assert grid_size(Space({"a": LEAVES["float"]}, {})) is None


def test_each_batch_has_a_seed_of_its_own():
    seeds = [batch_seed(text, batch) for text in ("a", "b") for batch in range(3)]
    assert len(set(seeds)) == 6
    assert seeds[0] == 858641166  # the first 4 bytes of sha256(b"a:0"), little-endian
