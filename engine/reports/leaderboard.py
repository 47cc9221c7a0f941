"""The front page over all symbols, and the one call that writes the whole report.

`write_reports` writes the front page, one page per symbol, and the one script that they share;
`leaderboard_rows` gives the leaderboard to the command line and the web UI.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from engine.config import Instrument
from engine.errors import LakeError
from engine.lake.files import write_text
from engine.lake.publish import Lake
from engine.reports.board import board_rows, board_table, leaderboard_rows
from engine.reports.html import join, paragraph, section, tag
from engine.reports.page import PLOTLY_FILE, page
from engine.reports.parts import (
    asof_text,
    decisions_table,
    failures,
    missing_notes,
    orders_table,
    page_name,
)
from engine.reports.results import SymbolResults, load
from engine.reports.tearsheet import symbol_page
from engine.reports.words import (
    PAPER_ONLY,
    SAMPLE_NOTE,
    champions_sentence,
    how_to_read,
    old_prices_banner,
    price_age,
)
from engine.symbol_keys import KEY_PATTERN, is_canonical

__all__ = ["index_page", "leaderboard_rows", "write_reports"]

_SECTIONS = (
    ("orders", "Next orders"),
    ("champions", "Champions"),
    ("leaderboard", "Leaderboard"),
    ("missing", "What is missing"),
    ("symbols", "Symbols"),
    ("reading", "How to read this"),
)


def index_page(
    results: Sequence[SymbolResults],
    *,
    asof_us: int | None,
    confidence: float,
    sample_symbols: Collection[str],
) -> str:
    """Return the front page over all symbols; it needs no script.

    Parameters
    ----------
    results : sequence of SymbolResults
        In the order of the settings.
    asof_us : int or None
        The clock of the run, µs UTC.
    confidence : float
        Setting ``promotion.confidence``.
    sample_symbols : collection of str
        Symbols whose prices are the committed sample.
    """
    rows = board_rows(results)
    count = len(results)
    facts = (f"{count} symbol{'' if count == 1 else 's'}", price_age(results), asof_text(asof_us))
    missing = missing_notes(results)
    nav = tag(
        "nav",
        *(
            tag("a", label, href=f"#{anchor}")
            for anchor, label in _SECTIONS
            if anchor != "missing" or missing is not None
        ),
        aria_label="Sections",
    )
    top = [
        tag("h1", "What each strategy would do at the next open"),
        paragraph(tag("span", PAPER_ONLY, class_="paper"), kind="lead"),
        paragraph(" \N{MIDDLE DOT} ".join(part for part in facts if part), kind="sub"),
        failures(results),
        old_prices_banner(results, asof_us),
        nav,
    ]
    board: list[object] = [
        paragraph(
            "All numbers after fees and slippage, on test stretches that no search saw. "
            "Hollow: in-sample; filled: out-of-sample; green tick: matched hold.",
            kind="note",
        ),
    ]
    if rows:
        board.append(board_table(rows, results))
        if not all(row["compounded"] for row in rows):
            board.append(
                paragraph(
                    "Rows marked \u201cnot compounded\u201d trade the same amount of money on every bar, so "
                    "their returns add up; the returns of the other rows compound. Compare the two by basis "
                    "points per bar, not by return.",
                    kind="note",
                )
            )
    else:
        board.append(paragraph("No strategy has an out-of-sample result yet."))
    if sample_symbols:
        board.append(paragraph(SAMPLE_NOTE, kind="note"))
    pages = [tag("a", one.symbol, href=page_name(one.symbol)) for one in results]
    content: list[object] = [
        tag("section", orders_table(results, with_symbol=True), id="orders"),
        section(
            "champions",
            "Champions",
            champions_sentence(results, confidence=confidence, sample_symbols=sample_symbols),
            decisions_table(results),
        ),
        section("leaderboard", "Leaderboard, out of sample", *board),
        section("missing", "What is missing", missing) if missing is not None else None,
        section("symbols", "Symbols", paragraph(join(pages, " \N{MIDDLE DOT} "))),
        section(
            "reading",
            "How to read this",
            how_to_read(levels=any(not row["compounded"] for row in rows), page="index"),
        ),
    ]
    return page("nightfold report", top, content, charts=False)


def write_reports(
    lake: Lake,
    symbols: Sequence[str],
    *,
    problems: Mapping[str, str],
    asof_us: int | None,
    charts: bool = True,
    left_out: Mapping[str, Mapping[str, str]] | None = None,
    instruments: Mapping[str, Instrument] | None = None,
    sample_symbols: Collection[str] = (),
    confidence: float = 0.95,
    procedures: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write ``reports/index.html`` and ``reports/<KEY>.html`` below the data folder.

    Parameters
    ----------
    lake : Lake
        All that is shown is read from it.
    symbols : sequence of str
        Canonical keys, in the order of the settings.
    problems : mapping of str to str
        Symbol to the error message of a symbol that failed; what an earlier run published of it is shown.
    asof_us : int or None
        The clock of the run, µs UTC, to say how old the prices are; None leaves that out.
    charts : bool
        Setting ``report.charts``; False writes tables only, and no script.
    left_out : mapping of str to mapping of str to str, optional
        Symbol to strategy to the reason (with both numbers of E17) why it has no result.
    instruments : mapping of str to Instrument, optional
        By symbol; their calendars say which bars are missing, which each page tells.
    sample_symbols : collection of str
        Symbols whose prices are the committed sample; their pages say what that sample is.
    confidence : float
        Setting ``promotion.confidence``.
    procedures : mapping of str to mapping of str to str, optional
        Symbol to strategy to the procedure of now: orders of others are not shown. None: all are.

    Returns
    -------
    Path
        The front page. The same arguments and tables give the same bytes.

    Raises
    ------
    LakeError
        A key could name a file elsewhere, or the disk refuses; each file is as it was before or whole.
    """
    for symbol in symbols:
        if not is_canonical(symbol):
            raise LakeError(
                f"key {symbol!r} is not canonical (expected {KEY_PATTERN.pattern}); no page was written"
            )
    folder = lake.data_dir / "reports"
    reasons, known = left_out or {}, instruments or {}
    loaded = [
        load(
            lake,
            symbol,
            problem=problems.get(symbol, ""),
            left_out=reasons.get(symbol),
            instrument=known.get(symbol),
            procedures=None if procedures is None else procedures[symbol],
        )
        for symbol in symbols
    ]
    if charts:
        _write_plotly(folder / PLOTLY_FILE)
    for one in loaded:
        written = symbol_page(one, asof_us=asof_us, sample_symbols=sample_symbols, charts=charts)
        write_text(folder / page_name(one.symbol), written)
    front = folder / "index.html"
    write_text(
        front, index_page(loaded, asof_us=asof_us, confidence=confidence, sample_symbols=sample_symbols)
    )
    return front


def _write_plotly(path: Path) -> None:
    """Write plotly's script from the installed package, unless it lies there already."""
    from plotly.offline import get_plotlyjs

    script = get_plotlyjs()
    if not path.exists() or path.read_text(encoding="utf-8") != script:
        write_text(path, script)
