"""Strategies of the user's own: the Python files of the data folder's ``strategies/``.

Every file there is imported and must register at least one strategy; one whose name begins with
an underscore is a helper, loaded where a strategy imports it (``from ._helper import name``).
Loading runs the files' code with the rights of whoever runs nightfold.

A strategy's code is the bytes of its file and of the files beside it that this one imports,
directly or by way of each other: `Strategy.code`. What runs is compiled from those very bytes,
never from a bytecode cache.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import keyword
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from engine.errors import ConfigError, NightfoldError
from engine.strategies import registry

FOLDER = "strategies"  # below the data folder
PACKAGE = "user_strategies"  # what the files are imported as
_loaded: dict[Path, bytes] = {}  # the files as they were loaded last, all of them sound


def load(data_dir: Path) -> None:
    """Register the strategies of a data folder, in place of those that were loaded before.

    Every process calls it before it asks for a strategy by name; where no file has changed since,
    nothing is done.

    Parameters
    ----------
    data_dir : Path
        The data folder; its ``strategies/`` may be absent.

    Raises
    ------
    ConfigError
        Lists what is wrong with the files, each mistake with file and line.
    """
    data_dir = data_dir.resolve()
    files, mistakes = _read(data_dir)
    if files == _loaded and not mistakes:
        return
    _loaded.clear()
    _forget()
    registry.names()  # the engine's own come first, so that their names are taken
    _install(files)
    for path in files:
        if not path.stem.startswith("_"):
            mistakes += _import(path, data_dir)
    if mistakes:
        _forget()
        raise ConfigError("\n".join(mistakes))
    for path in files:
        for cls in registry.declared_in(f"{PACKAGE}.{path.stem}"):
            cls.code = _code(path.stem, {path.stem: text for path, text in files.items()})
    _loaded.update(files)


def file_of(cls: registry.StrategyClass) -> str:
    """Return the file of a loaded strategy, as a path below the data folder."""
    return f"{FOLDER}/{cls.__module__.removeprefix(f'{PACKAGE}.')}.py"


def _read(data_dir: Path) -> tuple[dict[Path, bytes], list[str]]:
    """Return the files of the folder, by path, and what is wrong with them before any of them runs."""
    files: dict[Path, bytes] = {}
    mistakes: list[str] = []
    for path in sorted((data_dir / FOLDER).glob("[!.]*.py")):
        problem = ""
        if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
            problem = f"{path.stem!r} is no name that Python can import; expected letters, digits and _"
        elif not path.resolve().is_relative_to(data_dir):
            problem = f"it leads to {path.resolve()}, outside the data folder; expected the file itself"
        elif not path.is_file():
            problem = "expected a file"
        if problem:
            mistakes.append(f"{_place(path, data_dir)}: {problem}")
        else:
            files[path] = path.read_bytes()
    return files, mistakes


class _Files(MetaPathFinder):
    """Finds the files that were read, and no others."""

    def __init__(self, files: dict[str, tuple[Path, bytes]]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.files:
            return None
        place, text = self.files[fullname]
        return importlib.util.spec_from_file_location(fullname, place, loader=_Source(place, text))


class _Source(SourceLoader):
    """Compiles the bytes that were read; keeps no bytecode, whose stamp misses a quick edit."""

    def __init__(self, path: Path, text: bytes) -> None:
        self.path, self.text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:
        return self.text


def _forget() -> None:
    registry.drop(PACKAGE)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Files)]
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def _install(files: dict[Path, bytes]) -> None:
    package = ModuleType(PACKAGE, "The files of the data folder's strategies/.")
    package.__path__ = []  # its modules come from `_Files` alone
    sys.modules[PACKAGE] = package
    named = {f"{PACKAGE}.{path.stem}": (path, text) for path, text in files.items()}
    sys.meta_path.insert(0, _Files(named))


def _import(path: Path, data_dir: Path) -> list[str]:
    """Import one file; return what is wrong with it, with file and line."""
    module = f"{PACKAGE}.{path.stem}"
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        return [f"{_where(error, path, data_dir)}: {_said(error, path)}"]
    declared = registry.declared_in(module)
    if not declared:
        return [
            f"{_place(path, data_dir)}:1: registers no strategy; expected a class under "
            f'@strategy("{path.stem}"), or a name that begins with _ where it is a helper of others'
        ]
    mistakes = []
    for cls in declared:  # names of columns are checked by asking for them
        try:
            registry.columns_of(cls, {})
        except NightfoldError as error:
            asked = cls.rules if cls.kind == "rules" else cls.columns
            line = asked.__code__.co_firstlineno
            mistakes.append(f"{_where(error.__cause__ or error, path, data_dir, line)}: {error}")
    return mistakes


def _where(error: BaseException, path: Path, data_dir: Path, line: int = 1) -> str:
    """Return file and line of the last step in one of the files, or the file and another line."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_place(Path(error.filename), data_dir)}:{error.lineno}"
    folder, steps = path.parent, traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if Path(step.filename).parent == folder]
    if not own:
        return f"{_place(path, data_dir)}:{line}"
    return f"{_place(Path(own[-1].filename), data_dir)}:{own[-1].lineno}"


def _said(error: BaseException, path: Path) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    hint = "expected a file that can be imported"
    if isinstance(error, ModuleNotFoundError) and (path.parent / f"{error.name}.py").is_file():
        hint = f"a file beside it is imported as: from .{error.name} import ..."
    return f"{type(error).__name__}: {text}; {hint}"


def _place(path: Path, data_dir: Path) -> str:
    return f"{data_dir.name}/{FOLDER}/{path.name}"


def _code(stem: str, texts: dict[str, bytes]) -> str:
    """Return the sha256 of a file's bytes and of those beside it that it imports, hex."""
    todo, seen = [stem], set[str]()
    while todo:
        name = todo.pop()
        if name in texts and name not in seen:
            seen.add(name)
            todo += _imported(texts[name])
    sha = hashlib.sha256()
    for name in sorted(seen):
        sha.update(f"{name}|{len(texts[name])}|".encode() + texts[name])
    return sha.hexdigest()


def _imported(text: bytes) -> list[str]:
    """Return the names that a file may import from beside it, wherever in the file that stands."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}.")]
        elif isinstance(node, ast.ImportFrom):
            parts = [PACKAGE] if node.level else []
            parts += [node.module] if node.module else []
            found += [".".join([*parts, alias.name]) for alias in node.names] + [".".join(parts)]
    return [name.split(".")[1] for name in found if name.startswith(f"{PACKAGE}.")]
