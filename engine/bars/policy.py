"""What becomes of rows that break a rule: `settle` refuses them, sets them aside or mends them by name.

A mended or shortened series is another series: what was done is listed, stored and part of the result's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bars.checks import check
from engine.bars.findings import Context, Finding, RawBars, refuse
from engine.bars.model import PRICE_COLUMNS, Ints

QUARANTINABLE = frozenset({"E02", "E03", "E04", "E05", "E08", "E09", "E10", "E14"})
REPAIRS = ("open_from_prev_close", "clip_range", "sort", "accept_revision")  # and adjust:R@D, scale:R@D..D


@dataclass(frozen=True)
class Policy:
    """What is done with rows that break a rule.

    Parameters
    ----------
    kind : {"refuse", "quarantine", "repair"}
        Refuse the batch; set bad rows aside; or apply the named repairs and refuse what is left.
    repairs : tuple of str
        Repairs that ``repair`` may use.
    max_share : float
        Quarantine at most this share of a batch's rows, in [0, 1]; more: refuse.
    max_rows : int
        And at most this many rows.
    """

    kind: str = "refuse"
    repairs: tuple[str, ...] = ()
    max_share: float = 0.01
    max_rows: int = 20

    def allows(self, repair: str) -> bool:
        """Say whether a repair may be applied."""
        return self.kind == "repair" and repair in self.repairs

    def spare(self, rows: int) -> int:
        """Return how many of a batch's rows may be set aside."""
        return min(self.max_rows, int(self.max_share * rows)) if self.kind == "quarantine" else 0


@dataclass(frozen=True)
class Rejected:
    """One row set aside.

    Parameters
    ----------
    rule, reason : str
        Id of the rule, and its name.
    ts : int or None
        Stamp, microseconds UTC; None where it cannot be read.
    line : int
        Line of the file (header = 1) or row of the reply (first = 1).
    text : str
        The row as it came.
    """

    rule: str
    reason: str
    ts: int | None
    line: int
    text: str


@dataclass(frozen=True, eq=False)
class Settled:
    """Rows that break no rule, and what was done to have them.

    Parameters
    ----------
    rows : RawBars
        T rows.
    rejected : tuple of Rejected
        Rows set aside.
    repairs : tuple of str
        One line per repair that changed something.
    findings : tuple of Finding
        Warnings.
    """

    rows: RawBars
    rejected: tuple[Rejected, ...]
    repairs: tuple[str, ...]
    findings: tuple[Finding, ...]


def _sorted(raw: RawBars) -> RawBars:
    order = np.argsort(raw.ts, kind="stable")
    columns = {name: getattr(raw, name)[order] for name in ("ts", *PRICE_COLUMNS, "volume", "line")}
    return replace(raw, **columns)


def _clipped(raw: RawBars, at: Ints) -> RawBars:
    """Widen the range of some bars to their open and close."""
    high, low = raw.high.copy(), raw.low.copy()
    high[at] = np.maximum(high[at], np.maximum(raw.open[at], raw.close[at]))
    low[at] = np.minimum(low[at], np.minimum(raw.open[at], raw.close[at]))
    return replace(raw, high=high, low=low)


def _mended(raw: RawBars, context: Context, policy: Policy) -> tuple[RawBars, list[str]]:
    done: list[str] = []
    found = {finding.rule: finding for finding in check(raw, context)}
    if "E07" in found and policy.allows("sort"):
        raw = _sorted(raw)
        done.append(f"sort: {found['E07'].count} bars stood before an earlier one")
    found = {finding.rule: finding for finding in check(raw, context)}
    if "E05" in found and not {"E03", "E04"} & set(found) and policy.allows("clip_range"):
        raw = _clipped(raw, found["E05"].at)
        done.append(f"clip_range: {found['E05'].count} bars, first {found['E05'].rows[0]}")
    return raw, done


def as_found(raw: RawBars, i: int) -> str:
    """Return the values of one row as text."""
    return ",".join(f"{getattr(raw, name)[i]:.17g}" for name in (*PRICE_COLUMNS, "volume"))


def settle(raw: RawBars, context: Context, policy: Policy, *, spare: int | None = None) -> Settled:
    """Apply a policy to parsed rows; what it cannot settle is raised.

    Parameters
    ----------
    raw : RawBars
        T rows in the vendor's order.
    context : Context
        As in `engine.bars.checks.check`.
    policy : Policy
        Refuse, quarantine or repair.
    spare : int or None
        Rows that may still be set aside; None = as the policy says of ``raw``.

    Returns
    -------
    Settled
        Rows that break no rule; duplicates are still among them, for `clean` to drop.

    NaN: rows with NaN are set aside or refused (E03).

    Raises
    ------
    DataError
        The first rule that is broken and not settled.
    """
    mended: list[str] = []
    if policy.kind == "repair":
        raw, mended = _mended(raw, context, policy)
    findings, rejected = check(raw, context), []
    row_errors = [finding for finding in findings if finding.rule in QUARANTINABLE and len(finding.at)]
    if policy.kind == "quarantine" and row_errors:
        first_rule: dict[int, Finding] = {}
        for finding in row_errors:
            for i in finding.at:
                first_rule.setdefault(int(i), finding)
        if len(first_rule) > (policy.spare(len(raw)) if spare is None else spare):
            refuse(findings, context.symbol, context.frame)
        for i, finding in sorted(first_rule.items()):
            rejected.append(
                Rejected(finding.rule, finding.title, int(raw.ts[i]), int(raw.line[i]), as_found(raw, i))
            )
        good = np.ones(len(raw), dtype=np.bool_)
        good[list(first_rule)] = False
        raw = raw.take(good)
        findings = check(raw, context)
    errors = [finding for finding in findings if finding.rule.startswith("E")]
    if errors:
        refuse(findings, context.symbol, context.frame)
    return Settled(raw, tuple(rejected), tuple(mended), tuple(findings))


def said(findings: Sequence[Finding], symbol: str, frame: str) -> list[str]:
    """Return one line per warning."""
    return [f"{f.rule} {f.head(f'{symbol} {frame}')}" for f in findings if f.rule.startswith("W")]
