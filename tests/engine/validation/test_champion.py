import json
import math
from dataclasses import replace

import numpy as np
import pytest

from engine.config_sections import Promotion
from engine.validation.champion import Evidence, Series, choose, draw_seed, judge, level, measure

LIMITS = Promotion(confidence=0.95)
GOOD = Evidence("trend", "a", bars=500, trades=20, last_bar=1, net_bps=3.0, excess_bps=2.0, t=4.0, p=0.01,
                looked=3)  # fmt: skip


def _series(name, excess, first=0, net=None):
    ts = np.arange(first, first + len(excess), dtype=np.int64)
    return Series(name, f"s-{name}", ts, excess if net is None else net, excess)


def _noise(seed, n=600, mean=0.0, sd=0.01):
    return np.random.default_rng(seed).normal(mean, sd, n)


def test_evidence_that_meets_every_condition_qualifies():
    assert judge(GOOD, LIMITS).qualified and judge(GOOD, LIMITS).reasons == ()


THRESHOLDS = [
    (dict(bars=499), {}, "499 out-of-sample bars, needs 500"),
    (dict(trades=19), {}, "19 trades, needs 20"),
    (dict(net_bps=0.0), {}, "net 0.00 basis points per bar, needs more than 0"),
    (dict(net_bps=math.nan), {}, "net undefined basis points per bar, needs more than 0"),
    (dict(excess_bps=0.49), {}, "0.49 basis points per bar above the matched hold, needs 0.5"),
    (dict(excess_bps=math.nan), {}, "undefined basis points per bar above the matched hold, needs 0.5"),
    (dict(p=0.0509), {}, "p 0.051 over 3 procedures, needs 0.050"),
    (dict(p=math.nan), {}, "p undefined (too few bars or no variation), needs 0.050"),
    ({}, dict(enabled=False), "promotion is off for it"),
]


@pytest.mark.parametrize("evidence, limits, reason", THRESHOLDS, ids=[row[2] for row in THRESHOLDS])
def test_each_condition_alone_disqualifies_and_says_so(evidence, limits, reason):
    verdict = judge(replace(GOOD, **evidence), LIMITS.model_copy(update=limits))
    assert verdict.reasons == (reason,) and not verdict.qualified


@pytest.mark.parametrize(
    "evidence, limits",
    [
        (dict(excess_bps=0.5), {}),
        (dict(p=0.05), {}),
        (dict(excess_bps=-1.0), dict(min_improvement=-2.0)),
        (dict(bars=30, trades=1), dict(min_oos_bars=30, min_oos_trades=1)),
        (dict(p=0.1), dict(confidence=0.9)),
    ],
)
def test_thresholds_are_met_at_their_value_and_can_be_set(evidence, limits):
    assert judge(replace(GOOD, **evidence), LIMITS.model_copy(update=limits)).qualified


def test_all_reasons_are_told_at_once():
    verdict = judge(Evidence("trend", "a", 10, 1, 0, -1.0, -2.0, math.nan, math.nan, 1), LIMITS)
    assert len(verdict.reasons) == 5


def test_the_level_has_no_binary_dust():
    assert [level(Promotion(confidence=c)) for c in (0.95, 0.97, 0.9)] == [0.05, 0.03, 0.1]


def test_measure_takes_means_in_bps_and_counts_every_procedure():
    series = [_series("a", np.tile([1e-4, 2e-4], 20), net=np.full(40, 3e-4)), _series("old", _noise(0, 90))]
    found = measure(series, {"a": 7}, seed=1)
    assert [(e.bars, e.trades, e.last_bar, e.looked) for e in found] == [(40, 7, 39, 2), (90, 0, 89, 2)]
    assert found[0].net_bps == pytest.approx(3.0) and found[0].excess_bps == pytest.approx(1.5)
    assert measure([], {}, seed=0) == []


@pytest.mark.parametrize("n", [0, 1, 29])
def test_few_bars_have_no_p(n):
    found = measure([_series("a", _noise(0, n)), _series("b", _noise(1))], {}, seed=0)[0]
    assert math.isnan(found.p) and math.isnan(found.t)
    assert math.isnan(found.net_bps) == (n == 0)


def test_a_procedure_of_the_past_is_held_against_those_of_now_on_its_own_bars():
    late = _series("late", _noise(0, 400, mean=0.0015), first=300)
    early = [_series(f"old{k}", _noise(k + 1, 300)) for k in range(6)]
    alone = measure([late], {}, seed=5)[0]
    among = measure([late, *early], {}, seed=5)[0]
    assert among.looked == 7 and among.p > alone.p and among.bars == 400
    assert among.t == pytest.approx(alone.t, rel=0.15)  # other draws, the same bars


def test_evidence_as_json_has_no_nan():
    found = measure([_series("a", np.zeros(0)), _series("b", _noise(0))], {}, seed=0)[0]
    record = judge(found, LIMITS).as_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "strategy": "s-a", "settings_hash": "a", "bars": 0, "trades": 0, "last_bar": 0, "net_bps": None,
        "excess_bps": None, "t": None, "p": None, "looked": 2,
    }  # fmt: skip


def test_the_draws_are_seeded_by_symbol_seed_and_last_closed_bar():
    series = [_series("a", _noise(0)), _series("b", _noise(0, 300))]
    assert draw_seed("X", 0, series) == draw_seed("X", 0, series[:1])
    others = {draw_seed("Y", 0, series), draw_seed("X", 1, series), draw_seed("X", 0, series[1:])}
    assert draw_seed("X", 0, series) not in others and len(others) == 3


def _judged(series):
    found = measure(series, {one.procedure: 50 for one in series}, seed=2)
    return [judge(item, LIMITS) for item in found]


def _chosen(series, incumbent=None):
    verdicts = _judged(series)
    winner, said = choose(verdicts, [LIMITS] * len(series), series, incumbent, seed=2)
    return (None if winner is None else winner.evidence.settings_hash), said


def test_without_an_incumbent_the_lowest_p_wins_then_the_larger_excess():
    weak, strong = _series("weak", _noise(0, mean=0.0015)), _series("strong", _noise(1, mean=0.004))
    stronger = _series("stronger", _noise(2, mean=0.006))  # the same smallest p
    assert _chosen([weak, strong, stronger])[0] == "stronger"
    assert _chosen([weak])[0] == "weak"
    assert _chosen([_series("none", _noise(3))]) == (None, {})
    assert choose([], [], [], None, seed=0) == (None, {})
    assert _chosen([weak, strong])[1] == {"weak": "another procedure is champion"}


def test_an_incumbent_is_not_replaced_by_a_copy_of_itself_nor_by_a_worse_one():
    base = _noise(1, mean=0.003)
    series = [_series("in", base), _series("copy", base.copy()), _series("worse", base - 0.001)]
    winner, said = _chosen(series, incumbent="in")
    assert winner == "in"
    assert said["copy"] == "does not beat the champion on the common bars: p undefined, needs 0.025"
    assert said["worse"].startswith("does not beat the champion on the common bars: p ")


def test_more_looks_ask_more_of_a_challenger():
    base = _noise(1, mean=0.003)
    step = _noise(7, sd=0.012)
    better = base + step - step.mean() + 0.0012  # 2.4 standard errors
    few = [_series("in", base), _series("new", better)]
    many = [*few, *(_series(f"x{k}", _noise(20 + k)) for k in range(30))]
    assert _chosen(few, incumbent="in")[0] == "new"
    assert _chosen(many, incumbent="in")[0] == "in"
    elsewhere = [*few, *(_series(f"x{k}", _noise(20 + k), first=5000) for k in range(30))]
    assert _chosen(elsewhere, incumbent="in")[0] == "new"  # their bars do not overlap


def test_an_incumbent_that_no_longer_qualifies_is_no_bar_to_others():
    series = [_series("in", _noise(0)), _series("new", _noise(1, mean=0.003))]
    assert _chosen(series, incumbent="in") == ("new", {})
    assert _chosen(series[:1], incumbent="in") == (None, {})


def test_each_procedure_has_its_own_thresholds():
    series = [_series("a", _noise(1, mean=0.003)), _series("b", _noise(2, mean=0.003))]
    found = measure(series, {"a": 50, "b": 50}, seed=2)
    limits = [Promotion(min_oos_bars=5000), LIMITS]
    verdicts = [judge(item, limit) for item, limit in zip(found, limits, strict=True)]
    assert choose(verdicts, limits, series, None, seed=2)[0] is verdicts[1]


def _panel(seed, bars, *, edge=0.0, drift=0.0):
    """Three procedures with fat tails, half invested in a market, above their matched holds."""
    rng = np.random.default_rng(seed)
    market = drift + 0.012 * rng.standard_t(5, bars) / math.sqrt(5 / 3)
    series = []
    for k in range(3):
        own = 0.008 * rng.standard_t(5, bars) / math.sqrt(5 / 3) + (edge if k == 0 else 0.0)
        series.append(_series(f"h{k}", own, net=0.5 * market + own))
    return series


def test_drift_alone_makes_no_more_champions():
    """Half of a strong rise is earned by everybody: net is clearly above 0, the excess is not."""
    hits = sum(_chosen(_panel(seed, 800, drift=0.002))[0] is not None for seed in range(150))
    assert hits <= 0.05 * 150 + 3.2 * math.sqrt(150 * 0.05 * 0.95)


def test_a_planted_edge_is_mostly_found_and_it_is_the_right_one():
    """20 years of daily bars, an edge of annual Sharpe about 1."""
    found = [_chosen(_panel(seed, 5000, edge=0.008 / math.sqrt(252)))[0] for seed in range(30)]
    champions = [name for name in found if name]
    assert len(champions) >= 24 and champions.count("h0") >= 0.95 * len(champions)
