"""Asset checks, logged by the ops for each partition."""

import dagster as dg

from engine.stages import verify
from pipelines import checks
from pipelines.assets import NAMES


def test_the_table_names_every_check_of_the_stages_under_its_stage():
    declared = {(asset, name) for name, asset, *_ in checks.TABLE}
    assert declared == {(stage, check.__name__) for stage, found in verify.CHECKS.items() for check in found}
    assert {asset for asset, _ in declared} <= set(NAMES)


def test_every_check_is_logged_for_every_partition_as_it_is_declared(finished):
    logged = [
        entry.dagster_event.asset_check_evaluation_data
        for entry in finished.events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    ]
    found = {(one.asset_key.to_user_string(), one.check_name, one.partition, one.blocking) for one in logged}
    declared = {
        (asset, name, key, blocking) for name, asset, blocking, _ in checks.TABLE for key in finished.keys
    }
    assert found == declared and len(logged) == len(declared)
    for one in logged:
        severity = dg.AssetCheckSeverity.ERROR if one.blocking else dg.AssetCheckSeverity.WARN
        assert one.severity == severity
        assert one.passed or not one.blocking
        assert one.description
