"""Make docs/levels-surface.png: what every pair of offsets earns on one real window, with breaks and optimum.

Run by ``make picture-levels``. The newest 12 bars of AAPL in the sample, forecasts by EWMA(20),
both legs on every bar, touch fills, same-bar targets: few enough bars to see the cells. Drawn by
plotly in a headless chromium, as docs/picture.py does.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "benchmarks")]
from levels_problems import windows  # noqa: E402
from picture import HEIGHT, LARGEST_BYTES, WIDTH, screenshot  # noqa: E402

from engine.search.levels.exact import BOUNDS, LevelsSolution, solve  # noqa: E402
from engine.simulation.levels_batch import LevelsBatch, levels_grid  # noqa: E402
from engine.simulation.levels_problem import LevelsProblem  # noqa: E402

PICTURE = ROOT / "docs" / "levels-surface.png"
SYMBOL, BARS, POINTS = "AAPL", 12, 1201
LINE, BEST = "rgba(20, 20, 20, 0.35)", "#d62728"


def figure(problem: LevelsProblem, best: LevelsSolution) -> object:
    """Return the plotly figure: the surface, a slice through the optimum along u, and one along v."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    (u_lo, u_hi), (v_lo, v_hi) = BOUNDS
    u, v = np.linspace(u_lo, u_hi, POINTS), np.linspace(v_lo, v_hi, POINTS)
    batch, scale = LevelsBatch.of([problem]), 1e4 / len(problem)
    surface = scale * levels_grid(batch, u[None], v[None], "target")[0]
    along_u = scale * levels_grid(batch, u[None], np.array([[best.v]]), "target")[0, :, 0]
    along_v = scale * levels_grid(batch, np.array([[best.u]]), v[None], "target")[0, 0]
    breaks_u = (problem.high - problem.forecast_high)[problem.high >= 0]
    breaks_v = (problem.low - problem.forecast_low)[problem.low <= 0]

    drawn = make_subplots(
        2, 2, shared_xaxes=True, shared_yaxes=True, column_widths=[0.78, 0.22], row_heights=[0.28, 0.72],
        horizontal_spacing=0.015, vertical_spacing=0.02,
    )  # fmt: skip
    ink = {"mode": "lines", "line": {"color": "#1f5f8b", "width": 2}, "showlegend": False}
    drawn.add_scatter(x=100 * u, y=along_u, row=1, col=1, **ink)
    drawn.add_scatter(x=along_v, y=100 * v, row=2, col=2, **ink)
    drawn.add_trace(
        go.Heatmap(
            x=100 * u, y=100 * v, z=surface.T, colorscale="RdYlBu", zmid=0.0,
            colorbar={"title": "bps per bar", "x": 1.01, "len": 0.7, "y": 0.36},
        ),
        row=2, col=1,
    )  # fmt: skip
    for at in breaks_u[(u_lo < breaks_u) & (breaks_u < u_hi)]:
        drawn.add_vline(100 * at, line={"color": LINE, "width": 1}, col=1)
    for at in breaks_v[(v_lo < breaks_v) & (breaks_v < v_hi)]:
        drawn.add_hline(100 * at, line={"color": LINE, "width": 1}, row=2)
    point = {"mode": "markers", "marker": {"color": BEST, "size": 13, "symbol": "x"}, "showlegend": False}
    profit = scale * best.profit
    for x, y, row, column in ((best.u, best.v, 2, 1), (best.u, None, 1, 1), (None, best.v, 2, 2)):
        xs, ys = [profit if x is None else 100 * x], [profit if y is None else 100 * y]
        drawn.add_scatter(x=xs, y=ys, row=row, col=column, **point)
    drawn.update_xaxes(title_text="u, offset of the sell level (%)", row=2, col=1)
    drawn.update_yaxes(title_text="v, offset of the buy level (%)", row=2, col=1)
    drawn.update_yaxes(title_text="bps per bar", row=1, col=1)
    drawn.update_xaxes(title_text="bps per bar", row=2, col=2)
    drawn.update_layout(
        width=WIDTH, height=HEIGHT, template="plotly_white", font={"size": 16},
        margin={"l": 80, "r": 30, "t": 90, "b": 70},
        title={
            "text": f"What {BARS} bars of {SYMBOL} would have earned at every pair of offsets<br>"
            f"<sup>grey: breaks, one per bar and axis; red: the exact optimum, u = {100 * best.u:.2f} %, "
            f"v = {100 * best.v:.2f} %, {profit:.0f} bps per bar, "
            "in-sample and optimistic (same-bar targets); curves: slices through it</sup>"
        },
    )  # fmt: skip
    return drawn


def main() -> int:
    """Write the picture; return 0, or 1 where it is too large."""
    problem = windows(SYMBOL, BARS, 1, 1, ("always_on",))[0]
    drawn = figure(problem, solve(problem, exit="target"))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "surface.html"
        style = "<style>body{margin:0;background:white}</style>"
        config = {"displayModeBar": False}
        page.write_text(style + drawn.to_html(include_plotlyjs=True, config=config, full_html=True))
        png = screenshot(page)
    if len(png) > LARGEST_BYTES:
        print(f"the picture has {len(png)} bytes; expected at most {LARGEST_BYTES}", file=sys.stderr)
        return 1
    PICTURE.write_bytes(png)
    print(f"{PICTURE.relative_to(ROOT)}: {WIDTH} x {HEIGHT}, {len(png)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
