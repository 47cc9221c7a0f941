"""Make the files of this folder again, byte for byte, from the package bokeh_sampledata 2026.1.

    pip install bokeh_sampledata==2026.1
    python data/sample/make_sample.py            # into this folder
    python data/sample/make_sample.py OTHER      # into OTHER, to compare

Splits and verified moves are facts written down here. Dividends are derived from the origin's adjusted
closes: close[t-1] / split[t] * adj_close[t] / adj_close[t-1] - close[t], where that is above half a cent.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import sys
from pathlib import Path

ORIGIN_SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
HEADER = "date,open,high,low,close,volume"
SPLITS = {("AAPL", "2000-06-21"): 2.0, ("AAPL", "2005-02-28"): 2.0, ("MSFT", "2003-02-18"): 2.0}
VERIFIED_MOVES = {("AAPL", "2000-09-29"): "profit warning after the close of 2000-09-28"}
NOTES = {("MSFT", "2004-11-15"): "special dividend"}


def origin() -> Path:
    """Return the origin's path inside the installed package, without importing the package."""
    found = importlib.util.find_spec("bokeh_sampledata")
    if found is None or not found.submodule_search_locations:
        sys.exit("bokeh_sampledata is not installed. Run: pip install bokeh_sampledata==2026.1")
    return Path(found.submodule_search_locations[0]) / "_data" / "stocks.csv.gz"


def dividends(symbol: str, rows: list[dict[str, str]]) -> list[tuple[str, float]]:
    """Return (ex-date, cash per share in raw terms) of one symbol, oldest first."""
    found = []
    for before, now in zip(rows, rows[1:], strict=False):
        step = float(now["Adj Close"]) / float(before["Adj Close"])
        split = SPLITS.get((symbol, now["Date"]), 1.0)
        cash = float(before["Close"]) / split * step - float(now["Close"])
        if cash > 0.005:
            found.append((now["Date"], round(cash, 2)))
    return found


def main() -> None:
    """Write <KEY>.csv of the five symbols and events.csv."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    packed = origin().read_bytes()
    if hashlib.sha256(packed).hexdigest() != ORIGIN_SHA256:
        sys.exit(f"{origin()} is not the file of bokeh_sampledata 2026.1 (expected sha256 {ORIGIN_SHA256})")
    table = list(csv.DictReader(gzip.decompress(packed).decode("utf-8").splitlines()))
    events: list[tuple[str, str, str, str, str]] = []
    for symbol in sorted({row["Ticker"] for row in table}):
        rows = [row for row in table if row["Ticker"] == symbol]
        lines = [",".join(row[name.capitalize()] for name in HEADER.split(",")) for row in rows]
        (folder / f"{symbol}.csv").write_bytes("\n".join([HEADER, *lines, ""]).encode())
        for ex_date, cash in dividends(symbol, rows):
            events.append((symbol, ex_date, "dividend", f"{cash:.2f}", NOTES.get((symbol, ex_date), "")))
    events += [(symbol, day, "split", f"{ratio:g}", "") for (symbol, day), ratio in SPLITS.items()]
    events += [(symbol, day, "verified_move", "", note) for (symbol, day), note in VERIFIED_MOVES.items()]
    lines = ["symbol,date,kind,value,note", *(",".join(event) for event in sorted(events)), ""]
    (folder / "events.csv").write_bytes("\n".join(lines).encode())


if __name__ == "__main__":
    main()
