"""What hostile names, files and settings are held against, where no other test of the part does it.

Keys: tests/engine/test_symbol_keys.py, lake/test_paths.py. SQL: lake/test_warehouse.py. HTML: the hostile
texts of reports/test_leaderboard.py. YAML: test_config_yaml.py, test_config_file.py. Pickle, eval,
environment, keys in the repository: tests/test_house.py. Secrets in outputs: stages/test_failing_vendor.py.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from engine import cli, cli_base
from engine.errors import LakeError, NightfoldError
from engine.lake import raw
from engine.lake.files import write_text
from engine.lake.publish import Lake
from engine.lake.schemas import schema_of

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for name in ("engine", "pipelines") for path in sorted((ROOT / name).rglob("*.py"))]
KEYS = ["../../evil", "O'NEIL", "x' OR '1'='1", "CON", "A" * 240, "btc", "<script>", "A/B", "A\0B", ""]


def files(folder):
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("key", KEYS)
def test_no_key_leads_a_write_out_of_its_folder(tmp_path, key):
    data_dir = tmp_path / "deep" / "data"
    with pytest.raises(LakeError, match="is not canonical"):
        raw.keep(data_dir, "yahoo", key, b"[]", "json", None, None)
    with pytest.raises(LakeError, match="is not canonical"):
        Lake(data_dir).publish("bars", key, schema_of("bars").empty_table(), {"result_id": "x"})
    assert files(tmp_path) == []


BOMB = "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nsymbols: {AAPL: {name: *c}}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, r"nightfold.yaml:2:8: aliases \(\*\) are not accepted"),
        ("symbols: !!python/object/apply:os.system ['touch evil']\n", "the tag .* is not accepted"),
        ("symbols: {AAPL: {}}\nstrategies: [{strategy: os.system}]\n", "strategy 'os.system' is not known"),
        ("symbols: {AAPL: {}}\nstrategies: [{strategy: 'evil:Strategy'}]\n", "'evil:Strategy' is not known"),
        ("symbols: {AAPL: {source: 'engine.sources.sample'}}\n", "source"),
    ],
    ids=["alias bomb", "object", "module", "entry point", "class as a source"],
)
def test_settings_make_no_object_and_import_no_class(tmp_path, monkeypatch, text, found):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)
    (tmp_path / "nightfold.yaml").write_text(text)
    result = CliRunner().invoke(cli.main, ["check"])
    assert result.exit_code == 2 and re.search(found, result.stderr), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["nightfold.yaml"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "outside").write_text("mine")
    (tmp_path / "there.txt").symlink_to(tmp_path / "outside")
    write_text(tmp_path / "there.txt", "new")
    assert (tmp_path / "outside").read_text() == "mine" and not (tmp_path / "there.txt").is_symlink()


def test_a_venue_that_is_a_path_is_refused_before_any_file_of_that_name(tmp_path):
    pytest.importorskip("ccxt")
    from engine.config import Settings
    from engine.stages._prices import prices

    hostile = {"class": "crypto", "source": "exchange", "venue": "../../evil", "frame": "1h"}
    settings = Settings.model_validate({"symbols": {"BTC-USD": hostile}, "strategies": []})
    with pytest.raises(NightfoldError, match="venue '../../evil' is not known to ccxt"):
        prices(Lake(tmp_path / "a" / "data"), "BTC-USD", settings, print, asof=None)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def uses(path, *packages):
    tree = ast.parse(path.read_bytes())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(name.split(".")[0] in packages for name in names)


def test_sql_is_run_in_one_place_and_made_from_constants_there():
    users = [path.name for path in SOURCES if uses(path, "duckdb", "sqlite3", "sqlalchemy")]
    assert users == ["warehouse.py", "preload.py"]  # the second loads it for the processes to come
    text = (ROOT / "engine" / "lake" / "warehouse.py").read_text()
    # what goes into a text of SQL: tables and types of the schema, and folders with their quotes doubled
    put = set(
        re.findall(
            r"\{(\w+)[^}]*\}", "".join(re.findall(r'f"(?:CREATE|SET|BEGIN|NULL|SELECT|EXISTS)[^\n]*', text))
        )
    )
    made_of_them = {"columns", "rows", "champion", "held", "sql"}
    assert put <= {"table", "source", "setting", "_sql_type"} | made_of_them, put
    noted = [
        path.name for path in SOURCES if "noqa: S608" in path.read_text()
    ]  # the linter finds SQL elsewhere
    assert noted == ["warehouse.py", "tables.py"]  # the second shows a query, and runs none


def test_telemetry_is_off_and_the_web_page_is_for_this_machine_alone():
    committed = yaml.safe_load((ROOT / "data" / "dagster" / "dagster.yaml").read_text())
    assert committed["telemetry"] == {"enabled": False}
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"dagster dev -h (\S+)", makefile) == ["127.0.0.1"] and "0.0.0.0" not in makefile
