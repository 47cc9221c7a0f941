"""Small pictures that need no script: an equity curve, a spark line, the in-sample gap."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from engine.lake.publish import Lake
from engine.reports.html import Html, text
from engine.reports.results import Curve, Floats, Ints, SymbolResults, finite, iso_date, load

# mid tones, legible on white and on near black: the host page's scheme is not known
_TONES = {"tuned": "#2f86c8", "untuned": "#d97706", "buy_and_hold": "#808080"}
_NAMES = {"tuned": "tuned", "untuned": "untuned", "buy_and_hold": "buy and hold"}


def thin(values: Floats, most: int) -> Ints:
    """Return the indices to draw: the lowest and highest point of each of ``most / 2`` stretches.

    Parameters
    ----------
    values : float64 array, shape (T,)
        Any finite numbers.
    most : int, >= 4
        Upper bound of the number of points, the first and last included.

    Returns
    -------
    int64 array, increasing
        All of them where T <= most, so that no extreme is lost.
    """
    count = len(values)
    if count <= most:
        return np.arange(count, dtype=np.int64)
    edges = np.linspace(0, count, (most - 2) // 2 + 1).astype(np.int64)
    picked = {0, count - 1}
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        part = values[start:stop]
        picked |= {int(start + part.argmin()), int(start + part.argmax())}
    return np.array(sorted(picked), dtype=np.int64)


def _path(x: Floats, y: Floats) -> str:
    return "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


def _drawable(curve: Curve | None) -> Curve | None:
    """Return the part of a curve that a log axis can show, or None under two points."""
    if curve is None:
        return None
    keep = np.isfinite(curve.drawable())
    if keep.sum() < 2:
        return None
    return Curve(curve.ts[keep], curve.equity[keep], curve.drawdown[keep])


def _curves(results: SymbolResults, strategy: str) -> dict[str, Curve]:
    found = {variant: _drawable(results.curve(strategy, variant, headline=True)) for variant in _TONES}
    return {variant: curve for variant, curve in found.items() if curve is not None}


def _paths(
    curves: dict[str, Curve], box: tuple[float, float, float, float], points: int
) -> tuple[dict[str, str], tuple[float, float]]:
    """Return SVG paths in a box (left, top, right, bottom) on a log scale, and the range of equity."""
    left, top, right, bottom = box
    low = min(float(curve.equity.min()) for curve in curves.values())
    high = max(float(curve.equity.max()) for curve in curves.values())
    first = min(int(curve.ts[0]) for curve in curves.values())
    last = max(int(curve.ts[-1]) for curve in curves.values())
    floor, height = np.log(low), max(np.log(high / low), 1e-9)
    paths: dict[str, str] = {}
    for variant, curve in curves.items():
        at = thin(curve.equity, points)
        x = left + (curve.ts[at] - first) / max(last - first, 1) * (right - left)
        y = bottom - (np.log(curve.equity[at]) - floor) / height * (bottom - top)
        paths[variant] = _path(x, y)
    return paths, (low, high)


def equity_svg(lake: Lake, symbol: str, strategy: str, *, width: int = 640, height: int = 240) -> str:
    """Draw one strategy's out-of-sample equity beside its untuned form and buy and hold.

    Parameters
    ----------
    lake : Lake
        Tables ``equity`` and ``bars`` of the symbol.
    symbol, strategy : str
        Escaped in the picture.
    width, height : int
        In pixels.

    Returns
    -------
    str
        A whole SVG document, logarithmic axis; it says so where there is no curve yet.
    """
    return _picture(load(lake, symbol), strategy, width, height)


def _picture(results: SymbolResults, strategy: str, width: int = 640, height: int = 240) -> str:
    symbol, curves = results.symbol, _curves(results, strategy)
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui,sans-serif" font-size="12" fill="#808080">'
        f'<text x="8" y="18" font-size="13">{text(symbol)} {text(strategy)}: out-of-sample equity</text>'
    )
    if not curves:
        return f'{frame}<text x="8" y="44">No out-of-sample equity yet.</text></svg>'
    paths, (low, high) = _paths(curves, (8.0, 46.0, width - 70.0, height - 24.0), points=400)
    parts = [frame]
    for place, variant in enumerate(curves):
        x = 8 + place * 110
        parts.append(
            f'<rect x="{x}" y="29" width="14" height="3" fill="{_TONES[variant]}"/>'
            f'<text x="{x + 19}" y="35">{_NAMES[variant]}</text>'
        )
    for variant in reversed(list(paths)):  # tuned on top
        weight = 2 if variant == "tuned" else 1.2
        parts.append(
            f'<path d="{paths[variant]}" fill="none" stroke="{_TONES[variant]}" stroke-width="{weight}"/>'
        )
    first = min(int(curve.ts[0]) for curve in curves.values())
    last = max(int(curve.ts[-1]) for curve in curves.values())
    parts.append(
        f'<text x="{width - 64}" y="50">{high:,.0f}</text>'
        f'<text x="{width - 64}" y="{height - 22}">{low:,.0f}</text>'
        f'<text x="8" y="{height - 6}">{iso_date(first)}</text>'
        f'<text x="{width - 70}" y="{height - 6}" text-anchor="end">{iso_date(last)}</text></svg>'
    )
    return "".join(parts)


def equity_markdown(lake: Lake, symbol: str) -> str:
    """Return Markdown with one out-of-sample equity picture per strategy, as data URIs.

    For the metadata of an asset: nothing is fetched when it is shown.
    """
    results = load(lake, symbol)
    if not results.strategies:
        return "No out-of-sample equity yet."
    pictures = []
    for place, strategy in enumerate(results.strategies, start=1):
        encoded = base64.b64encode(_picture(results, strategy).encode()).decode()
        # the alternative text holds no name: a strategy's name could close the bracket
        pictures.append(f"![out-of-sample equity, strategy {place}](data:image/svg+xml;base64,{encoded})")
    return "\n\n".join(pictures)


def spark(results: SymbolResults, strategy: str, *, width: int = 72, height: int = 26) -> Html:
    """Draw a spark line of tuned equity (strong) and buy and hold (thin), log scale; "" without a curve."""
    curves = {v: c for v, c in _curves(results, strategy).items() if v != "untuned"}
    if "tuned" not in curves:
        return Html("")
    paths, _ = _paths(curves, (2.0, 3.0, width - 2.0, height - 3.0), points=120)
    strokes = {"buy_and_hold": ("var(--hold)", 1.0), "tuned": ("var(--tuned)", 1.6)}
    drawn = "".join(
        f'<path d="{paths[v]}" fill="none" stroke="{colour}" stroke-width="{weight}"/>'
        for v, (colour, weight) in strokes.items()
        if v in paths
    )
    return Html(
        f'<svg class="glyph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="equity: tuned and buy and hold">{drawn}</svg>'
    )


def gap_range(rows: Sequence[dict[str, object]]) -> tuple[float, float]:
    """Return the range of basis points per bar that the gap pictures of one table share."""
    names = ("in_sample_bps_per_bar", "bps_per_bar", "matched_hold_bps_per_bar")
    values = [v for row in rows for name in names if (v := finite(row[name])) is not None]
    return min([0.0, *values]), max([0.0, *values])


def gap(row: dict[str, object], span: tuple[float, float], *, width: int = 92, height: int = 20) -> Html:
    """Draw the way from in-sample (hollow) to out-of-sample (filled); a tick marks the matched hold.

    Parameters
    ----------
    row : dict
        One of `engine.reports.board.leaderboard_rows`.
    span : tuple of float
        From `gap_range`, so that the rows of one table can be compared.
    width, height : int
        In pixels.
    """
    low, high = span
    middle = height / 2

    def place(value: float) -> float:
        return 8 + (value - low) / max(high - low, 1e-9) * (width - 16)

    inside, outside = finite(row["in_sample_bps_per_bar"]), finite(row["bps_per_bar"])
    hold = finite(row["matched_hold_bps_per_bar"])
    zero = place(0.0)
    parts = [f'<path d="M{zero:.1f},1V{height - 1}" stroke="var(--line)"/>']
    if inside is not None and outside is not None:
        parts.append(
            f'<path d="M{place(inside):.1f},{middle}H{place(outside):.1f}" stroke="var(--muted)" '
            'stroke-opacity=".55"/>'
        )
    if hold is not None:
        parts.append(
            f'<path d="M{place(hold):.1f},{middle - 7}V{middle + 7}" stroke="var(--matched)" '
            'stroke-width="2"/>'
        )
    if inside is not None:
        parts.append(
            f'<circle cx="{place(inside):.1f}" cy="{middle}" r="4" fill="var(--paper)" '
            'stroke="var(--insample)" stroke-width="1.6"/>'
        )
    if outside is not None:
        parts.append(f'<circle cx="{place(outside):.1f}" cy="{middle}" r="4" fill="var(--tuned)"/>')
    return Html(
        f'<svg class="glyph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="from in-sample to out-of-sample">{"".join(parts)}</svg>'
    )
