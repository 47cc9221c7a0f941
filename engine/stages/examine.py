"""What `nightfold check` and `nightfold status` show; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from engine.bars.gaps import said as gaps_of
from engine.bars.model import Bars, iso
from engine.bars.policy import Policy
from engine.bars.resample import Resampled
from engine.config import Settings
from engine.errors import ConfigError, DataError, closest
from engine.features.registry import names as feature_names
from engine.lake.files import write_text
from engine.lake.leases import is_held
from engine.lake.publish import Lake
from engine.sources import FileFormat, Loaded, SymbolSource, load
from engine.sources.events import as_event, parse_event, with_event
from engine.sources.inbox import advice, dropped, entry
from engine.sources.loading import own_events_path
from engine.stages._prices import (
    Disputed,
    compare_events,
    current_bars,
    policy_of,
    prices,
    refuse_too_few,
)
from engine.stages.chain import holding
from engine.stages.coarse import coarser
from engine.stages.common import read_bars, too_short_for
from engine.stages.study import status_lines
from engine.strategies import registry, user
from engine.symbol_keys import is_canonical

_MAIN_TABLE = {
    "prices": "bars",
    "features": "features",
    "forecasts": "forecasts",
    "optimizations": "folds",
    "backtests": "backtests",
}


def symbol_data(symbol: str, settings: Settings, data_dir: Path, asof: int | None) -> str:
    """Return one line on a symbol's data, fetched and checked but not stored.

    Raises
    ------
    DataError
        A rule is broken.
    """
    try:
        bars, stored, loaded, made = current_bars(Lake(data_dir), symbol, settings, asof)
    except Disputed as disputed:
        raise disputed.error from None
    new = len(bars) - (0 if stored is None else len(stored))
    short = _left_out(symbol, settings, len(bars if made is None else made.bars))
    said = f"{symbol}: {_said(bars)}, {new} not stored yet, no error"
    return f"{said}{_warned(loaded)}{_made(made, bars.frame)}{short}"


def declare(
    symbol: str, settings: Settings, data_dir: Path, given: Sequence[tuple[str, str]], asof: int | None
) -> str:
    """Write events of a symbol into data/events.csv where its prices show them; return one line.

    Parameters
    ----------
    symbol, settings, data_dir
        As of `symbol_data`.
    given : sequence of (kind, text)
        ``("split", "2:1@2005-02-28")`` and the like: `engine.sources.events.parse_event`.
    asof : int or None
        As of `symbol_data`.

    Raises
    ------
    ConfigError
        An event has another form, the prices do not show it, or the symbol is of the sample, whose events
        come with the software. Nothing is written.
    DataError
        The prices cannot be read, or a row of them breaks a rule. Nothing is written.
    """
    if settings.instrument(symbol).source == "sample":
        raise ConfigError(f"{symbol} is of the sample; its events come with it and are not changed here")
    declared = [as_event(kind, event, "the command line") for kind, event in given]
    compare_events(Lake(data_dir), symbol, settings, asof, declared)
    path = own_events_path(settings.instrument(symbol).source, data_dir)
    text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    rows = [(kind, *parse_event(kind, event)) for kind, event in given]
    for kind, date, value, note in rows:
        text = with_event(text, symbol, kind, date, value, note)
    write_text(path, text)
    return f"{path}: " + ", ".join(
        f"{kind} {value} on {date}".replace("  ", " ") for kind, date, value, _ in rows
    )


def accept(symbol: str, settings: Settings, data_dir: Path, asof: int | None, cpus: int) -> str:
    """Publish a symbol's history as its source gives it now; return one line that says what was replaced.

    Raises
    ------
    AlreadyRunning
        A run holds the symbol.
    DataError
        The history breaks another rule.
    """
    lake, said = Lake(data_dir, settings.prices.keep_generations), list[str]()
    with holding(lake, symbol, settings, cpus, said.append):
        result = prices(lake, symbol, settings, said.append, asof=asof, accept_revision=True)
    how = "was stored already" if result.unchanged else f"published as result {result.result_id}"
    return f"{symbol}: history of {result.rows} bars {how}; the one before stays in lake/.history"


def data_file(path: Path, settings: Settings, data_dir: Path) -> str:
    """Return one line on one data file, read and checked as the ``files`` source would.

    Raises
    ------
    ConfigError
        There is no such file, and no symbol of that name either.
    DataError
        A rule is broken, or no strategy has enough bars.
    """
    if not path.is_file():
        name, near = str(path).upper(), closest(str(path).upper(), settings.symbols)
        line = entry(name, data_dir) if is_canonical(name) and name not in settings.symbols else ""
        add = f" To add its file in data/inbox, write '{line}' under symbols" if "files" in line else ""
        raise ConfigError(f"{path} is neither a file nor a symbol of the settings. {near}{add}")
    key = _key_of(path.resolve(), settings, data_dir)
    known = settings.instrument(key) if key in settings.symbols else None
    form = {} if known is None or known.file is None else known.file.model_dump(exclude={"path"})
    found, root = path.resolve(), data_dir.resolve()
    named = found.relative_to(root) if found.is_relative_to(root) else found
    options = SymbolSource(
        file=FileFormat(path=named.as_posix(), **form),
        calendar="observed" if known is None else known.calendar,
        tick=0.0 if known is None else known.tick,
        venue=None if known is None else known.venue,
    )
    frame = settings.prices.frame if known is None else known.as_read().frame
    try:
        loaded = load(
            "files",
            key,
            options,
            data_dir=data_dir,
            frame=frame,
            policy=Policy(settings.prices.policy) if known is None else policy_of(known, settings),
            max_gap_bars=settings.prices.max_gap_bars,
        )
    except DataError as error:
        if known is not None:
            raise
        raise DataError(
            f"{str(error).removeprefix(f'{error.rule} ')}\n  {key} is no symbol of the settings yet: first "
            f"write '{_entry(path, key, data_dir)}' under symbols in nightfold.yaml",
            rule=error.rule,
            symbol=error.symbol,
            rows=error.rows,
        ) from None
    bars, made = loaded.bars, None
    if known is not None and known.base_frame is not None:
        made = coarser(bars, known, settings, loaded.events)
    count = len(bars if made is None else made.bars)
    refuse_too_few(key, settings, count, known.frame if known else frame)
    added = "" if known else f"\n  to use it, write '{_entry(path, key, data_dir)}' under symbols"
    notes = f"{_warned(loaded)}{_made(made, frame)}{_left_out(key, settings, count)}"
    return f"{path}: {_said(bars)}, no error{notes}{added}"


def _key_of(path: Path, settings: Settings, data_dir: Path) -> str:
    """Return the symbol that declares this file, else the key that its name makes."""
    for key, options in settings.symbols.items():
        if options.file is not None and (data_dir / options.file.path).resolve() == path:
            return key
    key = path.stem.upper()
    return key if is_canonical(key) else "KEY"


def _entry(path: Path, key: str, data_dir: Path) -> str:
    """Return the line of nightfold.yaml that makes a file a symbol."""
    found, inbox = path.resolve(), (data_dir / "inbox").resolve()
    if found in (inbox / f"{key}.csv", inbox / f"{key}.parquet"):
        return entry(key, data_dir)
    return f'{key}: {{source: files, file: {{path: "{found}"}}}}'


def _said(bars: Bars) -> str:
    return f"{len(bars)} bars {iso(int(bars.ts[0]))} to {iso(int(bars.ts[-1]))}, {gaps_of(bars)}"


def _made(made: Resampled | None, base: str) -> str:
    """Return what was made of base bars, nothing for a symbol without."""
    if made is None:
        return ""
    lines = [f"{made.bars.frame} made of {base}: {_said(made.bars)}", *made.said(base)]
    return "".join(f"\n  {line}" for line in lines)


def _left_out(symbol: str, settings: Settings, bars: int) -> str:
    """Return the strategies that a run will leave out, each on a line; an error only where it is all."""
    short = too_short_for(settings.entries(symbol), bars)
    return "".join(f"\n  strategy {name} is left out: {why}" for name, why in short.items())


def _warned(loaded: Loaded) -> str:
    aside = [f"set aside: {row.rule} {row.reason}, line {row.line}: {row.text}" for row in loaded.rejected]
    mended = [f"repaired {text}" for text in loaded.repairs]
    return "".join(f"\n  {text}" for text in (*loaded.warnings, *mended, *aside))


def study_file(settings: Settings) -> str:
    """Return one line on the only strategy entry of settings that are sound."""
    (entry,) = (settings.resolved(one) for one in settings.strategies)
    searched = [name for name, leaf in entry.parameters.items() if leaf.type != "fixed"]
    symbols = [key for key in settings.symbols if entry.symbols is None or key in entry.symbols]
    what = f"study {entry.label} of strategy {entry.strategy} is sound"
    return f"{what}; symbols {', '.join(symbols)}; searched: {', '.join(searched) or 'nothing'}"


def strategies() -> Iterator[str]:
    """Yield the registered strategies, each with its parameters."""
    for name in registry.names():
        strategy = registry.get(name)
        own = f", {user.file_of(strategy)}" if strategy.code else ""
        first = next(iter((strategy.__doc__ or "").strip().splitlines()), "no description")
        yield f"{name} ({strategy.kind}{own}): {first}"
        for parameter, declared in strategy.parameters.items():
            yield f"  {parameter}: {declared}"


def features() -> Iterator[str]:
    """Yield the names of the registered features."""
    yield from feature_names()


def status(symbol: str, settings: Settings, data_dir: Path, *, studies: bool) -> Iterator[str]:
    """Yield what the lake holds of a symbol; with ``studies`` also the trials of each study."""
    lake = Lake(data_dir)
    pid = is_held(data_dir, symbol)
    yield f"{symbol}{f' (running, pid {pid})' if pid else ''}"
    for stage, table in _MAIN_TABLE.items():
        rows = lake.read(table, symbol, columns=["symbol"])
        found = "nothing yet" if rows is None else f"{len(rows)} rows, result {lake.result_id(table, symbol)}"
        yield f"  {stage}: {found}"
    bars = lake.read("bars", symbol, columns=["ts"])
    if bars is not None and len(bars):
        yield f"  last bar: {iso(bars['ts'].cast(pa.int64())[-1].as_py())}"
        instrument = settings.instrument(symbol)
        yield f"  gaps: {gaps_of(read_bars(lake, instrument))}"
        base, record = lake.read("base_bars", symbol, columns=["symbol"]), lake.record("bars", symbol) or {}
        if base is not None and instrument.base_frame is not None:
            left = record.get("left_out", 0)
            said = f", {left} left out because some of the bars inside are missing" if left else ""
            frames = f"{instrument.frame} made of {instrument.base_frame}"
            yield f"  {frames}: {len(bars)} of {len(base)} bars{said}"
    aside = lake.read("quarantine", symbol, columns=["rule"])
    if aside is not None:
        disputed = sum(rule == "E13" for rule in aside["rule"].to_pylist())
        yield f"  quarantine: {len(aside)} rows, {disputed} of them of a history its vendor changed (E13)"
    if not studies:
        return
    yield from status_lines(lake, symbol)


def strangers(settings: Settings, data_dir: Path) -> list[str]:
    """Return one line for each file of the inbox that is no symbol of the settings: what to add or rename."""
    return [f"data/inbox/{text}" for one in dropped(data_dir) if (text := advice(one, settings.symbols))]
