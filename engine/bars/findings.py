"""What a check works on and says: `RawBars`, `Context`, `Finding`; `refuse` raises the first error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from engine.bars.model import Floats, Ints, iso
from engine.errors import DataError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RawBars:
    """Parsed rows of one vendor before any check, in raw terms and in the vendor's order.

    Parameters
    ----------
    origin : str
        What messages name: the file, or the vendor's reply.
    place : str
        What ``line`` counts: ``line`` of a text file (header = 1) or ``row`` (first = 1).
    ts : int64 array, shape (T,)
        Open of each bar, microseconds since 1970, UTC.
    open, high, low, close, volume : float64 array, shape (T,)
        Unadjusted prices and units as the vendor gave them.
    line : int64 array, shape (T,)
        Where each row stands in ``origin``.

    NaN: may hold NaN and infinities; `check` names them.
    """

    origin: str
    place: str
    ts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    line: Ints

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ts)

    def take(self, chosen: Mask) -> RawBars:
        """Return the rows where ``chosen``, a bool array of shape (T,), is true."""
        if bool(chosen.all()):
            return self
        columns = {f.name: getattr(self, f.name)[chosen] for f in fields(self)[2:]}
        return RawBars(self.origin, self.place, **columns)


@dataclass(frozen=True)
class Context:
    """What the checks must know beside the rows.

    Parameters
    ----------
    symbol, frame, calendar : str
        As in `Bars`.
    asof : int or None
        Microseconds UTC; bars not complete then are left out. None = all bars are complete.
    tick : float
        Price step in raw prices; 0 = unknown, then E05 tolerates 1e-6 of the price.
    bars_needed : int
        E17 below this number of complete bars.
    first : int or None
        E14 for stamps more than a day before it: nothing so old was asked for. Microseconds UTC.
    max_gap_bars : int
        E11 above this number of missing bars in a row (calendar `observed`: weekdays).
    fresh : bool
        The source should reach up to `asof`: W03 where it does not.
    group_last : int or None
        Last stamp of the symbols of the same frame and calendar: W07 where this one ends long before.
    """

    symbol: str
    frame: str
    calendar: str
    asof: int | None = None
    tick: float = 0.0
    bars_needed: int = 1
    first: int | None = None
    max_gap_bars: int = 10
    fresh: bool = False
    group_last: int | None = None


@dataclass(frozen=True)
class Finding:
    """One rule broken by one batch.

    Parameters
    ----------
    rule, title : str
        Id (E.. or W..) and its name.
    count : int
        Number of offending rows.
    unit : str
        What is counted: ``bar``, ``line``, ``row``; ``file`` = the file as a whole.
    rows : tuple of str
        The first three, each with stamp and place.
    detail, why, remedy : str
        Found and expected; what would go wrong; the one command or edit that mends it.
    at : int64 array, shape (K,)
        Indices of all offending rows among the rows checked, where a row alone is at fault; else empty.
    """

    rule: str
    title: str
    count: int
    unit: str
    rows: tuple[str, ...]
    detail: str
    why: str
    remedy: str
    at: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64), compare=False, repr=False)

    def head(self, subject: str) -> str:
        """Return the first line of the message without the rule's id."""
        if self.unit == "file":
            return f"{self.title}: {subject}, {self.rows[0]}"
        where = f", first {', '.join(self.rows)}" if self.rows else ""
        return f"{self.title}: {subject}, {self.count} {self.unit}{'' if self.count == 1 else 's'}{where}"


def refuse(findings: Sequence[Finding], symbol: str, frame: str) -> list[str]:
    """Raise the first error among the findings; return the warnings as text when there is none.

    Parameters
    ----------
    findings : sequence of Finding
        What `check` or a reader found.
    symbol, frame : str
        Named in the message.

    Returns
    -------
    list of str
        One line per W rule.

    Raises
    ------
    DataError
        Five parts: what, where with the first three, found and expected, why, how to mend it.
    """
    errors = [finding for finding in findings if finding.rule.startswith("E")]
    if errors:
        first, others = errors[0], errors[1:]
        lines = [first.head(f"{symbol} {frame}"), first.detail, first.why]
        if others:
            lines.append("in the same data: " + ", ".join(f"{e.rule} {e.title} ({e.count})" for e in others))
        lines.append(first.remedy)
        raise DataError("\n  ".join(lines), rule=first.rule, symbol=symbol, rows=first.rows)
    return [f"{finding.rule} {finding.head(f'{symbol} {frame}')}" for finding in findings]


def places(raw: RawBars, rows: Ints) -> tuple[str, ...]:
    """Return the first three of some rows, int64 of shape (K,), as text: stamp, file and line."""
    return tuple(f"{iso(int(raw.ts[i]))} ({raw.origin} {raw.place} {raw.line[i]})" for i in rows[:3])
