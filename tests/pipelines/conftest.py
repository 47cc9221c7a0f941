"""A small deployment of its own for each test: tracked files copied, made bars, its own Dagster home."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import dagster as dg
import numpy as np
import pytest
import yaml

import pipelines  # points numba at this checkout's kernels, which the processes below inherit
from engine.bars.synthetic import make_bars

KEYS = ("AAA", "BTC-USD")
STAGES = ("prices", "features", "forecasts", "optimizations", "backtests")
BARS = 470
SETTINGS = {
    "asof": "2020-01-01",
    "symbols": {key: {} for key in KEYS},
    "prices": {"source": "files"},
    "forecasts": {"levels": [0.1, 0.5, 0.9]},
    "features": {"columns": ["sma.close.n=20", "atr.n=14"]},
    "folds": {"warmup_bars": 260, "train_bars": 100, "test_bars": 40, "inner_folds": 2, "min_folds": 2},
    "search": {"screen": 0, "max_trials": 4, "batch": 4},
    "constraints": {"min_trades": 1},
    "strategies": [
        {"strategy": "levels_entry_exit"},
        {"strategy": "trend", "parameters": {"fast": {"type": "int", "low": 5, "high": 20}}},
    ],
    "workers": {"max_concurrent": 2},
}


@dataclass
class Deployment:
    """A folder with the Dagster side of nightfold, settings and data, away from the user's."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def environment(self) -> dict[str, str]:
        """What a shell in the root has: no setting of ours, nor of the person who runs the tests."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DAGSTER", "NIGHTFOLD", "PYTEST"))
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {**kept, "PWD": str(self.root), "PATH": path, "PYTHONPATH": str(self.root)}

    keys = KEYS
    stages = STAGES

    @staticmethod
    def wait_for(what: Callable[[], object], *, seconds: float = 90.0) -> object:
        """Return the first true answer; fail after the deadline."""
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, f"not true within {seconds:.0f} s"
            time.sleep(0.1)
        return found

    def settings(self, **changes: object) -> None:
        (self.root / "nightfold.yaml").write_text(yaml.safe_dump({**SETTINGS, **changes}, sort_keys=False))

    def bars(self, key: str, count: int = BARS) -> None:
        """Write the price file of a symbol; a longer one continues the shorter one."""
        bars = make_bars(KEYS.index(key) + 1, count, symbol=key)
        lines = ["date,open,high,low,close,volume"]
        for index, ts in enumerate(bars.ts):
            day = np.datetime64(int(ts), "us").astype("datetime64[D]")
            row = (bars.open, bars.high, bars.low, bars.close, bars.volume)
            lines.append(f"{day}," + ",".join(repr(float(column[index])) for column in row))
        path = self.data / "inbox" / f"{key}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")

    def start(
        self, *command: str, new_session: bool = False, out: TextIO | None = None, **exported: str
    ) -> "subprocess.Popen[str]":
        """Start a module of the environment that runs the tests, in the root.

        Dagster's databases are made before, so that a test that looks into them cannot race that.
        """
        with self.instance() as instance:
            instance.get_runs(limit=1)
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root, env={**self.environment, **exported}, text=True,
            stdout=out or subprocess.PIPE, stderr=out or subprocess.PIPE, start_new_session=new_session,
        )  # fmt: skip

    def call(self, *command: str, **exported: str) -> "subprocess.CompletedProcess[str]":
        """Run a module to its end."""
        process = self.start(*command, **exported)
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.data / "dagster")) as instance:
            yield instance

    def runs(self) -> list[dg.DagsterRun]:
        """Return the runs, newest first."""
        with self.instance() as instance:
            return list(instance.get_runs())

    def events(self, kind: dg.DagsterEventType, run: dg.DagsterRun | None = None) -> list[dg.EventLogEntry]:
        """Return a run's events of one kind (default: the newest run), oldest first."""
        with self.instance() as instance:
            return list(instance.all_logs((run or self.runs()[0]).run_id, of_type=kind))

    def said(self, run: dg.DagsterRun | None = None) -> list[str]:
        """Return the lines that the stages of a run said (default: the newest run)."""
        with self.instance() as instance:
            entries = instance.all_logs((run or self.runs()[0]).run_id)
            return [entry.user_message for entry in entries if entry.dagster_event is None]

    def materialised(
        self, run: dg.DagsterRun | None = None
    ) -> dict[tuple[str, str], dg.AssetMaterialization]:
        """Return what a run materialised, by (asset, partition), '' for the leaderboard."""
        found = {}
        for entry in self.events(dg.DagsterEventType.ASSET_MATERIALIZATION, run):
            one = entry.dagster_event.step_materialization_data.materialization
            found[one.asset_key.to_user_string(), one.partition or ""] = one
        return found

    def statuses(self, key: str) -> dict[str, str]:
        """Return the state of a symbol's partition of each asset, as the web UI shows it."""
        partitions = dg.StaticPartitionsDefinition(list(KEYS))
        with self.instance() as instance:
            found = {}
            for stage in STAGES:
                status = instance.get_status_by_partition(dg.AssetKey(stage), [key], partitions) or {}
                found[stage] = status[key].value if status.get(key) else ""
            return found


def _deploy(root: Path) -> Deployment:
    (root / "data" / "dagster").mkdir(parents=True)
    shutil.copytree(
        pipelines.ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("workspace.yaml", ".env", "data/dagster/dagster.yaml"):
        shutil.copy(pipelines.ROOT / name, root / name)
    made = Deployment(root)
    made.settings()
    for key in KEYS:
        made.bars(key)
    return made


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment in which nothing has run yet."""
    return _deploy(tmp_path / "nightfold")


@dataclass
class Finished(Deployment):
    """A deployment after one run to the end."""

    first: "subprocess.CompletedProcess[str]"  # how that run ended, and what it printed


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A deployment after one run to the end, for tests that only look."""
    made = _deploy(tmp_path_factory.mktemp("finished") / "nightfold")
    return Finished(made.root, made.call("pipelines.run"))


@pytest.fixture
def continued(finished: Finished, tmp_path: Path) -> Deployment:
    """A copy of the finished deployment, to go on with."""
    shutil.copytree(finished.root, tmp_path / "nightfold")
    return Deployment(tmp_path / "nightfold")
