"""Kronos written down plainly: the specification of `decode.sample_paths`, and its slow twin.

Every sample is a row of its own, every step reads the whole context again, nothing is kept,
fused or folded. Tests compare; the benchmark divides. Axes: R rows = B windows x S samples,
T bars so far, d model size, V values of a token. Loads torch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.bars.model import Ints
from engine.forecasts.interface import Floats32
from engine.forecasts.kronos.config import DEPENDENCY_HEADS, TIME_SIZES, ModelConfig, TokenizerConfig
from engine.forecasts.kronos.decode import Choose
from engine.forecasts.kronos.layers import Weights


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    """Return x W^T + b; some layers have no bias."""
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def rms(x: Tensor, weight: Tensor) -> Tensor:
    """Return x / sqrt(mean(x^2) + 1e-5) * weight."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def heads_of(x: Tensor, heads: int) -> Tensor:
    """Return (R, T, d) as (R, H, T, e)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def turned(x: Tensor) -> Tensor:
    """Rotate queries or keys (R, H, T, e) by their positions; base 10000, halves together."""
    e = x.shape[-1]
    frequencies = 10000.0 ** (-torch.arange(0, e, 2, dtype=torch.float32, device=x.device) / e)
    angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float32, device=x.device), frequencies).repeat(
        1, 2
    )
    a, b = x[..., : e // 2], x[..., e // 2 :]
    return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()


def block(w: Weights, p: str, heads: int, x: Tensor) -> Tensor:
    """Apply one transformer block to (R, T, d)."""
    u = rms(x, w[f"{p}.norm1.weight"])
    q, k, v = (heads_of(linear(w, f"{p}.self_attn.{name}_proj", u), heads) for name in "qkv")
    seen = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
    x = x + linear(w, f"{p}.self_attn.out_proj", seen.transpose(1, 2).flatten(2))
    u = rms(x, w[f"{p}.norm2.weight"])
    gated = F.silu(linear(w, f"{p}.ffn.w1", u)) * linear(w, f"{p}.ffn.w3", u)
    return x + linear(w, f"{p}.ffn.w2", gated)


def signs(w: Weights, config: TokenizerConfig, z: Tensor) -> Tensor:
    """Return the numbers whose signs are the tokens, (R, T, K), of normalised bars (R, T, C)."""
    x = linear(w, "embed", z)
    for i in range(config.n_enc_layers - 1):
        x = block(w, f"encoder.{i}", config.n_heads, x)
    return linear(w, "quant_embed", x)


def encode(w: Weights, config: TokenizerConfig, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tokens (R, T) of normalised bars (R, T, C)."""
    bits = (signs(w, config, z) > 0).long()
    powers = 2 ** torch.arange(config.s1_bits, device=z.device)
    return (bits[..., : config.s1_bits] * powers).sum(-1), (bits[..., config.s1_bits :] * powers).sum(-1)


def decode(w: Weights, config: TokenizerConfig, s1: Tensor, s2: Tensor) -> Tensor:
    """Return normalised bars (R, T, C) of both tokens (R, T)."""
    j = torch.arange(config.s1_bits, device=s1.device)
    bits = torch.cat([(s1[..., None] >> j) & 1, (s2[..., None] >> j) & 1], -1)
    x = linear(w, "post_quant_embed", (2.0 * bits - 1.0) / config.bits**0.5)
    for i in range(config.n_dec_layers - 1):
        x = block(w, f"decoder.{i}", config.n_heads, x)
    return linear(w, "head", x)


def context(w: Weights, config: ModelConfig, s1: Tensor, s2: Tensor, time: Tensor) -> Tensor:
    """Return the hidden states (R, T, d) of tokens (R, T) with their time features (R, T, 5)."""
    d = config.d_model
    both = [w[f"embedding.emb_{name}.weight"][s] * d**0.5 for name, s in (("s1", s1), ("s2", s2))]
    x = linear(w, "embedding.fusion_proj", torch.cat(both, -1))
    for i, name in enumerate(TIME_SIZES):
        x = x + w[config.time_table(name)][time[..., i]]
    for i in range(config.n_layers):
        x = block(w, f"transformer.{i}", config.n_heads, x)
    return rms(x, w["norm.weight"])


def second_logits(w: Weights, c: Tensor, s1: Tensor) -> Tensor:
    """Return the logits (R, V) of the second token after hidden states c (R, T, d), given the first (R)."""
    p = "dep_layer.cross_attn"
    query = linear(w, f"{p}.q_proj", w["embedding.emb_s1.weight"][s1][:, None])
    k, v = (heads_of(linear(w, f"{p}.{name}_proj", c), DEPENDENCY_HEADS) for name in "kv")
    seen = F.scaled_dot_product_attention(heads_of(query, DEPENDENCY_HEADS), k, v)
    y = c + linear(w, f"{p}.out_proj", seen.transpose(1, 2).flatten(2))
    return linear(w, "head.proj_s2", rms(y, w["dep_layer.norm.weight"]))[:, -1]


def sample_paths(
    model: tuple[ModelConfig, Weights],
    tokenizer: tuple[TokenizerConfig, Weights],
    z: Floats32,
    time_x: Ints,
    time_y: Ints,
    samples: int,
    choose: Choose,
) -> Floats32:
    """Continue each window S times, as `decode.sample_paths` does, where the weights lie."""
    (config, w), (shape, t) = model, tokenizer
    rows, (b, h) = z.shape[0] * samples, time_y.shape[:2]
    with torch.inference_mode():
        device = w["norm.weight"].device
        repeated = torch.from_numpy(z).to(device).repeat_interleave(samples, 0)
        stamps = torch.from_numpy(np.concatenate([time_x, time_y], axis=1)).to(device)
        time = stamps.repeat_interleave(samples, 0)
        s1, s2 = encode(t, shape, repeated)
        for step in range(h):
            c = context(w, config, s1, s2, time[:, : s1.shape[1]])
            logits = linear(w, "head.proj_s1", c)[:, -1]
            first = choose(logits.view(b, samples, -1), step, 0).view(rows)
            second = choose(second_logits(w, c, first).view(b, samples, -1), step, 1).view(rows)
            s1, s2 = torch.cat([s1, first[:, None]], 1), torch.cat([s2, second[:, None]], 1)
        paths: Floats32 = decode(t, shape, s1, s2)[:, -h:].view(b, samples, h, -1).cpu().numpy()
    return paths
