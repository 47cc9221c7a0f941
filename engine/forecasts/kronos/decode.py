"""From normalised bars to sampled paths: `sample_paths`. Loads torch.

Axes: B windows, T bars, S samples, h steps, V values of a token, C columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from engine.bars.model import Floats, Ints
from engine.forecasts.interface import Floats32
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer

Choose = Callable[[Tensor, int, int], Tensor]
"""(logits (B, S, V) float32, step, 0 = first or 1 = second token) -> tokens (B, S) int64."""


def _falling(logits: Tensor) -> Tensor:
    """Return the logits sorted, largest first; numpy sorts 25 times faster than torch on a CPU."""
    if logits.device.type == "cpu":
        return torch.from_numpy(-np.sort(-logits.numpy(), axis=-1))
    return logits.sort(dim=-1, descending=True).values


def filtered(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return logits / temperature with the unlikely ones at minus infinity.

    Parameters
    ----------
    logits : float32 tensor, shape (..., V)
        As the model gives them.
    temperature : float, > 0
        Divides first.
    top_k : int
        > 0: keep the k largest (and those equal to the k-th), whatever ``top_p`` says.
    top_p : float
        < 1: keep the most likely tokens until their probability exceeds it; the token that crosses
        stays, so one always does (and those equal to it).
    """
    logits = logits / temperature
    if top_k > 0:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        return logits.masked_fill(logits < least, float("-inf"))
    if top_p >= 1.0:
        return logits
    falling = _falling(logits)
    before = torch.softmax(falling, dim=-1).cumsum(dim=-1)[..., :-1]  # of each token but the first
    last_kept = (before <= top_p).sum(dim=-1, keepdim=True)
    return logits.masked_fill(logits < falling.gather(-1, last_kept), float("-inf"))


def counter_choice(uniforms: Floats, temperature: float, top_k: int, top_p: float) -> Choose:
    """Return a choice by given draws, so that it depends on no generator.

    Parameters
    ----------
    uniforms : float64 array, shape (B, S, h, 2)
        From `engine.forecasts.draws.uniforms`.
    temperature, top_k, top_p
        As in `filtered`.
    """
    draws = torch.from_numpy(uniforms)

    def choose(logits: Tensor, step: int, which: int) -> Tensor:
        chances = torch.softmax(filtered(logits, temperature, top_k, top_p), dim=-1)
        reached = chances.cumsum(dim=-1, dtype=torch.float64)  # in token order
        wanted = draws[:, :, step, which].to(logits.device)[..., None] * reached[..., -1:]
        return (reached <= wanted).sum(dim=-1).clamp(max=logits.shape[-1] - 1)

    return choose


def sample_paths(
    model: Model,
    tokenizer: Tokenizer,
    z: Floats32,
    time_x: Ints,
    time_y: Ints,
    samples: int,
    choose: Choose,
) -> Floats32:
    """Continue each window S times.

    Parameters
    ----------
    model, tokenizer
        Of the same bits, on one device.
    z : float32 array, shape (B, T, C)
        Normalised bars.
    time_x, time_y : int64 array, shape (B, T, 5) and (B, h, 5)
        Time features of the history and of the bars to come.
    samples : int
        S.
    choose : callable
        Picks each token.

    Returns
    -------
    float32 array, shape (B, S, h, C)
        Normalised bars of every path.
    """
    device = tokenizer.powers.device
    b, h = time_y.shape[:2]
    with torch.inference_mode():
        history = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(z)).to(device))
        ahead = torch.from_numpy(time_y).to(device)
        reading = model.read(history, torch.from_numpy(time_x).to(device))
        firsts: list[Tensor] = []
        seconds: list[Tensor] = []
        for step in range(h):
            if step:
                model.advance(reading, (firsts[-1], seconds[-1]), ahead[:, step - 1])
            logits = model.first_logits(reading).expand(b, samples, -1)
            firsts.append(choose(logits, step, 0))
            seconds.append(choose(model.second_logits(reading, firsts[-1]), step, 1))
        new = torch.stack(firsts, dim=-1), torch.stack(seconds, dim=-1)  # (B, S, h)
        paths: Floats32 = tokenizer.decode(tokenizer.remember(history), new).cpu().numpy()
    return paths
