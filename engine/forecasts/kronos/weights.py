"""A folder of weights: `config.json` and `model.safetensors`, checked tensor by tensor.

A Kronos folder holds two of them, ``model`` and ``tokenizer``. Pickle checkpoints are refused:
reading one runs whatever code it holds.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import ForecastError, WeightsNotFound, closest, require
from engine.forecasts.kronos.config import ModelConfig, Shapes, TokenizerConfig

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("model", "tokenizer")
CONFIG, TENSORS = "config.json", "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FLOATS = ("F32", "F16", "BF16")


def files_of(folder: Path, fetch: str) -> list[Path]:
    """Return the four files of a Kronos folder.

    Parameters
    ----------
    folder : Path
        Holds ``model`` and ``tokenizer``.
    fetch : str
        What would bring it; ends the message.

    Raises
    ------
    WeightsNotFound
        A file is absent, or a part comes as a pickle checkpoint alone.
    """
    return [path for part in PARTS for path in part_files(folder / part, fetch)]


def part_files(folder: Path, fetch: str) -> list[Path]:
    """Return the two files of one model, config first; see `files_of`."""
    found = [folder / CONFIG, folder / TENSORS]
    for path in found:
        if not path.is_file():
            pickles = sorted(p.name for p in folder.glob("*") if p.suffix in _PICKLES)
            if path.name == TENSORS and pickles:
                raise WeightsNotFound(
                    f"{folder} holds {', '.join(pickles)}, a pickled checkpoint, which is refused "
                    f"because reading it runs code; expected {TENSORS}. Save the weights in that form"
                )
            raise WeightsNotFound(f"{path} was not found; expected the weights there. {fetch}")
    return found


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """Return the sha256 of a file; remembered while its size and time stay."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds a mapping.

    Raises
    ------
    ForecastError
        It is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ForecastError(f"{path} cannot be read: {error}; expected JSON") from error
    if not isinstance(values, dict):
        raise ForecastError(f"{path} holds {type(values).__name__}; expected a mapping")
    return values


def configs(folder: Path) -> tuple[ModelConfig, TokenizerConfig]:
    """Return the sizes a Kronos folder states.

    Raises
    ------
    ForecastError
        A config.json is damaged, has unknown or missing keys, or the two do not fit together.
    """
    paths = [folder / part / CONFIG for part in PARTS]
    model = ModelConfig.parse(read_json(paths[0]), str(paths[0]))
    tokenizer = TokenizerConfig.parse(read_json(paths[1]), str(paths[1]))
    if model.s1_bits != tokenizer.s1_bits:
        raise ForecastError(
            f"{folder}: the model has tokens of {model.s1_bits} bits, the tokenizer of {tokenizer.s1_bits}; "
            "expected a pair that was trained together"
        )
    return model, tokenizer


def stored_shapes(path: Path) -> Shapes:
    """Return the shape of each tensor of a safetensors file.

    Raises
    ------
    ForecastError
        The file is damaged.
    """
    safetensors = require("safetensors", needed_by="nightfold models fetch", extra="kronos")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ForecastError:
    return ForecastError(f"{path} is damaged: {error}; expected a safetensors file. Fetch or copy it again")


def load(path: Path, shapes: Shapes, ignored: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file as float32.

    Parameters
    ----------
    path : Path
        The file.
    shapes : dict of str to tuple
        Each tensor that must be there.
    ignored : tuple of str
        Tensors that may be there and are not read.

    Raises
    ------
    ForecastError
        The file is damaged, or a tensor is unknown, missing, of another shape or type, or not finite.
    MissingExtra
        The package safetensors is not installed.
    """
    safetensors = require("safetensors", needed_by="forecasts.model kronos", extra="kronos")
    import torch

    tensors: dict[str, Tensor] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name not in ignored]  # noqa: SIM118
            _check_names(path, names, shapes)
            for name in names:
                view = file.get_slice(name)
                shape = tuple(view.get_shape())
                if shape != shapes[name]:
                    raise ForecastError(
                        f"{path}: tensor {name} has shape {list(shape)}; expected {list(shapes[name])}"
                    )
                if view.get_dtype() not in _FLOATS:
                    raise ForecastError(f"{path}: tensor {name} is {view.get_dtype()}; expected floats")
                tensors[name] = file.get_tensor(name).to(torch.float32)
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ForecastError(f"{path}: tensor {name} holds a value that is not finite")
    return tensors


def _check_names(path: Path, names: list[str], shapes: Shapes) -> None:
    unknown = [name for name in names if name not in shapes]
    if unknown:
        near = closest(unknown[0], shapes)
        raise ForecastError(f"{path}: tensor {unknown[0]} is not known ({len(unknown)} such). {near}")
    missing = [name for name in shapes if name not in names]
    if missing:
        raise ForecastError(f"{path}: tensor {missing[0]} is missing ({len(missing)} such)")
