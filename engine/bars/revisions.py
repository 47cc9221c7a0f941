"""Vendors rewrite history: `merge` joins new bars to stored ones only where both agree on the overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.bars.findings import Finding, refuse
from engine.bars.model import COLUMNS, PRICE_COLUMNS, Bars, Floats, Ints, iso

TOLERANCE_RELATIVE = 1e-9


def _refuse(stored: Bars, where: Ints, ts: Ints, detail: str) -> None:
    key = stored.symbol
    rows = tuple(iso(int(ts[i])) for i in where[:3])
    remedy = (
        "both versions are in table quarantine; compare them with another source. "
        f"To take over the vendor's: nightfold check {key} --accept-revision"
    )
    why = "results computed before would silently rest on other prices; nothing was stored"
    finding = Finding(
        "E13", "stored history differs from the vendor's", len(where), "bar", rows, detail, why, remedy
    )
    refuse([finding], key, stored.frame)


def _differs(
    stored: Floats, fetched: Floats, half_tick: Floats
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    gap = np.abs(fetched - stored)
    return np.asarray((gap > TOLERANCE_RELATIVE * np.abs(stored)) & (gap > half_tick))


def _overlap(stored: Bars, fetched: Bars) -> tuple[Bars, Bars]:
    """Return the stored and the fetched bars of the common span, stamps equal, or raise E13."""
    first = max(int(stored.ts[0]), int(fetched.ts[0]))
    old = stored.slice(int(np.searchsorted(stored.ts, first)), None)
    new = fetched.slice(
        int(np.searchsorted(fetched.ts, first)), int(np.searchsorted(fetched.ts, stored.ts[-1], side="right"))
    )
    if len(old) == 0:
        span = f"stored bars end {iso(int(stored.ts[-1]))}, the vendor's begin {iso(int(fetched.ts[0]))}"
        _refuse(stored, np.array([0]), fetched.ts, f"found no common bar: {span}; expected an overlap")
    missing = np.flatnonzero(~np.isin(old.ts, new.ts))
    if len(missing):
        shown = f"close {old.close[missing[0]]:.10g}"
        _refuse(stored, missing, old.ts, f"found no bar at the vendor; expected the stored one, {shown}")
    extra = np.flatnonzero(~np.isin(new.ts, old.ts))
    if len(extra):
        shown = f"close {new.close[extra[0]]:.10g}"
        _refuse(stored, extra, new.ts, f"found a bar at the vendor, {shown}; expected none, as stored")
    return old, new


def _refactored(old: Bars, new: Bars) -> bool:
    """Say whether bars of equal stamps carry other split factors."""
    return bool(np.any(_differs(old.adj, new.adj, np.zeros(len(old)))))


def _compare(old: Bars, new: Bars, tick: float) -> None:
    """Refuse raw prices that differ by more than 1e-9 of themselves and more than half a tick (E13)."""
    bad = np.zeros(len(old), dtype=np.bool_)
    for name in PRICE_COLUMNS:
        before, now = (getattr(bars, name) * bars.adj for bars in (old, new))
        bad |= _differs(before, now, np.full(len(old), 0.5 * tick))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        both = [
            " ".join(f"{n} {getattr(b, n)[i] * b.adj[i]:.10g}" for n in PRICE_COLUMNS) for b in (old, new)
        ]
        ratio = new.close * new.adj / (old.close * old.adj)
        uniform = len(old) >= 5 and bool(np.all(np.abs(ratio / ratio[0] - 1.0) < 1e-6))
        hint = f" (all bars by the factor {ratio[0]:.6g}: a split or a change of unit)" if uniform else ""
        _refuse(old, np.flatnonzero(bad), old.ts, f"stored {both[0]}; vendor {both[1]}{hint}")


def needs_whole_history(stored: Bars, fetched: Bars, *, tick: float = 0.0) -> bool:
    """Say whether a split event, new or edited, gives the stored bars another basis.

    Parameters
    ----------
    stored, fetched : Bars
        As in `merge`.
    tick
        As in `merge`.

    Returns
    -------
    bool
        True: raw prices agree and split factors differ, so load the whole history and merge that.

    Raises
    ------
    DataError
        E13, as in `merge`.
    """
    old, new = _overlap(stored, fetched)
    _compare(old, new, tick)
    return _refactored(old, new) and int(fetched.ts[0]) > int(stored.ts[0])


def merge(stored: Bars, fetched: Bars, *, tick: float = 0.0) -> Bars:
    """Join fetched bars to stored ones after comparing the stamps they share, in raw terms.

    Parameters
    ----------
    stored : Bars
        What the lake holds, T bars, cut at the request's asof.
    fetched : Bars
        Checked bars of the request [last stored stamp - overlap, asof), U bars, or the whole history.
    tick : float
        Price step in raw prices; 0 = unknown.

    Returns
    -------
    Bars
        Stored bars, then the new ones. Inside the overlap prices stay as stored; volume, and dividends after
        the overlap's first bar, are the vendor's (`revised` counts them). Fetched bars older than all stored
        ones come first. With other split factors: ``fetched``, which must then be the whole history.

    NaN: none in, none out.

    Raises
    ------
    DataError
        E13: no common bar, a bar missing or extra inside the overlap, a raw price that differs by more than
        1e-9 of itself and more than half a tick, or other split factors on a part of the history.
    """
    old, new = _overlap(stored, fetched)
    _compare(old, new, tick)
    if _refactored(old, new):
        if int(fetched.ts[0]) > int(stored.ts[0]):
            detail = f"stored split factor {old.adj[0]:.10g}; now {new.adj[0]:.10g}, on a part of the history"
            _refuse(stored, np.flatnonzero(old.adj != new.adj), old.ts, detail)
        return fetched
    at = int(np.searchsorted(stored.ts, old.ts[0]))
    start = int(np.searchsorted(fetched.ts, old.ts[0]))  # at or start is 0
    dividend = new.dividend.copy()
    if (
        start == 0
    ):  # an ex-date between the bar before the reply and its first bar is out of the reply's sight
        dividend[0] = old.dividend[0]
    middle = replace(old, volume=new.volume, dividend=dividend)
    older = fetched.slice(0, start) if start else stored.slice(0, at)
    newer = fetched.slice(start + len(old), None)
    joined = {
        name: np.concatenate([getattr(part, name) for part in (older, middle, newer)])
        for name in ("ts", *COLUMNS)
    }
    return Bars(stored.symbol, stored.frame, stored.calendar, **joined)


def accept(stored: Bars, fetched: Bars) -> Bars:
    """Return the vendor's history in place of the stored one; what is older than it stays as stored.

    Parameters
    ----------
    stored, fetched : Bars
        What the lake holds, and the whole history that the vendor gives now.

    Returns
    -------
    Bars
        ``fetched``, after the stored bars from before its first one.

    NaN: none in, none out.

    Raises
    ------
    DataError
        E13: the vendor does not reach back to the first stored bar, and its split factors differ there.
    """
    older = stored.slice(None, int(np.searchsorted(stored.ts, fetched.ts[0])))
    if len(older) == 0:
        return fetched
    if older.adj[-1] != fetched.adj[0]:
        detail = f"stored split factor {older.adj[-1]:.10g}; the vendor's next bar {fetched.adj[0]:.10g}"
        _refuse(stored, np.array([len(older) - 1]), stored.ts, detail)
    joined = {
        name: np.concatenate([getattr(part, name) for part in (older, fetched)]) for name in ("ts", *COLUMNS)
    }
    return Bars(stored.symbol, stored.frame, stored.calendar, **joined)


def differences(
    stored: Bars, fetched: Bars, *, tick: float = 0.0
) -> list[tuple[int, int | None, int | None]]:
    """Return the bars of the common span that are not the same in both, in raw terms.

    Parameters
    ----------
    stored, fetched : Bars
        As in `merge`.
    tick : float
        Price step in raw prices; 0 = unknown.

    Returns
    -------
    list of (int, int or None, int or None)
        Stamp, index in ``stored`` and in ``fetched``; None where that version has no such bar.

    NaN: none.
    """
    first, last = max(int(stored.ts[0]), int(fetched.ts[0])), int(stored.ts[-1])
    found: list[tuple[int, int | None, int | None]] = []
    for ts in np.union1d(stored.ts, fetched.ts):
        if not first <= ts <= last:
            continue
        i, j = int(np.searchsorted(stored.ts, ts)), int(np.searchsorted(fetched.ts, ts))
        old = i if i < len(stored) and stored.ts[i] == ts else None
        new = j if j < len(fetched) and fetched.ts[j] == ts else None
        if old is not None and new is not None:
            before, now = (
                np.array([getattr(bars, name)[k] for name in PRICE_COLUMNS]) * bars.adj[k]
                for bars, k in ((stored, old), (fetched, new))
            )
            if not np.any(_differs(before, now, np.full(len(now), 0.5 * tick))):
                if stored.adj[old] == fetched.adj[new]:
                    continue
        found.append((int(ts), old, new))
    return found


def refuse_other_unit(stored: str, found: str, symbol: str, frame: str) -> None:
    """Raise E18 where prices come in another currency than the stored ones.

    Parameters
    ----------
    stored, found : str
        Currency as recorded, and as the source says now; empty = not said.
    symbol, frame : str
        Named in the message.

    Raises
    ------
    DataError
        Both are known and differ.
    """
    if stored and found and stored != found:
        finding = Finding(
            "E18", "currency differs from the stored one", 1, "series", (),
            f"stored prices are in {stored}, the source's in {found}; expected {stored}",
            "a series in two currencies has a jump that nobody traded",
            f"correct provider_symbol: of {symbol} in nightfold.yaml, or add it under another key, "
            f"then: nightfold check {symbol}",
        )  # fmt: skip
        refuse([finding], symbol, frame)


def revised(stored: Bars, merged: Bars) -> list[str]:
    """Return one line per kind of accepted revision: volumes and dividends of stored bars that changed."""
    at = np.searchsorted(merged.ts, stored.ts)
    lines = []
    for name in ("volume", "dividend"):
        rows = np.flatnonzero(getattr(merged, name)[at] != getattr(stored, name))
        if len(rows):
            first = ", ".join(iso(int(stored.ts[i])) for i in rows[:3])
            lines.append(f"{name} revised by the vendor: {stored.symbol}, {len(rows)} bars, first {first}")
    return lines
