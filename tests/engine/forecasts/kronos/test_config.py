import re

import pytest
import torch

from engine.errors import ForecastError
from engine.forecasts.kronos.config import (
    PUBLISHED,
    ModelConfig,
    TokenizerConfig,
    max_context,
    parameter_count,
)
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer

MODEL = {
    "s1_bits": 10, "s2_bits": 10, "n_layers": 4, "d_model": 256, "n_heads": 4, "ff_dim": 512,
    "ffn_dropout_p": 0.2, "attn_dropout_p": 0.0, "resid_dropout_p": 0.2, "token_dropout_p": 0.0,
    "learn_te": True,
}  # fmt: skip
TOKENIZER = {
    "d_in": 6, "d_model": 256, "n_heads": 4, "ff_dim": 512, "n_enc_layers": 4, "n_dec_layers": 4,
    "ffn_dropout_p": 0.0, "attn_dropout_p": 0.0, "resid_dropout_p": 0.0, "s1_bits": 10, "s2_bits": 10,
    "beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count"), [("mini", 4_108_032), ("small", 24_741_376), ("base", 102_310_592)]
)
def test_the_published_sizes_have_the_published_parameter_counts(name, count):
    config = PUBLISHED[f"NeoQuasar/Kronos-{name}"].config
    assert parameter_count(config.shapes()) == count
    with torch.device("meta"):
        Model(config, {key: torch.empty(shape) for key, shape in config.shapes().items()})


def test_the_published_tokenizer_has_the_published_parameter_count():
    config = TokenizerConfig.parse(TOKENIZER, "config.json")
    assert parameter_count(config.shapes()) == 3_958_042
    with torch.device("meta"):
        Tokenizer(config, {key: torch.empty(shape) for key, shape in config.shapes().items()})


def test_a_published_config_is_read():
    assert ModelConfig.parse(MODEL, "config.json") == PUBLISHED["NeoQuasar/Kronos-mini"].config


def test_the_context_is_that_of_the_published_shape_or_the_smallest():
    assert max_context(ModelConfig.parse(MODEL, "")) == 2048
    assert max_context(PUBLISHED["NeoQuasar/Kronos-base"].config) == 512
    assert max_context(ModelConfig.parse({**MODEL, "n_layers": 5}, "")) == 512


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (ModelConfig, {"d_modle": 256}, "here: key 'd_modle' is not known. Closest: d_model."),
        (ModelConfig, {"n_heads": None}, "here: n_heads missing; expected every size of the model"),
        (ModelConfig, {"n_layers": 2.5}, "here: n_layers was 2.5; expected a whole number from 1 on"),
        (ModelConfig, {"n_layers": True}, "here: n_layers was True; expected a whole number from 1 on"),
        (ModelConfig, {"ff_dim": 0}, "here: ff_dim was 0; expected a whole number from 1 on"),
        (ModelConfig, {"learn_te": 1}, "here: learn_te was 1; expected true or false"),
        (ModelConfig, {"s2_bits": 9}, "here: s1_bits 10, s2_bits 9; expected two equal numbers up to 16"),
        (ModelConfig, {"n_heads": 3}, "here: d_model 256 with n_heads 3; expected heads of an even size"),
        (ModelConfig, {"d_model": 20, "n_heads": 1}, "here: d_model was 20; expected a multiple of 8"),
        (
            TokenizerConfig,
            {"d_in": 5},
            "here: d_in was 5; expected 6: open, high, low, close",
        ),
        (TokenizerConfig, {"learn_te": True}, "here: key 'learn_te' is not known."),
    ],
)
def test_refuses_a_config(kind, changes, message):
    values = {**(MODEL if kind is ModelConfig else TOKENIZER), **changes}
    values = {key: value for key, value in values.items() if value is not None}
    with pytest.raises(ForecastError, match="^" + re.escape(message)):
        kind.parse(values, "here")
