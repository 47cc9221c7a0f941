"""Nights in any order, killed, with lost files, edits and changed histories: `Histories`.

A state machine draws the order. Beside the lake stands a model: the vendor's bars, and those that must be
stored. After every night that comes to its end the lake is compared with one made at once from the model.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from replies import Replies

from engine.errors import DataError
from engine.lake import faults
from engine.lake.doctor import examine, repair
from engine.lake.publish import rows_of
from engine.sources import loading
from engine.stages.chain import holding, run_chain, run_stage
from engine.stages.examine import accept
from engine.strategies import user

SYMBOL, OVERLAP = "ALFA", 10
PRICES = ("open", "high", "low", "close")
FINISHED, REFUSED = 0, 13  # exit codes of a child
DIP = '''from engine.strategies import Int, Rules, Strategy, price, rsi, sma, strategy


@strategy("dip")
class Dip(Strategy):
    """Buys a dip."""

    parameters = {"n": Int(2, 9, default=3)}

    @staticmethod
    def rules(p):
        return Rules(enter_long=rsi(p.n) < 40, exit_long=price("close") > sma("close", 7))
'''
VERSIONS = (DIP, DIP.replace("< 40", "< 30"), DIP.replace('sma("close", 7)', 'sma("close", 5)'))
COLUMNS = (["sma.close.n=20", "rsi.n=14"], ["sma.close.n=20", "atr.n=14"], ["rsi.n=14"])


@dataclass(frozen=True)
class Kind:
    """What a night of the machine is: its stages, its settings, and what they determine.

    Parameters
    ----------
    bars : int
        Of the first night.
    changes : dict
        Settings, over those of the small lake.
    points : int
        Crash points of a night, at most.
    stages : tuple of str
        Empty: the whole chain.
    same : tuple of str
        Tables that are a function of bars and settings: equal to those of a clean lake.
    others : tuple of str
        Tables that also hold what earlier nights left; they may be lost, and come back.
    """

    bars: int
    changes: dict[str, Any]
    points: int
    stages: tuple[str, ...]
    same: tuple[str, ...]
    others: tuple[str, ...] = ()


def tree(data_dir, folder):
    """Path and sha256 of all files below a folder, the leases left out."""
    files = [p for p in (data_dir / folder).rglob("*") if p.is_file() and ".leases" not in p.parts]
    return {str(p.relative_to(data_dir)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def joined(stored, vendor):
    """What must be stored after a night on these bars and replies; None where the symbol must be refused."""
    if stored is None:
        return vendor
    n = len(stored)
    columns = {name: getattr(vendor, name).copy() for name in PRICES}
    for name, column in columns.items():
        if np.any(column[n - OVERLAP : n] != getattr(stored, name)[n - OVERLAP :]):
            return None
        column[:n] = getattr(stored, name)
    return replace(vendor, **columns)


def equal(a, b):
    if a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("ts", *PRICES, "volume"))


class Histories(RuleBasedStateMachine):
    """The rules are what may happen to a symbol; `kind`, `bench`, `alfa`, `with_bar` are the test's."""

    kind: Kind

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="histories"))
        self.patch = pytest.MonkeyPatch()
        self.factors, self.version, self.count = {}, 0, self.kind.bars
        self.stored = None  # the bars that must be in the lake
        self.published = [None]  # all that ever were
        self.before = None  # a copy from before the first kill, while nothing else has happened since
        self.clean = {}  # what a clean lake holds, by bars and version
        self.vendor = Replies(self.replies())
        self.patch.setattr(loading, "make_source", lambda *_: self.vendor)

    @initialize()
    def first_night(self):
        self.project = self.on(self.folder / "lake")
        self.run()

    def teardown(self):
        if hasattr(self, "project"):
            if joined(self.stored, self.vendor.bars) is None:
                self.accepts()
            self.run()
        self.patch.undo()
        user.load(self.folder / "nothing")
        shutil.rmtree(self.folder)

    # what stands around the lake

    def on(self, data_dir):
        """A bench on a folder, under the settings of the present version."""
        project = self.bench(data_dir)
        changes = {**self.kind.changes, "features": {"columns": COLUMNS[self.version]}}
        project.change(prices={"source": "exchange"}, report={"charts": False}, **changes)
        if not self.kind.stages:
            (data_dir / "strategies").mkdir(exist_ok=True)
            (data_dir / "strategies" / "dip.py").write_text(VERSIONS[self.version])
        return project

    def replies(self):
        bars = self.alfa(self.count)
        for at, factor in self.factors.items():
            bars = self.with_bar(bars, at, factor)
        return bars

    def night(self, project):
        with holding(project.lake, SYMBOL, project.settings, 4, project.said.append):
            said = project.said.append
            if not self.kind.stages:
                return list(run_chain(project.lake, SYMBOL, project.settings, said, asof=None))
            stages = self.kind.stages
            return [run_stage(s, project.lake, SYMBOL, project.settings, said, asof=None) for s in stages]

    def bars_of(self, project):
        table = project.lake.read("bars", SYMBOL)
        if table is None:
            return None
        columns = {name: table[name].to_numpy() for name in (*PRICES, "volume", "adj", "dividend")}
        return replace(self.vendor.bars, ts=table["ts"].cast("int64").to_numpy(), **columns)

    def held(self, project):
        """Id and content of every table that bars and settings determine."""
        records = {table: project.lake.record(table, SYMBOL) for table in self.kind.same}
        return {table: (record["result_id"], record["content_sha"]) for table, record in records.items()}

    def held_by_a_clean_lake(self):
        key = (self.version, *(getattr(self.stored, name).tobytes() for name in ("ts", *PRICES)))
        if key not in self.clean:
            project, replies = self.on(self.folder / "clean"), self.vendor.bars
            self.vendor.bars = self.stored
            self.night(project)
            self.clean[key], self.vendor.bars = self.held(project), replies
            shutil.rmtree(project.data_dir)
        return self.clean[key]

    def happened(self):
        """Something else than a kill: a night without the kills would not be the same any more."""
        if self.before is not None:
            shutil.rmtree(self.before)
        self.before = None

    def refused(self):
        """A night on a changed history: refused, nothing touched, both versions kept once."""
        tables = {name: data for name, data in self.project.files().items() if "quarantine" not in name}
        with pytest.raises(DataError, match="^E13 "):
            self.night(self.project)
        assert {n: d for n, d in self.project.files().items() if "quarantine" not in n} == tables
        rows = rows_of(self.project.lake.read("quarantine", SYMBOL))
        keys = [(row["raw_sha"], row["ts"], row["version"]) for row in rows]
        assert len(keys) == len(set(keys)) and {row["version"] for row in rows} == {"stored", "vendor"}

    # what may happen

    @rule(n=st.integers(1, 3))
    def ingest(self, n):
        self.happened()
        self.count += n
        self.vendor.bars = self.replies()

    @rule(back=st.integers(1, 2 * OVERLAP), factor=st.sampled_from([1.0, 1.01, 0.99]))
    def revise(self, back, factor):
        """The vendor changes an old bar, or takes a change back."""
        self.happened()
        self.factors[self.count - back] = factor
        self.vendor.bars = self.replies()

    @rule(version=st.integers(0, 2))
    def edit(self, version):
        """The user edits a strategy's file, or settings, or puts back what they were."""
        self.happened()
        self.version = version
        self.project = self.on(self.project.data_dir)

    @rule()
    def run(self):
        expected = joined(self.stored, self.vendor.bars)
        if expected is None:
            event("refused")
            return self.refused()
        self.night(self.project)
        self.stored = expected
        self.published.append(expected)
        assert equal(self.bars_of(self.project), expected)
        assert examine(self.project.data_dir) == []
        assert self.held(self.project) == self.held_by_a_clean_lake()
        if not self.kind.stages:
            self.ledger_is_whole()
        stamps = self.project.stamps()
        assert all(result.unchanged for result in self.night(self.project))
        assert self.project.stamps() == stamps
        if self.before is not None:
            event("a night after a kill, byte by byte")
            clean = self.on(self.before)
            self.night(clean)
            self.night(clean)  # as the other lake: it asks for the overlap once more
            made, without = tree(self.project.data_dir, "lake"), tree(self.before, "lake")
            other = sorted(name for name in {*made, *without} if made.get(name) != without.get(name))
            assert not other, other
            assert tree(self.before, "raw").items() <= tree(self.project.data_dir, "raw").items()
        self.happened()

    @rule()
    @precondition(lambda self: self.before is not None)
    def rerun(self):
        """The night after the kill, before anything else happens."""
        self.run()

    def ledger_is_whole(self):
        tried = {row["study_id"] for row in rows_of(self.project.table("trials"))}
        for table in ("folds", "nightly"):
            rows = rows_of(self.project.table(table))
            now = [row for row in rows if table == "folds" or row["asof"] == int(self.stored.ts[-1])]
            assert {row["study_id"] for row in now if row["strategy"] == "dip"} <= tried

    @rule()
    @precondition(lambda self: self.stored is not None)
    def accepts(self):
        """The user takes over the vendor's history."""
        self.happened()
        accept(SYMBOL, self.project.settings, self.project.data_dir, None, 4)
        self.stored = self.vendor.bars
        self.published.append(self.stored)
        assert equal(self.bars_of(self.project), self.stored)

    @rule(n=st.integers(0, 2), at=st.integers(0, 999), accepting=st.booleans())
    def kill(self, n, at, accepting):
        """The night, or the taking over of a history, dies at a crash point, if it comes so far."""
        if n:
            self.ingest(n)
        vendor, accepting = self.vendor.bars, accepting and self.stored is not None
        if accepting:
            self.happened()
        elif self.before is None:
            self.before = self.folder / "before"
            # a killed night may have linked a table into its history already: links stay links
            subprocess.run(["cp", "-a", str(self.project.data_dir), str(self.before)], check=True)
        after = vendor if accepting else joined(self.stored, vendor)
        hits = 0

        def listen(name):
            nonlocal hits
            hits += 1
            if hits == 1 + at % self.kind.points:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            code = 1
            try:
                faults.listener = listen
                if accepting:
                    accept(SYMBOL, self.project.settings, self.project.data_dir, None, 4)
                else:
                    self.night(self.project)
                code = FINISHED
            except DataError as error:
                code = REFUSED if error.rule == "E13" else 1
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        event(f"killed: {code}")
        assert code in (-signal.SIGKILL, REFUSED if after is None else FINISHED)
        assert not [line for line in examine(self.project.data_dir) if ".tmp: " not in line]
        found = self.bars_of(self.project)
        assert equal(found, self.stored) or (after is not None and equal(found, after))
        assert code != FINISHED or equal(found, after)
        self.stored = found
        self.published.append(found)

    def some_file(self, number):
        """One of the current files of the tables that a run makes again."""
        names = [*self.kind.same, *self.kind.others]
        lake = self.project.data_dir / "lake"
        files = sorted(path for name in names for path in (lake / name).glob("*.parquet"))
        return files[number % len(files)] if files else None

    @rule(number=st.integers(0, 30))
    def lose(self, number):
        """A file of the lake is gone."""
        path = self.some_file(number)
        if path is None:
            return
        self.happened()
        event(f"lost {path.parent.name}")
        path.unlink()
        if path.parent.name == "bars":
            self.stored = None

    @rule(number=st.integers(0, 30), kept=st.floats(0, 0.99))
    def tear(self, number, kept):
        """A file of the lake is torn, and mended by ``nightfold doctor --repair``."""
        path = self.some_file(number)
        if path is None:
            return
        self.happened()
        event(f"torn {path.parent.name}")
        data = path.read_bytes()
        path.unlink()  # its history may hold the same file: that one stays whole
        path.write_bytes(data[: int(kept * len(data))])
        done, left = repair(self.project.data_dir)
        assert any(str(path) in line for line in done) and left == []
        assert examine(self.project.data_dir) == []
        if path.parent.name == "bars":
            self.stored = self.bars_of(self.project)
            assert any(equal(self.stored, bars) for bars in self.published)
