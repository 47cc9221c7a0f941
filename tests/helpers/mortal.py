"""A fitter that kills its own process: what a machine does that is short of memory."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Mortal:
    """Fits a window to its bounds; the first ``deaths`` fits that begin at ``mortal`` kill their process."""

    folder: Path
    mortal: int
    deaths: int

    def fit(self, start, stop, progress, *, told=(), save=None, clock=None):
        with open(self.folder / "begun", "a") as file:
            file.write(f"{start}\n")
        begun = (self.folder / "begun").read_text().split().count(str(self.mortal))
        if start == self.mortal and begun <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return [(start, stop)]
