"""The page of the forecast levels: its figures are those of the benchmark, its picture is there."""

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "levels.md").read_text(encoding="utf-8")
ROWS = json.loads((ROOT / "benchmarks" / "results" / "levels.json").read_text())["rows"]
SOLVED = [row for row in ROWS if row.get("table") == "solvers"]


def tables():
    """Return the module that writes the page's tables."""
    spec = importlib.util.spec_from_file_location("levels_tables", ROOT / "docs" / "levels_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_benchmark():
    made = tables()
    assert set(re.findall(r"<!-- table: ([\w-]+) -->", PAGE)) == set(made.TABLES)
    assert made.filled(PAGE, ROWS) == PAGE, "run: python docs/levels_tables.py"
    other = [{**row, "value": 3.14159} for row in ROWS]
    assert made.filled(PAGE, other) != PAGE


def test_every_solver_was_measured_on_forty_real_and_forty_synthetic_problems_or_is_an_extra():
    from engine.search.levels.backends import SOLVERS

    measured = {row["solver"] for row in SOLVED}
    assert measured <= set(SOLVERS)
    assert {name.split(":")[0] for name in set(SOLVERS) - measured} <= {"evox", "botorch", "exact-torch"}
    for name in measured:
        counts = {row["set"]: row["problems"] for row in SOLVED if row["solver"] == name}
        assert counts["real"] >= 40 and counts["synthetic"] >= 40 and counts["seed recipe"] == 1


def test_no_solver_beats_the_exact_one():
    assert all(row["gain"] <= 1.0 for row in SOLVED)
    assert all(row["gain"] == 1.0 and row["holds"] for row in SOLVED if row["solver"] == "exact")


def test_the_default_held_up_out_of_sample_and_nothing_beat_doing_nothing_as_the_page_says():
    rows = {(row["setting"], row["rule"]): row for row in ROWS if row.get("table") == "walk-forward"}
    assert len({setting for setting, _ in rows}) == 4
    for setting, rule in rows:
        default = rows[setting, "smoothed, 500 bars"]
        assert default["value"] > rows[setting, "exact, 60 bars"]["value"] and default["low"] > 0
        assert ("target" in setting) == ("optimistic" in setting)
        assert rule in ("no trade", "buy-and-hold") or rows[setting, rule]["value"] < 0


def test_the_picture_is_a_small_png_and_is_shown():
    picture = (ROOT / "docs" / "levels-surface.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) <= 400_000
    assert re.search(r"!\[.+\]\(levels-surface\.png\)", PAGE)
