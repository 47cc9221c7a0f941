"""Folds that are not clean: a model's training may have held their bars, so that they prove nothing."""

from __future__ import annotations

from engine.reports.html import Html, paragraph, tag, text
from engine.reports.results import Row, SymbolResults

CLEAN = "clean"
WHY = {
    "contaminated": "their test bars lie before the end of the forecaster's training, so that it may have "
    "seen them",
    "unknown": "nobody states when the forecaster's training ended, so that it may have seen their test bars "
    "(setting forecasts.knowledge_cutoff)",
}


def fold_note(results: SymbolResults, strategy: str) -> Html | None:
    """Return how many folds the headline leaves out and why; None where all are clean."""
    folds = results.chosen_folds(strategy)
    tainted = [row for row in folds if row["label"] != CLEAN]
    if not tainted:
        return None
    labels = sorted({str(row["label"]) for row in tainted})
    why = "; ".join(f"{label}: {WHY.get(label, 'it is not known to be clean')}" for label in labels)
    row = results.headline(strategy, "tuned")
    shown = row is not None and row["label"] == CLEAN
    left = f"{len(tainted)} of {len(folds)} folds are left out of these numbers ({why}). They stand in grey."
    none = (
        f"No fold of {len(folds)} is clean ({why}). These numbers stand in grey: they prove nothing, and no "
        "champion rests on them."
    )
    return paragraph(left if shown else none, kind="banner")


def greyed(value: object, row: Row) -> Html:
    """Return a cell in grey where the row's label is not clean."""
    return text(value) if row["label"] == CLEAN else tag("span", value, class_="quiet")
