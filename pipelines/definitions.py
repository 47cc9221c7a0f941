"""Everything Dagster loads."""

import dagster as dg

from pipelines.assets import ASSETS, leaderboard
from pipelines.checks import CHECKS
from pipelines.jobs import JOBS, executor
from pipelines.schedules import nightly
from pipelines.sensors import inbox

defs = dg.Definitions(
    assets=[*ASSETS, leaderboard],
    asset_checks=CHECKS,
    jobs=JOBS,
    schedules=[nightly],
    sensors=[inbox],
    executor=executor,  # of what is materialised from the web UI, and of backtest_symbol
)
