"""The account's sums: the rolling hash, and bars added in any pieces."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulation import slots
from engine.simulation.account import accumulate, add_drawdown, book_fill, book_trade, start_run
from engine.simulation.workspace import hash_of

FILLS = [(1_600_000_000_000_000.0, 2.5, 99.5, 0.1, 0), (1_600_000_060_000_000.0, -2.5, 101.25, 0.2, 3)]


def fresh():
    state, numbers = np.zeros(slots.N_STATE), np.zeros(slots.N_SETTINGS)
    numbers[slots.CASH_0] = 100.0
    start_run(state, numbers)
    return state


def test_the_hash_depends_on_every_part_of_every_fill_and_on_their_order():
    def hashed(fills):
        state = fresh()
        for fill in fills:
            book_fill(state, *fill)
        return hash_of(state)

    seen = {hashed(FILLS), hashed(FILLS[::-1]), hashed(FILLS[:1]), hashed([])}
    for part in range(5):
        changed = list(FILLS[1])
        changed[part] = np.nextafter(changed[part], np.inf) if 0 < part < 4 else changed[part] + 1
        seen.add(hashed([FILLS[0], tuple(changed)]))
    assert len(seen) == 9
    assert len(hashed(FILLS)) == 16
    assert hashed(FILLS) == hashed(FILLS)


def test_traded_value_and_trades_are_summed():
    state = fresh()
    for fill in FILLS:
        book_fill(state, *fill)
    book_trade(state, 1.0, 0.5, 0.25, 2.0, 7.0, True)
    book_trade(state, 1.0, 0.5, 0.25, 2.0, -3.0, True)
    book_trade(state, 1.0, 0.5, 0.25, 2.0, 0.0, True)
    book_trade(state, 1.0, 0.5, 0.25, 2.0, 9.0, False)  # still open: costs, but no win
    assert state[slots.TRADED_VALUE] == 2.5 * 99.5 + 2.5 * 101.25
    names = ("TOTAL_FEES", "TOTAL_SLIPPAGE", "TOTAL_FINANCED", "TOTAL_DIVIDENDS", "CLOSED", "WINS", "GAINS")
    assert [state[getattr(slots, name)] for name in names] == [4.0, 2.0, 1.0, 8.0, 3.0, 1.0, 7.0]
    assert state[slots.LOSSES] == 3.0


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_bars_added_in_pieces_give_the_same_bits_and_the_drawdown_of_its_formula(seed, cuts):
    rng = np.random.default_rng(seed)
    equity = 100.0 + np.cumsum(rng.integers(-3, 4, 60) * (rng.random(60) < 0.7))
    position, close = np.where(rng.random(60) < 0.5, 1.0, 0.0), rng.uniform(1.0, 2.0, 60)
    day_start = (rng.random(60) < 0.2).astype(np.uint8)
    whole, pieces, light = fresh(), fresh(), fresh()
    accumulate(equity, position, close, day_start, whole, 0, 60)
    edges = sorted({0, 60, *cuts})
    for t0, t1 in zip(edges[:-1], edges[1:], strict=True):
        accumulate(equity, position, close, day_start, pieces, t0, t1)
        add_drawdown(equity, light, t0, t1)
    assert whole.tobytes() == pieces.tobytes()
    drawdown = max(whole[slots.DRAWDOWN], 1.0 - whole[slots.LOWEST] / whole[slots.PEAK])
    assert drawdown == max(
        [0.0, *(1.0 - e / max([100.0, *equity[: t + 1]]) for t, e in enumerate(equity.tolist()))]
    )
    for name in ("PEAK", "LOWEST", "PEAK_BAR", "DRAWDOWN", "DRAWDOWN_BARS", "LAST_EQUITY", "BARS"):
        assert light[getattr(slots, name)] == whole[getattr(slots, name)], name


def test_the_light_sums_know_a_ruin_that_recovered():
    """Growth on an equity below zero means nothing, whichever metrics were asked for."""
    s = fresh()
    add_drawdown(np.array([100.0, -20.0, 40.0]), s, 0, 3)
    assert s[slots.RUINED] == 1.0


def test_fills_before_1970_have_hashes_of_their_own():
    hashes = set()
    for days in (-5000.0, -4000.0, 0.0, 4000.0):
        s = fresh()
        book_fill(s, days * 86_400e6, 1.0, 100.0, 0.0, 0)
        hashes.add((s[slots.HASH_LOW], s[slots.HASH_HIGH]))
    assert len(hashes) == 4
