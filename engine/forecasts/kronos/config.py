"""What a Kronos model or tokenizer is made of: its config.json, and the shape of each tensor.

Key names are those of the published files; the dropouts and what matters to the training loss
alone are accepted and unused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from engine.errors import ForecastError, closest

COLUMNS = ("open", "high", "low", "close", "volume", "amount")
TIME_SIZES = {"minute": 60, "hour": 24, "weekday": 7, "day": 32, "month": 13}  # rows of each time table
DEPENDENCY_HEADS = 4  # of the layer between the first and the second token, whatever the model's heads
SMALLEST_CONTEXT = 512  # bars; of a shape that was never published
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Config:
    """Values of a config.json, checked."""

    d_model: int
    n_heads: int
    ff_dim: int
    s1_bits: int  # of the first token; as many as s2_bits
    s2_bits: int

    @classmethod
    def unused(cls) -> tuple[str, ...]:
        """Return the names that a file may hold and that inference does not read."""
        return ("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p")

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """Check the content of a config.json.

        Parameters
        ----------
        values : mapping
            As read.
        where : str
            The file, for messages.

        Raises
        ------
        ForecastError
            A key is unknown or missing, or a value is impossible.
        """
        names = {field.name: field.type for field in fields(cls)}
        for key in values:
            if key not in names and key not in cls.unused():
                raise ForecastError(f"{where}: key {key!r} is not known. {closest(key, names)}")
        missing = [name for name in names if name not in values]
        if missing:
            raise ForecastError(f"{where}: {', '.join(missing)} missing; expected every size of the model")
        for name, kind in names.items():
            value, boolean = values[name], kind == "bool"
            good = isinstance(value, bool) if boolean else type(value) is int and 1 <= value <= 2**20
            if not good:
                expected = "true or false" if boolean else "a whole number from 1 on"
                raise ForecastError(f"{where}: {name} was {value!r}; expected {expected}")
        config = cls(**{name: values[name] for name in names})
        config._check(where)
        return config

    def _check(self, where: str) -> None:
        """Refuse sizes that do not fit together."""
        if self.s1_bits != self.s2_bits or self.s1_bits > 16:
            found = f"s1_bits {self.s1_bits}, s2_bits {self.s2_bits}"
            raise ForecastError(f"{where}: {found}; expected two equal numbers up to 16")
        if self.d_model % (2 * self.n_heads):
            found = f"d_model {self.d_model} with n_heads {self.n_heads}"
            raise ForecastError(f"{where}: {found}; expected heads of an even size")

    @property
    def bits(self) -> int:
        """Return the bits of one bar."""
        return self.s1_bits + self.s2_bits

    @property
    def vocabulary(self) -> int:
        """Return how many values one token has."""
        return int(2**self.s1_bits)

    def _block(self, prefix: str) -> Shapes:
        """Return the tensors of one transformer block."""
        d, ff = self.d_model, self.ff_dim
        return {
            f"{prefix}.norm1.weight": (d,),
            f"{prefix}.norm2.weight": (d,),
            **_attention(f"{prefix}.self_attn", d, d // self.n_heads),
            f"{prefix}.ffn.w1.weight": (ff, d),
            f"{prefix}.ffn.w3.weight": (ff, d),
            f"{prefix}.ffn.w2.weight": (d, ff),
        }


def _attention(prefix: str, d: int, head: int) -> Shapes:
    shapes: Shapes = {f"{prefix}.rotary.inv_freq": (head // 2,)}
    for name in ("q", "k", "v", "out"):
        shapes |= _linear(f"{prefix}.{name}_proj", d, d)
    return shapes


def _linear(prefix: str, inputs: int, outputs: int) -> Shapes:
    return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


@dataclass(frozen=True)
class ModelConfig(_Config):
    """Sizes of the model that predicts tokens."""

    n_layers: int
    learn_te: bool  # tables of time features: only their names in the file depend on it

    @classmethod
    def unused(cls) -> tuple[str, ...]:
        """Return the names that a file may hold and that inference does not read."""
        return (*super().unused(), "token_dropout_p")

    def _check(self, where: str) -> None:
        super()._check(where)
        if self.d_model % (2 * DEPENDENCY_HEADS):
            raise ForecastError(
                f"{where}: d_model was {self.d_model}; expected a multiple of {2 * DEPENDENCY_HEADS}"
            )

    def time_table(self, name: str) -> str:
        """Return the name of a time table in the file."""
        return f"time_emb.{name}_embed.{'weight' if self.learn_te else 'emb.weight'}"

    def shapes(self) -> Shapes:
        """Return each tensor of the file with its shape."""
        d, v = self.d_model, self.vocabulary
        shapes: Shapes = {"embedding.emb_s1.weight": (v, d), "embedding.emb_s2.weight": (v, d)}
        shapes |= _linear("embedding.fusion_proj", 2 * d, d)
        shapes |= {self.time_table(name): (rows, d) for name, rows in TIME_SIZES.items()}
        for i in range(self.n_layers):
            shapes |= self._block(f"transformer.{i}")
        shapes |= {"norm.weight": (d,), "dep_layer.norm.weight": (d,)}
        shapes |= _attention("dep_layer.cross_attn", d, d // DEPENDENCY_HEADS)
        return shapes | _linear("head.proj_s1", d, v) | _linear("head.proj_s2", d, v)


@dataclass(frozen=True)
class TokenizerConfig(_Config):
    """Sizes of the tokenizer that turns bars into tokens and back."""

    d_in: int
    n_enc_layers: int  # one more than there are blocks
    n_dec_layers: int

    @classmethod
    def unused(cls) -> tuple[str, ...]:
        """Return the names that a file may hold and that inference does not read."""
        return (*super().unused(), "beta", "gamma0", "gamma", "zeta", "group_size")

    def _check(self, where: str) -> None:
        super()._check(where)
        if self.d_in != len(COLUMNS):
            found = f"d_in was {self.d_in}"
            raise ForecastError(f"{where}: {found}; expected {len(COLUMNS)}: {', '.join(COLUMNS)}")

    def shapes(self) -> Shapes:
        """Return each tensor that inference reads, with its shape; see also `ignored`."""
        d, k = self.d_model, self.bits
        shapes = _linear("embed", self.d_in, d) | _linear("head", d, self.d_in)
        for part, layers in (("encoder", self.n_enc_layers), ("decoder", self.n_dec_layers)):
            for i in range(layers - 1):
                shapes |= self._block(f"{part}.{i}")
        shapes |= _linear("quant_embed", d, k) | _linear("post_quant_embed", k, d)
        return shapes | _linear("post_quant_embed_pre", self.s1_bits, d)

    @staticmethod
    def ignored() -> tuple[str, ...]:
        """Return tensors of the file that inference has no use for: tables of powers of 2."""
        return ("tokenizer.bsq.basis", "tokenizer.bsq.group_basis")


def parameter_count(shapes: Shapes) -> int:
    """Return how many trained numbers these tensors hold; the saved rotary frequencies are none.

    >>> parameter_count(PUBLISHED["NeoQuasar/Kronos-mini"].config.shapes())
    4108032
    """
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith("inv_freq"))


@dataclass(frozen=True)
class Published:
    """A model on the hub."""

    config: ModelConfig
    max_context: int  # bars, horizon included
    tokenizer: str  # hub id
    tokenizer_revision: str | None  # where upstream's own tests pin one


def _model(layers: int, d: int, ff: int, heads: int) -> ModelConfig:
    return ModelConfig(d, heads, ff, 10, 10, layers, True)


_BASE = "NeoQuasar/Kronos-Tokenizer-base", "0e0117387f39004a9016484a186a908917e22426"
PUBLISHED = {
    "NeoQuasar/Kronos-mini": Published(_model(4, 256, 512, 4), 2048, "NeoQuasar/Kronos-Tokenizer-2k", None),
    "NeoQuasar/Kronos-small": Published(_model(8, 512, 1024, 8), 512, *_BASE),
    "NeoQuasar/Kronos-base": Published(_model(12, 832, 2048, 16), 512, *_BASE),
}


def max_context(config: ModelConfig) -> int:
    """Return the bars a model may see, horizon included; no config.json says it.

    A model of a published shape (a fine-tuned one, say) has the context of that shape, any other
    the smallest that was published.
    """
    sizes = (config.n_layers, config.d_model, config.ff_dim, config.n_heads, config.s1_bits)
    for known in PUBLISHED.values():
        one = known.config
        if sizes == (one.n_layers, one.d_model, one.ff_dim, one.n_heads, one.s1_bits):
            return known.max_context
    return SMALLEST_CONTEXT
