import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from engine import kernel_cache

THREADS = {f"{name}_NUM_THREADS": "1" for name in ("NUMBA", "OMP", "MKL", "OPENBLAS")}


def test_names_a_folder_below_the_data_and_keeps_libraries_to_one_thread(tmp_path):
    environ = {}
    kernel_cache.use(tmp_path, environ)
    folder = Path(environ.pop("NUMBA_CACHE_DIR"))
    assert folder.parent == tmp_path / "cache" and folder.name.startswith("numba-")
    assert environ == THREADS


def test_what_the_environment_says_already_stays(tmp_path):
    environ = {"NUMBA_CACHE_DIR": "elsewhere", "OMP_NUM_THREADS": "3"}
    kernel_cache.use(tmp_path, environ)
    folder = Path(environ.pop("NUMBA_CACHE_DIR"))
    assert folder.parent == Path("elsewhere") and folder.name.startswith("numba-")
    assert environ == {**THREADS, "OMP_NUM_THREADS": "3"}


def test_a_child_process_uses_the_folder_of_its_parent(tmp_path):
    environ = {"NUMBA_CACHE_DIR": str(tmp_path)}
    kernel_cache.use(tmp_path / "data", environ)
    first = dict(environ)
    kernel_cache.use(tmp_path / "data", environ)
    assert environ == first


@pytest.fixture
def code_copy(tmp_path, monkeypatch):
    """A copy of the engine's code whose folder name can be asked for."""
    copy = tmp_path / "engine"
    shutil.copytree(Path(engine.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernel_cache, "__file__", str(copy / "kernel_cache.py"))

    def folder():
        environ = {}
        kernel_cache.use(tmp_path, environ)
        return environ["NUMBA_CACHE_DIR"]

    return copy, folder


def test_the_folder_is_the_same_for_the_same_code(code_copy):
    _, folder = code_copy
    assert folder() == folder()


@pytest.mark.parametrize("change", ["edit", "new file", "renamed"])
def test_any_change_of_code_leads_to_another_folder(code_copy, change):
    copy, folder = code_copy
    before = folder()
    kernel = copy / "simulation" / "kernel.py"
    if change == "edit":
        kernel.write_text(kernel.read_text().replace("return", "return ", 1))
    elif change == "new file":
        (copy / "features" / "new.py").write_text("")
    else:
        kernel.rename(kernel.with_name("other.py"))
    assert folder() != before


@pytest.mark.slow  # compiles every kernel
def test_after_warming_a_second_process_compiles_nothing(tmp_path):
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-c", "from engine import kernel_cache; kernel_cache.warm()"]
    subprocess.run(call, env=environ, check=True)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    subprocess.run(call, env=environ, check=True)
    assert compiled and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled


def test_choosing_the_folder_loads_no_numba():
    code = (
        "import sys; from pathlib import Path; from engine import kernel_cache; "
        "kernel_cache.use(Path('x'), {}); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
