"""Moving averages: sma, volume_sma, ema.  Axes: T bars, R lengths.

Every value uses bars up to its own and is known at the close of that bar.
"""

from __future__ import annotations

import numpy as np

from engine.bars.model import Floats, Ints
from engine.features.chains import ema_next, in_quarters
from engine.features.compiled import kernel
from engine.features.registry import COLUMN, Parameter, Step, feature, wilder_lookback

EXACT = 2.0**53  # integers below this are exact in float64
BLOCK = 2048  # bars worked on at a time, so that what stands between two loops stays in the cache
NEAR = 1e-9  # a price this close to the tick, relative to itself, is on it


@kernel
def _is_on_tick(price: float, ticks: float, tick: float, near: float, longest: float) -> bool:
    return bool(abs(price - ticks * tick) <= near * abs(price)) & (abs(ticks) * longest < EXACT)


@kernel
def to_ticks(x: Floats, tick: float, near: float, longest: float, whole: Ints) -> int:
    """Write prices as whole ticks, 0 where off the tick; return how many are off.

    A price is on the tick when it is within ``near`` of itself of a whole number of ticks, and
    small enough that ``longest`` of them add without rounding. Decided price by price: one
    price off the tick must not change values before it.
    """
    off = 0
    for k in range(len(x)):
        q = np.rint(x[k] / tick)
        on = _is_on_tick(x[k], q, tick, near, longest)
        whole[k] = np.int64(q) if on else 0
        off += 0 if on else 1
    return off


@kernel
def last_off_tick(
    x: Floats, a: int, b: int, before: int, tick: float, near: float, longest: float, last: Ints
) -> None:
    """Write into ``last[t - a]`` the index of the latest price off the tick up to bar t of [a, b)."""
    for t in range(a, b):
        if not _is_on_tick(x[t], np.rint(x[t] / tick), tick, near, longest):
            before = t
        last[t - a] = before


@kernel
def window_means(x: Floats, n: int, out: Floats) -> None:
    """Write the mean of ``x[k], ..., x[k+n-1]``, added oldest first, into ``out[k]``.

    All windows advance together, so that the additions of each keep their order and the
    loop over windows is vectorised.
    """
    out[:] = 0.0
    done = 0
    while done + 4 <= n:
        p, q, r, s = x[done:], x[done + 1 :], x[done + 2 :], x[done + 3 :]
        for k in range(len(out)):
            out[k] = out[k] + p[k] + q[k] + r[k] + s[k]
        done += 4
    for i in range(done, n):
        p = x[i:]
        for k in range(len(out)):
            out[k] += p[k]
    for k in range(len(out)):
        out[k] /= n


@kernel
def _quotients(last: Ints, before: Ints, n: int, tick: float, out: Floats) -> None:
    for k in range(len(out)):
        out[k] = float(last[k] - before[k]) / float(n) * tick


@kernel
def _mean_rows(x: Floats, lengths: Ints, tick: float, near: float, out: Floats) -> None:
    """Write the mean of each window of each length; the tick is known.

    A window wholly on ticks is the difference of two running sums in integers, exact whatever
    stands before it; any other is added afresh. So a value depends on its window alone.
    """
    longest = lengths.max()
    block = max(BLOCK, longest)
    sums = np.zeros(longest + block, np.int64)  # of the bars before the block, then of its own
    own = sums[longest:]
    last, afresh = np.empty(block, np.int64), np.empty(block)
    latest = -1
    for a in range(0, len(x), block):
        m = min(block, len(x) - a)
        sums[:longest] = own[block - longest :].copy()
        off = to_ticks(x[a : a + m], tick, near, float(longest), own)
        total = sums[longest - 1]
        for k in range(m):
            total += own[k]
            own[k] = total
        mixed = off > 0 or (latest >= 0 and latest > a - longest)
        if mixed:
            last_off_tick(x, a, a + m, latest, tick, near, float(longest), last)
            latest = last[m - 1]
        for j in range(len(lengths)):
            n = lengths[j]
            row = out[j][a : a + m]
            _quotients(own, sums[longest - n :], n, tick, row)
            start = min(max(0, n - 1 - a), m)
            row[:start] = np.nan
            if mixed and start < m:
                window_means(x[a + start - n + 1 :], n, afresh[: m - start])
                for k in range(start, m):
                    if last[k] > a + k - n:
                        row[k] = afresh[k - start]


@kernel
def mean_rows(x: Floats, lengths: Ints, tick: float, near: float, out: Floats) -> None:
    """Write the mean of each window, float64 shape (R, T), NaN before the first window."""
    largest = 0.0
    if len(lengths) > 1:
        for value in x:
            largest = max(largest, abs(value))
    if tick > 0.0 and largest / tick * lengths.max() < 0.5 * EXACT:
        _mean_rows(x, lengths, tick, near, out)
        return
    for j in range(len(lengths)):
        n = lengths[j]
        if tick > 0.0:  # whether prices as large as these count as on the tick depends on the length
            _mean_rows(x, lengths[j : j + 1], tick, near, out[j : j + 1])
            continue
        out[j][: n - 1] = np.nan
        for a in range(n - 1, len(x), BLOCK):
            window_means(x[a - n + 1 :], n, out[j][a : a + BLOCK])


@kernel
def _mean(x: Floats, n: int, tick: float, near: float, out: Floats) -> None:
    mean_rows(x, np.full(1, n), tick, near, out.reshape(1, len(x)))


@kernel
def _sma_rows(x: Floats, lengths: Ints, tick: float, out: Floats) -> None:
    mean_rows(x, lengths, tick, NEAR, out)


@feature(
    "sma",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    window=lambda p: int(p["n"]),
    rows=_sma_rows,
    uses_tick=True,
)
def sma(x: Floats, n: int, tick: float = 0.0, out: Floats | None = None) -> Floats:
    """Simple moving average of the last n values.

    Parameters
    ----------
    x : float64 array, shape (T,)
        A price column, oldest first.
    n : int, >= 1
        Window in bars.
    tick : float
        Price step, 0 = unknown. Windows of prices on the tick are added as integers, so that
        equal averages are equal doubles; other windows are added afresh, without a running sum.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n-1.

    NaN: a NaN input makes the n windows that hold it NaN.
    Source: sum / n; the quotient of an exact integer sum is rounded once.

    >>> sma(np.array([1.0, 2.0, 4.0]), 2)
    array([nan, 1.5, 3. ])
    """
    out = np.empty(len(x)) if out is None else out
    _mean(x, n, float(tick), NEAR, out)
    return out


@feature(
    "volume_sma",
    code_version=1,
    inputs=("volume",),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    window=lambda p: int(p["n"]),
)
def volume_sma(volume: Floats, n: int, out: Floats | None = None) -> Floats:
    """Simple moving average of the volume, float64 shape (T,), in units; NaN before index n-1.

    NaN: a NaN input makes the n windows that hold it NaN.
    Whole units are added as integers, others afresh, as in `sma`.
    """
    out = np.empty(len(volume)) if out is None else out
    _mean(volume, n, 1.0, 0.0, out)
    return out


@kernel
def _ema(x: Floats, n: int, state: Floats, out: Floats) -> None:
    """See `Step`; state: bars seen, value."""
    seen, value = int(state[0]), state[1]
    seeding = min(max(n - seen, 0), len(x))
    for i in range(seeding):
        value += x[i]
        out[i] = np.nan
        if seen + i == n - 1:
            value /= n
            out[i] = value
    if 0 < seeding < len(x):
        rest = x[seeding - 1 :]
        seeding += in_quarters(False, rest, rest, rest, n, value, out[seeding - 1 :]) - 1
        value = out[seeding - 1]
    weight = 2.0 / (n + 1.0)
    for i in range(seeding, len(x)):
        value = ema_next(value, x[i], weight)
        out[i] = value
    state[0], state[1] = seen + len(x), value


@kernel
def _ema_rows(x: Floats, lengths: Ints, out: Floats) -> None:
    """Four lengths side by side: while one value waits for the one before it, three others are computed."""
    start = min(len(x), lengths.max())
    states = np.zeros((len(lengths), 2))
    for j in range(len(lengths)):
        _ema(x[:start], lengths[j], states[j], out[j][:start])
    weight = 2.0 / (lengths + 1.0)
    rest = x[start:]
    for j in range(0, len(lengths), 4):
        j1, j2, j3 = min(j + 1, len(lengths) - 1), min(j + 2, len(lengths) - 1), min(j + 3, len(lengths) - 1)
        v0, v1, v2, v3 = states[j, 1], states[j1, 1], states[j2, 1], states[j3, 1]
        w0, w1, w2, w3 = weight[j], weight[j1], weight[j2], weight[j3]
        o0, o1, o2, o3 = out[j][start:], out[j1][start:], out[j2][start:], out[j3][start:]
        for i in range(len(rest)):
            v0 = ema_next(v0, rest[i], w0)
            v1 = ema_next(v1, rest[i], w1)
            v2 = ema_next(v2, rest[i], w2)
            v3 = ema_next(v3, rest[i], w3)
            o0[i], o1[i], o2[i], o3[i] = v0, v1, v2, v3


_EMA = Step(_ema, 2)


@feature(
    "ema",
    code_version=1,
    inputs=(COLUMN,),
    parameters=(Parameter("n", 1),),
    first_valid=lambda p: int(p["n"]) - 1,
    step=_EMA,
    lookback=lambda p: wilder_lookback((int(p["n"]) + 1) / 2),
    rows=_ema_rows,
)
def ema(x: Floats, n: int, out: Floats | None = None) -> Floats:
    """Exponential moving average with weight 2/(n+1).

    Parameters
    ----------
    x : float64 array, shape (T,)
        A price column, oldest first.
    n : int, >= 1
        Length in bars.
    out : float64 array, shape (T,), optional
        Written and returned instead of a new array.

    Returns
    -------
    float64 array, shape (T,)
        Price units. NaN before index n-1, where it is the mean of the first n values.

    NaN: a NaN input makes every later value NaN.
    Source: seeded as in TA-Lib.

    >>> ema(np.array([1.0, 2.0, 4.0]), 2)
    array([       nan, 1.5       , 3.16666667])
    """
    return _EMA.run((x,), n, out)
