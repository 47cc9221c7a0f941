"""Kronos on a CPU: the shared-prefix decoding against the plain loop of `kronos.reference`."""

from __future__ import annotations

import numpy as np
import torch
from kronos_cases import TOKENIZER, random_weights, seconds, windows
from record import row

from engine.forecasts.kronos import reference
from engine.forecasts.kronos.config import PUBLISHED
from engine.forecasts.kronos.decode import counter_choice, sample_paths
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer

WINDOWS, CONTEXT, SAMPLES, HORIZON, TURNS = 8, 400, 8, 7, 3


def nearest_to_zero(tokenizer: Tokenizer, weights: dict[str, torch.Tensor], z: np.ndarray) -> list[float]:
    """Return per window how near to 0 the farthest sign lies that both forms read differently; 0: none."""
    bars = torch.from_numpy(z)
    with torch.inference_mode():
        fast = torch.cat([tokenizer.signs(bars[i : i + 1]) for i in range(len(bars))])
        plain = reference.signs(weights, tokenizer.config, bars)
        double = {name: tensor.double() for name, tensor in weights.items()}
        exact = reference.signs(double, tokenizer.config, bars.double())
    other = (fast > 0) != (plain > 0)
    return (exact.abs() * other).amax(dim=(1, 2)).tolist()


def speed_rows() -> list[dict]:
    """Return how much faster the shared-prefix decoding is than the plain loop, on one thread, in turns."""
    torch.set_num_threads(1)
    config = PUBLISHED["NeoQuasar/Kronos-mini"].config
    weights = random_weights(config.shapes()), random_weights(TOKENIZER.shapes())
    model, tokenizer = Model(config, weights[0]), Tokenizer(TOKENIZER, weights[1])
    rows, base = [], 0.0
    for samples, goal in ((SAMPLES, 35.0), (1, 2.5), (2 * SAMPLES, None)):
        case = windows(WINDOWS, samples, CONTEXT, HORIZON)
        answers: dict[str, np.ndarray] = {}

        def fast(case=case, samples=samples, answers=answers) -> None:
            parts = []
            for i in range(WINDOWS):  # one at a time, as the forecaster does on a CPU
                one = case[i : i + 1]
                choose = counter_choice(one.draws, 1.0, 0, 0.9)
                parts.append(sample_paths(model, tokenizer, one.z, one.time_x, one.time_y, samples, choose))
            answers["fast"] = np.concatenate(parts)

        def slow(case=case, samples=samples, answers=answers) -> None:
            choose = counter_choice(case.draws, 1.0, 0, 0.9)
            pairs = (config, weights[0]), (TOKENIZER, weights[1])
            answers["slow"] = reference.sample_paths(
                *pairs, case.z, case.time_x, case.time_y, samples, choose
            )

        fast()
        quick, plain = seconds(fast, 2), []
        shape = f"{WINDOWS} windows, {CONTEXT} bars, S {samples}, h {HORIZON}, one thread"
        for _ in range(0 if goal is None else 2 if samples > 1 else TURNS):
            plain += seconds(slow, 1)
            quick += seconds(fast, 2)
        mine = float(np.median(quick))
        if goal is None:
            name = f"kronos mini: time of S {samples} over S {SAMPLES}"
            rows.append(row(name, mine / base, "x", 1.5, "lower", f"{mine:.2f} s; {shape}"))
            continue
        base = mine if samples == SAMPLES else base
        took = f"{np.median(plain):.2f} s of processor time against {mine:.2f} s"
        name = f"kronos mini S {samples}: faster than a plain loop"
        rows.append(row(name, float(np.median(plain)) / mine, "x", goal, "higher", f"{took}; {shape}"))
        rows.append(_alike(answers, nearest_to_zero(tokenizer, weights[1], case.z), samples))
    return rows


def _alike(answers: dict[str, np.ndarray], near: list[float], samples: int) -> dict:
    """Return how many windows differ from the plain loop without a sign that lies within rounding of 0."""
    gaps = np.abs(answers["fast"] - answers["slow"]).max(axis=(1, 2, 3))
    other = np.flatnonzero(gaps > 1e-4).tolist()
    told = [f"window {i}: a sign of its bars lies {near[i]:.0e} from 0" for i in other if near[i] > 0]
    unexplained = [i for i in other if not 0 < near[i] < 1e-5]
    detail = "; ".join([f"{WINDOWS - len(other)} of {WINDOWS} windows alike", *told])
    name = f"kronos mini S {samples}: windows that differ by more than a tie of rounding"
    return row(name, len(unexplained), "windows", 0, "lower", detail)
