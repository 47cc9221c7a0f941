"""Plotly figures of a symbol's page; colours are names of the style sheet (see `engine.reports.page`)."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from engine.reports.labels import CLEAN
from engine.reports.results import Floats, Row, SymbolResults, floats, micros, traded_parameters
from engine.reports.words import OFFSETS

MOST_MARKED = 200  # trades marked in a price chart
HEIGHTS = {"price": 380, "equity": 500, "gap": 320}
_LINES = {
    "buy_and_hold": ("Buy and hold", "var(--hold)", "dash", 1.3),
    "matched_hold": ("Matched hold", "var(--matched)", "dot", 1.8),
    "untuned": ("Untuned", "var(--untuned)", "solid", 1.3),
    "tuned": ("Tuned", "var(--tuned)", "solid", 2.2),
}


def _milliseconds(ts: Any) -> Floats:
    """Return stamps (int64 µs) as plotly's date numbers, milliseconds since 1970 UTC."""
    return np.asarray(ts, dtype=np.float64) / 1000.0


def _stamps(rows: list[Row], column: str) -> Floats:
    values = np.array([row[column] for row in rows], dtype="datetime64[us]")
    return _milliseconds(values.astype(np.int64))


def _layout(figure: Any, *, height: int) -> Any:
    """Give a figure the house look: transparent, thin grid, legend above, no template."""
    top, bottom = 62, 34
    above = 1.0 + 20 / (height - top - bottom)  # leaves the line under the legend to the axis name
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": top, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "var(--muted)"},
        legend={"orientation": "h", "x": 0, "y": above, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"bgcolor": "var(--card)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
        dragmode="zoom",
    )
    axis = {
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "tickcolor": "var(--line)",
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
    }
    figure.update_xaxes(**axis, type="date")
    figure.update_yaxes(**axis)
    return figure


def _log_axis(low: float, high: float) -> dict[str, Any]:
    """Return a log axis over a range of prices or money; ticks at 1, 2, 5 where plotly's own collide."""
    decades = float(np.log10(high / low))
    room = 0.02 + 0.04 * decades
    ticks = None if decades < 0.9 else "D2" if decades < 3.5 else 1
    bounds = [float(np.log10(low)) - room, float(np.log10(high)) + room]
    return {"type": "log", "range": bounds, "dtick": ticks}


def _name_axis(figure: Any, name: str, place: int = 1) -> None:
    """Write a vertical axis's name over its plot: it takes no width, which a phone has little of."""
    figure.add_annotation(
        text=html.escape(name),
        x=0,
        xref="paper",
        xanchor="left",
        y=1.0,
        yref=f"y{place if place > 1 else ''} domain",
        yanchor="bottom",
        showarrow=False,
        font={"color": "var(--ink)", "size": 12},
    )


def _figure(rows: int = 1, **options: Any) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=rows, cols=1, **options)
    figure.update_layout(template=go.layout.Template())
    return figure


def price_figure(results: SymbolResults, strategy: str) -> Any | None:
    """Draw the close with the entries and exits of the tuned strategy.

    Parameters
    ----------
    results : SymbolResults
        Its ``bars`` and ``trades``.
    strategy : str
        Whose trades; the latest `MOST_MARKED` are marked, and where there are more the view
        opens on the stretch that they cover.

    Returns
    -------
    plotly.graph_objects.Figure or None
        None without bars.
    """
    if results.bars is None or not len(results.bars):
        return None
    ts, close = micros(results.bars["ts"]), floats(results.bars["close"])
    trades = results.trade_rows(strategy)
    marked = trades[-MOST_MARKED:]
    figure = _figure()
    figure.add_scatter(
        x=_milliseconds(ts),
        y=close,
        mode="lines",
        name="Close",
        line={"color": "var(--price)", "width": 1.2},
        hovertemplate="%{x|%Y-%m-%d} close %{y:,.2f}<extra></extra>",
    )
    start, folds = ts[0], results.chosen_folds(strategy)
    if folds and len(trades) <= MOST_MARKED:
        begins = float(_stamps(folds[:1], "test_start")[0])
        figure.add_scatter(  # named in the legend: a text beside the line would cross the prices
            x=[begins, begins],
            y=[float(close.min()), float(close.max())],
            mode="lines",
            name="Out-of-sample from here",
            line={"color": "var(--muted)", "dash": "dot", "width": 1},
            hoverinfo="skip",
        )
    marks = (
        ("long", "Long entry", "triangle-up", "var(--tuned)"),
        ("short", "Short entry", "triangle-down", "var(--untuned)"),
    )
    for side, name, symbol, colour in marks:
        of_side = [row for row in marked if row["side"] == side]
        if of_side:
            figure.add_scatter(
                x=_stamps(of_side, "entry_ts"),
                y=[row["entry_price"] for row in of_side],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 0}},
                hovertemplate=f"%{{x|%Y-%m-%d}} {name.lower()} %{{y:,.2f}}<extra></extra>",
            )
    closed = [row for row in marked if row["exit_ts"] is not None and row["reason"] != "open"]
    if closed:
        figure.add_scatter(
            x=_stamps(closed, "exit_ts"),
            y=[row["exit_price"] for row in closed],
            mode="markers",
            name="Exit",
            marker={"symbol": "circle-open", "size": 7, "color": "var(--ink)", "line": {"width": 1.3}},
            text=[html.escape(str(row["reason"])) for row in closed],
            hovertemplate="%{x|%Y-%m-%d} exit %{y:,.2f} %{text}<extra></extra>",
        )
    if len(trades) > MOST_MARKED:
        start = np.int64(_stamps(marked[:1], "entry_ts")[0] * 1000)
        figure.update_xaxes(range=[float(start) / 1000.0, float(ts[-1]) / 1000.0])
    _layout(figure, height=HEIGHTS["price"])
    _name_axis(figure, "Price, log scale")
    seen = close[ts >= start]
    figure.update_yaxes(**_log_axis(float(seen.min()), float(seen.max())), tickformat=",.4~g")
    return figure


def equity_figure(results: SymbolResults, strategy: str) -> Any:
    """Draw out-of-sample equity (log axis) and drawdown of tuned, untuned, matched hold, buy and hold.

    Returns
    -------
    plotly.graph_objects.Figure
        Drawdown below, of the same bars; matched hold and untuned are left to the legend there.
    """
    figure = _figure(2, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.09)
    shown: list[Floats] = []
    falls: list[float] = []
    for variant, (name, colour, dash, width) in _LINES.items():
        curve = results.curve(strategy, variant)
        if curve is None:
            continue
        shown.append(curve.drawable())
        falls.append(-float(curve.drawdown.max()))
        x, line = _milliseconds(curve.ts), {"color": colour, "dash": dash, "width": width}
        figure.add_scatter(
            x=x,
            y=curve.drawable().astype(np.float32),
            mode="lines",
            name=name,
            line=line,
            legendgroup=variant,
            hovertemplate=f"{name} %{{y:,.0f}}<extra></extra>",
            row=1,
            col=1,
        )
        figure.add_scatter(
            x=x,
            y=-curve.drawdown.astype(np.float32),
            mode="lines",
            name=name,
            showlegend=False,
            legendgroup=variant,
            line={**line, "width": min(width, 1.4)},
            hovertemplate=f"{name} %{{y:.1%}}<extra></extra>",
            row=2,
            col=1,
        )
    _layout(figure, height=HEIGHTS["equity"])
    figure.update_layout(hovermode="x unified", legend_traceorder="reversed")
    figure.update_xaxes(hoverformat="%Y-%m-%d")
    _name_axis(figure, "Equity, log scale", 1)
    _name_axis(figure, "Drawdown from the last peak", 2)
    money = np.concatenate(shown or [np.ones(1)])
    if np.isfinite(money).any():
        axis = _log_axis(float(np.nanmin(money)), float(np.nanmax(money)))
        figure.update_yaxes(**axis, tickformat=",.4~s", row=1, col=1)
    deepest = max(-1.0, min([-0.01, *falls]))  # a fixed amount may lose more: the axis ends at all of it
    figure.update_yaxes(tickformat=".0%", nticks=5, range=[1.05 * deepest, -0.04 * deepest], row=2, col=1)
    _shade_tainted(figure, results, strategy)
    return figure


def parameters_height(count: int) -> int:
    """Return the height in pixels of a parameter figure with ``count`` steps."""
    return 90 + 100 * count


def parameters_figure(results: SymbolResults, strategy: str) -> Any | None:
    """Draw each parameter over the folds as steps, tonight's fit as a diamond.

    A fold that traded nothing leaves a gap, whatever its fit found; so does tonight's fit.

    Returns
    -------
    plotly.graph_objects.Figure or None
        None where no fold traded with parameters.
    """
    folds = results.chosen_folds(strategy)
    chosen = [traded_parameters(row) for row in folds]
    names = sorted({name for params in chosen for name in params})
    if not names:
        return None
    levels = results.is_levels(strategy)
    tonight = results.tonight(strategy)
    latest = traded_parameters(tonight)
    figure = _figure(len(names), shared_xaxes=True, vertical_spacing=0.25 / max(len(names), 2))
    x = np.column_stack([_stamps(folds, "test_start"), _stamps(folds, "test_end")]).ravel()
    for place, name in enumerate(names, start=1):
        values = [params.get(name) for params in chosen]
        title = f"offset of the {OFFSETS[name]}" if levels and name in OFFSETS else name
        figure.add_scatter(
            x=x,
            y=[value for value in values for _ in range(2)],  # both ends: a lone fold is a line too
            mode="lines",
            connectgaps=False,
            line={"shape": "hv", "color": "var(--tuned)", "width": 1.6},
            showlegend=False,
            hovertemplate="from %{x|%Y-%m-%d}: %{y}<extra></extra>",
            row=place,
            col=1,
        )
        if tonight is not None and name in latest:
            figure.add_scatter(
                x=_stamps([tonight], "asof"),
                y=[latest[name]],
                mode="markers",
                name="Tonight's fit",
                showlegend=place == 1,
                marker={"symbol": "diamond", "size": 9, "color": "var(--untuned)"},
                hovertemplate="tonight: %{y}<extra></extra>",
                row=place,
                col=1,
            )
        only = {value for value in (*values, latest.get(name)) if value is not None}
        if len(only) == 1:
            figure.update_yaxes(range=_around(only.pop(), levels=levels), row=place, col=1)
        _name_axis(figure, title, place)
    _layout(figure, height=parameters_height(len(names)))
    figure.update_xaxes(range=[float(x[0]), float(x[-1]) + 0.02 * float(x[-1] - x[0])])
    figure.update_yaxes(nticks=4, tickformat=".2%" if levels else None)
    return figure


def _around(value: Any, *, levels: bool) -> list[float] | None:
    """Return an axis around a parameter that never moves; None leaves words and switches to plotly."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    room = 0.1 * abs(value) or (0.001 if levels else 1.0)
    return [value - room, value + room]


def _shade_tainted(figure: Any, results: SymbolResults, strategy: str) -> None:
    """Shade the test stretches whose bars a model's training may have held; there are none mostly."""
    folds = [row for row in results.chosen_folds(strategy) if row["label"] != CLEAN]
    if folds:
        begins, ends = (_stamps(folds, name) for name in ("test_start", "test_end"))
        figure.add_vrect(
            x0=float(begins.min()),
            x1=float(ends.max()),
            fillcolor="var(--hold)",
            opacity=0.15,
            line_width=0,
            annotation={"text": "not clean", "font": {"color": "var(--muted)", "size": 11}},
            annotation_position="top left",
        )


def gap_figure(results: SymbolResults, strategy: str) -> Any | None:
    """Draw in-sample (hollow) against out-of-sample (filled) basis points per bar, fold by fold.

    Returns
    -------
    plotly.graph_objects.Figure or None
        None without folds. NaN: an undefined end of a pair is left out.
    """
    rows = results.per_fold(strategy)
    if not rows:
        return None
    x = _stamps(rows, "start")
    inside = np.array([row["in_sample_bps_per_bar"] for row in rows], dtype=np.float64)
    outside = np.array([row["bps_per_bar"] for row in rows], dtype=np.float64)
    nothing = np.full(len(rows), np.nan)
    figure = _figure()
    figure.add_scatter(
        x=np.column_stack([x, x, nothing]).ravel(),
        y=np.column_stack([inside, outside, nothing]).ravel(),
        mode="lines",
        line={"color": "var(--hold)", "width": 1},
        opacity=0.55,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=x,
        y=inside,
        mode="markers",
        name="In-sample (training)",
        marker={"symbol": "circle-open", "size": 7, "color": "var(--insample)", "line": {"width": 1.6}},
        hovertemplate="training: %{y:+.2f} bps<extra></extra>",
    )
    figure.add_scatter(
        x=x,
        y=outside,
        mode="markers",
        name="Out-of-sample (test)",
        marker={"symbol": "circle", "size": 7, "color": "var(--tuned)"},
        hovertemplate="test from %{x|%Y-%m-%d}: %{y:+.2f} bps<extra></extra>",
    )
    _layout(figure, height=HEIGHTS["gap"])
    _name_axis(figure, "Basis points per bar, at the start of the test stretch")
    figure.update_yaxes(zeroline=True, zerolinecolor="var(--muted)", zerolinewidth=1)
    _shade_tainted(figure, results, strategy)
    return figure
