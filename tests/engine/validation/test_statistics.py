import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.validation import statistics as st

_spec = importlib.util.spec_from_file_location("oracles", Path(__file__).with_name("oracles.py"))
oracles = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracles)
KNOWN = json.loads(oracles.FILE.read_text())


def _effective_trials(returns, trials):
    return st.effective_trials(st.mean_correlation(returns), trials)


def _noise(seed, n=500, mean=0.0, sd=0.01):
    return np.random.default_rng(seed).normal(mean, sd, n)


def test_psr_and_dsr_are_those_of_skfolio():
    sharpes = oracles.trial_sharpes()
    for k in range(9):
        returns = oracles.series(k)
        assert st.shape_of(returns).sharpe == pytest.approx(KNOWN["sharpe"][k], abs=1e-12)
        assert st.probabilistic_sharpe(returns).value == pytest.approx(KNOWN["psr"][k], abs=1e-12)
        found = st.probabilistic_sharpe(returns, 0.05).value
        assert found == pytest.approx(KNOWN["psr_benchmark"][k], abs=1e-12)
        found = st.deflated_sharpe(returns, sharpes, len(sharpes)).value
        assert found == pytest.approx(KNOWN["dsr"][k], abs=1e-12)


def test_the_kept_numbers_are_those_of_the_libraries_where_they_are_installed():
    for name in ("skfolio", "arch", "ffn"):
        pytest.importorskip(name)
    for name, values in oracles.measure().items():
        np.testing.assert_allclose(values, KNOWN[name], atol=1e-9, err_msg=name)


def test_more_trials_deflate_more_and_one_deflates_nothing():
    returns, sharpes = _noise(1, mean=0.001), np.array([-0.02, 0.0, 0.03])
    found = [st.deflated_sharpe(returns, sharpes, n).value for n in (1, 3, 30, 3000)]
    assert found[0] == st.probabilistic_sharpe(returns).value
    assert all(a > b for a, b in zip(found, found[1:], strict=False))


def test_the_expected_best_of_n_is_that_of_draws():
    best = np.random.default_rng(0).normal(0, 0.05, (4000, 200)).max(axis=1).mean()
    assert st.expected_max_sharpe(0.05**2, 200) == pytest.approx(best, rel=0.02)


def test_min_track_record_is_the_length_at_which_psr_reaches_its_level():
    returns = _noise(3, mean=0.0004)
    needed = st.min_track_record(returns, alpha=0.05).value
    shape = st.shape_of(returns)
    z = shape.sharpe * math.sqrt(needed - 1) / math.sqrt(st._spread(shape))
    assert z == pytest.approx(1.6448536269514722)
    assert st.min_track_record(np.tile(returns, 50)[: math.ceil(needed) + 500]).value < 5e4


def test_equal_trials_are_one_and_independent_ones_are_all():
    base = _noise(5)
    copies = np.column_stack([base * k for k in (1.0, 2.0, 3.0, 4.0)])
    assert _effective_trials(copies, 40).value == pytest.approx(1.0)
    independent = np.column_stack([_noise(k, 4000) for k in range(20)])
    assert _effective_trials(independent, 20).value == pytest.approx(20, abs=0.5)
    correlations = np.corrcoef(np.column_stack([base + _noise(k) for k in range(6)]).T)
    rho = (correlations.sum() - 6) / 30
    found = _effective_trials(np.column_stack([base + _noise(k) for k in range(6)]), 6).value
    assert found == pytest.approx(rho + (1 - rho) * 6)


def test_opposite_trials_are_not_fewer_than_all():
    base = _noise(5)
    assert _effective_trials(np.column_stack([base, -base]), 2).value == 2.0


def test_ratios_of_growth_and_of_neighbours():
    assert st.walk_forward_efficiency(0.5, 2.0).value == 0.25
    assert st.walk_forward_efficiency(-1.0, 2.0).value == -0.5
    assert st.neighbourhood(2.0, np.array([1.0, 3.0, -9.0])).value == 0.5
    assert st.neighbourhood(2.0, np.array([1.0, math.nan, 1.5])).value == 0.5  # ruin is the worst


def test_stability_is_one_where_every_fold_chose_the_same_and_falls_with_the_spread():
    ranges = {"fast": (0.0, 10.0), "slow": (0.0, 100.0), "one": (3.0, 3.0)}
    same = [dict(fast=3, slow=50, one=3)] * 5
    assert st.parameter_stability(same, ranges).value == 1.0
    spread = [dict(fast=k, slow=50, one=3) for k in (0, 2, 4, 6, 8)]
    assert st.parameter_stability(spread, ranges).value == pytest.approx((0.6 + 1.0) / 2)


UNDEFINED = [
    (lambda: st.probabilistic_sharpe(_noise(0, 29)), "29 returns, needs 30"),
    (lambda: st.probabilistic_sharpe(np.full(60, 0.01)), "the returns do not vary"),
    (lambda: st.probabilistic_sharpe(np.zeros(60)), "the returns do not vary"),
    (lambda: st.deflated_sharpe(np.zeros(60), np.zeros(3), 3), "the returns do not vary"),
    (lambda: st.deflated_sharpe(_noise(0), np.zeros(0), 0), "no trial is known"),
    (
        lambda: st.deflated_sharpe(_noise(0), np.zeros(1), 9),
        "fewer than two trials have a Sharpe ratio",
    ),
    (lambda: st.min_track_record(-np.abs(_noise(0))), "the Sharpe ratio is not above the benchmark"),
    (lambda: st.min_track_record(np.zeros(9)), "9 returns, needs 30"),
    (lambda: _effective_trials(np.zeros((60, 5)), 5), "fewer than two trials that traded"),
    (lambda: _effective_trials(np.zeros((6, 5)), 5), "6 returns, needs 30"),
    (lambda: st.walk_forward_efficiency(1.0, 0.0), "the in-sample growth is not positive"),
    (lambda: st.walk_forward_efficiency(1.0, math.nan), "the in-sample growth is not positive"),
    (lambda: st.walk_forward_efficiency(math.nan, 1.0), "no out-of-sample growth is known"),
    (lambda: st.neighbourhood(1.0, np.zeros(0)), "nothing was searched, so there are no neighbours"),
    (lambda: st.neighbourhood(-1.0, np.ones(3)), "the chosen parameters earned nothing in sample"),
    (lambda: st.neighbourhood(1.0, np.full(3, math.nan)), "most neighbours are ruined"),
    (lambda: st.parameter_stability([{"a": 1.0}] * 3, {"a": (0, 1)}), "3 folds chose parameters, needs 4"),
    (lambda: st.parameter_stability([{"a": 1.0}] * 4, {}), "no numeric parameter was searched"),
]


@pytest.mark.parametrize("ask, reason", UNDEFINED)
def test_what_is_undefined_is_nan_with_its_reason(ask, reason):
    found = ask()
    assert math.isnan(found.value) and found.reason == reason


def test_what_is_defined_has_no_reason():
    assert st.probabilistic_sharpe(_noise(0)).reason == ""
    assert _effective_trials(_noise(0, 900).reshape(300, 3), 3).reason == ""
