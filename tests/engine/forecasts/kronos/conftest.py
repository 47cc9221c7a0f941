"""Kronos folders for the tests: the golden ones, and random weights of any shape."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.forecasts.kronos import weights
from engine.forecasts.kronos.config import ModelConfig, TokenizerConfig
from engine.forecasts.kronos.model import Model
from engine.forecasts.kronos.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
DROPOUTS = dict.fromkeys(("ffn_dropout_p", "attn_dropout_p", "resid_dropout_p"), 0.1)


def random_weights(shapes, seed):
    """Return float32 tensors: norms about 1, small biases, matrices that keep the scale."""
    draw = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=draw)
        if name.endswith("inv_freq"):
            e = 2 * shape[0]
            out[name] = 10000.0 ** (-torch.arange(0, e, 2, dtype=torch.float32) / e)
        elif "norm" in name:
            out[name] = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            out[name] = 0.1 * noise
        else:
            out[name] = noise * (2.0 if name.startswith("head.proj") else 1.0) / shape[-1] ** 0.5
    return out


class Pair:
    """A model and its tokenizer, with what the slow twin needs of them."""

    def __init__(self, model_config, tokenizer_config, model_weights, tokenizer_weights):
        self.slow = (model_config, model_weights), (tokenizer_config, tokenizer_weights)
        self.model = Model(model_config, model_weights)
        self.tokenizer = Tokenizer(tokenizer_config, tokenizer_weights)


@cache
def golden_case(name):
    folder = GOLDEN / name
    model, tokenizer = weights.configs(folder)
    pair = Pair(
        model,
        tokenizer,
        weights.load(folder / "model" / weights.TENSORS, model.shapes()),
        weights.load(folder / "tokenizer" / weights.TENSORS, tokenizer.shapes(), tokenizer.ignored()),
    )
    return pair, json.loads((folder / "cases.json").read_text()), dict(np.load(folder / "cases.npz"))


def random_pair(seed=0, *, bits=10, tokenizer=(32, 4, 64), **sizes):
    model = ModelConfig(s1_bits=bits, s2_bits=bits, **sizes)
    d, heads, ff = tokenizer
    shape = TokenizerConfig(d, heads, ff, bits, bits, 6, 3, 3)
    return Pair(model, shape, random_weights(model.shapes(), seed), random_weights(shape.shapes(), seed + 1))


def write_folder(folder, seed=0):
    """Write a tiny Kronos folder with random weights."""
    sizes = {"s1_bits": 4, "s2_bits": 4, "d_model": 16, "n_heads": 2, "ff_dim": 24}
    model = {**sizes, "n_layers": 2, "learn_te": True, **DROPOUTS, "token_dropout_p": 0.1}
    tokenizer = {
        **sizes, "d_in": 6, "n_enc_layers": 2, "n_dec_layers": 2, **DROPOUTS,
        "beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 0.05, "group_size": 4,
    }  # fmt: skip
    for part, values, kind in (("model", model, ModelConfig), ("tokenizer", tokenizer, TokenizerConfig)):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(values))
        tensors = random_weights(kind.parse(values, part).shapes(), seed)
        if part == "tokenizer":
            tensors["tokenizer.bsq.basis"] = 2 ** torch.arange(8)
        save_file(tensors, folder / part / "model.safetensors")
    return folder


@pytest.fixture(params=["tiny", "tiny_overflow"])
def golden(request):
    return golden_case(request.param)


@pytest.fixture
def make_pair():
    return random_pair


@pytest.fixture
def kronos_folder(tmp_path):
    return write_folder(tmp_path / "weights")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
