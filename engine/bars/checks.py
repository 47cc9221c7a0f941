"""The rules that bars must pass before they are stored: `check` finds, `refuse` raises, `clean` drops.

Rows outside the request or not complete at `asof` are no part of the data; nothing else is ever dropped,
except rows that repeat the row before them in every value (W06).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from engine.bars.model import Bars, Floats, Ints, iso, known_at
from engine.errors import DataError

Mask = npt.NDArray[np.bool_]
DEFAULT_TICK_RELATIVE = 1e-6  # E05's tolerance where no tick is known


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
    """

    symbol: str
    frame: str
    calendar: str
    asof: int | None = None
    tick: float = 0.0
    bars_needed: int = 1


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
    """

    rule: str
    title: str
    count: int
    unit: str
    rows: tuple[str, ...]
    detail: str
    why: str
    remedy: str

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


def _places(raw: RawBars, rows: Ints) -> tuple[str, ...]:
    """Return the first three rows as text: stamp, file and line."""
    return tuple(f"{iso(int(raw.ts[i]))} ({raw.origin} {raw.place} {raw.line[i]})" for i in rows[:3])


def _mend(raw: RawBars, context: Context, rows: Ints) -> str:
    """Return the remedy for a row that is wrong at its origin."""
    return (
        f"correct {raw.origin} {raw.place} {raw.line[rows[0]]} or ask its vendor, "
        f"then: nightfold check {context.symbol}"
    )


def _within_request(raw: RawBars, context: Context) -> tuple[Mask, Mask]:
    """Return (complete at asof, open at asof), bool arrays of shape (T,)."""
    if context.asof is None:
        return np.ones(len(raw), dtype=np.bool_), np.zeros(len(raw), dtype=np.bool_)
    complete = known_at(raw.ts, context.frame, context.calendar) <= context.asof
    return complete, ~complete & (raw.ts < context.asof)


def _repeats(raw: RawBars) -> tuple[Mask, Mask]:
    """Return (same stamp and same values, same stamp and other values) as an earlier row, shape (T,)."""
    same, other = np.zeros(len(raw), dtype=np.bool_), np.zeros(len(raw), dtype=np.bool_)
    if len(raw) < 2 or bool(np.all(np.diff(raw.ts) > 0)):
        return same, other
    order = np.argsort(raw.ts, kind="stable")
    before, after = order[:-1], order[1:]
    doubled = raw.ts[before] == raw.ts[after]
    equal = doubled.copy()
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(raw, name)
        equal &= column[before] == column[after]
    same[after[equal]] = True
    other[after[doubled & ~equal]] = True
    return same, other


def _values(raw: RawBars, i: int) -> str:
    return " ".join(
        f"{name} {getattr(raw, name)[i]:.10g}" for name in ("open", "high", "low", "close", "volume")
    )


def _not_finite(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = np.zeros(len(raw), dtype=np.bool_)
    for column in (raw.open, raw.high, raw.low, raw.close, raw.volume):
        bad |= ~np.isfinite(column)
    return bad, lambda i: f"found {_values(raw, i)}; expected finite numbers"


def _not_positive(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = (raw.open <= 0.0) | (raw.high <= 0.0) | (raw.low <= 0.0) | (raw.close <= 0.0)
    return bad, lambda i: f"found {_values(raw, i)}; expected prices above 0"


def _outside_range(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    top, bottom = np.maximum(raw.open, raw.close), np.minimum(raw.open, raw.close)
    slack = context.tick if context.tick > 0.0 else DEFAULT_TICK_RELATIVE * np.abs(top)
    # Half a millionth of slack more, so that a bar off by exactly one tick is inside.
    with np.errstate(invalid="ignore"):  # inf - inf is E03's
        bad = (top - raw.high > slack * (1 + 5e-7)) | (raw.low - bottom > slack * (1 + 5e-7))
    return bad, lambda i: f"found {_values(raw, i)}; expected low <= open, close <= high"


def _negative_volume(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    return raw.volume < 0.0, lambda i: f"found volume {raw.volume[i]:.10g}; expected 0 or more"


def _other_values(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    _, other = _repeats(raw)

    def text(i: int) -> str:
        first = int(np.flatnonzero(raw.ts == raw.ts[i])[0])
        return f"found {_values(raw, first)} and {_values(raw, i)}; expected one bar per stamp"

    return other, text


def _not_increasing(raw: RawBars, context: Context) -> tuple[Mask, Callable[[int], str]]:
    bad = np.zeros(len(raw), dtype=np.bool_)
    bad[1:] = np.diff(raw.ts) < 0
    return (
        bad,
        lambda i: f"found {iso(int(raw.ts[i]))} after {iso(int(raw.ts[i - 1]))}; expected oldest first",
    )


ROW_RULES: tuple[
    tuple[str, str, str, Callable[[RawBars, Context], tuple[Mask, Callable[[int], str]]]], ...
] = (
    ("E03", "price or volume is NaN or infinite", "every later indicator value would be NaN", _not_finite),
    ("E04", "price is 0 or negative", "a return over it is infinite or has the wrong sign", _not_positive),
    (
        "E05",
        "price outside the bar's range",
        "stops and limits would fill where nobody traded",
        _outside_range,
    ),
    ("E06", "same stamp, different values", "which of them is true cannot be known from here", _other_values),
    ("E07", "stamps not increasing", "a backtest over it would look into the future", _not_increasing),
    ("E10", "negative volume", "volume averages and fill limits would be wrong", _negative_volume),
)


def too_few(symbol: str, found: int, needed: int, explanation: str) -> Finding:
    """Return the E17 finding: fewer bars than are needed, both numbers named."""
    return Finding(
        "E17",
        "too few bars",
        found,
        "bar",
        (),
        f"found {found}; expected at least {needed}",
        explanation,
        f"bring a longer history, or leave {symbol} out of symbols in nightfold.yaml, then: nightfold check",
    )


def check(raw: RawBars, context: Context) -> list[Finding]:
    """Return everything found in the rows that are complete at ``context.asof``; errors first.

    Parameters
    ----------
    raw : RawBars
        T rows in the vendor's order.
    context : Context
        Symbol, frame, calendar, asof, tick and the number of bars needed.

    Returns
    -------
    list of Finding
        E03 to E07, E10, E17, then W01, W04, W06. Empty for clean bars.

    NaN: named by E03; comparisons with NaN break no other rule.
    """
    complete, partial = _within_request(raw, context)
    kept = raw.take(complete)
    found: list[Finding] = []
    for rule, title, why, test in ROW_RULES:
        bad, detail = test(kept, context)
        rows = np.flatnonzero(bad)
        if len(rows):
            places, remedy = _places(kept, rows), _mend(kept, context, rows)
            found.append(Finding(rule, title, len(rows), "bar", places, detail(int(rows[0])), why, remedy))
    same, _ = _repeats(kept)
    count = len(kept) - int(same.sum())
    if count < context.bars_needed:
        why = "warm-up, training and test folds need that many"
        if context.bars_needed == 1:
            until = "" if context.asof is None else f" complete at {iso(context.asof)}"
            why = f"{raw.origin} holds no bar{until}"
        found.append(too_few(context.symbol, count, context.bars_needed, why))
    for rule, title, rows_of, source in (
        ("W01", "zero volume", np.flatnonzero(kept.volume == 0.0), kept),
        ("W04", "bar not complete at asof left out", np.flatnonzero(partial), raw),
        ("W06", "identical duplicate dropped", np.flatnonzero(same), kept),
    ):
        if len(rows_of):
            found.append(Finding(rule, title, len(rows_of), "bar", _places(source, rows_of), "", "", ""))
    return found


def clean(raw: RawBars, context: Context) -> RawBars:
    """Return the complete rows without identical duplicates; call it when `refuse` was silent."""
    complete, _ = _within_request(raw, context)
    kept = raw.take(complete)
    same, _ = _repeats(kept)
    return kept.take(~same)


def require_bars(bars: Bars, needed: int, explanation: str) -> None:
    """Raise E17 where a symbol has fewer bars than its strategies need.

    Parameters
    ----------
    bars : Bars
        Stored and new bars together.
    needed : int
        Warm-up + train + purge + min_folds x test, the smallest of its strategies.
    explanation : str
        Where the number comes from, for the message.

    Raises
    ------
    DataError
        E17 with both numbers.
    """
    if len(bars) < needed:
        refuse([too_few(bars.symbol, len(bars), needed, explanation)], bars.symbol, bars.frame)
