"""What Dagster loads: the graph as text, quickly and without the heavy packages."""

import json
from pathlib import Path

import pipelines

HEAVY = ("torch", "numba", "optuna", "pandas", "pyarrow", "duckdb", "plotly", "scipy", "nevergrad")
LOAD = """
import json, sys, time
began = time.perf_counter()
import pipelines.definitions
print(json.dumps([time.perf_counter() - began, [m for m in HEAVY if m in sys.modules]]))
"""
DESCRIBE = """
from pipelines.definitions import defs
graph = defs.resolve_asset_graph()
for key in graph.toposorted_asset_keys:
    node = graph.get(key)
    print(key.to_user_string())
    print("  group       ", node.group_name)
    print("  after       ", ", ".join(sorted(p.to_user_string() for p in node.parent_keys)) or "-")
    partitions = node.partitions_def.get_partition_keys() if node.partitions_def else ["-"]
    print("  partitions  ", ", ".join(partitions))
    print("  kinds       ", ", ".join(sorted(node.kinds)))
    print("  description ", node.description)
    for check in sorted(graph.get_check_keys_for_assets({key})):
        spec = graph.get_check_spec(check)
        print("  check       ", spec.name, "(blocking)" if spec.blocking else "(warning)", spec.description)
for name in ("backtest_all", "reoptimize_nightly", "backtest_symbol"):
    job = defs.resolve_job_def(name)
    print("job", name)
    print("  description ", job.description)
    print("  steps       ", ", ".join(sorted(node.name for node in job.nodes)))
nightly = defs.resolve_schedule_def("nightly")
print("schedule", nightly.name)
print("  job         ", nightly.job_name)
print("  cron        ", nightly.cron_schedule, nightly.execution_timezone)
print("  status      ", nightly.default_status.value)
"""


def test_check_7_the_asset_graph_is_the_committed_text(deployment):
    (deployment.root / "describe.py").write_text(DESCRIBE)
    found = deployment.call("describe")
    assert found.returncode == 0, found.stderr
    assert found.stdout == (Path(__file__).parent / "asset_graph.txt").read_text()


def test_check_7_definitions_load_without_the_heavy_packages(deployment, record_property):
    """The time itself is measured and recorded, not asserted: under 3 s on two cores."""
    (deployment.root / "load.py").write_text(f"HEAVY = {HEAVY}\n{LOAD}")
    found = deployment.call("load")
    seconds, loaded = json.loads(found.stdout)
    record_property("definitions_load_seconds", seconds)
    assert loaded == []


def test_definitions_validate_as_typed_in_the_root(deployment):
    found = deployment.call("dagster", "definitions", "validate")
    assert found.returncode == 0, found.stderr
    assert "All code locations passed validation" in found.stdout + found.stderr


def test_environment_file_holds_no_key_and_project_file_no_dagster_table():
    names = [
        line.split("=")[0]
        for line in (pipelines.ROOT / ".env").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    threads = [f"{name}_NUM_THREADS" for name in ("NUMBA", "OMP", "MKL", "OPENBLAS")]
    assert names == ["DAGSTER_HOME", *threads]
    project = (pipelines.ROOT / "pyproject.toml").read_text()
    assert "[tool.dagster" not in project and "[tool.dg" not in project  # they would win over workspace.yaml


def test_definitions_file_stays_short():
    assert len((pipelines.ROOT / "pipelines" / "definitions.py").read_text().splitlines()) < 60
