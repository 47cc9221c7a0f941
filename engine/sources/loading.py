"""The one way from a source to checked bars: `load` fetches, parses, applies events and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.bars.checks import clean
from engine.bars.findings import Context, RawBars, refuse
from engine.bars.model import FRAME_US, Bars, iso
from engine.bars.policy import Policy, Rejected, settle
from engine.bars.series import check_series
from engine.bars.splits import Event
from engine.errors import ConfigError, closest
from engine.sources.base import Keeper, RawBatch, Request, Source, SymbolSource
from engine.sources.declaring import based_on, refuse_unfounded
from engine.sources.events import combine, declared_event, events_sha, read_events
from engine.sources.files import Files
from engine.sources.patience import Patience
from engine.sources.refusals import no_reply
from engine.sources.sample import Sample

NAMES = ("sample", "files", "yahoo", "exchange")
NETWORK = ("yahoo", "exchange")
REFUSE = Policy()
CHECKOUT_DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True, eq=False)
class Loaded:
    """What one load brought.

    Parameters
    ----------
    bars : Bars
        Checked, split-adjusted, complete at asof.
    warnings : list of str
        One line per W rule.
    raw : list of RawBatch
        The pages as they came, for the stage to keep.
    events_sha : str
        sha256 of the symbol's own rows in events.csv.
    events : tuple of Event
        The symbol's own and the vendor's.
    rejected : tuple of Rejected
        Rows that the policy set aside.
    repairs : tuple of str
        What the policy mended.
    currency : str
        Unit of the prices, empty where the source says none.
    """

    bars: Bars
    warnings: list[str]
    raw: list[RawBatch]
    events_sha: str
    events: tuple[Event, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    repairs: tuple[str, ...] = ()
    currency: str = ""


def make_source(name: str, data_dir: Path, options: SymbolSource, client: Any = None) -> Source:
    """Return the source of that name; network packages are imported only for network sources.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    data_dir : Path
        Folder of sample/ and inbox/.
    options : SymbolSource
        Names the venue of ``exchange``.
    client : object or None
        Stands in for ``yfinance.Ticker`` or a ccxt exchange; None = the real one.

    Raises
    ------
    ConfigError
        Unknown name (closest three), or ``exchange`` without a known venue.
    MissingExtra
        The package of a network source is not installed.
    """
    if name == "sample":
        return Sample(data_dir)
    if name == "files":
        return Files(data_dir)
    if name == "yahoo":
        from engine.sources.yahoo import Yahoo

        return Yahoo(client)
    if name == "exchange":
        from engine.sources.exchange import Exchange

        return Exchange(options.venue, client)
    raise ConfigError(f"source {name!r} is not known. {closest(name, NAMES)}")


def require_served(name: str, key: str, frame: str, venue: str | None) -> None:
    """Refuse what a source is known not to serve, before anything is asked of it.

    Raises
    ------
    ConfigError
        A venue that ccxt does not know, or a frame that the source lacks.
    MissingExtra
        The package of a network source is not installed.
    """
    if name == "sample" and frame != "1d":
        raise ConfigError(f"source 'sample' has no frame {frame} ({key}): its bars are daily. Set frame: 1d")
    if name == "yahoo":
        from engine.sources.yahoo import Yahoo

        Yahoo().require_frame(frame, key)
    if name == "exchange":
        from engine.sources.exchange import Exchange

        Exchange(venue).require_frame(frame, key)


def own_events_path(name: str, data_dir: Path) -> Path:
    """Return the event table of a source: the sample has its own, all others share data/events.csv."""
    return data_dir / "sample" / "events.csv" if name == "sample" else data_dir / "events.csv"


def _joined(pages: Sequence[RawBars]) -> RawBars:
    """Return the rows of all pages in their order."""
    if len(pages) == 1:
        return pages[0]
    columns: Mapping[str, Any] = {
        field.name: np.concatenate([getattr(page, field.name) for page in pages])
        for field in fields(RawBars)[2:]
    }
    return RawBars(pages[0].origin, pages[0].place, **columns)


def _as_in_file(rejected: tuple[Rejected, ...], batches: Sequence[RawBatch]) -> tuple[Rejected, ...]:
    """Return rows set aside with the text of their lines, where they come from one text file."""
    if not rejected or len(batches) != 1 or batches[0].form != "csv":
        return rejected
    text = batches[0].data.split(b"\n")
    return tuple(replace(r, text=text[r.line - 1].decode("utf-8", "replace").rstrip("\r")) for r in rejected)


def load(
    source_name: str,
    key: str,
    options: SymbolSource,
    *,
    data_dir: Path,
    frame: str,
    start: int | None = None,
    asof: int | None = None,
    overlap_from: int | None = None,
    policy: Policy = REFUSE,
    max_gap_bars: int = 10,
    group_last: int | None = None,
    keeper: Keeper | None = None,
    patience: Patience | None = None,
    pages: Sequence[RawBatch] | None = None,
    client: Any = None,
    to_declare: Sequence[Event] = (),
) -> Loaded:
    """Fetch, parse, adjust and check one symbol's bars.

    Parameters
    ----------
    source_name : str
        One of `NAMES`.
    key : str
        Canonical key.
    options : SymbolSource
        Name at the provider, venue, calendar, file form, tick.
    data_dir : Path
        Folder of sample/, inbox/ and events.csv.
    frame : str
        One of `engine.bars.model.FRAME_US`.
    start : int or None
        First bar asked of a network source, microseconds UTC; None = all there is.
    asof : int or None
        Bars are complete then; microseconds UTC. None = every bar the source gives.
    overlap_from : int or None
        Incremental load: only bars from this stamp on, microseconds UTC. Gaps and jumps are then looked for
        by whoever joins them to the stored bars (`engine.bars.series.check_series`).
    policy : Policy
        What becomes of rows that break a rule.
    max_gap_bars, group_last
        As in `engine.bars.findings.Context`.
    keeper : Keeper or None
        Given each page as it comes, before anything is made of it.
    patience : Patience or None
        How often a network source is asked; None = as `Patience` says.
    pages : sequence of RawBatch or None
        Kept replies to read in place of asking for new ones.
    client : object or None
        See `make_source`.
    to_declare : sequence of Event
        Events that are to be kept from now on: they are compared with the prices (see
        `engine.sources.declaring`) in place of a search for gaps and jumps, and count in what is returned.

    Returns
    -------
    Loaded
        With at least one bar.

    NaN: none; E03 refuses it.

    Raises
    ------
    DataError
        Any rule of the readers, of `engine.bars.checks` and of the events.
    ConfigError
        Unknown source, frame or venue; or the prices do not show an event that is to be declared.
    MissingExtra
        The source's package is not installed.
    """
    if frame not in FRAME_US:
        raise ConfigError(f"frame {frame!r} is not known. {closest(frame, FRAME_US)}")
    source = make_source(source_name, data_dir, options, client)
    first = start if overlap_from is None else overlap_from
    request = Request(key, frame, options, first, asof, policy, patience or Patience())
    if keeper is not None:
        request = replace(request, kept=keeper.begun(request))
    own = read_events(own_events_path(source_name, data_dir), key, frame)
    batches = []
    for batch in source.fetch(request) if pages is None else pages:
        if keeper is not None:
            keeper.keep(batch)
        batches.append(batch)
    if keeper is not None:
        keeper.ended()
    if not batches:
        no_reply(request, source_name, "")
    parsed = [source.parse(batch, request) for batch in batches]
    rows = _joined([page.rows for page in parsed])
    asked = first if source_name in NETWORK else None
    context = Context(
        key, frame, options.calendar, asof, options.tick,
        first=asked, max_gap_bars=max_gap_bars, fresh=source_name != "sample", group_last=group_last,
    )  # fmt: skip
    unread = tuple(row for page in parsed for row in page.rejected)
    spare = max(0, policy.spare(len(rows) + len(unread)) - len(unread))
    settled = settle(rows, context, policy, spare=spare)
    declared = [declared_event(text) for text in policy.repairs if policy.kind == "repair" and "@" in text]
    vendors = [event for page in parsed for event in page.events]
    rows = clean(settled.rows, context)
    if to_declare:
        refuse_unfounded(rows, context, [*own, *declared], vendors, to_declare)
        own = combine(to_declare, own)
    events = combine([*own, *declared], vendors)
    kept, bars = based_on(rows, events, context)
    findings = [*(f for page in parsed for f in page.findings), *settled.findings]
    if overlap_from is None and not to_declare:
        findings += check_series(bars, context, events, raw=kept)
    warnings = refuse(findings, key, frame)
    repairs = [text for page in parsed for text in page.repairs] + list(settled.repairs)
    repairs += [f"{event.kind} {event.value:.10g} from {iso(event.ts)}" for event in declared]
    rejected = unread + _as_in_file(settled.rejected, batches)
    if rejected:
        warnings.append(f"{len(rejected)} rows set aside: see table quarantine")
    if overlap_from is not None:
        # Cut last: a file is checked whole, and a dividend is compared with the close before the cut.
        bars = bars.slice(int(np.searchsorted(bars.ts, overlap_from)), None)
        if len(bars) == 0:
            no_reply(request, source_name, "no bar in the span asked for")
    currency = next((page.currency for page in parsed if page.currency), "")
    return Loaded(
        bars, warnings, batches, events_sha([*own, *declared]), events, rejected, tuple(repairs), currency
    )


def sample(key: str, *, data_dir: Path = CHECKOUT_DATA) -> Bars:
    """Return the checked, split-adjusted daily bars of one sample symbol.

    Parameters
    ----------
    key : str
        AAPL, FB, GOOG, IBM or MSFT.
    data_dir : Path
        Folder that holds sample/; default: the one of this checkout.

    Returns
    -------
    Bars
        3,270 bars (GOOG 2,148, FB 196) up to 2013-03-01.

    Raises
    ------
    DataError
        E16: another key, with the closest three.

    >>> len(sample("AAPL"))
    3270
    """
    return load("sample", key, SymbolSource(tick=0.01), data_dir=data_dir, frame="1d").bars
