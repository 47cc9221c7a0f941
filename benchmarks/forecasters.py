"""Forecasters: skill on the committed sample data, speed of Kronos. Run: make bench-forecasters

Skill: the default model walk-forward over all bars of each symbol, one step ahead, against both
baselines on the same as-of bars. Speed: Kronos of published shapes with random weights against
`engine.forecasts.kronos.reference`, which repeats each window for every sample and reads the whole
context again at every step (`kronos_cpu`), and on a GPU (`kronos_gpu`).
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from kronos_cpu import speed_rows
from kronos_gpu import gpu_rows
from record import row, write

from engine.forecasts import store
from engine.forecasts.infer import infer
from engine.forecasts.interface import DEFAULT_LEVELS
from engine.forecasts.quality import quality, realised
from engine.sources import sample

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")


def skill_rows() -> list[dict]:
    """Return the skill of the default model, symbol by symbol and pooled."""
    settings = SimpleNamespace(horizon=1, levels=DEFAULT_LEVELS, min_history_bars=250, start=None)
    rows, gains = [], dict[str, list[tuple[float, int]]]()
    for symbol in SYMBOLS:
        bars = sample(symbol)
        made = infer(bars, settings, "cpu")
        scores = quality(bars, made.forecasts, made.inputs, made.spec, last_bars=None).to_pylist()
        median = store.matrix(made.forecasts, made.model_key, 1, "close", 0.5, bars.ts)
        as_of = np.flatnonzero(~np.isnan(median[:-1]))
        y = realised(bars, as_of, 1)[:, 2]
        right = float((np.sign(median[as_of]) == np.sign(y))[y != 0].mean())
        for score in scores:
            persist = 100 * (1 - score["pinball"] / score["pinball_persist"])
            gains.setdefault(score["field"], []).append((score["skill_fhs"], score["n"]))
            detail = (
                f"t {score['t_fhs']:.1f}, against persistence {persist:.0f} %, 10-90 covers "
                f"{100 * score['cover_80']:.1f} %, MAE of the median {1e4 * score['mae_p50']:.1f} bps "
                f"(zero move {1e4 * score['mae_zero']:.1f}), {score['n']} bars"
            )
            if score["field"] == "close":
                detail += f", direction {100 * right:.1f} %"
            name = f"local {symbol} {score['field']}: pinball below FHS"
            rows.append(row(name, 100 * score["skill_fhs"], "%", 0.0, "higher", detail))
    for field, found in gains.items():
        mean = sum(gain * n for gain, n in found) / sum(n for _, n in found)
        name, detail = f"local all {field}: pinball below FHS", f"{sum(n for _, n in found)} bars"
        rows.append(row(name, 100 * mean, "%", 0.0, "higher", detail))
    return rows


if __name__ == "__main__":
    write("forecasters", speed_rows() + gpu_rows() + skill_rows())
