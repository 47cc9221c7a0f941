"""Symbols as op names."""

import pytest

from pipelines.symbols import KEYS, PARTITIONS, op_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("AAPL", "symbol_AAPL"),
        ("BTC-USD", "symbol_BTC_x2DUSD"),
        ("BRK.B", "symbol_BRK_x2EB"),
        ("^GSPC", "symbol__x5EGSPC"),
        ("ES=F", "symbol_ES_x3DF"),
        ("A_B", "symbol_A_x5FB"),
        ("7203.T", "symbol_7203_x2ET"),
    ],
)
def test_op_name_writes_any_other_character_as_its_code(key, name):
    assert op_name(key) == name


def test_keys_that_differ_have_op_names_that_differ():
    keys = ["A-B", "A_B", "A.B", "A=B", "A^B", "A_X2DB", "AB", "A_x2DB".upper()]
    assert len({op_name(key) for key in keys}) == len(set(keys))


def test_each_symbol_of_the_settings_is_a_partition():
    assert tuple(PARTITIONS.get_partition_keys()) == KEYS
