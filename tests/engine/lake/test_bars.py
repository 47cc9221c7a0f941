"""A symbol's finer bars: none unless its option asks, else the lake's table, or an error."""

import numpy as np
import pyarrow as pa
import pytest

from engine.bars.model import COLUMNS
from engine.bars.synthetic import make_bars
from engine.config import Settings
from engine.errors import LakeError
from engine.lake.bars import base_bars_of

HOURS = make_bars(1, 50, "1h")


class OneTable:
    """A lake that holds the finer bars of one symbol."""

    def need(self, table, key, made_by):
        if (table, key) != ("base_bars", "TEST"):
            raise LakeError(f"table {table} of {key} is not there. Run {made_by}")
        columns = {name: getattr(HOURS, name) for name in COLUMNS}
        return pa.table({"ts": pa.array(HOURS.ts, pa.timestamp("us")), **columns})


def asked(frame):
    """Settings whose symbols are read in a finer frame."""
    option = {} if frame is None else {"base_frame": frame}
    symbols = {key: {"class": "crypto", "frame": "1d", **option} for key in ("TEST", "NONE")}
    return Settings.model_validate({"symbols": symbols, "strategies": [{"strategy": "trend"}]})


def test_a_symbol_without_the_option_has_none():
    assert base_bars_of(OneTable(), "TEST", asked(None)) is None


def test_the_table_is_read_as_bars_of_the_base_frame():
    found = base_bars_of(OneTable(), "TEST", asked("1h"))
    assert (found.symbol, found.frame, found.calendar) == ("TEST", "1h", "24/7")
    for name in ("ts", *COLUMNS):
        np.testing.assert_array_equal(getattr(found, name), getattr(HOURS, name))


def test_a_table_that_is_not_there_is_an_error_and_not_an_exit_at_the_close():
    with pytest.raises(LakeError, match="base_bars of NONE is not there. Run prices"):
        base_bars_of(OneTable(), "NONE", asked("1h"))
