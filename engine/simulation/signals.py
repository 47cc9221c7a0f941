"""What the rules say at each bar, compiled: `signal_bits` runs a program of `engine.strategies.program`.

Blocks of 512 bars. Each pair of values is compared once per block into one byte per bar: 1 where
left <= right, 2 where left >= right, both where they tie, 0 where one is NaN. Every operator is
then a test of these bytes, a cross also of the byte before. The arithmetic is that of
`engine.strategies.rules.evaluate`, which gives the same bits.
Axes: T bars of the span, W columns of the feature table, N pairs, C conditions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from engine.bars.model import Floats, Ints
from engine.simulation.inputs import Bytes
from engine.strategies.program import (
    BIT,
    ENDS,
    ENDS_CLAUSE,
    LEFT_LAG,
    LEFT_OFFSET,
    LEFT_ROW,
    LEFT_SCALE,
    OPERATOR,
    PAIR,
    RIGHT_LAG,
    RIGHT_OFFSET,
    RIGHT_ROW,
    RIGHT_SCALE,
    STARTS_CLAUSE,
)
from engine.strategies.rules import TIE

BLOCK = 512
LANES = 64  # bars that the processor compares at once; those beyond a range are not told
WIDTH = BLOCK + LANES  # a block and the bar before it
AT_MOST, AT_LEAST, TIED = 1, 2, 3  # of a byte; `tied` is both
ABOVE, NOT_BELOW, BELOW, NOT_ABOVE, CROSS_ABOVE = range(5)  # as in OPERATORS; the last is cross_below

_compiled = njit(cache=True, nogil=True, error_model="numpy")
# Below, views of arrays are made in the function that loops over them: a view that is handed to
# another compiled function costs as much as a hundred bars.


@_compiled
def _load(
    table: Floats, row: int, begin: int, count: int, scale: float, offset: float, values: Floats, side: int
) -> None:  # fmt: skip
    """Copy a column's values into a row of ``values``; NaN before the table's first column."""
    missing = min(max(-begin, 0), count)
    values[side, :missing] = np.nan
    source, target = table[row, begin + missing : begin + count], values[side, missing:count]
    for i in range(len(target)):
        target[i] = source[i] * scale + offset  # * 1 and + 0 change no comparison


@_compiled
def _compare(
    left: Floats, left_row: int, left_begin: int, right: Floats, right_row: int, right_begin: int,
    count: int, bytes_: Bytes, pair: int,
) -> None:  # fmt: skip
    """Compare two columns; closer than TIE of the larger one is equal."""
    a = left[left_row, left_begin : left_begin + count]
    b = right[right_row, right_begin : right_begin + count]
    out = bytes_[pair, :count]
    for i in range(len(out)):
        x, y = a[i], b[i]
        size, other = abs(x), abs(y)
        tie = TIE * (size if size > other else other)
        gap = x - y
        out[i] = np.uint8(gap <= tie) | (np.uint8(gap >= -tie) << np.uint8(1))


@_compiled
def _compare_constant(
    left: Floats, row: int, begin: int, constant: float, count: int, bytes_: Bytes, pair: int
) -> None:
    """Compare a column with a number, exactly."""
    a, out = left[row, begin : begin + count], bytes_[pair, :count]
    for i in range(len(out)):
        out[i] = np.uint8(a[i] <= constant) | (np.uint8(a[i] >= constant) << np.uint8(1))


@_compiled
def _equal(bytes_: Bytes, pair: int, count: int, wanted: int) -> None:
    """Keep the bars whose byte is exactly ``wanted``."""
    now, mask, value = bytes_[pair, 1:count], bytes_[-1, : count - 1], np.uint8(wanted)
    for i in range(len(mask)):
        mask[i] &= np.uint8(now[i] == value)


@_compiled
def _having(bytes_: Bytes, pair: int, count: int, wanted: int) -> None:
    """Keep the bars whose byte has the bit ``wanted``."""
    now, mask, value = bytes_[pair, 1:count], bytes_[-1, : count - 1], np.uint8(wanted)
    for i in range(len(mask)):
        mask[i] &= np.uint8((now[i] & value) != 0)


@_compiled
def _crossing(bytes_: Bytes, pair: int, count: int, wanted: int) -> None:
    """Keep the bars whose byte is exactly ``wanted`` after one with the other bit."""
    now, before, mask = bytes_[pair, 1:count], bytes_[pair, : count - 1], bytes_[-1, : count - 1]
    value, other = np.uint8(wanted), np.uint8(TIED - wanted)
    for i in range(len(mask)):
        mask[i] &= np.uint8(now[i] == value) & np.uint8((before[i] & other) != 0)


@_compiled
def _tell(bytes_: Bytes, bit: int, bits: Bytes, begin: int, end: int) -> None:
    """Add a bit where the mask is kept."""
    mask, told, value = bytes_[-1, : end - begin], bits[begin:end], np.uint8(bit)
    for i in range(len(told)):
        told[i] |= mask[i] * value


@_compiled
def _compare_pair(
    constants: Floats, rows: Ints, k: int, pair: int, table: Floats, start: int, count: int,
    values: Floats, bytes_: Bytes,
) -> None:  # fmt: skip
    """Compare one pair of config k at ``count`` bars of the table from ``start`` on, which may be -1."""
    at = 4 * pair
    left, begin = rows[k, at + LEFT_ROW], start - rows[k, at + LEFT_LAG]
    scale, offset = constants[k, at + LEFT_SCALE], constants[k, at + LEFT_OFFSET]
    plain = begin >= 0 and scale == 1.0 and offset == 0.0
    right, right_begin = rows[k, at + RIGHT_ROW], start - rows[k, at + RIGHT_LAG]
    right_scale, right_offset = constants[k, at + RIGHT_SCALE], constants[k, at + RIGHT_OFFSET]
    if right < 0:
        if plain:
            _compare_constant(table, left, begin, right_offset, count, bytes_, pair)
        else:
            _load(table, left, begin, count, scale, offset, values, 0)
            _compare_constant(values, 0, 0, right_offset, count, bytes_, pair)
    elif plain and right_begin >= 0 and right_scale == 1.0 and right_offset == 0.0:
        _compare(table, left, begin, table, right, right_begin, count, bytes_, pair)
    else:
        _load(table, left, begin, count, scale, offset, values, 0)
        _load(table, right, right_begin, count, right_scale, right_offset, values, 1)
        _compare(values, 0, 0, values, 1, 0, count, bytes_, pair)


@_compiled
def write_bits(
    program: Ints, constants: Floats, rows: Ints, k: int, table: Floats, first: int, t0: int, t1: int,
    bits: Bytes, values: Floats, bytes_: Bytes,
) -> None:  # fmt: skip
    """Write ``bits[t0:t1]`` of one config.

    Parameters
    ----------
    program : int64 array, shape (C, 4)
        `Program.code`.
    constants, rows : float64 and int64 arrays, shape (P, 4 N)
        `Program.constants` and `Program.rows`.
    k : int
        The config.
    table : float64 array, shape (R, W)
        Feature columns of the whole series.
    first : int
        Column of the table at span bar 0.
    t0, t1 : int
        Half-open range of span bars. Whatever the ranges, the bits are the same: a cross reads the
        bar before ``t0`` from the table.
    bits : uint8 array, shape (T,), written
        1 enter long, 2 enter short, 4 exit long, 8 exit short.
    values, bytes_ : float64 array of shape (2, WIDTH), uint8 array of shape (at least N + 1, WIDTH), written
        Room for a block; the last row of bytes is the mask of a clause.

    NaN: compares false.
    """
    for begin in range(t0, t1, BLOCK):
        end = min(begin + BLOCK, t1)
        start = first + begin - 1  # with the bar before
        count = min((end - begin + LANES) // LANES * LANES, table.shape[1] - start)  # whole vectors
        for pair in range(rows.shape[1] // 4):
            _compare_pair(constants, rows, k, pair, table, start, count, values, bytes_)
        bits[begin:end] = 0
        for condition in range(len(program)):
            pair, operator = program[condition, PAIR], program[condition, OPERATOR]
            if (program[condition, ENDS] & STARTS_CLAUSE) != 0:
                bytes_[-1, : count - 1] = 1
            if operator == ABOVE:
                _equal(bytes_, pair, count, AT_LEAST)
            elif operator == BELOW:
                _equal(bytes_, pair, count, AT_MOST)
            elif operator == NOT_BELOW:
                _having(bytes_, pair, count, AT_LEAST)
            elif operator == NOT_ABOVE:
                _having(bytes_, pair, count, AT_MOST)
            elif operator == CROSS_ABOVE:
                _crossing(bytes_, pair, count, AT_LEAST)
            else:
                _crossing(bytes_, pair, count, AT_MOST)
            if (program[condition, ENDS] & ENDS_CLAUSE) != 0:
                _tell(bytes_, program[condition, BIT], bits, begin, end)


@_compiled
def signal_bits(
    program: Ints, constants: Floats, rows: Ints, table: Floats, first: int, t0: int, t1: int, bits: Bytes
) -> None:
    """Write ``bits[t0:t1]`` of one config, given its row of `Program.constants` and `Program.rows`.

    For the other arguments see `write_bits`, which takes room to work in.

    NaN: compares false.
    """
    values, bytes_ = np.empty((2, WIDTH)), np.empty((len(rows) // 4 + 1, WIDTH), np.uint8)
    one = (1, len(rows))
    write_bits(
        program, constants.reshape(one), rows.reshape(one), 0, table, first, t0, t1, bits, values, bytes_
    )
