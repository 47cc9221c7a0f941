"""The model that predicts the next bar's two tokens: `Model`.

`Model.read` sees a window once; then, for each step, `first_logits`, `second_logits` and
`Model.advance` serve all samples of it. Axes: B windows, T bars, S samples, V values of a token,
d model size. Loads torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.forecasts.kronos.config import DEPENDENCY_HEADS, TIME_SIZES, ModelConfig
from engine.forecasts.kronos.layers import Block, KeysValues, Weights, attend, grow, linear, rms
from engine.forecasts.kronos.tokenizer import Tokens


@dataclass
class Reading:
    """A window that was read, and how far its samples have gone.

    Parameters
    ----------
    context : tensor, shape (B, T, d)
        Hidden state at each bar of the history.
    last : tensor, shape (B, S, d)
        Hidden state from which the next bar is predicted; S = 1 before the first `Model.advance`.
    layers, dependency : keys and values, shape (B, H, T, e)
        Of the history; shared by all samples.
    own_layers, own_dependency : keys and values, shape (B, S, H, t, e), or None
        Of the t new bars of each sample.
    """

    context: Tensor
    last: Tensor
    layers: list[KeysValues]
    dependency: KeysValues
    own_layers: list[KeysValues | None]
    own_dependency: KeysValues | None = None


class Model:
    """Transformer over tokens, with a layer in which the second token looks at the first.

    Parameters
    ----------
    config : ModelConfig
        Sizes.
    weights : mapping of str to tensor
        float32, as `ModelConfig.shapes` says.
    dtype : torch.dtype
        Of the arithmetic: float32, or bfloat16 on a GPU. Logits are float32 always.
    """

    def __init__(self, config: ModelConfig, weights: Weights, dtype: torch.dtype = torch.float32) -> None:
        d = config.d_model
        scaled = [weights[f"embedding.emb_{name}.weight"] * d**0.5 for name in ("s1", "s2")]
        fusion = weights["embedding.fusion_proj.weight"].chunk(2, dim=1)
        folded = [table @ half.T for table, half in zip(scaled, fusion, strict=True)]
        cross = "dep_layer.cross_attn"
        query = F.linear(
            weights["embedding.emb_s1.weight"],  # not times sqrt(d), as published
            weights[f"{cross}.q_proj.weight"],
            weights[f"{cross}.q_proj.bias"],
        )
        kv = [torch.cat([weights[f"{cross}.{x}_proj.{part}"] for x in "kv"]) for part in ("weight", "bias")]
        self.config, self.dtype = config, dtype
        self.first_table = (folded[0] + weights["embedding.fusion_proj.bias"]).to(dtype)  # (V, d)
        self.second_table, self.query_table = folded[1].to(dtype), query.to(dtype)
        self.time_tables = [weights[config.time_table(name)].to(dtype) for name in TIME_SIZES]
        self.key_value, self.key_value_bias = (part.to(dtype) for part in kv)
        kept = {
            name: tensor if name.endswith("inv_freq") else tensor.to(dtype)
            for name, tensor in weights.items()
            if not name.startswith(("embedding.", "time_emb."))
        }
        self.weights: Weights = kept
        self.blocks = [Block(kept, f"transformer.{i}", config.n_heads) for i in range(config.n_layers)]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _embed(self, tokens: Tokens, time: Tensor) -> Tensor:
        """Return what the first block reads, (..., d), of tokens (...) and time features (..., 5)."""
        x: Tensor = self.first_table[tokens[0]] + self.second_table[tokens[1]]
        for i, table in enumerate(self.time_tables):
            x = x + table[time[..., i]]
        return x

    def _dependency(self, c: Tensor) -> KeysValues:
        """Return keys and values (..., 4, n, d/4) of hidden states c (..., n, d)."""
        joined = linear(c, self.key_value, self.key_value_bias)
        split = joined.view(*c.shape[:-1], 2 * DEPENDENCY_HEADS, -1).transpose(-2, -3)
        keys, values = split.chunk(2, dim=-3)
        return keys, values

    def read(self, tokens: Tokens, time: Tensor) -> Reading:
        """Read windows.

        Parameters
        ----------
        tokens : two int64 tensors, shape (B, T)
            First and second token of each bar.
        time : int64 tensor, shape (B, T, 5)
            Minute, hour, weekday, day, month of the same bar.
        """
        x, layers = self._embed(tokens, time), []
        for block in self.blocks:
            x, seen = block.history(x)
            layers.append(seen)
        context = rms(x, self.weights["norm.weight"])
        return Reading(context, context[:, -1:], layers, self._dependency(context), [None] * len(layers))

    def first_logits(self, reading: Reading) -> Tensor:
        """Return the logits of the next bar's first token, float32, shape (B, S, V)."""
        return self._linear("head.proj_s1", reading.last).float()

    def second_logits(self, reading: Reading, first: Tensor) -> Tensor:
        """Return the logits of the second token given the first (B, S), float32, shape (B, S, V)."""
        b, s = first.shape
        query = self.query_table[first].view(b, s, DEPENDENCY_HEADS, 1, -1)
        seen = attend(query, reading.dependency, reading.own_dependency)[:, :, 0]  # (B, S, d)
        y = reading.last + self._linear("dep_layer.cross_attn.out_proj", seen)
        return self._linear("head.proj_s2", rms(y, self.weights["dep_layer.norm.weight"])).float()

    def advance(self, reading: Reading, tokens: Tokens, time: Tensor) -> None:
        """Append one bar to each sample: tokens (B, S), time features (B, 5)."""
        b, s = tokens[0].shape
        x = self._embed(tokens, time[:, None].expand(b, s, -1))[:, :, None]  # (B, S, 1, d)
        for i, block in enumerate(self.blocks):
            x, reading.own_layers[i] = block.samples(x, reading.layers[i], reading.own_layers[i])
        c = rms(x, self.weights["norm.weight"])
        reading.own_dependency = grow(reading.own_dependency, self._dependency(c))
        reading.last = c[:, :, 0]
