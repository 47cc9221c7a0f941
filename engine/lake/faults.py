"""Where a writer may die: every write path calls `crash_point` by name; only tests listen.

A test sets `listener` in a process of its own and kills it, or raises OSError, at the point it wants. Nothing
else ever sets it: without a listener a point is one comparison.
"""

from __future__ import annotations

from collections.abc import Callable

listener: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Tell the test that listens, if one does, that a writer stands at this point.

    Parameters
    ----------
    name : str
        ``<what is written>.<what was just done>``; the next file operation follows.
    """
    if listener is not None:
        listener(name)
