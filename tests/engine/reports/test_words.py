"""Sentences: orders in plain words, reasons, parameters."""

import pytest

from engine.reports.words import order_numbers, order_sentence, parameter_text, reason_text, valid_words


@pytest.mark.parametrize(
    ("action", "side", "kind", "sentence"),
    [
        ("enter", "long", "market", "Buy at the open"),
        ("enter", "short", "limit", "Sell short by limit order"),
        ("exit", "long", "market", "Sell the long position at the open"),
        ("exit", "short", "market", "Buy back the short position at the open"),
        ("hold", "long", None, "Hold the long position"),
        ("none", None, None, "No entry"),
        ("wait", "long", "market", "wait long market"),
    ],
)
def test_orders_in_plain_words(action, side, kind, sentence):
    assert order_sentence({"action": action, "side": side, "type": kind}) == sentence


def test_an_order_that_trades_nothing_has_no_quantity():
    empty = {"action": "none", "limit": None, "stop": float("nan"), "target": None, "quantity_per_100k": 0.0}
    assert all('title="not set"' in str(cell) for cell in order_numbers(empty))
    full = {**empty, "action": "enter", "limit": 101.5, "quantity_per_100k": 985.2}
    assert [str(cell) for cell in order_numbers(full)][::3] == ["101.50", "985.20"]


@pytest.mark.parametrize(
    ("stored", "shown"),
    [("a; b", "a; b"), ('["a", "b"]', "a; b"), (None, ""), ("[not json", "[not json")],
)
def test_reasons_as_text_or_json(stored, shown):
    assert reason_text(stored) == shown


def test_parameters_are_named_and_offsets_in_per_cent():
    assert parameter_text({"slow": 100, "fast": 20.5}, levels=False) == "fast 20.5, slow 100"
    assert parameter_text({"u": 0.004, "v": -0.01}, levels=True) == "high +0.40 %, low \N{MINUS SIGN}1.00 %"
    assert "none" in parameter_text({}, levels=False)


def test_how_long_an_order_stands():
    assert valid_words("next_bar") == "the next bar only"
    assert valid_words("other") == "other"
