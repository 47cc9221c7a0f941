from dataclasses import replace

import numpy as np
import pytest

from engine.bars.synthetic import make_bars
from engine.config import Settings, Strategy
from engine.config_sections import Levels
from engine.features.table import FeatureSet
from engine.search.levels_fit import LevelsFitter
from engine.simulation import Execution, run
from engine.simulation.levels import bar_net
from engine.strategies import registry
from engine.validation import out_of_sample as oos

CASH, SPANS = 100_000.0, [(200, 240), (240, 280), (280, 320)]
PARAMS = [dict(fast=5, slow=30), dict(fast=10, slow=50), dict(fast=3, slow=20)]
EXECUTION = Execution(tick=0.01, borrow_bps_year=50.0)
TREND = registry.get("trend")


@pytest.fixture(scope="module")
def bars():
    return make_bars(12, 330, volatility=0.02, dividends=True)


@pytest.fixture(scope="module")
def features(bars):
    return FeatureSet(bars, 0.01)


@pytest.fixture(scope="module")
def pieces(features):
    made, cash = [], CASH
    for fold, ((start, stop), params) in enumerate(zip(SPANS, PARAMS, strict=True)):
        piece = oos.rules_piece(
            features, TREND, {**params, "adx_min": 5.0}, EXECUTION, fold, start, stop, cash, open_fold=False
        )
        made.append(piece)
        cash = float(piece.equity[-1])
    return made


def test_each_fold_is_a_direct_run_on_its_test_span(pieces, features):
    cash = CASH
    for piece, params in zip(pieces, PARAMS, strict=True):
        execution = replace(EXECUTION, initial_cash=cash, close_at_end=True)
        direct = run(
            features, TREND, {**params, "adx_min": 5.0}, execution, start=piece.start, stop=piece.stop
        )
        np.testing.assert_array_equal(piece.equity, direct.equity)
        np.testing.assert_array_equal(piece.position, direct.position)
        for name, column in direct.trades.items():
            np.testing.assert_array_equal(piece.trades[name], column)
        cash = float(direct.equity[-1])


def test_the_sum_of_all_trades_is_the_change_of_equity(pieces):
    whole = oos.stitch(pieces)
    assert len(whole.trades["trade"]) >= 5
    assert whole.trades["pnl"].sum() == pytest.approx(whole.equity[-1] - CASH, abs=1e-9 * CASH)
    assert (whole.start, whole.stop, len(whole.equity)) == (200, 320, 120)


def test_stitched_trades_are_numbered_through_and_keep_their_fills(pieces):
    whole = oos.stitch(pieces)
    count = len(whole.trades["trade"])
    assert whole.trades["trade"].tolist() == list(range(count))
    assert sorted(set(whole.fills["trade"].tolist())) == list(range(count))
    for number in range(count):
        mine = whole.fills["trade"] == number
        assert whole.fills["ts"][mine][0] == whole.trades["entry_ts"][number]
        assert whole.fills["fee"][mine].sum() == pytest.approx(whole.trades["fees"][number], rel=1e-12)


def test_the_account_goes_on_from_fold_to_fold(pieces):
    for before, after in zip(pieces, pieces[1:], strict=False):
        assert after.cash == before.equity[-1]
        assert after.position[0] == 0.0  # each fold starts flat
    np.testing.assert_array_equal(oos.stitch(pieces).equity, np.concatenate([p.equity for p in pieces]))


def test_returns_compound_to_the_stitched_equity(pieces):
    whole = oos.stitch(pieces)
    assert CASH * np.prod(1 + whole.returns(CASH)) == pytest.approx(whole.equity[-1], rel=1e-12)
    growth = whole.metrics(make_bars(12, 330, volatility=0.02, dividends=True), CASH)["bps_per_bar"]
    assert growth == pytest.approx(1e4 * np.log(whole.equity[-1] / CASH) / 120, rel=1e-12)


def _open_at(features, stop, *, open_fold):
    return oos.rules_piece(
        features, TREND, {"fast": 5, "slow": 30, "adx_min": 5.0}, EXECUTION, 0, 200, stop, CASH,
        open_fold=open_fold,
    )  # fmt: skip


def test_the_open_fold_is_marked_not_closed(features, bars):
    stop = next(s for s in range(215, 320) if _open_at(features, s, open_fold=True).position[-1] != 0)
    marked, closed = (_open_at(features, stop, open_fold=o) for o in (True, False))
    assert marked.reasons[marked.trades["reason"][-1]] == "open"
    assert closed.reasons[closed.trades["reason"][-1]] == "end"
    assert closed.position[-1] == 0.0 and marked.position[-1] != 0.0
    np.testing.assert_array_equal(marked.equity[:-1], closed.equity[:-1])
    costs = abs(marked.position[-1]) * bars.close[stop - 1] * 7e-4  # 5 bps fee, 2 bps slippage
    assert marked.equity[-1] - closed.equity[-1] == pytest.approx(costs, rel=1e-3)
    assert marked.trades["pnl"].sum() == pytest.approx(marked.equity[-1] - CASH, abs=1e-9 * CASH)


def test_a_closed_fold_ends_flat_though_its_last_bar_has_no_volume(features, bars):
    stop = next(s for s in range(215, 320) if _open_at(features, s, open_fold=True).position[-2:].all())
    volume = bars.volume.copy()
    volume[stop - 1] = 0.0
    quiet = FeatureSet(replace(bars, volume=volume), 0.01)
    closed = _open_at(quiet, stop, open_fold=False)
    assert closed.position[-1] == 0.0 and closed.fills["ts"][-1] == bars.ts[stop - 1]
    assert closed.reasons[closed.trades["reason"][-1]] == "end"


def test_one_more_bar_leaves_the_open_fold_s_bars_as_they_were(features):
    for stop in range(201, 260):
        shorter, longer = (_open_at(features, s, open_fold=True) for s in (stop, stop + 1))
        np.testing.assert_array_equal(longer.equity[:-1], shorter.equity)


def test_an_empty_span_and_a_ruined_account_trade_nothing(features):
    for span, cash in (((200, 200), CASH), ((200, 240), 0.0), ((200, 240), -5.0)):
        piece = oos.rules_piece(features, TREND, {}, EXECUTION, 3, *span, cash, open_fold=False)
        assert (piece.status, piece.fold, len(piece.trades["trade"])) == ("empty", 3, 0)
        assert piece.equity.tolist() == [cash] * (span[1] - span[0])


def test_a_flat_fold_keeps_the_cash_and_joins_the_others(pieces, bars):
    flat = oos.flat_piece(1, 240, 280, float(pieces[0].equity[-1]), status="no_candidate", compounded=True)
    whole = oos.stitch([pieces[0], flat])
    assert set(whole.equity[40:].tolist()) == {pieces[0].equity[-1]}
    assert len(whole.trades["trade"]) == len(pieces[0].trades["trade"])
    found = flat.metrics(bars, CASH)
    assert (found["roi"], found["exposure"], found["bps_per_bar"]) == (0.0, 0.0, 0.0)


def test_buy_and_hold_buys_at_the_first_open_with_all_its_cash(bars):
    hold = oos.buy_and_hold(bars, EXECUTION, 200, 320)
    price = bars.open[200] * 1.0002
    quantity = CASH / (price * 1.0005)
    np.testing.assert_allclose(hold.position, quantity, rtol=1e-12)
    paid = np.cumsum(np.where(np.arange(200, 320) > 200, bars.dividend[200:320], 0.0)) * quantity
    assert paid[-1] > 0
    np.testing.assert_allclose(hold.equity, quantity * bars.close[200:320] + paid, rtol=1e-10)
    assert (len(hold.equity), hold.start, hold.stop, hold.cash) == (120, 200, 320, CASH)
    assert hold.reasons[hold.trades["reason"][0]] == "open"


def test_buy_and_hold_waits_for_the_first_bar_that_trades(bars):
    volume = bars.volume.copy()
    volume[200:203] = 0.0
    hold = oos.buy_and_hold(replace(bars, volume=volume), EXECUTION, 200, 320)
    assert hold.position[:3].tolist() == [0.0] * 3 and hold.equity[:3].tolist() == [CASH] * 3
    assert hold.fills["ts"].tolist() == [bars.ts[203]]


def test_parts_of_buy_and_hold_add_up_to_it(bars):
    hold = oos.buy_and_hold(bars, EXECUTION, 200, 320)
    parts = [oos.part(bars, hold, k, *span) for k, span in enumerate(SPANS)]
    np.testing.assert_array_equal(np.concatenate([p.equity for p in parts]), hold.equity)
    whole = hold.metrics(bars, CASH)
    for name in ("fees", "slippage", "dividends"):
        total = sum(p.metrics(bars, CASH)[name] for p in parts)
        assert total == pytest.approx(whole[name], rel=1e-9), name
        assert whole[name] > 0
    assert [len(p.fills["trade"]) for p in parts] == [1, 0, 0]
    assert np.prod([1 + p.metrics(bars, CASH)["roi"] for p in parts]) == pytest.approx(1 + whole["roi"])
    assert [p.cash for p in parts] == [CASH, hold.equity[39], hold.equity[79]]
    for p in parts:
        assert p.trades["pnl"][0] == pytest.approx(p.equity[-1] - p.cash, abs=1e-9)


def test_a_part_of_buy_and_hold_does_not_know_what_came_after_it(bars):
    """Dividends and profits of later bars stand in later parts."""
    short, long = (oos.buy_and_hold(bars, EXECUTION, 200, stop) for stop in (240, 320))
    a, b = (oos.part(bars, hold, 0, 200, 240).metrics(bars, CASH) for hold in (short, long))
    assert a == pytest.approx(b, nan_ok=True)


def test_the_matched_hold_earns_the_mean_exposure_times_the_return(pieces, bars):
    whole = oos.stitch(pieces)
    hold = oos.matched_hold(bars, whole, CASH)
    e = np.mean(whole.position * bars.close[200:320] / whole.equity)
    assert e == pytest.approx(whole.metrics(bars, CASH)["net_exposure"], rel=1e-12)
    before = bars.close[199:319]
    total = (bars.close[200:320] + bars.dividend[200:320] - before) / before
    expected = CASH * np.cumprod(1 + e * total)
    np.testing.assert_allclose(hold.equity, expected, rtol=1e-12)
    np.testing.assert_allclose(
        oos.matched_returns(whole.equity, whole.position, bars.close[200:320], total), e * total, atol=1e-15
    )


def test_an_account_always_in_the_market_has_its_own_market_as_matched_hold(bars):
    """Drift alone leaves nothing above the matched hold."""
    hold = oos.buy_and_hold(bars, replace(EXECUTION, fee_bps=0.0, slippage_bps=0.0), 200, 320)
    total = oos.total_returns(bars, 200, 320)
    matched = oos.matched_returns(hold.equity, hold.position, bars.close[200:320], total)
    assert abs(np.mean(hold.returns(CASH)[1:] - matched[1:])) < 2e-5


@pytest.mark.parametrize("equity", [[], [0.0, 0.0], [5.0, -1.0]])
def test_a_ruined_or_empty_account_is_held_against_no_trade(equity):
    n = len(equity)
    got = oos.matched_returns(np.array(equity), np.ones(n), np.ones(n), np.ones(n))
    assert got.tolist() == [0.0] * n


def test_total_returns_take_the_dividend_in(bars):
    t = int(np.flatnonzero(bars.dividend)[2])
    got = oos.total_returns(bars, t, t + 1)[0]
    assert got == pytest.approx((bars.close[t] + bars.dividend[t]) / bars.close[t - 1] - 1, rel=1e-12)


INSTRUMENT = Settings.model_validate({"symbols": {"TEST": {}}}).instrument("TEST")


def _levels(bars, name, policy, fee_mode="per_side"):
    rng = np.random.default_rng(1)
    high, low = 0.006 + 0.01 * rng.random(len(bars)), -0.006 - 0.01 * rng.random(len(bars))
    entry = Strategy(strategy=name, levels=Levels(fee_mode=fee_mode))
    problem = LevelsFitter(bars, high, low, "m", registry.get(name), entry, INSTRUMENT).problem(200, 240)
    piece = oos.levels_piece(bars, problem, 0.001, -0.001, policy, 2.0, 4, 200, 240, 90_000.0, CASH)
    return problem, piece


@pytest.mark.parametrize("fee_mode", ["per_side", "per_leg"])
@pytest.mark.parametrize("policy", ["close", "target"])
@pytest.mark.parametrize("name", ["levels_entry_exit", "levels_always_on"])
def test_a_levels_fold_trades_a_fixed_notional_and_adds_up(bars, name, policy, fee_mode):
    problem, piece = _levels(bars, name, policy, fee_mode)
    net = bar_net(problem, 0.001, -0.001, policy).net
    np.testing.assert_allclose(piece.equity, 90_000.0 + CASH * np.cumsum(net), rtol=1e-14)
    assert len(piece.trades["trade"]) > 10
    assert piece.trades["pnl"].sum() == pytest.approx(piece.equity[-1] - 90_000.0, abs=1e-9 * CASH)
    np.testing.assert_allclose(piece.returns(CASH), net, atol=1e-12)
    assert piece.metrics(bars, CASH)["bps_per_bar"] == pytest.approx(1e4 * net.mean(), abs=1e-9)
    assert not piece.position.any()


@pytest.mark.parametrize("fee_mode", ["per_side", "per_leg"])
@pytest.mark.parametrize("policy", ["close", "target"])
def test_a_levels_trade_is_rebuilt_from_its_fills(bars, policy, fee_mode):
    _, piece = _levels(bars, "levels_always_on", policy, fee_mode)
    t, f = piece.trades, piece.fills
    moved = t["side"] * t["quantity"] * (t["exit_price"] - t["entry_price"])
    np.testing.assert_allclose(moved - t["fees"], t["pnl"], rtol=0, atol=1e-9)
    money = -f["side"] * f["quantity"] * f["price"] - f["fee"]
    np.testing.assert_allclose(money[0::2] + money[1::2], t["pnl"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("cash", [90_000.0, 500_000.0])
def test_a_levels_account_is_measured_on_its_fixed_notional(bars, cash):
    """The same trades give the same ratios, whatever the folds before earned or lost."""
    problem, _ = _levels(bars, "levels_always_on", "close")
    piece = oos.levels_piece(bars, problem, 0.001, -0.001, "close", 2.0, 4, 200, 240, cash, CASH)
    net = bar_net(problem, 0.001, -0.001, "close").net
    found, total = piece.metrics(bars, CASH), np.concatenate([[0.0], np.cumsum(net)])
    assert found["roi"] == pytest.approx(total[-1], abs=1e-12)
    assert found["max_drawdown"] == pytest.approx(max(total[: k + 1].max() - total[k] for k in range(41)))
    assert found["sharpe"] == pytest.approx(np.mean(net) / np.std(net, ddof=1) * np.sqrt(252), rel=1e-6)
    traded = float(piece.fills["quantity"] @ piece.fills["price"])
    assert found["turnover"] == pytest.approx(traded / CASH / found["years"], rel=1e-12)
    assert np.isnan([found["cagr"], found["calmar"]]).all()
    assert (found["exposure"], found["gross_exposure"]) == (0.0, 0.0)


@pytest.mark.parametrize("fee_mode, exit_share", [("per_side", 1.0), ("per_leg", 0.0)])
def test_fees_of_a_levels_fill_follow_the_fee_mode(bars, fee_mode, exit_share):
    _, piece = _levels(bars, "levels_always_on", "target", fee_mode)
    entry, exit_ = piece.fills["fee"][0::2], piece.fills["fee"][1::2]
    np.testing.assert_allclose(entry, CASH * 5e-4, rtol=1e-12)
    np.testing.assert_allclose(exit_, exit_share * entry, atol=1e-9)
    np.testing.assert_allclose(entry + exit_, piece.trades["fees"], rtol=1e-12)
    at_target = piece.trades["reason"] == oos.TARGET
    assert at_target.any() and not at_target.all()
    np.testing.assert_allclose(piece.trades["slippage"], np.where(at_target, 0.0, CASH * 2e-4), rtol=1e-12)
    names = {piece.reasons[r] for r in piece.trades["reason"]}
    assert names == {"target", "close"}
