import json
import math
from dataclasses import replace

import numpy as np
import pytest

from engine.config_sections import Promotion
from engine.validation.champion import Evidence, best, decide, measure, t_statistic

LIMITS = Promotion()
GOOD = Evidence("trend", "a", bars=500, trades=20, net_bps=3.0, excess_bps=2.0, t=4.0)


def _one(evidence=GOOD, looked=1, **limits):
    return decide([evidence], [Promotion(**limits)], looked)[0]


def test_evidence_that_meets_every_condition_qualifies():
    verdict = _one()
    assert verdict.qualified and verdict.reasons == ()
    assert verdict.p == pytest.approx(0.5 * math.erfc(4 / math.sqrt(2)))


THRESHOLDS = [
    (dict(bars=499), {}, "499 out-of-sample bars, needs 500"),
    (dict(trades=19), {}, "19 trades, needs 20"),
    (dict(net_bps=0.0), {}, "net 0.00 basis points per bar, needs more than 0"),
    (dict(net_bps=math.nan), {}, "net undefined basis points per bar, needs more than 0"),
    (dict(excess_bps=0.49), {}, "0.49 basis points per bar above the matched hold, needs 0.5"),
    (dict(excess_bps=math.nan), {}, "undefined basis points per bar above the matched hold, needs 0.5"),
    (dict(t=1.64), {}, "p 0.051 over 1 procedures, needs 0.050"),
    (dict(t=math.nan), {}, "p undefined (too few bars or no variation), needs 0.050"),
    ({}, dict(enabled=False), "promotion is off for it"),
]


@pytest.mark.parametrize("evidence, limits, reason", THRESHOLDS, ids=[row[2] for row in THRESHOLDS])
def test_each_condition_alone_disqualifies_and_says_so(evidence, limits, reason):
    verdict = _one(replace(GOOD, **evidence), **limits)
    assert verdict.reasons == (reason,)
    assert not verdict.qualified
    assert best([verdict]) is None


@pytest.mark.parametrize(
    "evidence, limits",
    [
        (dict(excess_bps=0.5), {}),
        (dict(t=1.65), {}),
        (dict(excess_bps=-1.0), dict(min_improvement=-2.0)),
        (dict(bars=30, trades=1), dict(min_oos_bars=30, min_oos_trades=1)),
        (dict(t=1.3), dict(confidence=0.9)),
    ],
)
def test_thresholds_are_met_at_their_value_and_can_be_set(evidence, limits):
    assert _one(replace(GOOD, **evidence), **limits).qualified


def test_every_look_makes_p_larger():
    ps = [_one(replace(GOOD, t=2.0), looked=k).p for k in (1, 2, 5, 1000)]
    assert ps == pytest.approx([0.02275, 0.0455, 0.11375, 1.0], rel=1e-3)
    assert [_one(replace(GOOD, t=2.0), looked=k).qualified for k in (1, 2, 3)] == [True, True, False]


def test_all_reasons_are_told_at_once():
    verdict = _one(Evidence("trend", "a", 10, 1, -1.0, -2.0, math.nan))
    assert len(verdict.reasons) == 5


def test_the_lowest_p_wins_then_the_larger_excess_then_the_first():
    rows = [
        replace(GOOD, settings_hash="weak", t=3.0, excess_bps=9.0),
        replace(GOOD, settings_hash="strong", t=5.0, excess_bps=1.0),
        replace(GOOD, settings_hash="stronger", t=5.0, excess_bps=2.0),
        replace(GOOD, settings_hash="twin", t=5.0, excess_bps=2.0),
        replace(GOOD, settings_hash="unqualified", t=9.0, trades=0),
    ]
    verdicts = decide(rows, [LIMITS] * 5, 5)
    assert best(verdicts).evidence.settings_hash == "stronger"
    assert best(verdicts[:1]).evidence.settings_hash == "weak"
    assert best([]) is None


def test_each_procedure_has_its_own_thresholds():
    verdicts = decide([GOOD, GOOD], [LIMITS, Promotion(min_oos_bars=600)], 2)
    assert [verdict.qualified for verdict in verdicts] == [True, False]


def test_measure_takes_means_in_bps_above_the_hold():
    returns, hold = np.full(40, 3e-4), np.tile([1e-4, 2e-4], 20)
    found = measure("trend", "a", returns, hold, trades=7)
    assert (found.bars, found.trades) == (40, 7)
    assert found.net_bps == pytest.approx(3.0)
    assert found.excess_bps == pytest.approx(1.5)
    assert found.t == t_statistic(returns - hold)


@pytest.mark.parametrize("n", [0, 1, 29])
def test_few_bars_have_no_t(n):
    found = measure("trend", "a", np.random.default_rng(0).normal(size=n), np.zeros(n), 0)
    assert math.isnan(found.t)
    assert math.isnan(found.net_bps) == (n == 0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-4])
def test_a_constant_excess_has_no_t(value):
    assert math.isnan(t_statistic(np.full(300, value)))


def test_t_is_that_of_independent_returns_where_there_is_no_correlation():
    x = np.random.default_rng(4).normal(0.05, 1.0, 20_000)
    plain = x.mean() / x.std(ddof=1) * math.sqrt(len(x))
    assert t_statistic(x) == pytest.approx(plain, rel=0.05)


def test_positive_correlation_lowers_t():
    noise = np.random.default_rng(4).normal(0.05, 1.0, 2_000)
    slow = np.convolve(noise, np.ones(5) / 5, mode="valid")
    plain = slow.mean() / slow.std(ddof=1) * math.sqrt(len(slow))
    assert t_statistic(slow) < 0.65 * plain


def test_evidence_as_json_has_no_nan():
    record = _one(Evidence("trend", "a", 0, 0, math.nan, math.inf, math.nan)).as_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "strategy": "trend", "settings_hash": "a", "bars": 0, "trades": 0, "net_bps": None,
        "excess_bps": None, "t": None, "p": None,
    }  # fmt: skip


def _panel(seed, bars, *, edge=0.0, drift=0.0, exposure=0.5):
    """Returns of three procedures with fat tails, and those of their matched holds."""
    rng = np.random.default_rng(seed)
    market = drift + 0.012 * rng.standard_t(5, bars) / math.sqrt(5 / 3)
    out = []
    for k in range(3):
        own = 0.008 * rng.standard_t(5, bars) / math.sqrt(5 / 3)
        returns = exposure * market + own + (edge if k == 0 else 0.0)
        out.append(measure(f"s{k}", f"h{k}", returns, exposure * market, trades=50))
    return decide(out, [LIMITS] * 3, 3)


def test_panels_without_an_edge_rarely_have_a_champion():
    hits = sum(best(_panel(seed, 1000)) is not None for seed in range(600))
    assert hits <= 0.05 * 600 + 3 * math.sqrt(600 * 0.05 * 0.95)


def test_drift_alone_never_makes_more_champions():
    """Half of a strong rise is earned by everybody: net is clearly above 0, the excess is not."""
    panels = [_panel(seed, 1000, drift=0.002) for seed in range(300)]
    nets = [verdict.evidence.net_bps for panel in panels for verdict in panel]
    assert np.mean(np.array(nets) > 0.5) > 0.95
    hits = sum(best(panel) is not None for panel in panels)
    assert hits <= 0.05 * 300 + 3 * math.sqrt(300 * 0.05 * 0.95)


def test_a_planted_edge_is_mostly_found_and_it_is_the_right_one():
    """20 years of daily bars, an edge of annual Sharpe about 1."""
    champions = [best(_panel(seed, 5000, edge=0.008 / math.sqrt(252))) for seed in range(100)]
    found = [verdict.evidence.strategy for verdict in champions if verdict is not None]
    assert len(found) >= 80
    assert found.count("s0") >= 0.98 * len(found)
