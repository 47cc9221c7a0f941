"""Bars to tokens and back: `Tokenizer`. Always float32, for a flipped sign is another token.

Axes: B windows, T bars of history, S samples, h new bars, K bits, C columns. Loads torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.forecasts.kronos.config import TokenizerConfig
from engine.forecasts.kronos.layers import Block, KeysValues, Weights, linear

Tokens = tuple[Tensor, Tensor]  # first and second token of each bar, int64


class Tokenizer:
    """Two small transformers with K signs between them.

    Parameters
    ----------
    config : TokenizerConfig
        Sizes.
    weights : mapping of str to tensor
        float32, as `TokenizerConfig.shapes` says.
    """

    def __init__(self, config: TokenizerConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.encoder, self.decoder = (
            [Block(weights, f"{part}.{i}", config.n_heads) for i in range(layers - 1)]
            for part, layers in (("encoder", config.n_enc_layers), ("decoder", config.n_dec_layers))
        )
        powers = 2 ** torch.arange(config.s1_bits)
        self.powers = powers.to(weights["embed.weight"].device)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def signs(self, z: Tensor) -> Tensor:
        """Return the numbers whose signs are the tokens, (B, T, K), of normalised bars z (B, T, C)."""
        x = self._linear("embed", z)
        for block in self.encoder:
            x, _ = block.history(x)
        return self._linear("quant_embed", x)

    def encode(self, z: Tensor) -> Tokens:
        """Return the tokens (B, T) of normalised bars z (B, T, C); bit j weighs 2**j."""
        first, second = (self.signs(z) > 0).long().chunk(2, dim=-1)
        return (first * self.powers).sum(-1), (second * self.powers).sum(-1)

    def _embed(self, tokens: Tokens) -> Tensor:
        """Return what the decoder reads, (..., d): each bit as +-1/sqrt(K)."""
        bits = torch.cat([(token[..., None] & self.powers) != 0 for token in tokens], dim=-1)  # (..., K)
        return self._linear("post_quant_embed", (bits.float() * 2 - 1) * self.config.bits**-0.5)

    def remember(self, history: Tokens) -> list[KeysValues]:
        """Return the decoder's keys and values over the history's tokens (B, T)."""
        x, kept = self._embed(history), []
        for block in self.decoder[:-1]:
            x, seen = block.history(x)
            kept.append(seen)
        return kept + [block.keys_values(x) for block in self.decoder[-1:]]

    def decode(self, remembered: list[KeysValues], new: Tokens) -> Tensor:
        """Return the normalised bars (B, S, h, C) of new tokens (B, S, h), each sample by itself."""
        x = self._embed(new)
        h = x.shape[-2]
        causal = torch.ones(h, h, dtype=torch.bool, device=x.device).tril()
        for block, history in zip(self.decoder, remembered, strict=True):
            x, _ = block.samples(x, history, None, causal)
        return self._linear("head", x)
