"""How much of a strategy's result may be luck: its statistics, each with one sentence of what it means."""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.reports.html import Column, Html, dash, join, number, paragraph, percent, table, tag, whole
from engine.reports.labels import CLEAN
from engine.reports.results import Row, SymbolResults, finite

OVERFIT, KNIFE_EDGE = 0.5, 0.5


# Column of `backtests`, name, how it is written, what it means.
_LINES: tuple[tuple[str, str, Callable[[object], Html], str], ...] = (
    (
        "n_trials",
        "Parameter sets tried",
        whole,
        "Distinct sets that the search ran for this strategy, in all folds and nights, cut ones included.",
    ),
    (
        "n_eff",
        "Independent sets",
        whole,
        "The number of unrelated sets that these amount to, since similar ones earn alike.",
    ),
    (
        "psr",
        "Probabilistic Sharpe ratio",
        percent,
        "Chance that the true Sharpe ratio is above zero, given the length, skew and tails of the result; it "
        "takes the result as if nothing had been chosen.",
    ),
    (
        "dsr",
        "Deflated Sharpe ratio",
        percent,
        "The same against what the best of all sets tried would show by luck; strict, since the test "
        "stretches took no part in the choice.",
    ),
    (
        "min_trl",
        "Bars needed",
        whole,
        "Bars of a result like this one that it takes to tell its Sharpe ratio from zero at 95 %.",
    ),
    (
        "pbo",
        "Probability of overfitting",
        percent,
        "How often the set that was best on one half of the history is below the middle on the other half; "
        "50 % is a draw by lot.",
    ),
    (
        "spa_p",
        "p against the matched hold",
        lambda value: number(value, 3),
        "Chance of so large an excess over the matched hold if this strategy had none; not corrected for the "
        "other strategies, as the champion's p is.",
    ),
    (
        "wfe",
        "Walk-forward efficiency",
        percent,
        "Growth per bar out of sample as a share of that in sample; far below 100 % says that most of the "
        "training result was luck.",
    ),
    (
        "neighbourhood",
        "Neighbourhood profit",
        percent,
        "What the parameter sets around tonight's earn on its training stretch, as a share of what it earns; "
        "below 50 % it stands on a knife edge.",
    ),
    (
        "stability",
        "Parameter stability",
        percent,
        "How close together the middle half of the folds' choices lies, against the range searched, median "
        "over the parameters. Folds whose fit abstained are left out. 100 %: that half chose the same, the "
        "quarters above and below it may differ.",
    ),
)


def luck_table(results: SymbolResults, strategy: str) -> Html:
    """Return the statistics of the stitched out-of-sample result; what is undefined says why."""
    row = results.headline(strategy, "tuned") or {}
    why: dict[str, str] = json.loads(row.get("undefined") or "{}")
    columns = [
        Column("Statistic", numeric=False),
        Column("Value"),
        Column("What it says", numeric=False),
    ]
    rows = [[name, _value(row, key, write, why), text] for key, name, write, text in _LINES]
    folds = [fold for fold in results.chosen_folds(strategy) if fold["label"] == CLEAN]
    traded = sum(fold["status"] == "ok" for fold in folds)
    if finite(row.get("stability")) is not None and traded < len(folds):
        over = tag("span", f"over {traded} of {len(folds)} folds", class_="small")
        place = next(i for i, line in enumerate(_LINES) if line[0] == "stability")
        rows[place][1] = join([rows[place][1], over])
    note = "None of these decides about champions; that is the test over all strategies ever looked at."
    return join(
        [table(columns, rows, stacked=True, label="How much may be luck"), paragraph(note, kind="note")]
    )


def _value(row: Row, key: str, write: Callable[[object], Html], why: dict[str, str]) -> Html:
    value = finite(row.get(key))
    if value is None:
        reason = why.get(key, "")
        return join([dash(reason or "undefined"), tag("span", reason, class_="small")]) if reason else dash()
    written = write(value)
    if key == "pbo" and value > OVERFIT:
        return tag("span", written, class_="tag bad")
    if key == "neighbourhood" and value < KNIFE_EDGE:
        return join([tag("span", written, class_="tag warn"), tag("span", "knife edge", class_="small")])
    return written
