"""The champion of a symbol: the procedure whose out-of-sample evidence holds, or none.

A procedure is a strategy entry with its settings; its parameters change every night. `judge` says
which procedures qualify, `choose` which of them is champion: the incumbent while it qualifies,
unless a qualified challenger beats it bar for bar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.bars.model import Floats, Ints
from engine.config_sections import Promotion
from engine.lake.records import digest
from engine.validation.max_t import max_t


@dataclass(frozen=True, eq=False)
class Series:
    """Closed clean out-of-sample bars of one procedure: the rows of table ``looks``.

    Parameters
    ----------
    procedure, strategy : str
        Hash of the procedure, name of its entry.
    ts : int64 array, shape (T,)
        Bars, microseconds UTC, rising.
    net, excess : float64 array, shape (T,)
        Net return, and that less the return of the exposure-matched hold.
    """

    procedure: str
    strategy: str
    ts: Ints
    net: Floats
    excess: Floats


@dataclass(frozen=True)
class Evidence:
    """What the closed out-of-sample bars of one procedure come to.

    Parameters
    ----------
    strategy, settings_hash : str
        The procedure.
    bars, trades, last_bar : int
        Bars of closed folds, trades closed there, and the newest of the bars (microseconds UTC).
    net_bps, excess_bps : float
        Mean net return per bar, and above the exposure-matched hold; NaN without bars.
    t, p : float
        Of the max-T test over all procedures ever looked at; NaN where it is undefined.
    looked : int
        How many procedures those are.
    """

    strategy: str
    settings_hash: str
    bars: int
    trades: int
    last_bar: int
    net_bps: float
    excess_bps: float
    t: float
    p: float
    looked: int


@dataclass(frozen=True)
class Verdict:
    """What the evidence of one procedure comes to: why it does not qualify; empty where it does."""

    evidence: Evidence
    reasons: tuple[str, ...]

    @property
    def qualified(self) -> bool:
        """Say whether every condition is met."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """Return the evidence with what is not finite as None."""
        plain = asdict(self.evidence)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in plain.items()}


def draw_seed(symbol: str, seed: int, series: Sequence[Series]) -> int:
    """Return what seeds the bootstrap: the symbol, the settings' seed and the last closed bar."""
    last = max((int(one.ts[-1]) for one in series if len(one.ts)), default=0)
    return int(digest([symbol, seed, last], 15), 16)


def on_common_bars(series: Sequence[Series]) -> Floats:
    """Return the excess of K procedures on the union of their bars, shape (T, K); NaN where one has none."""
    ts = np.unique(np.concatenate([one.ts for one in series]))
    out = np.full((len(ts), len(series)), np.nan)
    for k, one in enumerate(series):
        out[np.searchsorted(ts, one.ts), k] = one.excess
    return out


def measure(series: Sequence[Series], trades: Mapping[str, int], *, seed: int) -> list[Evidence]:
    """Return the evidence of every procedure ever looked at for one symbol.

    Parameters
    ----------
    series : sequence of Series
        All K procedures, those that left the settings among them.
    trades : mapping of str to int
        Procedure to trades closed; those that left have none known.
    seed : int
        From `draw_seed`.

    Returns
    -------
    list of Evidence
        In the order given.
    """
    if not series:
        return []
    t, p = max_t(on_common_bars(series), seed=seed)
    return [
        Evidence(
            strategy=one.strategy,
            settings_hash=one.procedure,
            bars=len(one.ts),
            trades=trades.get(one.procedure, 0),
            last_bar=int(one.ts[-1]) if len(one.ts) else 0,
            net_bps=1e4 * float(one.net.mean()) if len(one.ts) else math.nan,
            excess_bps=1e4 * float(one.excess.mean()) if len(one.ts) else math.nan,
            t=float(t[k]),
            p=float(p[k]),
            looked=len(series),
        )
        for k, one in enumerate(series)
    ]


def judge(item: Evidence, limits: Promotion, barred: str | None = None) -> Verdict:
    """Say whether a procedure qualifies; ``barred`` says why it cannot, whatever its evidence.

    It needs ``min_oos_bars`` bars and ``min_oos_trades`` trades, a positive net mean, a mean excess
    of at least ``min_improvement`` bps per bar, and p <= 1 - ``confidence``.
    """
    reasons = [barred] if barred else []
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
    if not item.p <= level(limits):
        found = (
            "p undefined (too few bars or no variation)"
            if math.isnan(item.p)
            else f"p {item.p:.3f} over {item.looked} procedures"
        )
        reasons.append(f"{found}, needs {level(limits):.3f}")
    return Verdict(item, tuple(reasons))


def level(limits: Promotion) -> float:
    """Return the largest p that qualifies, 1 - ``confidence`` without its binary dust."""
    return round(1.0 - limits.confidence, 12)


def _per_bar(value: float) -> str:
    return f"{'undefined' if math.isnan(value) else f'{value:.2f}'} basis points per bar"


def choose(
    verdicts: Sequence[Verdict],
    limits: Sequence[Promotion],
    series: Sequence[Series],
    incumbent: str | None,
    *,
    seed: int,
) -> tuple[Verdict | None, dict[str, str]]:
    """Return the champion, or None, and what is said of the qualified ones that are not.

    Without an incumbent that still qualifies it is the lowest p (ties: the larger excess, then the
    first). A qualified challenger replaces the incumbent only if its excess less the incumbent's, on
    the bars common to both, has a bootstrap lower bound above 0 at level (1 - ``confidence``) /
    looks; looks = procedures ever looked at whose bars overlap the incumbent's.

    Parameters
    ----------
    verdicts, limits : sequences, one a present procedure
        From `judge`, and the thresholds of each.
    series : sequence of Series
        All procedures ever looked at.
    incumbent : str or None
        Procedure in force.
    seed : int
        From `draw_seed`.
    """
    ranked = sorted(
        ((verdict, limit) for verdict, limit in zip(verdicts, limits, strict=True) if verdict.qualified),
        key=lambda pair: (pair[0].evidence.p, -pair[0].evidence.excess_bps),
    )
    sitting = next((v for v, _ in ranked if v.evidence.settings_hash == incumbent), None)
    if sitting is None:
        winner = ranked[0][0] if ranked else None
        return winner, {v.evidence.settings_hash: "another procedure is champion" for v, _ in ranked[1:]}
    known = {one.procedure: one for one in series}
    mine = known[sitting.evidence.settings_hash]
    looks = max(1, sum(len(np.intersect1d(mine.ts, one.ts)) > 0 for one in series) - 1)
    said: dict[str, str] = {}
    winner = sitting
    for verdict, limit in ranked:
        if verdict is sitting:
            continue
        p = _beats(known[verdict.evidence.settings_hash], mine, seed)
        needed = level(limit) / looks
        if winner is sitting and p <= needed:
            winner = verdict
            said[sitting.evidence.settings_hash] = (
                f"replaced by {verdict.evidence.strategy}, which earned more on the common bars: "
                f"p {p:.3f}, needed {needed:.3f}"
            )
        elif winner is sitting:
            shown = "undefined" if math.isnan(p) else f"{p:.3f}"
            said[verdict.evidence.settings_hash] = (
                f"does not beat the champion on the common bars: p {shown}, needs {needed:.3f}"
            )
        else:
            said[verdict.evidence.settings_hash] = "another procedure is champion"
    return winner, said


def _beats(challenger: Series, incumbent: Series, seed: int) -> float:
    """Return the one-sided p of the paired differences on common bars; NaN for a copy, or few bars."""
    _, a, b = np.intersect1d(challenger.ts, incumbent.ts, return_indices=True)
    difference = challenger.excess[a] - incumbent.excess[b]
    return float(max_t(difference[:, None], seed=seed)[1][0])
