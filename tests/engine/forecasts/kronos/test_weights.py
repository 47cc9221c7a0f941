import json
import re
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import ForecastError, MissingExtra, WeightsNotFound
from engine.forecasts.kronos.weights import configs, files_of, load, sha256


@pytest.fixture
def edit(kronos_folder):
    """Change the tensors of the model, then load them."""

    def change(**tensors):
        path = kronos_folder / "model" / "model.safetensors"
        stored = {**load_file(path), **tensors}
        save_file({name: t for name, t in stored.items() if t is not None}, path)
        return load(path, configs(kronos_folder)[0].shapes())

    return change


def test_reads_what_was_written(kronos_folder, edit):
    found = edit()
    path = kronos_folder / "model" / "model.safetensors"
    assert all(torch.equal(found[name], tensor) for name, tensor in load_file(path).items())
    half = edit(**{"norm.weight": torch.full((16,), 1.5, dtype=torch.bfloat16)})
    assert half["norm.weight"].dtype == torch.float32 and (half["norm.weight"] == 1.5).all()


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"norm.wieght": torch.ones(16)},
            r"tensor norm.wieght is not known \(1 such\). Closest: norm.weight",
        ),
        ({"norm.weight": None}, r"tensor norm.weight is missing \(1 such\)"),
        ({"norm.weight": torch.ones(8)}, r"tensor norm.weight has shape \[8\]; expected \[16\]"),
        ({"norm.weight": torch.ones(16).long()}, "tensor norm.weight is I64; expected floats"),
        (
            {"norm.weight": torch.full((16,), torch.nan)},
            "tensor norm.weight holds a value that is not finite",
        ),
    ],
)
def test_refuses_a_tensor_by_name(edit, tensors, message):
    with pytest.raises(ForecastError, match=rf"model.safetensors: {message}"):
        edit(**tensors)


@pytest.mark.parametrize("cut", [0, 4, 40, -100])
def test_refuses_a_file_that_is_cut_off(kronos_folder, cut):
    path = kronos_folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ForecastError, match=r"model.safetensors is damaged: .*Fetch or copy it again"):
        load(path, configs(kronos_folder)[0].shapes())


def test_refuses_an_absent_file_with_what_brings_it(kronos_folder):
    (kronos_folder / "tokenizer" / "config.json").unlink()
    with pytest.raises(
        WeightsNotFound, match=r"tokenizer/config.json was not found; expected the weights there. Do so$"
    ):
        files_of(kronos_folder, "Do so")


def test_refuses_a_pickle_checkpoint(kronos_folder):
    path = kronos_folder / "model" / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(
        WeightsNotFound, match="holds pytorch_model.bin, a pickled checkpoint, which is refused"
    ):
        files_of(kronos_folder, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read: .*; expected JSON"), ("[1]", "holds list; expected a mapping")],
)
def test_refuses_a_config_that_is_none(kronos_folder, text, message):
    (kronos_folder / "model" / "config.json").write_text(text)
    with pytest.raises(ForecastError, match=message):
        configs(kronos_folder)


def test_refuses_a_model_with_another_tokenizer(kronos_folder):
    path = kronos_folder / "tokenizer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "s1_bits": 5, "s2_bits": 5}))
    with pytest.raises(ForecastError, match="tokens of 4 bits, the tokenizer of 5; expected a pair"):
        configs(kronos_folder)


def test_says_which_extra_reads_the_weights(kronos_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    text = re.escape(
        "model kronos needs safetensors, which is not installed. "
        'Run, in the root of the project: pip install -c constraints.txt -e ".[kronos]"'
    )
    with pytest.raises(MissingExtra, match=text):
        load(kronos_folder / "model" / "model.safetensors", configs(kronos_folder)[0].shapes())


def test_the_hash_follows_the_file(kronos_folder):
    path = kronos_folder / "model" / "config.json"
    before = sha256(path)
    assert before == sha256(path)
    path.write_text(path.read_text() + " ")
    assert sha256(path) != before
