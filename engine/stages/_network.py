"""What stage ``prices`` does where a vendor does not answer: ask in turn, wait, go on with old bars."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.bars.calendars import knows_sessions
from engine.bars.gaps import late_by
from engine.bars.model import FRAME_US, iso, known_at
from engine.config import Instrument, Settings
from engine.errors import DataError
from engine.lake.files import write_text
from engine.lake.leases import slot
from engine.lake.publish import Lake
from engine.sources.patience import Patience
from engine.stages.common import Progress, StageResult, read_bars


def patience_for(lake: Lake, instrument: Instrument, settings: Settings, progress: Progress) -> Patience:
    """Return how a symbol's vendor is asked: one request at a time, whatever process sends it."""
    vendor = instrument.venue if instrument.source == "exchange" else instrument.source

    def waiting(text: str) -> None:
        progress(f"{instrument.key} {text}")

    return Patience(
        settings.seed, turn=lambda: slot(lake.data_dir, f"ask-{vendor}-", 1, waiting), tell=progress
    )


LONGEST_US = 7 * FRAME_US["1d"]  # without a bar; then the symbol fails, its source may have lost it


def stale_symbols(lake: Lake, symbols: Iterable[str]) -> dict[str, str]:
    """Return which symbols go on with old bars since their vendor did not answer, and what to say of each."""
    notes = {symbol: _note(lake, symbol) for symbol in symbols}
    return {symbol: note.read_text() for symbol, note in notes.items() if note.exists()}


def answered(lake: Lake, symbol: str) -> None:
    """Forget that a symbol was stale."""
    _note(lake, symbol).unlink(missing_ok=True)


def _note(lake: Lake, symbol: str) -> Path:
    return lake.data_dir / "cache" / "stale" / f"{symbol}.txt"


def went_stale(
    lake: Lake, instrument: Instrument, asof: int | None, error: DataError, progress: Progress
) -> StageResult:
    """Return the result of a night in which the vendor did not answer: the stored bars stand, and are marked.

    Raises
    ------
    DataError
        ``error``, where it is another than a missing reply (E15), no bars are stored, or the last one
        is a week old.
    """
    stored = read_bars(lake, instrument) if lake.result_id("bars", instrument.key) else None
    if error.rule != "E15" or stored is None or instrument.source not in ("yahoo", "exchange"):
        raise error
    count = 0 if asof is None else max(late_by(stored, asof), 0)
    unit = "bars" if knows_sessions(stored.calendar) or stored.frame == "1d" else "weekdays"
    known = int(known_at(stored.ts[-1:], stored.frame, stored.calendar)[0])
    if asof is not None and asof - known > LONGEST_US:
        raise error
    last = iso(int(stored.ts[-1]))
    if count:
        write_text(_note(lake, instrument.key), f"prices are stale by {count} {unit} since {last}: {error}")
    progress(
        f"{instrument.key} prices stale by {count} {unit}, the night goes on with bars to {last}: {error}"
    )
    return StageResult(
        "prices",
        instrument.key,
        len(stored),
        str(lake.result_id("bars", instrument.key)),
        True,
        {
            "bars": len(stored),
            "bars_new": 0,
            "first": iso(int(stored.ts[0])),
            "last": last,
            "source": instrument.source,
            "warnings": 1,
            "stale": f"by {count} {unit}",
        },
    )
