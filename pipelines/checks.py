"""Asset checks: what must hold of each stage's stored result, per symbol."""

import dagster as dg

from engine.config_file import SettingsFile
from pipelines import guard, resources
from pipelines.symbols import PARTITIONS

# name, asset, blocking, description; the checks themselves are engine.stages.verify.CHECKS
TABLE = (
    ("bars_pass_the_error_rules", "prices", True, "Finite, positive, ordered, each inside its own range."),
    ("features_know_no_later_bar", "features", True, "Bit-equal when the bars after t are unknown."),
    ("forecasts_are_ordered", "forecasts", True, "low <= close <= high at every level, levels rising."),
    ("forecasts_against_baselines", "forecasts", False, "Not proven worse than historical simulation."),
    ("no_test_bar_in_training", "optimizations", True, "Tests apart and after training; one fit a fold."),
    ("trades_sum_to_the_change_of_equity", "backtests", True, "To 1e-9 of the initial cash."),
    ("results_are_out_of_sample", "backtests", True, "Every reported bar lies in its fold's test span."),
)


def names(asset: str) -> list[str]:
    """Return the names of an asset's checks."""
    return [name for name, of, *_ in TABLE if of == asset]


def evaluation(name: str, symbol: str, file: SettingsFile) -> dg.AssetCheckEvaluation:
    """Run one check on what the lake holds of one symbol; return its evaluation for that partition."""
    from engine.stages import verify

    asset = next(of for known, of, *_ in TABLE if known == name)
    function = next(one for one in verify.CHECKS[asset] if one.__name__ == name)
    check = function(resources.lake(file), symbol, file.settings)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=name,
        passed=check.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=check.note,
        metadata=check.metadata,
        partition=symbol,
        blocking=check.blocking,
    )


def _check(name: str, asset: str, blocking: bool, description: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name=name, asset=asset, blocking=blocking, description=description, partitions_def=PARTITIONS
    )
    def run_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with guard.refusals(context):
            symbol = context.partition_key
            found = evaluation(name, symbol, guard.open_symbol(symbol))
        return dg.AssetCheckResult(
            passed=found.passed,
            severity=found.severity,
            description=found.description,
            metadata=found.metadata,
        )

    return run_check


CHECKS = [_check(*row) for row in TABLE]
