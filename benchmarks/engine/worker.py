"""A worker: asked over stdin by main.py, one JSON object per line, answered in the same form.

Each engine runs in a process of its own with its own interpreter; only one works at a time. Needs
numpy alone.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHORTEST = 0.02  # seconds: a shorter call is repeated until this has passed

# An arm is a function (folder, **settings) -> (call, answer). `call` is what is timed, without
# arguments; `answer` makes a dict of numbers, lists and arrays of what the call returned.
Arm = Callable[..., tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]]


def timed(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the seconds of one call, the median of several where it is short."""
    gc.collect()
    times: list[float] = []
    while sum(times) < SHORTEST:
        began = clock()
        call()
        times.append(clock() - began)
    return statistics.median(times)


def serve(arms: dict[str, Arm]) -> None:
    """Answer until stdin ends: make an arm and say what it found, or time it once more."""
    folder = Path(sys.argv[1])
    clock = time.process_time if sys.argv[2:] == ["processor"] else time.perf_counter
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no reply
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        ask = json.loads(line)
        name = json.dumps([ask["arm"], ask["settings"]])
        reply: dict[str, Any] = {}
        if name in ready:
            reply["seconds"] = timed(ready[name], clock)
        else:
            call, answer = arms[ask["arm"]](folder, **ask["settings"])
            began = clock()
            found = answer(call())  # the first call also compiles
            reply["seconds"] = clock() - began
            for key, value in found.items():
                if isinstance(value, np.ndarray):
                    path = folder / f"{os.getpid()}.{ask['arm']}.{key}.npy"
                    np.save(path, value)
                    found[key] = str(path)
            reply["found"] = found
            ready[name] = call
        replies.write(json.dumps(reply) + "\n")
