import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.symbol_keys import is_canonical

GOOD = ["A", "AAPL", "BRK.B", "BTC-USD", "BTC-USD.1H", "EURUSD=X", "0700.HK", "ES_F", "A" * 32, "CONE", "X^Y"]
BAD = [
    "", " ", "aapl", "AAPL ", " AAPL", "AAPL\n", "../../evil", "..", ".A", "A.", "A/B", "A\\B", "C:",
    "O'Neil",
    "O'NEIL", "x' OR '1'='1", "<script>", "A B", "A\0", "A" * 33, "A" * 240, "^GSPC", "-A", "_ALL", "_all",
    "*", "A*", "A?", "A,B", "CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "CON.1H", "NUL.X", "ÄPFEL",
    "\uff21\uff21\uff30\uff2c", "\u0410APL", "A;B", "A$B", "A%B",
]  # fmt: skip


@pytest.mark.parametrize("key", GOOD)
def test_accepts_a_plain_key(key):
    assert is_canonical(key)


@pytest.mark.parametrize("key", BAD)
def test_refuses_a_key_that_is_unsafe_somewhere(key):
    assert not is_canonical(key)


@given(st.text(max_size=40))
def test_an_accepted_key_is_one_plain_file_name_everywhere(key):
    if is_canonical(key):
        assert key.isascii() and key == key.upper() and len(key) <= 32
        assert not set(key) & set("/\\:*?\"<>|' \0") and key.strip(" .") == key
