"""The drop folder data/inbox: which files lie there, whose they are, and the line that makes one a symbol."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from engine.symbol_keys import is_canonical

ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True)
class Dropped:
    """One price file in the inbox.

    Parameters
    ----------
    name : str
        The file's name.
    key : str
        The symbol that its name makes; empty where it makes none.
    look : str
        Size and time of its last change: two equal looks mean that nobody is writing it.
    """

    name: str
    key: str
    look: str


def dropped(data_dir: Path) -> list[Dropped]:
    """Return the price files of the inbox, sorted by name; other files are not looked at."""
    found = []
    for path in sorted((data_dir / "inbox").glob("*")):
        if path.suffix.lower() not in ENDINGS or path.name.startswith("."):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # its owner took it away again
        key = path.stem if is_canonical(path.stem) else ""
        found.append(Dropped(path.name, key, f"{status.st_size} {status.st_mtime_ns}"))
    return found


def entry(key: str, data_dir: Path) -> str:
    """Return the line of nightfold.yaml that makes a key a symbol, of its file in the inbox if any."""
    lies = any((data_dir / "inbox" / f"{key}{ending}").is_file() for ending in ENDINGS)
    return f"{key}: {{source: files}}" if lies else f"{key}: {{}}"


def advice(file: Dropped, known: Collection[str]) -> str:
    """Return what to do with a file that is no symbol of the settings; empty where it is one.

    >>> advice(Dropped("SPY.csv", "SPY", ""), ["AAPL"])
    "SPY.csv: add under symbols in nightfold.yaml: 'SPY: {source: files}'"
    """
    if file.key and file.key in known:
        return ""
    if file.key:
        return f"{file.name}: add under symbols in nightfold.yaml: '{file.key}: {{source: files}}'"
    upper = Path(file.name).stem.upper()
    if is_canonical(upper):
        return f"{file.name}: rename it {upper}{Path(file.name).suffix.lower()}, a key has capital letters"
    return f"{file.name}: its name makes no key; rename it KEY.csv with capital letters, digits and . _ = ^ -"
