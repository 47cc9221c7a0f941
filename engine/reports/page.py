"""The frame of a page: head, style, content security policy, and the script that draws charts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from engine.reports.html import Html, tag
from engine.reports.style import SCRIPT, STYLE

PLOTLY_FILE = "plotly.min.js"


def policy(*, charts: bool) -> str:
    """Return the content security policy: nothing remote, no script but plotly and ours.

    ``file:`` stands beside ``'self'`` because a page opened from the disk has no origin in some browsers.
    """
    sha = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    script = f"script-src 'self' file: 'sha256-{sha}'" if charts else "script-src 'none'"
    return (
        f"default-src 'none'; {script}; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def chart(anchor: str, figure_json: str, *, height: int, label: str, caption: object) -> Html:
    """Return a chart's box, its figure as a data block, and its caption.

    Parameters
    ----------
    anchor : str
        Fixed id of the box.
    figure_json : str
        From plotly's ``to_json``; characters that could end the block are written as escapes.
    height : int
        In pixels; kept free until the chart is drawn.
    label : str
        What the chart shows, for screen readers.
    caption : object
        Text under it; escaped unless `Html`.
    """
    data = figure_json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    block = Html(f'<script type="application/json" id="{anchor}-data">{data}</script>')
    box = tag("div", id=anchor, class_="chart", style=f"height:{height}px", role="img", aria_label=label)
    return tag("figure", box, block, tag("figcaption", caption))


def page(title: str, top: Sequence[object], content: Sequence[object], *, charts: bool) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Escaped.
    top, content : sequences of Html
        Header and body.
    charts : bool
        Whether the page draws charts; without, it holds no script at all.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(charts=charts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    scripts = Html("")
    if charts:
        note = tag("noscript", tag("p", "Charts need JavaScript; every number stands in the tables too."))
        scripts = Html(note + tag("script", src=PLOTLY_FILE) + tag("script", Html(SCRIPT)))
    footer = tag(
        "footer", "Written by nightfold. Paper only: nightfold places no orders. This is no advice to trade."
    )
    body = tag("body", tag("header", *top, class_="top"), tag("main", *content), footer, scripts)
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'
