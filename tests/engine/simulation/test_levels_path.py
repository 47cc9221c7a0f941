"""Exit path with finer bars: against a plain loop, against close and target, and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from finer import finer_problem, first_and_later, reference, with_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulation.levels import LevelsProblem, bar_net, trades, value
from engine.simulation.levels_batch import LevelsBatch, levels_grid, levels_one, levels_value
from engine.simulation.levels_corners import stairs
from engine.simulation.levels_finer import FinerBars


def some_offsets(rng, count):
    return [(0.0, 0.0), *rng.normal(0, 0.015, (count, 2)), *np.round(rng.normal(0, 0.015, (count, 2)), 2)]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 12), touch=st.booleans(), coarse=st.booleans())
def test_value_fills_and_batch_equal_a_plain_loop(seed, n, touch, coarse):
    p = finer_problem(seed, n, touch, coarse)
    pairs = some_offsets(np.random.default_rng(seed), 3)
    u, v = np.array(pairs).T
    batch = LevelsBatch.of([p])
    grid, single = levels_grid(batch, u[None], v[None], "path")[0], levels_one(batch, 0, "path")
    for k, (a, b) in enumerate(pairs):
        expected, longs, shorts = reference(p, a, b)
        scored = bar_net(p, a, b, "path")
        assert scored.long_target.tolist() == longs and scored.short_target.tolist() == shorts
        assert value(p, a, b, "path") == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert grid[k, k] == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert single(a, b) == levels_value(batch, u[None], v[None], "path")[0, k]
        assert single(a, b) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("touch", [True, False])
def test_the_targets_are_a_subset_of_those_of_target_and_the_entries_the_same(touch):
    fewer = credited = 0
    for seed in range(30):
        p = finer_problem(seed, 40, touch, coarse=seed % 2 == 0)
        for u, v in some_offsets(np.random.default_rng(seed), 2):
            path, target, close = (bar_net(p, u, v, exit) for exit in ("path", "target", "close"))
            for leg in ("long", "short"):
                ours, theirs = (getattr(x, f"{leg}_target") for x in (path, target))
                assert not (ours & ~theirs).any()
                assert not (ours & ~getattr(path, leg)).any()
                assert getattr(path, leg).tolist() == getattr(close, leg).tolist()
                credited, fewer = credited + ours.sum(), fewer + (theirs & ~ours).sum()
    assert credited > 100 and fewer > 100


def test_entry_and_target_are_never_in_the_same_finer_bar():
    """Each target comes in a finer bar after that of its entry; one finer bar alone never gives a target."""
    for seed in range(30):
        p = finer_problem(seed, 30, touch=False, most=6)
        scored = bar_net(p, 0.0, 0.0, "path")
        for i in np.flatnonzero(scored.long_target):
            parts = slice(*p.finer.starts[i : i + 2])
            s, later = first_and_later(
                scored.low_level[i] >= p.finer.low[parts] + p.delta[i],
                scored.high_level[i] <= p.finer.high[parts] - p.delta[i],
            )
            assert later and s < parts.stop - parts.start - 1
        alone = finer_problem(seed, 30, touch=False, most=1)
        one = bar_net(alone, 0.0, 0.0, "path")
        assert not one.long_target.any() and not one.short_target.any()
        assert one.net.tobytes() == bar_net(alone, 0.0, 0.0, "close").net.tobytes()


@pytest.mark.parametrize("touch", [True, False])
def test_without_finer_bars_path_is_close_bit_for_bit_alone_and_in_company(touch):
    rng = np.random.default_rng(0)
    bare = [replace(finer_problem(seed, 30, touch), finer=None) for seed in range(3)]
    holes = finer_problem(4, 30, touch, most=0)  # finer bars are given, and no row holds one
    u, v = rng.normal(0, 0.01, (2, 4, 9))
    for made in ([*bare, holes], [*bare, finer_problem(9, 30, touch)]):
        batch = LevelsBatch.of(made)
        for score in (levels_value, levels_grid):
            path, close = (score(batch, u, v, exit) for exit in ("path", "close"))
            count = 3 + (made[3] is holes)
            assert path[:count].tobytes() == close[:count].tobytes()
            assert (path[3].tobytes() == close[3].tobytes()) == (made[3] is holes)
    path, close = (bar_net(holes, 0.001, 0.0, exit) for exit in ("path", "close"))
    assert path.net.tobytes() == close.net.tobytes()
    other = finer_problem(9, 30, touch)
    for exit in ("close", "target"):  # these exits do not read them
        pairs = [bar_net(p, 0.001, 0.0, exit).net.tobytes() for p in (other, replace(other, finer=None))]
        assert pairs[0] == pairs[1]


def by_hand(highs, lows, **changes):
    """One bar against a base of 100: buy at 99, sell at 102, close 100.5, no costs."""
    row = dict(close=[0.005], high=[max(highs)], low=[min(lows)], forecast_high=[0.02], forecast_low=[-0.01],
               long_weight=[1.0], short_weight=[0.0], delta=[0.0001], base=[100.0], index=[1],
               fee_entry=0.0, fee_target=0.0, fee_close=0.0, touch=False)  # fmt: skip
    return LevelsProblem(**{**row, **changes}, finer=FinerBars([0, len(highs)], highs, lows))


@pytest.mark.parametrize(
    ("highs", "lows", "long", "short"),
    [
        # low first, high later: bought at 99 and sold at 102; a short sold last has no bar left
        ([0.001, 0.005, 0.025], [-0.015, 0.0, 0.01], 0.03, 0.015),
        # high first, low later: the long is out at the close, the short bought back at 99
        ([0.025, 0.005, 0.006], [0.01, -0.015, 0.0], 0.015, 0.03),
        # both in one finer bar: neither
        ([0.005, 0.025, 0.006], [0.0, -0.015, 0.0], 0.015, 0.015),
        # low, high, low, high: both
        ([0.0, 0.025, 0.0, 0.025], [-0.015, 0.0, -0.015, 0.0], 0.03, 0.03),
        # the high later is one tick short of trading through
        ([0.001, 0.02005, 0.02005], [-0.015, 0.0, 0.01], 0.015, 0.0),
        # the second low is deeper, but the entry was at the first
        ([0.0, 0.025, 0.0], [-0.011, 0.0, -0.02], 0.03, 0.03),
    ],
)
def test_a_bar_by_hand(highs, lows, long, short):
    p = by_hand(highs, lows)
    assert value(p, 0.0, 0.0, "path") == pytest.approx(long, abs=1e-15)
    turned = replace(p, long_weight=[0.0], short_weight=[1.0])
    assert value(turned, 0.0, 0.0, "path") == pytest.approx(short, abs=1e-15)


def test_the_corners_of_a_bar_by_hand():
    """Lows -1, -0.5, -3, -2 %: records -1 and -3. Highs after them: 2 % and 1 %, a tick of 1 bp off."""
    p = by_hand([0.0, 0.02, 0.005, 0.01], [-0.01, -0.005, -0.03, -0.02], short_weight=[1.0])
    (starts, tops, bottoms), (_, sells, covers) = stairs(p)
    assert starts.tolist() == [0, 2]
    assert tops == pytest.approx([0.0099, 0.0199]) and bottoms == pytest.approx([-0.0299, -0.0099])
    # running highs 0 and 2 %; the lowest low after either is -3 %, so the second corner holds the first
    assert sells == pytest.approx([0.0199]) and covers == pytest.approx([-0.0299])


def test_costs_follow_the_exit_that_happened():
    p = by_hand([0.0, 0.025], [-0.015, 0.0], fee_entry=0.001, fee_target=0.002, fee_close=0.004)
    assert value(p, 0.0, 0.0, "path") == pytest.approx(0.03 - 0.003)
    assert value(p, 0.01, 0.0, "path") == pytest.approx(0.015 - 0.005)


def test_trades_of_path_leave_at_the_target_where_it_was_credited():
    from finer import parted

    from engine.bars.synthetic import make_bars
    from engine.simulation.levels import equity, problem

    bars = make_bars(2, 300, volatility=0.015)
    up, down = np.full(300, 0.004), np.full(300, -0.004)
    p = problem(bars, up, down, 50, 250, objective="always_on", side="maxdiff", sides="both",
                fee_bps=5.0, slippage_bps=2.0, fee_mode="per_side", fill="through:1", tick=0.01,
                finer=parted(bars))  # fmt: skip
    done, scored = trades(p, bars, 0.0, 0.0, "path"), bar_net(p, 0.0, 0.0, "path")
    assert 10 < done.at_target.sum() < len(done.index) - 10
    assert done.at_target.sum() == scored.long_target.sum() + scored.short_target.sum()
    assert equity(1.0, scored, 50, 250)[-1] - 1 == pytest.approx(done.net.sum(), rel=1e-12)


def test_the_order_of_rows_idle_rows_and_company_change_no_bit():
    rng = np.random.default_rng(1)
    problems = [finer_problem(seed, n, seed % 2 == 0, coarse=True) for seed, n in enumerate((40, 3, 40, 17))]
    one = problems[0]  # its rows twice: equal numbers, but the finer bars of the second are flat at the low
    flat = np.repeat(one.low, np.diff(one.finer.starts))
    both = FinerBars(
        np.r_[one.finer.starts, one.finer.starts[1:] + len(flat)],
        np.r_[one.finer.high, flat],
        np.r_[one.finer.low, flat],
    )
    problems[0] = replace(with_rows(one, np.r_[0:40, 0:40]), finer=both)
    u, v = rng.normal(0, 0.01, (2, 4, 9))
    first = LevelsBatch.of(problems)
    values, grid = levels_value(first, u, v, "path"), levels_grid(first, u, v, "path")
    shuffled = LevelsBatch.of([with_rows(p, rng.permutation(len(p))) for p in problems])
    idle = finer_problem(7, 90, touch=False)
    idle = replace(idle, long_weight=np.zeros(90), short_weight=np.zeros(90))
    longer = LevelsBatch.of([*problems, idle])
    for batch in (shuffled, longer.take(range(4))):
        assert levels_value(batch, u, v, "path").tobytes() == values.tobytes()
        assert levels_grid(batch, u, v, "path").tobytes() == grid.tobytes()
    turned = levels_value(first.take([2, 0]), u[[2, 0]], v[[2, 0]], "path")
    assert turned.tobytes() == values[[2, 0]].tobytes()
