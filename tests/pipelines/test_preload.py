"""What a symbol's process finds ready, so that it does not begin with half a second of imports."""

import json

READY = """
import gc, json, sys
import pipelines.preload
frozen, before = gc.get_freeze_count(), set(sys.modules)
import dagster as dg
from pipelines.jobs import make_backtest_all
make_backtest_all()
with dg.DagsterInstance.get() as instance:
    home = instance.root_directory
brought = [n for n in sys.modules if n not in before and n.split(".")[0] in ("dagster", "sqlalchemy")]
print(json.dumps([frozen, brought, home]))
"""


def test_a_process_forked_from_it_imports_nothing_more_of_dagster_and_collects_only_its_own(deployment):
    (deployment.root / "ready.py").write_text(READY)
    (deployment.root / "data" / "dagster" / "storage").mkdir(exist_ok=True)
    found = deployment.call("ready", DAGSTER_HOME=str(deployment.data / "dagster"))
    assert found.returncode == 0, found.stderr
    frozen, brought, home = json.loads(found.stdout)
    assert frozen > 100_000
    assert brought == []
    assert home == str(deployment.data / "dagster")
