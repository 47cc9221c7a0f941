"""The command line on small projects: settings, price files, and a finished run to copy from."""

import os
import shutil
import sys

import pytest
from click.testing import CliRunner

from engine import cli, cli_base, kernel_cache
from engine.bars.synthetic import make_bars, to_csv
from engine.sources.loading import CHECKOUT_DATA

SETTINGS = """
data_dir: store
symbols:
  AAA: {source: files}
  BBB: {source: files}
features: {columns: [sma.close.n=20]}
forecasts: {levels: [0.1, 0.5, 0.9]}
devices: {device: cpu}
folds: {warmup_bars: 50, train_bars: 120, test_bars: 40, min_folds: 2, inner_folds: 2}
search: {screen: 0, max_trials: 2, batch: 2}
constraints: {min_trades: 0, max_drawdown: null}
strategies:
  - strategy: levels_entry_exit
    folds: {warmup_bars: 255, train_bars: 45, test_bars: 20}
  - strategy: trend
    parameters: {fast: {type: int, low: 5, high: 10}, slow: {type: int, low: 20, high: 40, step: 5}}
report: {charts: false}
"""
CSV = {key: to_csv(make_bars(seed, 350, symbol=key)) for seed, key in enumerate(("AAA", "BBB"))}


class Project:
    """A folder with settings and price files, and the command line on it."""

    csv, text = CSV, SETTINGS

    def __init__(self, folder):
        self.folder, self.data = folder, folder / "store"
        self.settings = folder / "nightfold.yaml"
        self.inbox = self.data / "inbox"

    def lay_out(self):
        self.inbox.mkdir(parents=True)
        self.settings.write_text(SETTINGS)
        for key, text in CSV.items():
            (self.inbox / f"{key}.csv").write_text(text)
        return self

    def __call__(self, *arguments):
        return CliRunner().invoke(cli.main, ["--settings", str(self.settings), *arguments])

    def edit(self, old, new):
        text = self.settings.read_text()
        assert old in text
        self.settings.write_text(text.replace(old, new))

    def lake_files(self):
        return {
            str(path.relative_to(self.data)): path.read_bytes()
            for path in self.data.rglob("lake/*/*.parquet")
        }

    def command(self, *arguments):
        """Return the command line and environment of a real process; its kernels are the install's."""
        environ = dict(os.environ)
        kernel_cache.use(CHECKOUT_DATA, environ)
        main = "from engine.cli import main; main()"
        line = [sys.executable, "-c", main, "--settings", str(self.settings), *arguments]
        return {"args": line, "env": environ, "text": True, "cwd": self.folder}


@pytest.fixture(autouse=True)
def _own_process_is_prepared(monkeypatch):
    """Leave this process's environment as it is; real processes are prepared as users' are."""
    monkeypatch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)


@pytest.fixture
def fresh(tmp_path):
    """Settings and two price files, nothing run yet."""
    return Project(tmp_path / "fresh").lay_out()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("cli") / "finished").lay_out()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)
        project.result = project("run")
    return project


@pytest.fixture
def done(finished, tmp_path):
    """A copy of the project after one whole run."""
    shutil.copytree(finished.folder, tmp_path / "done")
    return Project(tmp_path / "done")


@pytest.fixture
def project():
    """What makes the command line of any folder."""
    return Project
