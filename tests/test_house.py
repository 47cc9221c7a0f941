"""The rules of the house: who may import whom, what no module does, how long a file may be."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE, PIPELINES = ROOT / "engine", ROOT / "pipelines"
# lowest first; a module may import those below it and those of its own layer
LAYERS = [
    {"errors", "symbol_keys"}, {"config_yaml", "config_data"},
    {"config_schedule", "config_sections", "config_studies"},
    {"config"}, {"config_file"}, {"bars"}, {"sources"}, {"lake"}, {"features"}, {"forecasts"}, {"strategies"},
    {"simulation"}, {"search"},
    {"validation"}, {"reports"}, {"stages"}, {"kernel_cache"}, {"cli_base"}, {"cli_lake", "cli_backtest"},
    {"cli"},
]  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HEAVY = {"dagster", "torch", "optuna", "nevergrad", "numba", "pandas"}


def ours(*suffixes):
    """Every file of the repository with one of these suffixes, without what is made from it."""
    folders = [
        ROOT / name for name in ("engine", "pipelines", "tests", "benchmarks", "docs", "data/sample", ".ci")
    ]
    found = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.iterdir())
    return sorted(
        path
        for path in found
        if path.suffix in suffixes
        and path.is_file()
        and path.name != ".env.local"
        and ".venv" not in path.parts
        and path != ROOT / ".git"  # the peers' environment; a worktree's file
    )


def modules(folder):
    """Dotted name -> path of every module below a package folder."""
    names = {
        path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in folder.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for path, name in sorted(names.items())}


MODULES = modules(ENGINE)
ALL_MODULES = {**MODULES, **modules(PIPELINES)}


@cache
def imports(path):
    """Return (line, dotted name, only at first use) of each import; a name of a package is its module."""
    tree = ast.parse(path.read_bytes())
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path}:{node.lineno}: a relative import"
            )  # `code_id` sees full names only
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in ALL_MODULES else node.module for name in full]
            found += [(node.lineno, name, id(node) in inside) for name in targets]
    return found


def layer(name):
    return name.split(".")[1] if name.count(".") else ""


def test_every_module_of_the_engine_has_a_layer():
    assert {layer(name) for name in MODULES} - {""} == set(RANK)


def test_imports_point_down_only():
    upward = []
    for name, path in MODULES.items():
        for line, target, late in imports(path):
            if not target.startswith("engine.") or name == "engine.kernel_cache" and late:
                continue
            if RANK[layer(target)] > RANK[layer(name)]:
                upward.append(f"{path.relative_to(ROOT)}:{line}: {target}")
    assert not upward


def test_nothing_imports_in_a_circle():
    graph = {
        name: {target for _, target, _ in imports(path) if target in MODULES and target != name}
        for name, path in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_choice_of_the_kernel_folder_needs_the_standard_library_alone():
    """It runs before numba is imported, so it may import nothing that brings it."""
    top = {target.split(".")[0] for _, target, late in imports(MODULES["engine.kernel_cache"]) if not late}
    assert top <= sys.stdlib_module_names


def test_the_engine_knows_nothing_of_dagster_and_the_pipelines():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES.values()
        for line, target, _ in imports(path)
        if target.split(".")[0] in ("dagster", "pipelines")
    ]
    assert not found


def test_the_pipelines_compute_nothing():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in PIPELINES.rglob("*.py")
        for line, target, _ in imports(path)
        if target.split(".")[0] in ("numpy", "pandas") and path.name != "preload.py"
    ]
    assert not found
    assert len((PIPELINES / "definitions.py").read_text().splitlines()) < 60


def test_the_engine_loads_no_heavy_package_by_itself():
    code = "import engine, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & set(loaded.stdout.split())


def test_the_settings_and_the_command_line_load_no_heavy_package():
    code = "import engine.cli, engine.config_file, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & set(loaded.stdout.split())


def test_no_file_is_longer_than_400_lines():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in ours(".py")}
    assert lengths and {path: n for path, n in lengths.items() if n > 400} == {}


# what no module of the engine does; the command line reads clock and environment

FORBIDDEN = {
    r"datetime\.now|datetime\.utcnow|date\.today|time\.time\(|time\.time_ns|time\.localtime": "the clock",
    r"os\.environ|os\.getenv|\bgetenv\(": "the environment",
    r"np\.random\.(?!default_rng|Generator|SeedSequence|Philox|PCG64)": "numpy's unseeded draws",
    r"default_rng\(\)": "a generator without a seed",
    r"(?<![\w.])random\.|^import random|^from random": "Python's unseeded draws",
    r"\bpickle\b|joblib|allow_pickle|torch\.load\(": "pickled objects",
    r"yaml\.load\(|yaml\.full_load|yaml\.unsafe_load": "YAML that makes objects",
    r"(?<![\w.])(eval|exec)\(": "code from text",
    r"uuid\d?\(|secrets\.": "draws of the system",
}


def code_lines(path):
    """Yield (line, text) of what runs: without docstrings and comments."""
    tree = ast.parse(path.read_bytes())
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str):
            silent |= set(range(node.lineno, node.end_lineno + 1))
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if number not in silent:
            yield number, text.split("  #")[0]


@pytest.mark.parametrize(("pattern", "what"), FORBIDDEN.items(), ids=FORBIDDEN.values())
def test_no_module_reads_or_draws_what_a_rerun_would_not_repeat(pattern, what):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {text.strip()}"
        for path in MODULES.values()
        for number, text in code_lines(path)
        if re.search(pattern, text)
        and not (path.name.startswith("cli") and what in ("the clock", "the environment"))
    ]
    assert not found, what


def test_no_module_waits_or_looks_at_a_clock_but_to_wait_for_a_lock_or_a_network():
    users = {
        name
        for name, path in MODULES.items()
        for _, target, _ in imports(path)
        if target.split(".")[0] == "time"
    }
    assert users <= {
        "engine.cli_base",
        "engine.lake.leases",
        "engine.stages.chain",
        "engine.sources.patience",
    }


def test_a_search_starts_no_threads_and_processes_only_for_whole_studies():
    users = {
        name
        for name, path in MODULES.items()
        for _, target, _ in imports(path)
        if target.split(".")[0] in ("threading", "concurrent", "multiprocessing")
    }
    assert {name for name in users if name.startswith("engine.search")} == set()
    assert "engine.stages._studies" in users


EXAMPLES = [name for name, path in MODULES.items() if ">>>" in path.read_text()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_docstrings_hold(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0 and outcome.failed == 0


# what the repository must not hold

KEYS_OF_ENV = {
    "DAGSTER_HOME": "${PWD}/data/dagster",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def test_the_committed_environment_holds_no_key():
    lines = [line for line in (ROOT / ".env").read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == KEYS_OF_ENV
    assert ".env.local" in (ROOT / ".gitignore").read_text().splitlines()


SECRET = (
    r"\b(hf_[A-Za-z0-9]{30,}|AKIA[A-Z0-9]{16}|ghp_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{30,})\b"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
)
HOME = r"(?<![\w.:/}])/(home|root|Users|work|tmp)/"  # a path of one machine
PEERS = r"(?i)vectorbt|pybroker|nautilus|freqtrade|backtrader|zipline|hftbacktest"


@pytest.mark.parametrize(
    ("pattern", "suffixes"),
    [
        (SECRET, (".py", ".md", ".yaml", ".toml", ".txt", ".csv", "")),
        (HOME, (".py", ".md", ".yaml", ".toml", "")),
    ],
    ids=["a secret", "a path of one machine"],
)
def test_no_file_holds(pattern, suffixes):
    texts = [path for path in ours(*suffixes) if path != Path(__file__)]
    found = [
        str(path.relative_to(ROOT)) for path in texts if re.search(pattern, path.read_text(errors="replace"))
    ]
    assert texts and found == []


def test_the_code_stands_without_the_names_of_what_it_is_measured_against():
    found = [name for name, path in ALL_MODULES.items() if re.search(PEERS, path.read_text())]
    assert found == []
