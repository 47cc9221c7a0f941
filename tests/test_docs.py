"""The pages say what is there: settings, commands, targets, tables, links, snippets and figures."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data" / "README.md"])
SIDE = {"lower": "at most", "higher": "at least"}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(params=PAGES, ids=name_of)
def page(request):
    return request.param


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text, *languages):
    """Return the fenced blocks written in one of the languages."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S)
    return [body for language, body in found if language in languages]


def commands(text):
    """Return the lines of shell blocks and everything that stands between backticks."""
    fenced = blocks(text, "", "sh", "text")
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [line for body in fenced for line in body.splitlines()] + re.findall(r"`([^`\n]+)`", rest)


def section(text, heading):
    """Return what stands under a heading, up to the next one of its rank or above; fences are skipped."""
    rank, inside, fenced, kept = len(heading.split()[0]), False, False, []
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and re.match(r"#+ ", line):
            inside = line == heading or (inside and len(line.split()[0]) > rank)
        if inside:
            kept.append(line)
    assert kept, f"no heading {heading!r}"
    return "\n".join(kept) + "\n"


def tables(text):
    """Return the tables, each a list of rows, each a dict by heading."""
    found = []
    for body in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        lines = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in body.splitlines()]
        head, _, *rows = [[cell.strip().replace("\\|", "|") for cell in line] for line in lines]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def test_every_promised_page_is_there():
    names = {name_of(page) for page in PAGES}
    docs = "quickstart settings strategies fills levels search forecasters determinism data-contract"
    docs += " faults deployment"
    assert names >= {"README.md", "SECURITY.md", "ROADMAP.md", "CONTRIBUTING.md"}
    assert names >= {f"docs/{name}.md" for name in docs.split()}
    for name in docs.split():
        assert f"docs/{name}.md" in read("README.md"), f"README.md does not lead to docs/{name}.md"


# ---- links, addresses, names of tests ---------------------------------------------------------


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_relative_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_no_page_names_a_package_registry(page):
    hosts = r"py[p]i\.org|python[h]osted|download\.py[t]orch|ana[c]onda\.|conda-[f]orge|npm[j]s"
    assert not re.findall(hosts, page.read_text(encoding="utf-8"))


def test_every_test_that_a_page_names_exists(page):
    missing = []
    for path, test in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8")):
        file = ROOT / path
        if not file.is_file() or (test and f"def {test}(" not in file.read_text(encoding="utf-8")):
            missing.append(f"{path}::{test}")
    assert not missing


def test_every_path_of_the_code_that_a_page_names_exists(page):
    named = re.findall(r"`((?:engine|pipelines|benchmarks)/[\w/.]+)`", page.read_text(encoding="utf-8"))
    results = re.compile(r"benchmarks/results/.*\.json")
    assert [path for path in named if not (ROOT / path).exists() and not results.match(path)] == []


# ---- commands ---------------------------------------------------------------------------------


def make_targets():
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.M))


def test_every_make_target_exists(page):
    named = {
        target
        for line in commands(page.read_text(encoding="utf-8"))
        for target in re.findall(r"(?:^|&& |then: )make ([a-z][a-z-]+)", line)
    }
    assert named <= make_targets(), named - make_targets()


def nightfold_calls(line):
    """Return (command, flags) of each call of ``nightfold`` in a line."""
    for call in re.findall(r"(?:^|/|&& |\| )nightfold ((?:--settings \S+ )?[a-z][^|;&]*)", line):
        words = re.sub(r"^--settings \S+ ", "", call)
        words = re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", words).split()
        yield words[0], [word.split("=")[0].strip("[]") for word in words[1:] if "--" in word]


def test_every_command_and_flag_exists(page):
    from engine.cli import main

    wrong = []
    for line in commands(page.read_text(encoding="utf-8")):
        for name, flags in nightfold_calls(line):
            command = main.commands.get(name)
            known = {opt for p in command.params for opt in p.opts} if command else set()
            wrong += [line] if command is None or set(flags) - known - {"--help"} else []
    assert not wrong


def test_the_settings_page_names_every_command_and_every_flag():
    from engine.cli import main

    rows, _ = tables(section(read("docs/settings.md"), "## Command line"))
    written: dict[str, str] = {}
    for row in rows:  # a command of two forms has two rows
        name = row["command"].strip("`").split()[0]
        written[name] = written.get(name, "") + row["command"]
    assert set(written) == set(main.commands)
    for name, command in main.commands.items():
        flags = {p.opts[0] for p in command.params if isinstance(p, click.Option)}
        assert set(re.findall(r"--[a-z-]+", written[name])) == flags, name


def test_extras_are_installed_from_the_checkout_with_pinned_versions(page):
    declared = set(tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"])
    for line in commands(page.read_text(encoding="utf-8")):
        for extras in re.findall(r"pip install .*\[([\w,]+)\]", line):
            assert '.venv/bin/python -m pip install -c constraints.txt -e ".[' in line
            assert set(extras.split(",")) <= declared


def test_the_cron_line_keeps_the_exit_code_that_make_would_change():
    (night,) = [body for body in blocks(read("docs/deployment.md"), "sh") if "* *" in body]
    assert ".venv/bin/python -m pipelines.run" in night and "make" not in night


def test_every_job_asset_and_schedule_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    jobs = read("pipelines/jobs.py")
    for job in re.findall(r"dagster job launch -j (\w+)", text):
        assert f'"{job}"' in jobs


# ---- settings ---------------------------------------------------------------------------------


def test_the_settings_block_is_the_settings_file():
    (block,) = blocks(section(read("docs/settings.md"), "## nightfold.yaml"), "yaml")
    assert block == read("nightfold.yaml")


def test_every_piece_of_settings_is_accepted(page, tmp_path):
    from engine.config_file import load
    from engine.stages.preflight import preflight

    for block in blocks(page.read_text(encoding="utf-8"), "yaml"):
        written = yaml.safe_load(block)
        path = tmp_path / "nightfold.yaml"
        path.write_text(block if "symbols" in written else f"symbols: {{AAPL: {{}}}}\n{block}")
        file = load(path)
        if all(file.settings.instrument(key).source in ("sample", "files") for key in file.settings.symbols):
            preflight(file)


def test_the_options_of_a_symbol_are_all_named():
    from engine.config_data import FileForm, Symbol

    (rows,) = tables(section(read("docs/settings.md"), "## Options of a symbol"))
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row["key"])}
    assert named == {field.alias or name for name, field in Symbol.model_fields.items()}
    (form,) = [row["meaning"] for row in rows if row["key"] == "`file`"]
    assert set(FileForm.model_fields) <= set(re.findall(r"\w+", form))


# ---- tables and SQL ---------------------------------------------------------------------------


def test_the_data_contract_names_every_table_and_column():
    from engine.lake.schemas import TABLES

    (rows,) = tables(section(read("docs/data-contract.md"), "## Tables"))
    written = {row["table"].strip("`"): re.findall(r"`(\w+)`", row["columns"]) for row in rows}
    assert written == {name: schema.names[1:] for name, schema in TABLES.items()}


def sql_of(text):
    """Return every SELECT of a page: ```sql blocks, and the quoted text of shell commands."""
    quoted = [
        sql
        for line in commands(text)
        if "warehouse" in line
        for sql in re.findall(r"\"((?:select|with|from|describe|show) [^\"]+)\"", line, flags=re.I)
    ]
    return [part for body in blocks(text, "sql") for part in body.split(";") if part.strip()] + quoted


def test_every_sql_example_runs_on_an_empty_lake(page, tmp_path):
    from engine.lake.warehouse import query

    for sql in sql_of(page.read_text(encoding="utf-8")):
        names, rows = query(tmp_path, sql)
        assert names


def test_stitched_results_are_asked_for_once_each(page):
    asked = [sql for sql in sql_of(page.read_text(encoding="utf-8")) if "fold = -1" in sql]
    assert [sql for sql in asked if "and selected" not in sql] == []


def test_there_are_sql_examples_and_the_parser_finds_them():
    assert len(sql_of(read("docs/data-contract.md"))) >= 3


# ---- snippets and figures -------------------------------------------------------


def test_every_python_snippet_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, snippet in enumerate(blocks(page.read_text(encoding="utf-8"), "python")):
        code = compile(ast.parse(snippet), f"{page.name}, snippet {number}", "exec")
        exec(code, {"__name__": "snippet"})


def test_figures_of_speed_and_size_are_those_of_the_benchmarks():
    folder = ROOT / "benchmarks" / "results"
    rows = [row for table in tables(read("README.md")) for row in table if "measured" in row]
    found = {path.stem: json.loads(path.read_text())["rows"] for path in folder.glob("*.json")}
    expected = {
        name: [
            {
                "what": row["metric"],
                "measured": f"{row['value']:.4g} {row['unit']}".strip(),
                "goal": f"{SIDE[row['better']]} {row['goal']:g} {row['unit']}".strip(),
                "holds": "yes" if row["holds"] else "no",
            }
            for row in found[name]
        ]
        for name in ("pipeline", "engine")
    }
    table = "\n".join("| " + " | ".join(row.values()) + " |" for row in expected["pipeline"])
    own = rows[: len(expected["pipeline"])]
    assert own == expected["pipeline"], f"the rows of README.md's first table must be:\n{table}"
    others = rows[len(own) :]
    assert others and all(row in expected["engine"] for row in others)
    assert any(row["holds"] == "no" for row in others)  # what falls short is shown too


def test_the_bars_that_a_symbol_needs_are_those_of_the_default_settings():
    from engine.config import Settings
    from engine.search.folds import bars_needed
    from engine.stages.common import purge_of

    settings = Settings.model_validate({"symbols": {"AAPL": {}}})
    needs = {entry.strategy: bars_needed(entry.folds, purge_of(entry)) for entry in settings.entries("AAPL")}
    text = " ".join(read("README.md").split())
    levels, trend = f"{needs['levels_always_on']:,}", f"{needs['trend']:,}"
    assert f"needs {levels} bars for the levels strategies and {trend} for `trend`" in text
    assert needs["levels_entry_exit"] == needs["levels_always_on"]


def shape(line):
    """Return a line without its numbers, stamps and paths; results may move with code and data."""
    line = re.sub(r"\S*/reports/index\.html", "PAGE", line)
    return re.sub(r"(?<=\s)-(?=\s)|-?[\d,]+(?:\.\d+)?", "#", " ".join(line.split()))


@pytest.mark.slow
def test_the_excerpt_has_the_lines_that_the_run_prints(tmp_path):
    (excerpt,) = blocks(section(read("README.md"), "## What you see"), "text")
    (tmp_path / "nightfold.yaml").write_text(read("nightfold.yaml"))
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(read("data/dagster/dagster.yaml"))
    named = {"NIGHTFOLD_SETTINGS": str(tmp_path / "nightfold.yaml"), "DAGSTER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.run"], cwd=ROOT, env={**os.environ, **named},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    printed = {shape(line) for line in done.stdout.splitlines()}
    # what the orders are follows the fits
    shown = [line for line in excerpt.splitlines() if line.strip() != "..." and not line.startswith("  ")]
    assert [line for line in shown if shape(line) not in printed] == []


def test_the_picture_is_a_small_png():
    picture = (ROOT / "docs" / "report.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture) <= 400_000
