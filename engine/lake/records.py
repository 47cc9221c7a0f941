"""What makes a result: its inputs, code, settings and libraries, hashed into one id."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

_ENGINE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("numba", "numpy", "optuna", "pandas", "pyarrow", "scipy", "torch")


def canonical(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, floats by repr, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object, length: int = 20) -> str:
    """Return the first ``length`` hex digits of the sha256 of canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def content_sha(table: pa.Table) -> str:
    """Return the sha256 of a table's values, whatever its Parquet encoding or chunks.

    NaN: every NaN hashes alike. Nulls hash apart from any value.
    """
    sha = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        chunks = column.combine_chunks()
        if isinstance(chunks, pa.ChunkedArray):  # a table without rows has no chunk to combine
            chunks = chunks.chunk(0) if chunks.num_chunks else pa.array([], chunks.type)
        sha.update(f"{name}|".encode())
        _hash_array(sha, chunks)
    return sha.hexdigest()


def _hash_array(sha: hashlib._Hash, array: pa.Array) -> None:
    nested = "list" if pa.types.is_list(array.type) else "struct" if pa.types.is_struct(array.type) else ""
    # Parquet renames the items of a list, so a nested type's own text is not stable
    sha.update(f"{nested or array.type}|{len(array)}|{array.null_count}|".encode())
    if array.null_count:
        sha.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        array = array.drop_null()
    if pa.types.is_list(array.type):
        sha.update(array.value_lengths().to_numpy().tobytes())
        _hash_array(sha, array.flatten())
    elif pa.types.is_struct(array.type):
        for field, values in zip(array.type, array.flatten(), strict=True):
            sha.update(f"{field.name}|".encode())
            _hash_array(sha, values)
    elif pa.types.is_string(array.type):  # codes in order of first appearance, and what they stand for
        coded = array.dictionary_encode()
        sha.update(json.dumps(coded.dictionary.to_pylist()).encode() + coded.indices.to_numpy().tobytes())
    else:
        if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
            array = array.cast(pa.int32() if pa.types.is_date32(array.type) else pa.int64())
        values = np.ascontiguousarray(array.to_numpy(zero_copy_only=False))
        if values.dtype.kind == "f":
            undefined = np.isnan(values)
            values = np.where(undefined, np.nan, values) if undefined.any() else values
        sha.update(values.data)


def arrays_sha(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the sha256 of named numpy arrays, in the order given."""
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


@cache
def _module(path: Path) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return a module's code hash (no comments, no docstrings), engine imports, other imports."""
    tree = ast.parse(path.read_bytes())
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(body, list) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = body[1:]
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if getattr(node.func, "id", "") == "require":  # errors.require("torch", ...)
                names = [str(node.args[0].value)]
        for name in names:
            (ours if name.split(".")[0] == "engine" else others).add(name)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(ours), frozenset(others)


def _file_of(name: str) -> Path | None:
    stem = _ENGINE.joinpath(*name.split(".")[1:])
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def code_id(module: str) -> tuple[str, dict[str, str]]:
    """Return the id of a module's code, and the libraries that code rests on.

    Parameters
    ----------
    module : str
        Dotted name inside ``engine``; everything it imports from there is hashed too.
        Comments, docstrings and formatting do not count.

    Returns
    -------
    tuple of str and dict
        Hash of the import closure, and ``{library: "major.minor"}`` of those it imports.
    """
    todo, seen, libraries = [module], dict[str, str](), set[str]()
    while todo:
        name = todo.pop()
        path = _file_of(name)
        if path is None or name in seen:
            continue
        seen[name], ours, others = _module(path)
        todo += sorted(ours)
        libraries |= {other.split(".")[0] for other in others}
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for library in sorted(libraries.intersection(_LIBRARIES)):
        versions[library] = ".".join(metadata.version(library).split(".")[:2])
    return digest(sorted(seen.items())), versions


def make_record(
    stage: str,
    symbol: str,
    *,
    inputs: Mapping[str, str],
    params: object,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return the record of a stage's result: everything that may change its numbers.

    Parameters
    ----------
    stage : str
        Dotted module of the stage, for example ``engine.stages._features``.
    symbol : str
        Canonical key.
    inputs : mapping of str to str
        ``{table: result_id}`` of what was read.
    params : object
        The settings that the stage used, as plain JSON values.
    device : str
        ``cpu`` or ``cuda``; only stages whose numbers may depend on it pass another.

    Returns
    -------
    dict
        The record, with its ``result_id``.
    """
    code, libs = code_id(stage)
    record: dict[str, Any] = {
        "stage": stage.rsplit("_", 1)[-1],
        "symbol": symbol,
        "inputs": dict(inputs),
        "params": params,
        "code_id": code,
        "libs": libs,
        "device": device,
    }
    return {**record, "result_id": digest(record)}
