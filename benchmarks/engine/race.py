"""The parent's side of the workers: start, ask, take turns, and medians of what they answer."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ENVIRONMENT = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "MKL", "OPENBLAS")}
ENVIRONMENT["TQDM_DISABLE"] = "1"  # no progress bars: they cost time
LONGEST = 120.0  # seconds for one call, its compilation included; what takes longer is left out
ONCE = 10.0  # seconds: a longer call is timed once


class Worker:
    """A process that runs the arms of one script; started when first asked."""

    def __init__(self, python: str, script: str, folder: Path, clock: str = "wall") -> None:
        self.command = [python, str(HERE / script), str(folder), clock]
        self.process: subprocess.Popen[str] | None = None

    def ask(self, arm: str, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Return the reply, arrays loaded, or None where none came in time."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=os.environ | ENVIRONMENT,
            )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"arm": arm, "settings": settings}) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], LONGEST)[0]:
            self.process.kill()
            self.close()
            return None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.command)} ended in {arm} {settings}; its error is above")
        reply = json.loads(line)
        for key, value in reply.get("found", {}).items():
            if isinstance(value, str) and value.endswith(".npy"):
                reply["found"][key] = np.load(value)
        return reply

    def close(self) -> None:
        """End the process and wait for it."""
        if self.process is not None:
            assert self.process.stdin and self.process.stdout
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@dataclass
class Runner:
    """One arm with its settings, and what came of it."""

    worker: Worker
    arm: str
    settings: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.times)


def race(rounds: int, *runners: Runner) -> None:
    """Let each runner go once, for its answer and its compilation, then time them in turn.

    The order is reversed each round; a call longer than `ONCE` is timed in one round only.
    """
    for one in runners:
        reply = one.worker.ask(one.arm, one.settings)
        if reply is None:
            print(f"left out: {one.arm} {one.settings}: no result in {LONGEST:.0f} s", flush=True)
        else:
            one.found = reply["found"]
    for k in range(rounds):
        for one in runners[:: -1 if k % 2 else 1]:
            if one.found and not (one.times and one.times[0] > ONCE):
                reply = one.worker.ask(one.arm, one.settings)
                assert reply is not None  # its first call was in time
                one.times.append(reply["seconds"])


def ratio(slow: Runner, fast: Runner) -> float:
    """Return how many times longer the first took: the median over the rounds that both ran."""
    return statistics.median(a / b for a, b in zip(slow.times, fast.times, strict=False))
