"""A small lake made by the real stages from made bars, once a session; tests work on copies of it.

`Bench` is a data folder with its settings: write a symbol's bars, run its chain, read its tables.
Sizes are small, so that a chain takes seconds: tests begin at bar 650, trend tests 40 bars at a
time, levels 20. At bar 890 the open test spans of all three strategies are full.
"""

import copy
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.bars.model import Bars
from engine.bars.synthetic import make_bars, to_csv
from engine.config import Settings
from engine.lake.publish import Lake
from engine.sources import patience
from engine.stages.chain import run_chain

# A shell that starts the tests in the background makes them, and all they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SYMBOL = "ALFA"
EARLY_BARS, FULL_BARS = 888, 925
SETTINGS = {
    "symbols": {SYMBOL: {}},
    "prices": {"source": "files"},
    "features": {"columns": ["sma.close.n=20", "rsi.n=14", "atr.n=14", "bollinger.close.n=20.k=2"]},
    "forecasts": {"levels": [0.1, 0.5, 0.9], "min_history_bars": 250},
    "devices": {"device": "cpu"},
    "folds": {"warmup_bars": 250, "train_bars": 400, "test_bars": 40, "inner_folds": 4},
    "search": {"screen": 0, "max_trials": 20, "batch": 10},
    "constraints": {"min_trades": 5},
    "strategies": [
        {"strategy": "levels_entry_exit", "folds": {"test_bars": 20}},
        {"strategy": "levels_always_on", "folds": {"test_bars": 20}},
        {
            "strategy": "trend",
            "parameters": {
                "fast": {"type": "int", "low": 5, "high": 60},
                "slow": {"type": "int", "low": 20, "high": 120, "step": 5},
                "adx_min": {"type": "float", "low": 10, "high": 30, "step": 1},
                "stop_atr": {"type": "float", "low": 1, "high": 4, "step": 0.25},
            },
        },
    ],
    "report": {"charts": False},
}


def merged(base: dict, changes: dict) -> dict:
    """Return nested settings with changes, key by key; lists are replaced whole."""
    out = copy.deepcopy(base)
    for key, value in changes.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and key in out else value
    return out


def alfa_bars(n: int) -> Bars:
    """Return the first ``n`` bars of the symbol, dividends and untraded bars among them."""
    return make_bars(7, n, symbol=SYMBOL, volatility=0.015, dividends=True)


class Bench:
    """A data folder, its settings, and the stages over it."""

    def __init__(self, data_dir: Path, settings: dict | None = None) -> None:
        self.data_dir, self.raw = data_dir, settings or SETTINGS
        self.lake = Lake(data_dir)
        self.said: list[str] = []
        (data_dir / "inbox").mkdir(parents=True, exist_ok=True)

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(self.raw)

    def change(self, **changes) -> None:
        """Change settings, key by key."""
        self.raw = merged(self.raw, changes)

    def write(self, bars: Bars) -> None:
        """Put a symbol's bars where its owner would: a file, and its dividends as events."""
        (self.data_dir / "inbox" / f"{bars.symbol}.csv").write_text(to_csv(bars))
        rows = ["symbol,date,kind,value,note"]
        for t in np.flatnonzero(bars.dividend).tolist():
            day = np.datetime64(int(bars.ts[t]), "us").astype("datetime64[D]")
            rows.append(f"{bars.symbol},{day},dividend,{float(bars.dividend[t])!r},")
        (self.data_dir / "events.csv").write_text("\n".join(rows) + "\n")

    def chain(self, symbol: str = SYMBOL) -> dict:
        """Run a symbol's stages; return their results by name."""
        results = run_chain(self.lake, symbol, self.settings, self.said.append, asof=None)
        return {result.stage: result for result in results}

    def table(self, name: str, symbol: str = SYMBOL) -> pa.Table:
        """Return a stored table; the parts of ``trials`` joined."""
        if name == "trials":
            parts = self.lake.parts(name, symbol)
            return pa.concat_tables([self.lake.read(name, symbol, part=part) for part in parts])
        return self.lake.need(name, symbol, "any stage")

    def rows(self, name: str, symbol: str = SYMBOL) -> list[dict]:
        """Return a stored table as rows; NaN as None, so that rows compare equal."""
        out = self.table(name, symbol).to_pylist()
        return [{key: None if value != value else value for key, value in row.items()} for row in out]

    def files(self) -> dict[str, bytes]:
        """Return the content of every Parquet file of the lake, by its path below it."""
        root = self.data_dir / "lake"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}

    def stamps(self) -> dict[str, int]:
        """Return when every Parquet file of the lake was written, nanoseconds."""
        root = self.data_dir / "lake"
        return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*.parquet")}

    def copy_to(self, data_dir: Path) -> "Bench":
        """Return a bench on a copy of all its data."""
        shutil.copytree(self.data_dir, data_dir)
        return Bench(data_dir, self.raw)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No test waits for a vendor; the seconds that it would have waited."""
    waited = []
    monkeypatch.setattr(patience, "pause", waited.append)
    return waited


@pytest.fixture(scope="session")
def _full_lake(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("full") / "data")
    bench.write(alfa_bars(FULL_BARS))
    bench.first = bench.chain()
    return bench


@pytest.fixture(scope="session")
def _early_lake(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("early") / "data")
    bench.write(alfa_bars(EARLY_BARS))
    bench.first = bench.chain()
    return bench


@pytest.fixture(scope="session")
def small_lake(_full_lake):
    """All stages but the leaderboard on 925 bars in one run; read only."""
    return _full_lake


@pytest.fixture(scope="session")
def early_lake(_early_lake):
    """The same symbol when only its first 908 bars were known; read only."""
    return _early_lake


@pytest.fixture
def full(_full_lake, tmp_path):
    """A copy of `small_lake` that a test may change."""
    return _full_lake.copy_to(tmp_path / "data")


@pytest.fixture
def early(_early_lake, tmp_path):
    """A copy of `early_lake` that a test may change."""
    return _early_lake.copy_to(tmp_path / "data")


@pytest.fixture(scope="session")
def alfa():
    """Bars of the small lake's symbol: ``alfa(n)`` gives the first n."""
    return alfa_bars


@pytest.fixture
def bench():
    """Make an empty `Bench` on a folder: ``bench(folder, settings)``."""
    return Bench


@pytest.fixture(scope="session")
def with_bar():
    """Return bars with one bar changed validly: ``with_bar(bars, t, factor)``."""

    def change(bars: Bars, t: int, factor: float = 1.01) -> Bars:
        columns = {f.name: getattr(bars, f.name).copy() for f in fields(bars)[3:]}
        for name in ("open", "high", "low", "close"):
            columns[name][t] = round(columns[name][t] * factor, 2)
        return replace(bars, **columns)

    return change
