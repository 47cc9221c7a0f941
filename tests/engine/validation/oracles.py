"""Numbers of other libraries on arithmetic data: made by this script, kept in oracles.json.

``python tests/engine/validation/oracles.py`` writes the file anew; it needs skfolio 1.12.2, arch
8.0.0 and ffn 1.4.1, which nightfold does not. The tests compare with the file, and with the
libraries themselves where they are installed.
"""

import json
import math
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("oracles.json")
T = 400


def series(k, count=T):
    """Return series number k: no random draw, so that every machine has the same one."""
    t = np.arange(1, count + 1)
    noise = np.sin(t * t * (0.37 + 0.011 * k)) + 0.5 * np.sin(t * (1.3 + 0.7 * k)) ** 3
    return 0.0004 * (k - 4) + 0.01 * noise * (1.0 + 0.8 * (t % 17 == 3))


def trial_sharpes():
    """Return Sharpe ratios of 23 trials."""
    return np.array([0.02 * math.sin(1.7 * k) for k in range(23)])


def panel(number, count=T, block=8):
    """Return K series against a benchmark of zero, shape (T, K).

    arch takes the largest mean and does not studentise it; here every series has the same
    bootstrap standard deviation (the closed form of Politis and Romano), so that both agree.
    """
    columns = [series(3 * number + k, count) - 0.0004 * (3 * number + k - 4) for k in range(4)]
    edges = np.array([0.0, 0.0006, -0.002, 0.0003]) * math.sin(1.0 + number)
    values = np.column_stack(columns) + edges
    centred = values - values.mean(axis=0)
    variance = (centred**2).sum(axis=0) / count
    p = 1.0 / block
    for lag in range(1, count):
        weight = (1 - lag / count) * (1 - p) ** lag + (lag / count) * (1 - p) ** (count - lag)
        variance += 2 * weight * (centred[:-lag] * centred[lag:]).sum(axis=0) / count
    return values / np.sqrt(variance)


def measure():
    """Return what the libraries say."""
    import ffn
    import pandas as pd
    from arch.bootstrap import SPA
    from skfolio import measures

    found = {"psr": [], "psr_benchmark": [], "dsr": [], "sharpe": [], "spa": [], "pbo": []}
    for k in range(9):
        returns = series(k)
        found["psr"].append(float(measures.probabilistic_sharpe_ratio(returns)))
        found["psr_benchmark"].append(float(measures.probabilistic_sharpe_ratio(returns, 0.05)))
        found["dsr"].append(float(measures.deflated_sharpe_ratio(returns, trial_sharpes())))
        found["sharpe"].append(float(ffn.calc_sharpe(pd.Series(returns), nperiods=1, annualize=False)))
    for number in range(20):
        losses = -panel(number)
        test = SPA(np.zeros(T), losses, block_size=8, reps=5000, bootstrap="stationary", seed=number)
        test.compute()
        found["spa"].append(float(test.pvalues["consistent"]))
    for first in range(4):
        trials = np.column_stack([series(k % 9 + 0.1 * k) for k in range(first, first + 12)])
        full = ffn.calc_prob_backtest_overfitting(pd.DataFrame(trials), n_blocks=8, full_output=True)
        found["pbo"].append([float(full["pbo"]), float(full["logits"].median())])
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(measure(), indent=1) + "\n")
