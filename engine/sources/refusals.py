"""How sources refuse: every message has the five parts of `engine.bars.checks.refuse`."""

from __future__ import annotations

import re
from typing import NoReturn

from engine.bars.checks import Finding, refuse
from engine.sources.base import Request
from engine.symbol_keys import is_canonical

# What pyarrow's typed reader accepts; Python's float() also takes 1_03 and digits of other scripts.
NUMBER = re.compile(
    r"[ \t]*[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)[ \t]*", re.I
)


class FileReader:
    """One file being read: its name and key for messages, and the one way to refuse it."""

    def __init__(self, key: str, frame: str, origin: str) -> None:
        self.key, self.frame, self.origin = key, frame, origin
        self.lines: tuple[int, ...] = ()  # all lines of the last refusal
        self.title = ""

    def refuse(
        self,
        rule: str,
        title: str,
        *,
        detail: str,
        why: str,
        lines: tuple[int, ...] = (),
        count: int = 1,
        remedy: str = "",
        unit: str = "line",
    ) -> NoReturn:
        """Raise the DataError of one rule, naming the first of all offending ``lines``."""
        self.lines, self.title = lines, title
        rows = tuple(f"{self.origin} {unit} {line}" for line in lines[:3])
        mend = remedy or f"correct {rows[0] if rows else self.origin}"
        finding = Finding(
            rule, title, count, unit if lines else "file", rows or (self.origin,), detail, why,
            f"{mend}, then: nightfold check {self.key}",
        )  # fmt: skip
        refuse([finding], self.key, self.frame)
        raise AssertionError("unreachable")  # refuse always raises on an E rule


def unknown_symbol(request: Request, detail: str, remedy: str) -> NoReturn:
    """Raise E16: the source does not know this symbol."""
    why = "no source stands in for another"
    finding = Finding("E16", "symbol not known to its source", 1, "symbol", (), detail, why, remedy)
    refuse([finding], request.key, request.frame)
    raise AssertionError("unreachable")  # refuse always raises on an E rule


def require_key(request: Request) -> None:
    """Raise E16 where a key is not canonical, so that it can never lead out of a folder."""
    if not is_canonical(request.key):
        unknown_symbol(
            request,
            f"found key {request.key!r}; expected capital letters, digits and . _ = ^ - "
            "(1 to 32, no device name)",
            "rename it under symbols in nightfold.yaml, then: nightfold check",
        )


def said_by(error: Exception) -> str:
    """Return an error of a vendor's package in one short line, without what a URL may hold of a password.

    >>> said_by(OSError("cannot reach http://me:word@proxy:8080/v8"))
    'OSError: cannot reach http://proxy:8080/v8'
    """
    text = " ".join(str(error).split())
    text = re.sub(r"//[^/\s]*@", "//", text)
    names = "key|token|secret|sig|crumb|password|passphrase|auth"
    text = re.sub(rf"(?i)([\w-]*(?:{names})[\w-]*[\"']?\s*[:=]\s*)(?:Bearer\s+)?[^&\s,}}]+", r"\1...", text)
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:200] + ' ...'}"


def no_reply(request: Request, vendor: str, text: str) -> NoReturn:
    """Raise E15: the vendor answered with an error or with nothing that can be read."""
    finding = Finding(
        "E15", f"no whole reply from {vendor}", 1, "request", (),
        f"found {text or 'an empty answer'}; expected bars", "a part of a reply is never stored",
        f"when {vendor} answers again: nightfold check {request.key}",
    )  # fmt: skip
    refuse([finding], request.key, request.frame)
    raise AssertionError("unreachable")  # refuse always raises on an E rule
