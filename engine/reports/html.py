"""HTML that escapes by construction: `tag`, `table`, and how numbers are written.

Whatever is not already `Html` is escaped when it enters a tag, so that no symbol, strategy
name or message can put markup into a page.
"""

from __future__ import annotations

import datetime as dt
import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
DASH_TEXT = "\N{EN DASH}"
_VOID = frozenset({"meta", "br", "link"})


class Html(str):
    """Text that is HTML already; made by this module, or from constants of `engine.reports`."""

    __slots__ = ()


def text(value: object) -> Html:
    """Return a value as HTML: `Html` as it is, anything else escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Return the parts, each escaped where it is not `Html`, one after the other."""
    return Html(text(separator).join(text(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return one element.

    Parameters
    ----------
    name : str
        Element name, a constant.
    children : object
        Escaped unless `Html`; None is left out.
    attributes : object
        ``class_`` gives ``class``, ``data_label`` gives ``data-label``; None or "" leaves one out.

    >>> str(tag("p", "1 < 2", class_="note"))
    '<p class="note">1 &lt; 2</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None and value != ""
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def dash(title: str = "undefined") -> Html:
    """Return a dash that says on hover, and to a screen reader, why there is no number."""
    return tag("span", DASH_TEXT, class_="none", title=title, aria_label=title, role="img")


def number(value: object, digits: int = 2, *, sign: bool = False, unit: str = "") -> Html:
    """Return a number with thin thousands commas and a true minus; undefined is a dash, never 0.

    Parameters
    ----------
    value : float, int or None
        None, NaN and infinities are undefined.
    digits : int
        Decimals.
    sign : bool
        Write a plus before positive numbers.
    unit : str
        Put after the number, for example ``" %"``.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return dash()
    written = f"{abs(value):,.{digits}f}"
    if float(written.replace(",", "")) == 0.0:  # no "-0.00"
        return text(written + unit)
    before = MINUS if value < 0 else "+" if sign else ""
    return text(before + written + unit)


def percent(value: object, digits: int = 1, *, sign: bool = False) -> Html:
    """Return a share as per cent; undefined is a dash."""
    share = value * 100.0 if isinstance(value, int | float) else None
    return number(share, digits, sign=sign, unit="\N{NO-BREAK SPACE}%")


def whole(value: object) -> Html:
    """Return a count; undefined is a dash."""
    return number(value, 0)


def price(value: object, missing: str = "not set") -> Html:
    """Return a price with two decimals, four below 10; a dash that says ``missing`` for none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return dash(missing)
    return number(value, 2 if abs(value) >= 10.0 else 4)


def stamp(value: object, *, daily: bool = True) -> Html:
    """Return the open of a bar: its date, and for frames below a day its UTC minute."""
    if not isinstance(value, dt.datetime):
        return dash("none")
    return text(value.strftime("%Y-%m-%d" if daily else "%Y-%m-%d %H:%M"))


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading, whether it holds numbers, its explanation on hover."""

    label: str
    numeric: bool = True
    title: str = ""
    group: str = ""


@dataclass(frozen=True)
class Band:
    """A row across the whole table that names the rows below it."""

    label: object


def _head(columns: Sequence[Column]) -> Html:
    def cell(column: Column) -> Html:
        return tag(
            "th", column.label, class_="num" if column.numeric else "", scope="col", title=column.title
        )

    labels = tag("tr", *(cell(column) for column in columns))
    if not any(column.group for column in columns):
        return tag("thead", labels)
    groups: list[Html] = []
    at = 0
    while at < len(columns):
        end = at + 1
        while end < len(columns) and columns[end].group == columns[at].group:
            end += 1
        name = columns[at].group
        span = str(end - at) if end - at > 1 else ""
        scope = "colgroup" if name else ""
        groups.append(tag("th" if name else "td", name, colspan=span, class_="group", scope=scope))
        at = end
    return tag("thead", tag("tr", *groups), labels)


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object] | Band],
    *,
    stacked: bool = False,
    label: str = "",
) -> Html:
    """Return a table that scrolls sideways inside its own box.

    Parameters
    ----------
    columns : sequence of Column
        The first one heads the rows; where it repeats, it is shown once.
    rows : iterable of sequences or Band
        One cell per column, or a band.
    stacked : bool
        On a phone each row becomes a card with its headings, instead of scrolling.
    label : str
        Name for screen readers.
    """
    lines: list[Html] = []
    heads: list[Html] = []
    for row in rows:
        if isinstance(row, Band):
            heading = tag("th", tag("span", row.label, class_="cell"), colspan=len(columns), scope="rowgroup")
            lines.append(tag("tr", heading, class_="band"))
            continue
        heads.append(text(row[0]))
        again = len(heads) > 1 and heads[-1] == heads[-2]
        cells = [
            tag(
                "td" if place else "th",
                tag("span", cell, class_="cell"),
                class_="num" if column.numeric else "",
                scope="" if place else "row",
                data_label=f"{column.group}: {column.label}" if column.group else column.label,
            )
            for place, (column, cell) in enumerate(zip(columns, row, strict=True))
        ]
        lines.append(tag("tr", *cells, class_="again" if again else ""))
    body = tag("table", _head(columns), tag("tbody", *lines), class_="stacked" if stacked else "")
    return tag("div", body, class_="scroll", role="region", aria_label=label, tabindex="0")


def section(anchor: str, title: object, *content: object, level: int = 2) -> Html:
    """Return a section with a heading that links to itself."""
    heading = tag(f"h{level}", tag("a", title, href=f"#{anchor}"))
    return tag("section", heading, *content, id=anchor)


def paragraph(*content: object, kind: str = "") -> Html:
    """Return a paragraph; ``kind`` is its class in the style sheet."""
    return tag("p", *content, class_=kind)


def details(summary: object, *content: object) -> Html:
    """Return content that is folded away until asked for."""
    return tag("details", tag("summary", summary), *content)
