"""Random numbers that depend on what they are for, never on when they are drawn.

A draw is a function of (seed, symbol, as-of bar, sample, step, which token), so a window's paths
are the same alone, in a batch, in another order, and 8 samples are the first 8 of 16. The model
is left out on purpose: two models or lookbacks are compared on common random numbers.

Source: Steele, Lea and Flood 2014 (SplitMix64).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from engine.bars.model import Floats, Ints

# Axes: B windows, S samples, h steps, 2 tokens per step (s1, s2).
TOKENS = 2
STEPS_PER_SAMPLE = 2**17  # room for 65,536 steps of 2 tokens
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def stream_key(seed: int, symbol: str, as_of: int) -> int:
    """Return the 64-bit key of one window's draws; ``as_of`` in microseconds since 1970.

    >>> stream_key(0, "AAPL", 1704171600000000)
    5870116959350155636
    """
    text = f"{seed}|{symbol}|{as_of * 1000}"  # nanoseconds
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def uniforms(seed: int, symbols: Sequence[str], as_of: Ints, samples: int, horizon: int) -> Floats:
    """Return uniform draws on (0, 1).

    Parameters
    ----------
    seed : int
        Of the settings.
    symbols : sequence of str, length B
        Canonical keys.
    as_of : int64 array, shape (B,)
        Stamps of the as-of bars, microseconds since 1970.
    samples, horizon : int
        S paths of h steps.

    Returns
    -------
    float64 array, shape (B, S, h, 2)
        Last axis: the first and the second token of a step.

    >>> uniforms(0, ["AAPL"], np.array([1704171600000000]), 1, 1).tolist()
    [[[[0.6952445168492152, 0.3711560094592999]]]]
    """
    keys = np.array(
        [stream_key(seed, name, int(t)) for name, t in zip(symbols, as_of, strict=True)], dtype=np.uint64
    )
    sample, step, which = np.ogrid[:samples, :horizon, :TOKENS]
    counter = (sample * STEPS_PER_SAMPLE + step * TOKENS + which).astype(np.uint64)  # (S, h, 2)
    x = keys[:, None, None, None] + (counter + np.uint64(1)) * _GOLDEN  # wraps at 2**64
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    x = x ^ (x >> np.uint64(31))
    return np.asarray(((x >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)
