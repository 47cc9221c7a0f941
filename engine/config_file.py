"""Read nightfold.yaml: every mistake at once, each with file, line and column."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from engine.config import Settings, data_path
from engine.config_sections import Leaf, PositionSize
from engine.config_studies import Spot, expand, older_form, only
from engine.config_yaml import Document, Location, Place, read
from engine.errors import ConfigError, closest
from engine.symbol_keys import KEY_PATTERN, is_canonical

Mistake = tuple[Location, str]


@dataclass(frozen=True)
class SettingsFile:
    """Validated settings with the place of each key.

    Parameters
    ----------
    path : Path
        The file read.
    settings : Settings
        Frozen, defaults filled.
    places : dict
        Location of a key, as a path of names and indices, to (line, column), from 1.
    files : dict
        Location of a key to the study file that it stands in; other keys stand in the file read.
    """

    path: Path
    settings: Settings
    places: dict[Location, Place]
    files: dict[Location, str] = dataclasses.field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        """Return the absolute data folder."""
        return data_path(self.settings, self.path)

    def where(self, *location: str | int) -> str:
        """Return ``file:line:column`` of a key, or of the nearest key above it."""
        return str(_spot(self.path.name, self.places, self.files, location))


def stamp_us(text: str) -> int:
    """Return an ISO time as int64 microseconds UTC; without a zone it is UTC.

    Raises
    ------
    ConfigError
        The text is no ISO time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"asof is {text!r}; expected an ISO time such as 2013-03-01 or 2013-03-01T21:00Z"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000


def _spot(name: str, places: dict[Location, Place], files: dict[Location, str], location: Location) -> Spot:
    """Return where a key stands, or the nearest key above it."""
    while location and location not in places:
        location = location[:-1]
    return Spot(files.get(location, name), *places.get(location, (1, 1)))


def load(path: Path, study: Path | None = None) -> SettingsFile:
    """Read and validate the settings and the study files that they name.

    Parameters
    ----------
    path : Path
        The settings file.
    study : Path, optional
        A study file that is to be the only strategy; those of the settings are not looked at.

    Raises
    ------
    ConfigError
        Lists every mistake of form by file and line, each with its place and what is expected.
    """
    document = read(path)
    older = older_form(document)
    if older is not None:
        raise ConfigError(": ".join(map(str, older)))
    if study is not None:
        document = only(document, study)
    value, places, files, refused = expand(document)
    document = replace(document, value=value, places=places)
    settings: Settings | None = None
    mistakes = _check_names(value)
    try:
        settings = Settings.model_validate(value)
    except ValidationError as error:
        mistakes += _describe(error, document)
    told = {("strategies", index) for index in refused}
    placed = [(_spot(path.name, places, files, at), text) for at, text in mistakes if at[:2] not in told] + [
        (Spot(path.name, *place), text) for place, text in document.repeated
    ]
    by_file = sorted(set(placed), key=lambda one: (one[0].file != path.name, one))
    lines = [f"{spot}: {text}" for spot, text in by_file] + list(refused.values())
    if lines or settings is None:
        raise ConfigError("\n".join(lines))
    return SettingsFile(path.resolve(), settings, places, files)


def _describe(error: ValidationError, document: Document) -> list[Mistake]:
    """Return one mistake per key; what each form of a value would need is joined by "or"."""
    mistakes: list[Mistake] = []
    expected: dict[Location, list[str]] = {}
    for item in error.errors():
        location: Location = ()  # without the names of union members, which the file has not
        for part in item["loc"]:
            location = (*location, part) if (*location, part) in document.places else location
        name = _dotted(location)
        kind, message = item["type"], item["msg"]
        if kind == "missing":
            mistakes.append((location, f"{_dotted((*location, item['loc'][-1]))!r} is missing"))
        elif kind == "extra_forbidden":
            known = _keys_at(location[:-1]) + (["file"] if _is_entry(location[:-1]) else [])
            text = f"unknown key {name!r}. {closest(location[-1], known)}"
            mistakes.append((location, text))
        elif kind == "value_error":
            mistakes.append((location, f"{name}: {message.removeprefix('Value error, ')}"))
        elif kind == "literal_error" and location == item["loc"]:
            options = re.findall(r"'([^']*)'", item["ctx"]["expected"]) or [item["ctx"]["expected"]]
            choice = f"expected one of {', '.join(options)}. {closest(item['input'], options)}"
            mistakes.append((location, f"{name} is {_shown(item['input'])}; {choice}"))
        elif message.startswith("Input should "):
            if location not in expected:
                expected[location] = [f"{name} is {_shown(item['input'])}; expected "]
            expected[location].append(_plain_words(message, location))
        else:
            mistakes.append((location, f"{name}: {message}; found {_shown(item['input'])}"))
    return mistakes + [(at, head + " or ".join(forms)) for at, (head, *forms) in expected.items()]


def _is_entry(location: Location) -> bool:
    """Say whether a place is that of a strategy entry, which may stand in a file of its own."""
    return len(location) == 2 and location[0] == "strategies"


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location) or "the file"


def _plain_words(message: str, location: Location) -> str:
    words = message.removeprefix("Input should ").removeprefix("be ")
    if words.startswith("a valid dictionary"):
        return _mapping(_model_at(location))
    return words.replace("a valid tuple", "a list").replace("a valid string", "text")


_EXAMPLES: dict[Any, str] = {  # of sections that need one of several keys, or keys by their type
    Leaf: "{type: int, low: 5, high: 60}",
    PositionSize: "{fraction: 0.5}",
}


def _mapping(model: type[BaseModel] | None) -> str:
    """Return what a mapping at a place must say, where ``{}`` would be refused too."""
    if model in _EXAMPLES:
        return f"a mapping such as {_EXAMPLES[model]}"
    fields = {} if model is None else model.model_fields
    needed = [field.alias or name for name, field in fields.items() if field.is_required()]
    if needed:
        return f"a mapping (key: value) with {', '.join(needed)}"
    return "a mapping (key: value)" + ("; {} takes all defaults" if fields else "")


def _shown(value: object) -> str:
    """Return a value as the file writes it, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _model_at(location: Location) -> type[BaseModel] | None:
    """Return the section that stands at a place in the file, None where other values do."""
    annotation: Any = Settings
    for part in location:
        annotation = _below(annotation, part)
    return _model_in(annotation)


def _keys_at(location: Location) -> list[str]:
    """Return the keys that are known at a place in the file."""
    model = _model_at(location)
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _below(annotation: Any, part: str | int) -> Any:
    """Return the annotation of what stands under a name or index."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return arguments[1]
    if origin is tuple:
        return arguments[0]
    if origin in (typing.Annotated, typing.Union, types.UnionType):
        return _below(arguments[0], part)  # the other arguments are metadata, or None
    for name, field in annotation.model_fields.items():
        if part == (field.alias or name):
            return field.annotation
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if typing.get_origin(annotation) in (typing.Annotated, typing.Union, types.UnionType):
        annotation = typing.get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _at(value: Any, *location: str) -> Any:
    """Return what stands at a place of an unchecked file, None where nothing does."""
    for part in location:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check_names(value: Any) -> list[Mistake]:
    """Return what is wrong with the keys of symbols and the names of strategies."""
    mistakes: list[Mistake] = []
    symbols = _at(value, "symbols")
    if symbols == {}:
        mistakes.append((("symbols",), "symbols is empty; expected at least one key, e.g. AAPL: {}"))
    symbols = symbols if isinstance(symbols, dict) else {}
    seen: dict[str, str] = {}
    for key, options in symbols.items():
        place: Location = ("symbols", key)
        if not is_canonical(key):
            rule = "expected capital letters, digits and . _ = ^ -, at most 32, no Windows device name"
            text = f"E16 symbol {_shown(key)} is not canonical ({rule}: {KEY_PATTERN.pattern})"
            capitals = key.upper()
            write = f". Write {capitals}" if is_canonical(capitals) and capitals not in symbols else ""
            mistakes.append((place, text + write))
        if key.casefold() in seen:
            mistakes.append((place, f"E16 symbol {key!r} equals {seen[key.casefold()]!r} but for its case"))
        seen[key.casefold()] = key
        source = _at(options, "source") or _at(value, "prices", "source")
        if source == "exchange" and not _at(options, "venue"):
            mistakes.append((place, f"symbol {key}: source exchange needs a venue, e.g. venue: kraken"))
    entries = _at(value, "strategies")
    names: set[str] = set()
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        label = str(_at(entry, "name") or _at(entry, "strategy"))
        if label in names:
            text = f"strategy name {label!r} stands twice; give one of them another 'name'"
            mistakes.append((("strategies", index), text))
        names.add(label)
        chosen = _at(entry, "symbols")
        for number, symbol in enumerate(chosen if isinstance(chosen, list) else ()):
            if symbol not in list(symbols):
                text = f"symbol {_shown(symbol)} is not under 'symbols'. {closest(symbol, symbols)}"
                mistakes.append((("strategies", index, "symbols", number), text))
    return mistakes
