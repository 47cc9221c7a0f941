"""Study files: an entry of ``strategies`` that stands in a file of its own.

`- file: studies/band.yaml` stands for what that file holds, `extends: other.yaml` in it for what
the other file holds besides. What is nearer wins: the keys beside `file`, then the study's own,
then those that it extends; a section is joined key by key, the value of a key replaced whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from engine.config_yaml import Document, Location, Place, read
from engine.errors import ConfigError

# keys of optimizer files of another kind, and what to write in their place
OLDER_KEYS = ("strategy_family", "meta", "runs", "optuna", "validation")
OLDER_FORM = """\
  strategy_family -> strategy
  meta.symbol -> symbols; meta.timeframe -> frame, of the symbol; meta.warmup_bars -> folds.warmup_bars
  runs.max_trials, runs.max_concurrent -> search.max_trials, search.max_concurrent
  optuna.sampler.type, optuna.pruner.type -> search.sampler, search.pruner
  optuna.storage -> nothing: the lake keeps every trial
  validation ranges -> folds
  max_max_dd -> constraints.max_drawdown; max_total_commission_pct -> constraints.max_fees_pct
  type loguniform -> type float with log: true; type grid with values -> type categorical with choices
An example: docs/settings.md, Study files"""


class Spot(NamedTuple):
    """File, line and column of a key; sorts by them."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return them as an editor understands them."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Entry:
    """A mapping, and where each of its keys stands; locations begin at the mapping itself."""

    value: dict[str, Any]
    spots: dict[Location, Spot]

    def over(self, base: Entry) -> Entry:
        """Return this entry with the keys of another one where it has none itself."""
        value, replaced = dict(base.value), set[Location]()
        for key, given in self.value.items():
            below = value.get(key)
            if isinstance(given, dict) and isinstance(below, dict):
                value[key] = {**below, **given}
                replaced |= {(key, name) for name in given}
            else:
                value[key] = given
                replaced.add((key,))
        spots = {at: spot for at, spot in base.spots.items() if not replaced & {at[:1], at[:2]}}
        return Entry(value, {**spots, **self.spots})


def older_form(document: Document) -> tuple[Spot, str] | None:
    """Return what is said to a file of the older kind, with the place of its first such key."""
    value = document.value if isinstance(document.value, dict) else {}
    for key in OLDER_KEYS:
        if key in value:
            spot = Spot(document.title, *document.place((key,)))
            return spot, f"{key!r} is of an older kind of optimizer file. Write it anew:\n{OLDER_FORM}"
    return None


def entry_of(document: Document, location: Location) -> Entry:
    """Return the mapping at a place of a file."""
    value: Any = document.value
    for part in location:
        value = value[part]
    depth = len(location)
    spots = {
        at[depth:]: Spot(document.title, *place)
        for at, place in document.places.items()
        if at[:depth] == location
    }
    return Entry(value, {(): Spot(document.title, *document.place(location)), **spots})


def read_study(named: Entry, folder: Path, project: Path, *, key: str = "file") -> Entry:
    """Return what stands for an entry that names a file.

    Parameters
    ----------
    named : Entry
        Holds the file's path under ``key``; its other keys win over the file's.
    folder : Path
        Of the file that names it.
    project : Path
        Folder of nightfold.yaml; no study file lies outside it.
    key : str
        ``file``, or ``extends`` in a study file, which may extend one file that extends none.

    Raises
    ------
    ConfigError
        The path leaves the project, the file cannot be read, holds no mapping, extends too far or is
        of the older kind; each line begins with the place.
    """
    spot, text = named.spots[(key,)], named.value[key]
    own = Entry(
        {name: value for name, value in named.value.items() if name != key},
        {at: where for at, where in named.spots.items() if at not in ((), (key,))},
    )
    if not isinstance(text, str) or not text:
        raise ConfigError(f"{spot}: {key} is {text!r}; expected the path of a study file")
    path = (folder / text).resolve()
    if Path(text).is_absolute() or not path.is_relative_to(project.resolve()):
        raise ConfigError(
            f"{spot}: {key} is {text!r}; expected a path relative to the file that names it, inside the "
            "folder of nightfold.yaml"
        )
    if not path.is_file():
        raise ConfigError(f"{spot}: {key}: there is no file {text!r} beside {Path(spot.file).name}")
    document = read(path, path.relative_to(project.resolve()).as_posix())
    refused = [(Spot(document.title, *place), text) for place, text in document.repeated]
    older = older_form(document)
    if older is not None:
        refused = [older]
    elif not isinstance(document.value, dict):
        refused.append((Spot(document.title, 1, 1), "expected a mapping with the keys of a strategy entry"))
    elif "file" in document.value:
        at = Spot(document.title, *document.place(("file",)))
        refused.append((at, "file: a study file names no other; expected extends: OTHER.yaml"))
    elif key == "extends" and "extends" in document.value:
        at = Spot(document.title, *document.place(("extends",)))
        refused.append((at, f"extends: {spot.file} extends this file already; expected one level"))
    if refused:
        raise ConfigError("\n".join(f"{at}: {text}" for at, text in sorted(refused)))
    study = entry_of(document, ())
    if key == "file" and "extends" in study.value:
        study = read_study(study, path.parent, project, key="extends")
    whole = own.over(study)
    return Entry(whole.value, {**whole.spots, (): Spot(document.title, 1, 1)})


class Expanded(NamedTuple):
    """The settings with every study file read.

    Parameters
    ----------
    value : object
        As the settings file would hold it with its studies inline.
    places : dict
        Of the settings file and of its studies.
    files : dict
        Location of a key to the study file it stands in; other keys stand in the settings file.
    refused : dict
        Index of each entry whose file is refused, to what is wrong with it.
    """

    value: Any
    places: dict[Location, Place]
    files: dict[Location, str]
    refused: dict[int, str]


def expand(document: Document) -> Expanded:
    """Put what the study files hold in the place of the entries that name them."""
    entries = document.value.get("strategies") if isinstance(document.value, dict) else None
    places, files, refused = dict(document.places), dict[Location, str](), dict[int, str]()
    if not isinstance(entries, list):
        return Expanded(document.value, places, files, refused)
    folder, filled = document.path.resolve().parent, list[Any](entries)
    for index, given in enumerate(entries):
        if not isinstance(given, dict) or "file" not in given:
            continue
        root: Location = ("strategies", index)
        try:
            found = read_study(entry_of(document, root), folder, folder)
        except ConfigError as error:
            refused[index] = str(error)
            continue
        filled[index] = found.value
        places = {at: place for at, place in places.items() if at[:2] != root}
        for at, spot in found.spots.items():
            places[(*root, *at)] = spot.line, spot.column
            if spot.file != document.title:
                files[(*root, *at)] = spot.file
    return Expanded({**document.value, "strategies": filled}, places, files, refused)


def only(document: Document, study: Path) -> Document:
    """Return the settings with one study file as their only strategy.

    Raises
    ------
    ConfigError
        The file lies outside the folder of the settings.
    """
    folder, path = document.path.resolve().parent, study.resolve()
    if not path.is_relative_to(folder):
        raise ConfigError(f"{study} lies outside {folder}, the folder of {document.title}; expected it below")
    name = path.relative_to(folder).as_posix()
    places = {at: place for at, place in document.places.items() if at[0] != "strategies"}
    value = document.value if isinstance(document.value, dict) else {}
    return Document(
        document.path, {**value, "strategies": [{"file": name}]},
        {**places, ("strategies",): (1, 1), ("strategies", 0): (1, 1), ("strategies", 0, "file"): (1, 1)},
        document.repeated,
    )  # fmt: skip
