"""Weights at hand: `fetch` brings a pinned model from the hub, `listed` says what is there.

The only place that touches the network; inference reads local folders. A fetched folder is
``<models_dir>/<org>/<name>/<revision>`` and holds the model (for Kronos in ``model`` and
``tokenizer``) and ``manifest.json`` with the sha256 of each file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, ForecastError, closest, require
from engine.forecasts.chronos import CHRONOS_2, sizes_of
from engine.forecasts.kronos.config import PUBLISHED
from engine.forecasts.kronos.weights import CONFIG, TENSORS, configs, load, read_json, sha256, stored_shapes
from engine.forecasts.toto import PUBLISHED_TOTO, patch_of

MANIFEST = "manifest.json"
IN_ONE_PART = (CHRONOS_2, *PUBLISHED_TOTO)  # models without a tokenizer
_COMMIT = re.compile(r"[0-9a-f]{40}")
Progress = Callable[[str], None]


def _pinned(option: str, revision: str | None, hub_id: str) -> str:
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"{option} of {hub_id} was {revision!r}; expected the 40 hex digits of a commit, "
            "so that the same command brings the same files"
        )
    return revision


def _sources(hub_id: str, revision: str, tokenizer_revision: str | None) -> dict[str, tuple[str, str]]:
    """Return the hub id and commit of each part of a model, by the folder it goes to."""
    known_ids = (*PUBLISHED, *IN_ONE_PART)
    if hub_id not in known_ids:
        raise ConfigError(f"model {hub_id!r} is not known. {closest(hub_id, known_ids)}")
    model = hub_id, _pinned("--revision", revision, hub_id)
    if hub_id in IN_ONE_PART:
        return {".": model}
    known = PUBLISHED[hub_id]
    pinned = tokenizer_revision or known.tokenizer_revision
    commit = _pinned("--tokenizer-revision", pinned, known.tokenizer)
    return {"model": model, "tokenizer": (known.tokenizer, commit)}


def fetch(
    hub_id: str,
    revision: str,
    models_dir: Path,
    progress: Progress,
    *,
    tokenizer_revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Bring a model and its tokenizer, check every tensor, and put them in place whole.

    Parameters
    ----------
    hub_id : str
        For example ``NeoQuasar/Kronos-small``.
    revision : str
        Commit of the model, 40 hex digits.
    models_dir : Path
        Where models lie.
    progress : callable
        Told each line of progress.
    tokenizer_revision : str or None
        Commit of the tokenizer; None = the one known to belong to the model.
    token : str or None
        Of the hub; public models need none.
    endpoint : str or None
        Another hub than the public one.

    Returns
    -------
    Path
        The folder; where it was there already, nothing is fetched.

    Raises
    ------
    ConfigError
        The model is not known, or a revision is not pinned.
    ForecastError
        The hub cannot be reached or refuses, or a file is not what it should be. Nothing is left.
    MissingExtra
        The package huggingface_hub is not installed.
    """
    sources = _sources(hub_id, revision, tokenizer_revision)
    folder = models_dir / hub_id / revision
    if (folder / MANIFEST).is_file():
        progress(f"{folder} is there already")
        return folder
    hub = require("huggingface_hub", needed_by="nightfold models fetch", extra="kronos")
    parts = folder.with_name(f".{revision}.part")
    shutil.rmtree(parts, ignore_errors=True)  # of a fetch that was killed
    try:
        for part, (name, commit) in sources.items():
            for file in (CONFIG, TENSORS):
                progress(f"fetching {name} {commit[:8]} {file}")
                _download(hub, name, commit, file, parts / part, token, endpoint)
        _check(parts, hub_id)
        for part in sources:
            shutil.rmtree(parts / part / ".cache", ignore_errors=True)  # what the client leaves
        _write_manifest(parts, sources)
        folder.parent.mkdir(parents=True, exist_ok=True)
        parts.rename(folder)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return folder


def _download(
    hub: Any, name: str, commit: str, file: str, to: Path, token: str | None, endpoint: str | None
) -> None:
    try:
        hub.hf_hub_download(name, file, revision=commit, local_dir=to, token=token, endpoint=endpoint)
    except Exception as error:  # the client's own errors, and those of the network library below it
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ForecastError(
            f"{file} of {name} at {commit} could not be fetched: {first} ({type(error).__name__}). Expected "
            "a hub that can be reached and has that commit; nothing was written. Try again, or copy the "
            "folder from elsewhere and name it in forecasts.weights"
        ) from error


def _check(folder: Path, hub_id: str) -> None:
    """Refuse files that do not make a model."""
    if hub_id in IN_ONE_PART:
        sizes_of(folder) if hub_id == CHRONOS_2 else patch_of(folder)
        stored_shapes(folder / TENSORS)
        return
    model, tokenizer = configs(folder)
    load(folder / "model" / TENSORS, model.shapes())
    load(folder / "tokenizer" / TENSORS, tokenizer.shapes(), tokenizer.ignored())


def _write_manifest(folder: Path, sources: dict[str, tuple[str, str]]) -> None:
    paths = [folder / part / name for part in sources for name in (CONFIG, TENSORS)]
    files = {str(path.relative_to(folder)): sha256(path) for path in paths}
    about = {
        "model" if part == "." else part: {"id": name, "revision": commit}
        for part, (name, commit) in sources.items()
    }
    (folder / MANIFEST).write_text(json.dumps({**about, "sha256": files}, indent=1) + "\n")


def listed(models_dir: Path) -> list[str]:
    """Return one line per fetched model: id, revision, size, and whether its files are intact."""
    lines = []
    for manifest in sorted(models_dir.glob(f"*/*/*/{MANIFEST}")):
        folder, about = manifest.parent, read_json(manifest)
        paths = {folder / name: sha for name, sha in about["sha256"].items()}
        bad = [path for path, sha in paths.items() if not path.is_file() or sha256(path) != sha]
        size = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        state = f"damaged: {', '.join(str(path.relative_to(folder)) for path in bad)}" if bad else "intact"
        lines.append(f"{about['model']['id']} {about['model']['revision']} {size:.1f} MB {state}")
    return lines
