"""Sentences: orders in plain words, reasons, parameters."""

from dataclasses import replace

import pytest

from engine.reports.parts import decisions_table
from engine.reports.results import SymbolResults
from engine.reports.words import (
    how_to_read,
    order_numbers,
    order_sentence,
    parameter_text,
    reason_text,
    valid_words,
)


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


def test_both_bases_of_a_drawdown_are_defined_where_levels_strategies_are_shown():
    plain, levels = (how_to_read(levels=levels, page="index") for levels in (False, True))
    assert "as a share of that peak" in plain and "amount that each bar trades" not in plain
    assert "as a share of that peak" in levels and "as a share of the amount that each bar trades" in levels
    assert levels.count("<dt>Largest drawdown</dt>") == 1


def test_the_q_of_a_symbol_is_said_once():
    row = {"symbol": "AAA", "decision": "rejected", "in_force": False, "reasons": "why", "strategy": "x"}
    found = [{**row, "strategy": s, "p": p, "q": q} for s, p, q in (("a", 1.0, 0.717), ("b", 0.4, 0.717))]
    one = SymbolResults("AAA", decisions=found, orders=[{"strategy": "a"}, {"strategy": "b"}])
    shown = str(decisions_table([one]))
    assert shown.count("0.717") == 1 and "q of the symbol" in shown and "0.400" in shown
    newer = replace(one, decisions=[found[0], {**found[1], "q": 0.5}])  # of another night
    assert "0.717" in str(decisions_table([newer])) and "0.500" in str(decisions_table([newer]))
