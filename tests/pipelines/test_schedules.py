"""The settings check the schedule, so whatever they accept Dagster must accept too."""

import dagster as dg
import numpy as np
import pytest
from pydantic import ValidationError

from engine.config_schedule import Schedule

ENDS = (59, 23, 31, 12, 7)
NAMES = ((), (), (), ("jan", "feb", "dec"), ("sun", "mon", "sat"))


def _field(rng, index):
    """Return a field of a cron expression; now and then one just beyond its bounds."""

    def value():
        if NAMES[index] and rng.random() < 0.3:
            return str(rng.choice(NAMES[index]))
        return str(rng.choice([0, 1, ENDS[index], rng.integers(0, ENDS[index] + 2)]))

    def item():
        kind = rng.choice(["*", "a", "a-b"], p=[0.4, 0.3, 0.3])
        text = {"*": "*", "a": value(), "a-b": f"{value()}-{value()}"}[str(kind)]
        return text + (f"/{rng.integers(0, ENDS[index] + 2)}" if rng.random() < 0.3 else "")

    return ",".join(item() for _ in range(rng.choice([1, 1, 2])))


@pytest.mark.filterwarnings("ignore:Found a cron schedule")  # said of 22-0 too, which is sound
def test_dagster_takes_every_cron_expression_that_the_settings_take():
    rng = np.random.default_rng(0)
    taken = refused = 0
    for _ in range(6000):
        cron = " ".join(_field(rng, index) for index in range(5))
        try:
            asked = Schedule(cron=cron)
        except ValidationError:
            refused += 1
            continue
        made = dg.ScheduleDefinition(
            name="nightly", job_name="a_job", cron_schedule=asked.cron, execution_timezone=asked.timezone
        )  # raises where Dagster refuses it
        assert made.cron_schedule == cron
        taken += 1
    assert taken > 300 and refused > 300


def test_dagster_takes_a_time_zone_that_the_settings_take():
    for zone in ("America/New_York", "UTC", "Asia/Kolkata", "Etc/GMT+5"):
        asked = Schedule(timezone=zone)
        dg.ScheduleDefinition(
            name="nightly", job_name="a_job", cron_schedule=asked.cron, execution_timezone=asked.timezone
        )
