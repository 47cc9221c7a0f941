"""Read a YAML file as plain values, with the line and column of every key.

Less is accepted than YAML 1.1 allows: no aliases, no tags, no key that stands twice, keys are
always text, and ON, NO, 0700 or 2013-03-01 are text as well. So a value is what it looks like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from engine.errors import ConfigError

MAX_BYTES, MAX_DEPTH = 1 << 20, 20
Location = tuple[str | int, ...]
Place = tuple[int, int]


class _Loader(yaml.SafeLoader):
    """Safe YAML whose plain scalars are read as in YAML 1.2."""


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?"
_PLAIN = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9]\d{0,17})", list("-+0123456789")),
    ("float", rf"[-+]?({_FLOAT}|\.(inf|Inf|INF))|\.(nan|NaN|NAN)", list("-+.0123456789")),
)
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass(frozen=True)
class Document:
    """What a file says, and where.

    Parameters
    ----------
    path : Path
        The file read.
    value : object
        Mappings, lists, text, numbers, true, false and null.
    places : dict
        Location of a key, as a path of names and indices, to (line, column), from 1.
    repeated : list
        Place and text of each key that stands twice.
    name : str
        The file in messages; empty: its own name.
    """

    path: Path
    value: Any
    places: dict[Location, Place]
    repeated: list[tuple[Place, str]] = field(default_factory=list)
    name: str = ""

    @property
    def title(self) -> str:
        """Return how messages call the file."""
        return self.name or self.path.name

    def place(self, location: Location) -> Place:
        """Return line and column of a key, or of the nearest key above it."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.places:
                return self.places[location[:end]]
        return 1, 1


def read(path: Path, name: str = "") -> Document:
    """Read one file; ``name`` is how messages call it, by default its own.

    Raises
    ------
    ConfigError
        The file cannot be read, is no YAML, or uses what is not accepted.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}). Name another: nightfold --settings FILE"
        ) from error
    name = name or path.name
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name} is too large; expected at most {MAX_BYTES} bytes")
    try:
        _refuse_surprises(name, text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{name}:1:1: the file is empty; expected at least 'symbols:'")
        document = Document(path, None, {}, name=name)
        _walk(node, (), document)
        return replace(document, value=loader.construct_document(node))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = _mark(getattr(error, "problem_mark", None))
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{name}:{place}: not valid YAML: {problem}") from error


def _refuse_surprises(name: str, text: bytes) -> None:
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=_Loader):
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*) are not accepted"
        elif getattr(event, "tag", None) is not None:
            problem = f"the tag {event.tag} is not accepted"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            problem = f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if problem:
            raise ConfigError(f"{name}:{_mark(event.start_mark)}: {problem}")


def _walk(node: yaml.Node, location: Location, document: Document) -> None:
    """Note the place of each key, and make each key text."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{document.title}:{_mark(key.start_mark)}: a key must be plain text")
            key.tag = _TAG + "str"
            below = (*location, key.value)
            place = key.start_mark.line + 1, key.start_mark.column + 1
            if below in document.places:
                first = document.places[below][0]
                document.repeated.append((place, f"key {key.value!r} stands twice; first in line {first}"))
                continue
            document.places[below] = place
            _walk(value, below, document)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            below = (*location, index)
            document.places[below] = value.start_mark.line + 1, value.start_mark.column + 1
            _walk(value, below, document)


def _mark(mark: Any) -> str:
    return f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
