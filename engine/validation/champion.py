"""The champion of a symbol: the procedure whose out-of-sample evidence holds, or none.

A procedure is a strategy entry with its settings; its parameters change every night. The rule
of now is stated in `decide`: a studentised one-sided test of the return above the
exposure-matched hold, multiplied by the number of procedures looked at (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.bars.model import Floats
from engine.config_sections import Promotion
from engine.forecasts.quality import newey_west_t

MIN_BARS = 30  # fewer bars give no t


@dataclass(frozen=True)
class Evidence:
    """Closed out-of-sample bars of one procedure.

    Parameters
    ----------
    strategy, settings_hash : str
        The procedure.
    bars, trades : int
        Out-of-sample bars of closed folds, and trades closed there.
    net_bps, excess_bps : float
        Mean net return per bar, and above the exposure-matched hold.
    t : float
        Newey-West t of the excess, lag ceil(bars^(1/3)); NaN under 30 bars or without variance.
    """

    strategy: str
    settings_hash: str
    bars: int
    trades: int
    net_bps: float
    excess_bps: float
    t: float


@dataclass(frozen=True)
class Verdict:
    """What the evidence of one procedure comes to.

    Parameters
    ----------
    evidence : Evidence
        Judged.
    p : float
        One-sided p-value times the procedures looked at, at most 1; NaN where t is undefined.
    reasons : tuple of str
        Why it does not qualify; empty where it does.
    """

    evidence: Evidence
    p: float
    reasons: tuple[str, ...]

    @property
    def qualified(self) -> bool:
        """Say whether every condition is met."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """Return the evidence with what is not finite as None."""
        plain = {**asdict(self.evidence), "p": self.p}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


def t_statistic(excess: Floats) -> float:
    """Return the Newey-West t of the mean, lag ceil(T^(1/3)). NaN: under 30 values, or all equal."""
    n = len(excess)
    if n < MIN_BARS or not np.ptp(excess) > 0:
        return math.nan
    return newey_west_t(excess, math.ceil(n ** (1 / 3)))


def measure(
    strategy: str, settings_hash: str, returns: Floats, hold_returns: Floats, trades: int
) -> Evidence:
    """Return the evidence of one procedure.

    Parameters
    ----------
    strategy, settings_hash : str
        The procedure.
    returns, hold_returns : float64 array, shape (T,)
        Net returns per bar, and those of the exposure-matched hold, on closed clean folds.
    trades : int
        Trades closed there.

    NaN: the means of no bars.
    """
    excess = returns - hold_returns
    net_bps, excess_bps = (1e4 * float(x.mean()) if len(x) else math.nan for x in (returns, excess))
    return Evidence(strategy, settings_hash, len(returns), trades, net_bps, excess_bps, t_statistic(excess))


def decide(evidence: Sequence[Evidence], promotion: Sequence[Promotion], looked: int) -> list[Verdict]:
    """Judge the procedures of one symbol.

    A procedure qualifies with at least ``min_oos_bars`` bars and ``min_oos_trades`` trades, a
    positive net mean, a mean excess of at least ``min_improvement`` bps per bar, and
    p <= 1 - ``confidence``, where p is the one-sided normal tail of t times the number of
    procedures looked at.

    Parameters
    ----------
    evidence : sequence of Evidence
        The procedures of the symbol in the settings.
    promotion : sequence of Promotion
        Thresholds of each.
    looked : int
        Procedures ever looked at for this symbol, those that left the settings among them.

    Returns
    -------
    list of Verdict
        In the order given.
    """
    verdicts = []
    for item, limits in zip(evidence, promotion, strict=True):
        tail = 0.5 * math.erfc(item.t / math.sqrt(2)) if math.isfinite(item.t) else math.nan
        p = tail if math.isnan(tail) else min(1.0, tail * looked)
        reasons = []
        if not limits.enabled:
            reasons.append("promotion is off for it")
        if item.bars < limits.min_oos_bars:
            reasons.append(f"{item.bars} out-of-sample bars, needs {limits.min_oos_bars}")
        if item.trades < limits.min_oos_trades:
            reasons.append(f"{item.trades} trades, needs {limits.min_oos_trades}")
        if not item.net_bps > 0:
            reasons.append(f"net {_per_bar(item.net_bps)}, needs more than 0")
        if not item.excess_bps >= limits.min_improvement:
            reasons.append(
                f"{_per_bar(item.excess_bps)} above the matched hold, needs {limits.min_improvement:g}"
            )
        if not p <= 1 - limits.confidence:
            found = (
                "p undefined (too few bars or no variation)"
                if math.isnan(p)
                else f"p {p:.3f} over {looked} procedures"
            )
            reasons.append(f"{found}, needs {1 - limits.confidence:.3f}")
        verdicts.append(Verdict(item, p, tuple(reasons)))
    return verdicts


def _per_bar(value: float) -> str:
    return f"{'undefined' if math.isnan(value) else f'{value:.2f}'} basis points per bar"


def best(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the qualified procedure of the lowest p (ties: the larger excess), or None."""
    qualified = [verdict for verdict in verdicts if verdict.qualified]
    return min(qualified, key=lambda v: (v.p, -v.evidence.excess_bps), default=None)
