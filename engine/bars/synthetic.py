"""Made bars for tests and demonstrations: `make_bars` makes valid ones, `spoil` breaks exactly one rule.

One generator serves every test, so that no test works on bars that could not exist.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.bars.model import FRAME_US, MINUTE_US, Bars, Floats, Ints, iso
from engine.errors import ConfigError, closest

SESSION_OPEN_US = 870 * MINUTE_US  # 14:30 UTC, the New York open in winter
SESSION_US = 390 * MINUTE_US
DAY_US = 1440 * MINUTE_US
MISSING, FLAT, SAME_OPEN, UNTRADED = 0.02, 0.01, 0.10, 0.004  # shares of slots and of bars
LARGEST_STEP = 0.3  # log units; below ln 1.4, where a gap counts as an unexplained jump
DIVIDEND_EVERY_BARS, DIVIDEND_YIELD = 63, 0.004


def _stamps(seed: int, n: int, frame: str, start: str, calendar: str) -> Ints:
    """Return ``n`` stamps of the frame's grid, about 2 % of the slots left out, shape (T,)."""
    frame_us = FRAME_US[frame]
    first = int(np.datetime64(start, "us").astype(np.int64))
    # A slot is kept or left out by its own draw, so a longer series begins with the shorter one.
    kept = np.random.default_rng([seed, 1]).random(2 * n + 16) >= MISSING
    kept[0] = True
    slots = np.flatnonzero(kept)[:n]
    if calendar == "24/7":
        return np.asarray(first + slots * frame_us, dtype=np.int64)
    day = first // DAY_US
    per_session = 1 if frame == "1d" else max(1, SESSION_US // frame_us)
    sessions = np.busday_offset(np.datetime64(day, "D"), slots // per_session, roll="forward")
    ts = sessions.astype("datetime64[us]").astype(np.int64)
    if frame != "1d":
        ts += SESSION_OPEN_US + slots % per_session * frame_us
    return np.asarray(ts, dtype=np.int64)


def _reflect(path: Floats, low: float, high: float) -> Floats:
    """Fold a path into [low, high] by reflection; no step gets longer, shape unchanged."""
    span = high - low
    phase = np.mod(path - low, 2.0 * span)
    return np.asarray(low + np.minimum(phase, 2.0 * span - phase))


def _to_tick(price: Floats, tick: float) -> Floats:
    """Round to whole ticks and clear the binary dust of the product; tick 0 changes nothing."""
    if tick == 0.0:
        return price
    return np.round(np.rint(price / tick) * tick, 10)


def make_bars(
    seed: int,
    n: int,
    frame: str = "1d",
    *,
    start: str = "2015-01-02",
    price: float = 100.0,
    volatility: float = 0.02,
    drift: float = 0.0,
    tick: float = 0.01,
    calendar: str = "observed",
    symbol: str = "TEST",
    dividends: bool = False,
) -> Bars:
    """Make ``n`` valid bars: a random walk with price gaps, missing, flat and untraded bars.

    Parameters
    ----------
    seed : int, >= 0
        Same seed, same bars; a larger ``n`` continues the same series.
    n : int, >= 1
        Number of bars.
    frame : str
        One of `engine.bars.model.FRAME_US`.
    start : str
        ISO date (or time, for 24/7) of the first bar; rolled to a weekday for `observed`.
    price : float
        First open, in price units; at least 100 ticks.
    volatility : float, >= 0
        Standard deviation of the log return per bar; single steps are cut at 0.3.
    drift : float
        Mean log return per bar.
    tick : float, >= 0
        All prices are whole ticks; 0 = no rounding.
    calendar : {"observed", "24/7"}
        Weekdays (intraday: 14:30 to 21:00 UTC), or every slot of the frame.
    symbol : str
        Canonical key.
    dividends : bool
        Pay 0.4 % of the close before, rounded to .01, on every 63rd bar.

    Returns
    -------
    Bars
        adj = 1 throughout. Prices are reflected at 100 ticks (or half of ``price``) below.

    NaN: none.

    Raises
    ------
    ConfigError
        Unknown frame or calendar, or a number outside its range.

    >>> bars = make_bars(0, 500)
    >>> len(bars), bool((bars.low > 0).all())
    (500, True)
    """
    if frame not in FRAME_US:
        raise ConfigError(f"frame {frame!r} is not known. {closest(frame, FRAME_US)}")
    if calendar not in ("observed", "24/7"):
        raise ConfigError(f"calendar {calendar!r} is not known. {closest(calendar, ('observed', '24/7'))}")
    if n < 1 or volatility < 0.0 or tick < 0.0 or price <= 0.0 or price < 100 * tick:
        raise ConfigError(
            f"make_bars: n was {n}, price {price}, volatility {volatility}, tick {tick}; "
            "expected n >= 1, price > 0 and >= 100 ticks, volatility >= 0, tick >= 0"
        )
    # Two generators filled row by row: bar t draws the same numbers whatever n is.
    draws = np.random.default_rng([seed, 2]).standard_normal((n, 5))
    kinds = np.random.default_rng([seed, 3]).random((n, 2))
    untraded = kinds[:, 0] < UNTRADED
    flat = untraded | (kinds[:, 0] < UNTRADED + FLAT)

    gap = np.clip(0.4 * volatility * draws[:, 0], -LARGEST_STEP, LARGEST_STEP)
    gap[untraded | (kinds[:, 1] < SAME_OPEN)] = 0.0
    gap[0] = 0.0
    body = np.clip(drift + 0.9 * volatility * draws[:, 1], -LARGEST_STEP, LARGEST_STEP)
    body[flat] = 0.0
    wicks = np.minimum(0.5 * volatility * np.abs(draws[:, 2:4]), LARGEST_STEP)
    wicks[flat] = 0.0

    steps = np.stack([gap, body], axis=1).reshape(-1)  # (2T,): open 0, close 0, open 1, ...
    floor = min(price / 2.0, 100.0 * tick) if tick > 0.0 else price * 1e-4
    path = _reflect(np.log(price) + np.cumsum(steps), np.log(floor), np.log(price * 1e4))
    path[0] = np.log(price)
    open_, close = np.exp(path[0::2]), np.exp(path[1::2])
    high = np.maximum(open_, close) * np.exp(wicks[:, 0])
    low = np.minimum(open_, close) * np.exp(-wicks[:, 1])
    volume = np.where(untraded, 0.0, np.floor(1e6 * np.exp(0.4 * draws[:, 4])) + 1.0)

    open_, high, low, close = (_to_tick(column, tick) for column in (open_, high, low, close))
    high = np.maximum(high, np.maximum(open_, close))  # exp and log may differ by one unit in the last place
    low = np.minimum(low, np.minimum(open_, close))
    dividend = np.zeros(n)
    if dividends:
        paid = np.arange(DIVIDEND_EVERY_BARS, n, DIVIDEND_EVERY_BARS)
        dividend[paid] = np.maximum(np.round(DIVIDEND_YIELD * close[paid - 1], 2), 0.01)
    return Bars(
        symbol, frame, calendar, _stamps(seed, n, frame, start, calendar),
        open_, high, low, close, volume, np.ones(n), dividend,
    )  # fmt: skip


def to_csv(bars: Bars) -> str:
    """Write bars as a file a vendor would send: raw prices, ISO stamps in UTC, header line first."""
    daily = bars.frame == "1d"
    lines = ["date,open,high,low,close,volume" if daily else "timestamp,open,high,low,close,volume"]
    for i in range(len(bars)):
        stamp = iso(int(bars.ts[i])) if daily else f"{np.datetime64(int(bars.ts[i]), 'us')}Z"
        cells = [float(getattr(bars, name)[i] * bars.adj[i]) for name in ("open", "high", "low", "close")]
        cells.append(float(bars.volume[i] / bars.adj[i]))
        lines.append(",".join([stamp, *(repr(cell) for cell in cells)]))
    return "\n".join(lines) + "\n"


def _with_cell(position: int, text: str) -> Callable[[list[str]], list[str]]:
    """Return an edit that puts ``text`` into one cell of the middle row."""

    def edit(lines: list[str]) -> list[str]:
        middle = len(lines) // 2
        cells = lines[middle].split(",")
        cells[position] = text
        return [*lines[:middle], ",".join(cells), *lines[middle + 1 :]]

    return edit


def _revise(lines: list[str]) -> list[str]:
    """Move one whole bar up by 1 %: a valid bar that differs from the history before."""
    middle = len(lines) // 2
    cells = lines[middle].split(",")
    cells[1:5] = [repr(round(float(cell) * 1.01, 2)) for cell in cells[1:5]]
    return [*lines[:middle], ",".join(cells), *lines[middle + 1 :]]


def _swap(lines: list[str]) -> list[str]:
    middle = len(lines) // 2
    return [*lines[:middle], lines[middle + 1], lines[middle], *lines[middle + 2 :]]


def _contradict(lines: list[str]) -> list[str]:
    middle = len(lines) // 2
    cells = lines[middle].split(",")
    cells[5] = repr(float(cells[5]) + 1.0)
    return [*lines[: middle + 1], ",".join(cells), *lines[middle + 1 :]]


def _without_zone(lines: list[str]) -> list[str]:
    stamps = [line.split(",")[0].removesuffix("Z") for line in lines[1:]]
    stamps = [stamp if "T" in stamp else f"{stamp} 09:30" for stamp in stamps]
    rows = [",".join([stamp, *line.split(",")[1:]]) for stamp, line in zip(stamps, lines[1:], strict=True)]
    return [lines[0], *rows]


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "E01": lambda lines: [lines[0].replace("close", "closing"), *lines[1:]],
    "E02": _with_cell(4, "N/A"),
    "E03": _with_cell(4, "nan"),
    "E04": _with_cell(3, "0.0"),
    "E05": _with_cell(2, "0.01"),
    "E06": _contradict,
    "E07": _swap,
    "E08": _without_zone,
    "E10": _with_cell(5, "-1.0"),
    "E13": _revise,
    "E15": lambda lines: lines,  # the final newline is left off below
    "E17": lambda lines: lines[:1],
    "W01": _with_cell(5, "0.0"),
    "W06": lambda lines: [*lines[:3], lines[2], *lines[3:]],
}


def spoil(csv_text: str, rule: str) -> str:
    """Break exactly one rule in a valid file.

    Parameters
    ----------
    csv_text : str
        What `to_csv` returns, at least six bars.
    rule : str
        One of `EDITS`. E13 changes one bar validly: it shows against stored bars only.

    Returns
    -------
    str
        The file's text with that one defect, in its middle row where it is a row's defect.

    Raises
    ------
    ConfigError
        The rule is not one that a file can break.
    """
    if rule not in EDITS:
        raise ConfigError(f"spoil: rule {rule!r} is not known. {closest(rule, EDITS)}")
    text = "\n".join(EDITS[rule](csv_text.splitlines()))
    return text if rule == "E15" else text + "\n"
