"""Put the figures of benchmarks/results/levels.json into the tables of docs/levels.md.

Run at the end of ``make bench-levels``; a test holds that page and figures agree. A table stands
between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "levels.md"
RESULTS = ROOT / "benchmarks" / "results" / "levels.json"
SIDE = {"lower": "at most", "higher": "at least"}
Rows = list[dict]


def walkforward(rows: Rows) -> Iterator[list[str]]:
    """Yield the table of the rules: in-sample / out-of-sample / difference, one column per setting."""
    found = {(row["rule"], row["setting"]): row for row in rows if row.get("table") == "walk-forward"}
    settings = list(dict.fromkeys(setting for _, setting in found))
    yield ["rule", *settings]
    for rule in dict.fromkeys(rule for rule, _ in found):
        cells = []
        for setting in settings:
            row = found[rule, setting]
            cell = f"{row['value'] + 0.0:.1f}"
            if "in_sample" in row:
                cell = f"{row['in_sample']:.1f} / {cell}"
            if row.get("difference"):
                cell += f" / {row['difference']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]"
            cells.append(cell)
        yield [rule, *cells]


def solvers(rows: Rows) -> Iterator[list[str]]:
    """Yield the table of the solvers."""
    found = {(row["solver"], row["set"]): row for row in rows if row.get("table") == "solvers"}
    counts = {which: row["problems"] for (_, which), row in found.items()}
    yield [
        "solver", "evaluations", "ms a problem", f"{counts['real']} real: % of exact, mean / worst",
        f"{counts['synthetic']} synthetic: mean / worst", "gain: real / synthetic / recipe", "seed spread",
    ]  # fmt: skip
    for name in dict.fromkeys(name for name, _ in found):
        real, made, recipe = (found[name, which] for which in ("real", "synthetic", "seed recipe"))
        yield [
            f"`{name}`", f"{real['evaluations']:,}", f"{real['ms']:.2g}",
            f"{real['mean_share']:.1f} / {real['worst_share']:.1f}",
            f"{made['mean_share']:.1f} / {made['worst_share']:.1f}",
            " / ".join(f"{row['gain']:.3f}" for row in (real, made, recipe)), f"{real['spread']:.3f}",
        ]  # fmt: skip


def speed(rows: Rows) -> Iterator[list[str]]:
    """Yield the table of everything else, each against its goal."""
    yield ["what", "measured", "goal", "holds"]
    for row in rows:
        if "table" not in row:
            measured = f"{row['value']:.4g} {row['unit']}".strip()
            goal = f"{SIDE[row['better']]} {row['goal']:g} {row['unit']}".strip()
            yield [row["metric"], measured, goal, "yes" if row["holds"] else "no"]


TABLES: dict[str, Callable[[Rows], Iterator[list[str]]]] = {
    "walk-forward": walkforward, "solvers": solvers, "speed": speed,
}  # fmt: skip


def filled(page: str, rows: Rows) -> str:
    """Return the page with its tables made from the rows."""

    def table(match: re.Match) -> str:
        head, *body = TABLES[match[1]](rows)
        lines = [head, ["---"] * len(head), *body]
        text = "\n".join(
            f"| {' | '.join(cells)} |".replace("| --- ", "|---").replace("--- |", "---|") for cells in lines
        )
        return f"<!-- table: {match[1]} -->\n\n{text}\n\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w-]+) -->\n.*?<!-- end -->", table, page, flags=re.S)


def main() -> int:
    """Rewrite the page."""
    rows = json.loads(RESULTS.read_text())["rows"]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
