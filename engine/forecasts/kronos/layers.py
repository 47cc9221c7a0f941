"""Transformer parts in torch, made for many samples that share one history.

A block sees the history once (`Block.history`) and keeps its keys and values; then S samples of a
window go on from it (`Block.samples`), each with keys and values of its own. The history's are
never repeated S times: the queries of all samples are stacked against the one copy.

Axes: B windows, T bars of history, S samples, n new bars, t own bars so far, H heads, e head size,
d model size. Importing this module loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5
Weights = Mapping[str, Tensor]
KeysValues = tuple[Tensor, Tensor]


# oneDNN's product of float32 matrices is twice as fast as the one behind `F.linear` on AMD processors,
# where MKL stays with AVX2. A torch without that operator computes the same more slowly.
_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HAS_ONEDNN else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b of x (..., inputs) and W (outputs, inputs)."""
    if _ONEDNN is None or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    product: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return product


def rms(x: Tensor, weight: Tensor) -> Tensor:
    """Return x / sqrt(mean(x^2) + 1e-5) * weight, over the last axis."""
    return F.rms_norm(x, weight.shape, weight, EPSILON)


class Rotary:
    """Rotation by position of the two halves of each head.

    Parameters
    ----------
    frequencies : tensor, shape (e / 2,)
        Angle per bar.
    """

    def __init__(self, frequencies: Tensor) -> None:
        self.frequencies = frequencies.float()
        self.cosine = self.sine = torch.empty(0)

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """Rotate x (..., n, e), whose bars stand at the positions first..first+n-1."""
        stop = first + x.shape[-2]
        if len(self.cosine) < stop:
            positions = torch.arange(stop, dtype=torch.float32, device=x.device)
            angles = torch.outer(positions, self.frequencies)  # (stop, e / 2)
            self.cosine = angles.cos().repeat(1, 2).to(x.dtype)
            self.sine = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        swapped = torch.cat([b, a], dim=-1)
        return (x * self.cosine[first:stop]).addcmul_(swapped, self.sine[first:stop])


def attend(q: Tensor, history: KeysValues, own: KeysValues | None, mask: Tensor | None = None) -> Tensor:
    """Attend from new bars of S samples to the shared history and to each sample's own bars.

    Parameters
    ----------
    q : tensor, shape (B, S, H, n, e)
        Queries.
    history : two tensors, shape (B, H, T, e)
        Keys and values of the window, seen whole.
    own : two tensors, shape (B, S, H, t, e), or None
        Keys and values of each sample's new bars.
    mask : bool tensor, shape (n, t), or None
        True where a new bar sees an own bar; None = all.

    Returns
    -------
    tensor, shape (B, S, n, H * e)
    """
    b, s, heads, n, e = q.shape
    keys, values = history
    stacked = q.transpose(1, 2).reshape(b, heads, s * n, e)
    scores = stacked @ keys.transpose(-1, -2)  # (B, H, S*n, T)
    if own is None:
        shared = torch.softmax(scores * e**-0.5, dim=-1, dtype=torch.float32).to(q.dtype)
        out = (shared @ values).view(b, heads, s, n, e)
    else:
        scores_own = q @ own[0].transpose(-1, -2)  # (B, S, H, n, t)
        if mask is not None:
            scores_own = scores_own.masked_fill(~mask, float("-inf"))
        t = scores_own.shape[-1]
        joined = torch.cat([scores, scores_own.transpose(1, 2).reshape(b, heads, s * n, t)], dim=-1)
        weights = torch.softmax(joined * e**-0.5, dim=-1, dtype=torch.float32).to(q.dtype)
        out = (weights[..., :-t] @ values).view(b, heads, s, n, e)
        weights_own = weights[..., -t:].reshape(b, heads, s, n, t).transpose(1, 2)  # (B, S, H, n, t)
        out = out + (weights_own @ own[1]).transpose(1, 2)
    return out.permute(0, 2, 3, 1, 4).reshape(b, s, n, heads * e)


def grow(old: KeysValues | None, new: KeysValues) -> KeysValues:
    """Append each sample's new keys and values to its own."""
    if old is None:
        return new
    return torch.cat([old[0], new[0]], dim=-2), torch.cat([old[1], new[1]], dim=-2)


class Block:
    """One pre-norm transformer block: causal attention with rotary positions, then a gated net.

    Parameters
    ----------
    weights : mapping of str to tensor
        Of the whole file.
    prefix : str
        Which block.
    heads : int
        H.
    """

    def __init__(self, weights: Weights, prefix: str, heads: int) -> None:
        def of(name: str) -> Tensor:
            return weights[f"{prefix}.{name}"]

        self.heads = heads
        self.norm1, self.norm2 = of("norm1.weight"), of("norm2.weight")
        parts = [f"self_attn.{name}_proj" for name in ("q", "k", "v")]
        self.qkv = torch.cat([of(f"{part}.weight") for part in parts])  # (3d, d)
        self.qkv_bias = torch.cat([of(f"{part}.bias") for part in parts])
        self.out, self.out_bias = of("self_attn.out_proj.weight"), of("self_attn.out_proj.bias")
        self.gate = torch.cat([of("ffn.w1.weight"), of("ffn.w3.weight")])  # (2ff, d)
        self.down = of("ffn.w2.weight")
        self.rotate = Rotary(of("self_attn.rotary.inv_freq"))

    def _qkv(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, each (..., H, n, e), of x (..., n, d)."""
        joined = linear(rms(x, self.norm1), self.qkv, self.qkv_bias)
        parts = joined.view(*x.shape[:-1], 3 * self.heads, -1).transpose(-2, -3)  # (..., 3H, n, e)
        rotated = self.rotate(parts[..., : 2 * self.heads, :, :], first)
        q, k = rotated.chunk(2, dim=-3)
        return q, k, parts[..., 2 * self.heads :, :, :]

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = linear(attended, self.out, self.out_bias).add_(x)
        a, b = linear(rms(x, self.norm2), self.gate).chunk(2, dim=-1)
        return linear(F.silu(a).mul_(b), self.down).add_(x)

    def history(self, x: Tensor) -> tuple[Tensor, KeysValues]:
        """Return the block's output (B, T, d) over the history, and its keys and values (B, H, T, e)."""
        q, k, v = self._qkv(x, 0)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self._finish(x, attended.transpose(1, 2).flatten(2)), (k, v)

    def keys_values(self, x: Tensor) -> KeysValues:
        """Return the keys and values alone, where nobody reads the output over the history."""
        _, k, v = self._qkv(x, 0)
        return k, v

    def samples(
        self, x: Tensor, history: KeysValues, own: KeysValues | None, mask: Tensor | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Go on from the history with n new bars per sample.

        Parameters
        ----------
        x : tensor, shape (B, S, n, d)
            New bars.
        history, own, mask
            As in `attend`; ``own`` are those of earlier calls.

        Returns
        -------
        tensor, shape (B, S, n, d), and the grown ``own``
        """
        first = history[0].shape[-2] + (0 if own is None else own[0].shape[-2])
        q, k, v = self._qkv(x, first)
        own = grow(own, (k, v))
        return self._finish(x, attend(q, history, own, mask)), own
