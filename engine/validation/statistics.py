"""How much of a result may be luck: statistics of one return series and of the search behind it.

All of them take plain returns per bar or day, never annualised, and return a `Statistic`: a number,
or NaN with the reason why it is undefined; never 0 or infinity instead. They inform; what decides
about champions is `engine.validation.max_t`. T returns, N trials, F folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.bars.model import Floats

MIN_RETURNS = 30  # fewer give no Sharpe ratio worth a probability
EULER_GAMMA = 0.5772156649015329
MIN_CORRELATED = 2


class Statistic(NamedTuple):
    """A number, or NaN and why it is undefined."""

    value: float
    reason: str = ""


def undefined(reason: str) -> Statistic:
    """Return the statistic that does not exist, for a reason."""
    return Statistic(math.nan, reason)


class Shape(NamedTuple):
    """Sharpe ratio (ddof 1), skewness and kurtosis (biased; normal = 3) of T returns."""

    bars: int
    sharpe: float
    skew: float
    kurtosis: float


def shape_of(returns: Floats) -> Shape | str:
    """Return the shape of returns, float64, shape (T,), or the reason why they have none."""
    count = len(returns)
    if count < MIN_RETURNS:
        return f"{count} returns, needs {MIN_RETURNS}"
    centred = returns - returns.mean()
    variance = float(centred @ centred) / count
    if not variance > 1e-30 + (1e-12 * float(np.abs(returns).max())) ** 2:
        return "the returns do not vary"
    skew = float(np.mean(centred**3)) / variance**1.5
    kurtosis = float(np.mean(centred**4)) / variance**2
    sharpe = float(returns.mean()) / math.sqrt(variance * count / (count - 1))
    return Shape(count, sharpe, skew, kurtosis)


def _spread(shape: Shape) -> float:
    """Return the variance of a Sharpe ratio times T - 1; 1 where returns are normal and it is 0."""
    return 1.0 - shape.skew * shape.sharpe + (shape.kurtosis - 1.0) / 4.0 * shape.sharpe**2


def probabilistic_sharpe(returns: Floats, benchmark: float = 0.0) -> Statistic:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    Parameters
    ----------
    returns : float64 array, shape (T,)
        Plain returns.
    benchmark : float
        Sharpe ratio per return, not annualised.

    NaN: fewer than 30 returns, or none that vary.
    Source: Bailey and Lopez de Prado 2012.
    """
    from scipy.special import ndtr  # a fifth of the time that importing the stages takes

    shape = shape_of(returns)
    if isinstance(shape, str):
        return undefined(shape)
    spread = _spread(shape)
    if not spread > 0:
        return undefined("skewness and kurtosis leave no variance of the Sharpe ratio")
    z = (shape.sharpe - benchmark) * math.sqrt(shape.bars - 1) / math.sqrt(spread)
    return Statistic(float(ndtr(z)))


def expected_max_sharpe(variance: float, trials: float) -> float:
    """Return the Sharpe ratio that the best of N trials without an edge is expected to have.

    Parameters
    ----------
    variance : float
        Of the trials' Sharpe ratios, ddof 1.
    trials : float, >= 1
        Their number, raw or effective; 0.0 is returned for one.

    Source: Bailey and Lopez de Prado 2014.
    """
    from scipy.special import ndtri

    if trials <= 1:
        return 0.0
    first, second = ndtri(1.0 - 1.0 / trials), ndtri(1.0 - 1.0 / (trials * math.e))
    return float(math.sqrt(variance) * ((1.0 - EULER_GAMMA) * first + EULER_GAMMA * second))


def deflated_sharpe(returns: Floats, trial_sharpes: Floats, trials: float) -> Statistic:
    """Return the probabilistic Sharpe ratio above what the best of N trials has by luck.

    Parameters
    ----------
    returns : float64 array, shape (T,)
        Of what was chosen.
    trial_sharpes : float64 array, shape (M,)
        Sharpe ratios per bar of the trials that ran far enough to have one; M <= N.
    trials : float
        N: all distinct configurations ever tried, or their effective number.

    NaN: as `probabilistic_sharpe`; no trial, or a single Sharpe ratio where there were more trials.
    Source: Bailey and Lopez de Prado 2014.
    """
    if trials < 1:
        return undefined("no trial is known")
    if trials > 1 and len(trial_sharpes) < MIN_CORRELATED:
        return undefined("fewer than two trials have a Sharpe ratio")
    variance = float(np.var(trial_sharpes, ddof=1)) if trials > 1 else 0.0
    return probabilistic_sharpe(returns, expected_max_sharpe(variance, trials))


def min_track_record(returns: Floats, benchmark: float = 0.0, alpha: float = 0.05) -> Statistic:
    """Return how many returns it takes to say at level alpha that the Sharpe ratio beats a benchmark.

    NaN: as `probabilistic_sharpe`, and where the Sharpe ratio does not lie above the benchmark.
    Source: Bailey and Lopez de Prado 2012.
    """
    from scipy.special import ndtri

    shape = shape_of(returns)
    if isinstance(shape, str):
        return undefined(shape)
    if not shape.sharpe > benchmark:
        return undefined("the Sharpe ratio is not above the benchmark")
    return Statistic(1.0 + _spread(shape) * (float(ndtri(1.0 - alpha)) / (shape.sharpe - benchmark)) ** 2)


def mean_correlation(returns: Floats) -> Statistic:
    """Return the mean pairwise correlation of the trials' returns, from 0 to 1 (below 0: 0).

    Parameters
    ----------
    returns : float64 array, shape (T, M)
        Returns of the trials that ran to the end, a column each; constant ones are left out.

    NaN: fewer than two columns that vary, or fewer than 30 rows.
    """
    if len(returns) < MIN_RETURNS:
        return undefined(f"{len(returns)} returns, needs {MIN_RETURNS}")
    centred = returns - returns.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    unit = centred[:, norm > 1e-15] / norm[norm > 1e-15]  # (T, M')
    count = unit.shape[1]
    if count < MIN_CORRELATED:
        return undefined("fewer than two trials that traded")
    total = unit.sum(axis=1)
    rho = (float(total @ total) - count) / (count * (count - 1))  # all pairs in one product
    return Statistic(min(max(rho, 0.0), 1.0))


def effective_trials(correlation: Statistic, trials: int) -> Statistic:
    """Return the number of independent trials that N correlated ones amount to: rho + (1 - rho) N.

    Parameters
    ----------
    correlation : Statistic
        rho, from `mean_correlation`.
    trials : int
        N: all distinct trials.

    NaN: where rho is, for its reason.
    """
    rho = correlation.value
    return Statistic(rho + (1.0 - rho) * trials, correlation.reason)


def walk_forward_efficiency(out_of_sample: float, in_sample: float) -> Statistic:
    """Return growth per bar out of sample over growth per bar in sample.

    Parameters
    ----------
    out_of_sample, in_sample : float
        Sum of log growth over the folds, divided by their bars; in one unit.

    NaN: the in-sample growth is not positive. Source: Pardo 2008.
    """
    if not math.isfinite(out_of_sample):
        return undefined("no out-of-sample growth is known")
    if not in_sample > 0:
        return undefined("the in-sample growth is not positive")
    return Statistic(out_of_sample / in_sample)


def neighbourhood(best: float, neighbours: Floats) -> Statistic:
    """Return the median value of the neighbours of the chosen parameters over their own value.

    Parameters
    ----------
    best : float
        Value of the chosen parameters on their training bars.
    neighbours : float64 array, shape (P,)
        Values of the configurations around them; NaN (ruin) counts as the worst.

    NaN: no neighbour, or the best value is not positive. Below .5 the choice stands on a knife edge.
    """
    if not len(neighbours):
        return undefined("nothing was searched, so there are no neighbours")
    if not best > 0:
        return undefined("the chosen parameters earned nothing in sample")
    middle = float(np.median(np.where(np.isfinite(neighbours), neighbours, -np.inf)))
    if not math.isfinite(middle):
        return undefined("most neighbours are ruined")
    return Statistic(middle / best)


def parameter_stability(
    chosen: Sequence[Mapping[str, float]], ranges: Mapping[str, tuple[float, float]]
) -> Statistic:
    """Return how little the chosen parameters move from fold to fold; 1 = not at all.

    The median over parameters of 1 - (interquartile range over the folds) / (searched range).

    Parameters
    ----------
    chosen : sequence of mappings, length F
        Parameters that each fold chose; a fold that chose none is left out before.
    ranges : mapping of str to (float, float)
        Lowest and highest value of each numeric parameter that was searched.

    NaN: fewer than four folds, or no numeric parameter with a range.
    """
    if len(chosen) < 4:
        return undefined(f"{len(chosen)} folds chose parameters, needs 4")
    widths = {name: high - low for name, (low, high) in ranges.items() if high > low}
    if not widths:
        return undefined("no numeric parameter was searched")
    shares = []
    for name, width in widths.items():
        low, high = np.quantile([float(params[name]) for params in chosen], [0.25, 0.75])
        shares.append(1.0 - float(high - low) / width)
    return Statistic(float(np.median(shares)))
