"""Sentences of the reports: orders, the age of prices, champions, how to read the numbers."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from engine.reports.html import Html, dash, join, number, paragraph, price, tag, text
from engine.reports.results import Row, SymbolResults, finite, iso_date

PAPER_ONLY = "paper only: nightfold places no orders"
OLD_AFTER_DAYS = 5  # a long weekend is four days
SAMPLE_NOTE = (
    "The sample data is four surviving winners, not a sample of the market: holding any of them did well, "
    "and companies that failed in those years are not in it."
)
POLICIES = {
    "path": "a same-bar target counts only where finer bars show that it came after the entry; "
    "otherwise the exit is at the close",
    "close": "every position is closed at the close of its bar",
    "target": "optimistic: a same-bar target counts without knowing whether it came after the entry",
}
NO_FINER_BARS = "no finer bars were read, so that every exit is at the close of its bar"
_REASONS = {
    "signal": "exit signal",
    "reverse": "opposite signal",
    "trail": "trailing stop",
    "end": "end of the test stretch",
    "ruin": "equity was used up",
    "open": "still open",
}


def policy_words(policy: str, finer: bool) -> str:
    """Return what an exit policy means; ``finer``: finer bars were read."""
    words = POLICIES.get(policy, "")
    return f"{words}; {NO_FINER_BARS}" if policy == "path" and not finer else words


def days_old(last_bar_us: int, asof_us: int) -> int:
    """Return whole days from the open of the last bar to the clock of the run."""
    return (asof_us - last_bar_us) // 86_400_000_000


def _dates(results: Sequence[SymbolResults]) -> list[tuple[str, list[str]]]:
    """Return the dates that prices go to, newest first, each with its symbols."""
    symbols: dict[str, list[str]] = {}
    for one in results:
        if one.last_bar_us is not None:
            symbols.setdefault(iso_date(one.last_bar_us), []).append(one.symbol)
    return sorted(symbols.items(), reverse=True)


def price_age(results: Sequence[SymbolResults]) -> str:
    """Return until when prices go, as one plain clause."""
    dates = _dates(results)
    if not dates:
        return "no prices yet"
    if len(dates) == 1:
        return f"prices go to {dates[0][0]}"
    return "; ".join(f"prices of {', '.join(names)} go to {day}" for day, names in dates)


def old_prices_banner(results: Sequence[SymbolResults], asof_us: int | None) -> Html | None:
    """Return a banner where some prices are old, else None.

    Parameters
    ----------
    results : sequence of SymbolResults
        Those that the page shows; one that failed shows no orders and is left aside.
    asof_us : int or None
        The clock of the run, µs UTC; None (unknown) gives no banner.
    """
    if asof_us is None:
        return None
    priced = [one for one in results if one.last_bar_us is not None and not one.problem]
    old = [one for one in priced if days_old(one.last_bar_us or 0, asof_us) > OLD_AFTER_DAYS]
    if not old:
        return None
    age = max(days_old(one.last_bar_us or 0, asof_us) for one in old)
    clause = price_age(old)
    subject = clause[0].upper() + clause[1:]
    orders, bar = "the orders below are for the bar after that date", "The last bar"
    if len(_dates(old)) > 1:
        orders, bar = "each order is for the bar after its symbol's last one", "The oldest last bar"
    elif len(old) < len(priced):
        subject = f"Prices of {', '.join(one.symbol for one in old)} go to {_dates(old)[0][0]}"
        orders = "their orders below are for the bar after that date"
    return tag(
        "div",
        paragraph(tag("strong", f"{subject}; {orders}, not for today.")),
        paragraph(f"{bar} was {age:,} days old when this report was written."),
        class_="banner",
        role="note",
    )


def order_sentence(row: Row) -> str:
    """Return what one row of ``next_orders`` would do, in plain words."""
    action, side, kind = str(row["action"]), str(row["side"] or ""), str(row["type"] or "")
    if action == "none":
        return "No entry"
    if action == "hold":
        return f"Hold the {side} position".replace("  ", " ")
    if action == "enter":
        verb = {"long": "Buy", "short": "Sell short"}.get(side, f"Enter {side}".strip())
    elif action == "exit":
        verb = {"long": "Sell the long position", "short": "Buy back the short position"}.get(side, "Exit")
    else:
        return " ".join(part for part in (action, side, kind) if part)
    return f"{verb} at the open" if kind == "market" else f"{verb} by {kind} order" if kind else verb


def valid_words(value: object) -> str:
    """Return how long an order would stand."""
    words = {"next_open": "the next open", "next_bar": "the next bar only"}
    return words.get(str(value), str(value or ""))


def trade_reason(value: object) -> str:
    """Return why a trade ended."""
    return _REASONS.get(str(value), str(value or "").replace("_", " "))


def parameter_text(params: dict[str, object], *, levels: bool) -> Html:
    """Return parameters as ``name value``, offsets of a levels strategy in per cent."""
    if not params:
        return dash("none")

    def one(name: str, value: object) -> Html:
        if levels and name in OFFSETS and isinstance(value, int | float):
            return join([f"{OFFSETS[name]} ", number(value * 100.0, 2, sign=True, unit=" %")])
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return text(f"{name} {shown}")

    return join((one(name, params[name]) for name in sorted(params)), ", ")


OFFSETS = {"u": "high", "v": "low"}  # what the two offsets of a levels strategy move


def reason_text(value: object) -> str:
    """Return the reasons of a decision: text as it is, a JSON list joined by semicolons."""
    written = str(value or "")
    if written.startswith("["):
        try:
            return "; ".join(str(part) for part in json.loads(written))
        except ValueError:
            return written
    return written


def champions_sentence(
    results: Sequence[SymbolResults], *, confidence: float, sample_symbols: Collection[str]
) -> Html:
    """Return how many symbols have a champion, how many luck alone would give, and what to expect.

    Parameters
    ----------
    results : sequence of SymbolResults
        All symbols of the settings.
    confidence : float
        Setting ``promotion.confidence``: at most 1 - confidence of symbols by luck at one look.
    sample_symbols : collection of str
        Symbols whose prices are the sample that comes with nightfold.
    """
    shown = [one for one in results if one.has_results]
    failed = [one.symbol for one in results if not one.has_results]
    champions = sum(one.champion is not None for one in shown)
    count = len(shown)
    luck = f"{(1.0 - confidence) * count:.2g}"
    sentence = f"{champions} of {count} symbols have a champion; up to {luck} expected by luck at one look."
    parts: list[object] = [tag("strong", sentence)]
    if failed:
        parts.append(f" Without results, so not counted: {', '.join(failed)}.")
    if sample_symbols:
        named = [one.symbol for one in results if one.symbol in sample_symbols]
        which = f" ({', '.join(named)})" if len(named) < len(results) else ""
        parts.append(
            f" None is expected on the sample{which}: no edge is known in it, and the bar is set high."
        )
    return paragraph(*parts, kind="lead")


def how_to_read(*, levels: bool, page: str) -> Html:
    """Return the paragraph and the word list that explain every number of a page."""
    opening = paragraph(
        "Parameters are chosen on a training stretch of bars, frozen, and then used once on the test "
        "stretch that follows it. The test stretches, one after the other, are the out-of-sample result: "
        "the only numbers that say something about the future. In-sample numbers come from the training "
        "stretches, where the parameters were chosen because they looked best, so they flatter. The wider "
        "the gap between the two, the more of the in-sample result was luck. A strategy is worth a look only "
        "where its out-of-sample result beats its own untuned form and the matched hold."
    )
    words = dict(_WORDS)
    if levels:
        words |= _LEVELS_WORDS
    if page == "symbol":
        words |= _SYMBOL_WORDS
    return join(
        [opening, tag("dl", *(tag(k, v) for w in words.items() for k, v in _pair(w)), class_="words")]
    )


def _pair(word: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("dt", word[0]), ("dd", word[1])


_WORDS = {
    "Basis points per bar": "One basis point is a hundredth of one per cent. The average result of one bar, "
    "after fees and slippage, bars without a position included; where results compound, the growth rate.",
    "Untuned": "The same strategy with its declared default parameters (a levels strategy: with zero "
    "offsets), on the same bars. At equal exposure: scaled to the average position of the tuned form.",
    "Matched hold": "Holding the symbol, without costs, at the average net position that the strategy had. "
    "What the strategy earned beyond it did not come from the drift of the price.",
    "Buy and hold": "Bought at the first open with all cash, dividends received, never sold.",
    "Return": "Final equity over the starting cash, minus one.",
    "Sharpe ratio": "Mean over standard deviation of daily returns, times the square root of the number of "
    "days a year that stands beside it; risk-free rate zero.",
    "Largest drawdown": "The deepest fall of equity from an earlier peak, at closes, as a share of that "
    "peak.",
    "Time in market, cash": "Share of bars with a position at the close; average share of equity that lay in "
    "cash, which earns nothing.",
    "Champion": "A strategy that passed a test against the matched hold which takes into account how many "
    "strategies were looked at. Most symbols have none, and then doing nothing is the finding.",
    "Dash": "An undefined number, for example a ratio without trades. It is not zero.",
}
_LEVELS_WORDS = {
    "Levels strategy": "Each bar it places limit orders at the forecast high and low, each moved by one "
    "offset. Every position is closed inside its own bar, each bar trades the same amount of money, so "
    "results add up and do not compound; rows of other strategies do.",
    "Largest drawdown": "The deepest fall of equity from an earlier peak, at closes: as a share of that peak "
    "where results compound; of a levels strategy as a share of the amount that each bar trades, so that it "
    "may pass 100 %.",
}
_SYMBOL_WORDS = {
    "Fold": "One training stretch with the test stretch after it. The last one may be open: its test "
    "stretch is not full yet.",
    "Pinball loss": "How far forecast quantiles lie from what happened, in basis points; lower is better.",
    "Filtered historical simulation, persistence": "The two simple forecasts that a model has to beat: past "
    "moves rescaled to current volatility, and the last bar repeated. Skill is the share of their loss that "
    "the model saves; below zero it is worse than they are. The t value says how sure that is: beyond 2 "
    "either way counts.",
    "Coverage of the 80 % band": "Share of outcomes between the 10 % and 90 % quantiles; 80 % is right.",
}


def order_numbers(row: Row) -> list[object]:
    """Return limit, stop, target and quantity of an order; what is not set is a dash."""
    quantity = finite(row["quantity_per_100k"])
    return [
        price(row["limit"]),
        price(row["stop"]),
        price(row["target"]),
        number(quantity, 2) if quantity and row["action"] != "none" else dash("not set"),
    ]
