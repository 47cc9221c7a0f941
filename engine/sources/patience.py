"""How a vendor that does not answer is asked again: one request at a time, after growing waits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from engine.errors import NightfoldError

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
Reply = TypeVar("Reply")
LONGEST_S = BACKOFF_S[-1]  # a vendor that asks for a longer pause is not asked again in this run


def _share(seed: int, key: str, number: int) -> float:
    """Return a number in [.5, 1) that is another for each symbol, so that symbols do not ask in step."""
    drawn = hashlib.sha256(f"{seed} {key} {number}".encode()).digest()[:4]
    return 0.5 + int.from_bytes(drawn, "little") / 2**33


def pause(seconds: float) -> None:
    """Wait; tests put another in its place."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Patience:
    """How often, when and in whose turn a vendor is asked.

    Parameters
    ----------
    seed : int
        Of the jitter: each wait is .5 to 1 times 1, 2, 4 .. 60 s.
    sleep : callable
        Waits that many seconds.
    turn : callable
        Its context is held during a request, and not while waiting: who else asks this vendor waits for it.
    tell : callable
        Told each wait.
    """

    seed: int = 0
    sleep: Callable[[float], None] = field(default_factory=lambda: pause)
    turn: Callable[[], AbstractContextManager[object]] = nullcontext
    tell: Callable[[str], None] = lambda text: None

    def ask(
        self, key: str, request: Callable[[], Reply], asks_for: Callable[[Exception], float | None]
    ) -> Reply:
        """Return what a request gives, asking again while that is of use.

        Parameters
        ----------
        key : str
            Of the symbol.
        request : callable
            Sends one request.
        asks_for : callable
            Seconds that a failed request's vendor asks to wait, 0.0 where it asks for none, or None where
            asking again would be of no use.

        Raises
        ------
        Exception
            The last request's own, when the vendor was asked eight times, or asks for more than a minute.
        """
        for number, backoff in enumerate(BACKOFF_S):
            try:
                with self.turn():
                    return request()
            except NightfoldError:  # ours, of the disk or a lock: no silence of the vendor
                raise
            except Exception as error:
                asked = asks_for(error)
                if asked is None or asked > LONGEST_S:
                    raise
                wait = max(asked, backoff * _share(self.seed, key, number))
                self.tell(f"{key} prices no reply ({type(error).__name__}), asked again in {wait:.1f} s")
            self.sleep(wait)
        with self.turn():
            return request()
