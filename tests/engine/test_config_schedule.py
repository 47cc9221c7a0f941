"""When the nightly run starts: mistakes in cron and time zone are refused by the settings themselves."""

import pytest

from engine.config_file import load
from engine.config_schedule import Schedule
from engine.errors import ConfigError

HEAD = "symbols: {AAPL: {}}\nschedule:\n"


@pytest.fixture
def refusal(tmp_path):
    """Return the one line that refuses a schedule whose lines these are."""

    def line(text):
        path = tmp_path / "nightfold.yaml"
        path.write_text(HEAD + text)
        with pytest.raises(ConfigError) as caught:
            load(path)
        (said,) = str(caught.value).split("\n")
        return said

    return line


@pytest.mark.parametrize(
    "cron",
    [
        "0 2 * * 2-6", "* * * * *", "*/15 0-23/2 1,15 */3 *", "0 2 * jan-MAR mon,Wed,fri", "5/20 2 * * *",
        "0 2 * * 7", "0 2 * * fri-mon", "30 22-2 * * 6-7", "0 0 29 2 *", "0 0 30,31 2,4 *", " 0  2 * * * ",
    ],
)  # fmt: skip
def test_five_fields_with_numbers_names_ranges_steps_and_lists_are_taken(cron):
    assert Schedule(cron=cron).cron == cron


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 25 * * 2-6", "hour '25': 25 is outside 0 to 23"),
        ("60 2 * * *", "minute '60': 60 is outside 0 to 59"),
        ("0 2 0 * *", "day of month '0': 0 is outside 1 to 31"),
        ("0 2 1-32 * *", "day of month '1-32': 32 is outside 1 to 31"),
        ("0 2 * 13 *", "month '13': 13 is outside 1 to 12, or jan to dec"),
        ("0 2 * * 2-8", "day of week '2-8': 8 is outside 0 to 7, or sun to sat"),
        ("0 2 * * mo", "day of week 'mo': mo is outside 0 to 7, or sun to sat"),
        ("0 2 * mon *", "month 'mon': mon is outside 1 to 12, or jan to dec"),
        ("0 jan * * *", "hour 'jan': jan is outside 0 to 23"),
        ("*/90 * * * *", "minute '*/90': step 90 is not from 1 to 59, the end of its range"),
        ("*/0 * * * *", "minute '*/0': step 0 is not from 1 to 59, the end of its range"),
        ("0 1-5/6 * * *", "hour '1-5/6': step 6 is not from 1 to 5, the end of its range"),
        ("0 2-2 * * *", "hour '2-2': 2-2 is a range of one; write 2"),
        ("0 2 * * 2-6,", "day of week '2-6,' is no cron field; expected *, a number, a-b, */n"),
        ("0 2 *,5 * *", "day of month '*,5' is no cron field"),
        ("0 2 L * *", "day of month 'l': l is outside 1 to 31"),
        ("0 2 * * 5#2", "day of week '5#2' is no cron field"),
        ("0 -2 * * *", "hour '-2' is no cron field"),
        ("0 \u0662 * * *", "hour '\u0662' is no cron field"),
        ("at noon", "'at noon' has 2 of the five fields minute, hour, day of month, month, day of week"),
        ("0 0 2 * * *", "'0 0 2 * * *' has 6 of the five fields"),
        ("@daily", "'@daily' has 1 of the five fields"),
        ("", "'' has 0 of the five fields"),
        ("0 0 30 2 *", "'0 0 30 2 *' never comes: no month in '2' has a day in '30'"),
        ("0 0 31 feb,apr *", "'0 0 31 feb,apr *' never comes: no month in 'feb,apr' has a day in '31'"),
    ],
)
def test_a_cron_that_dagster_cannot_follow_is_refused_at_its_place(cron, message, refusal):
    assert refusal(f"  enabled: true\n  cron: '{cron}'\n").startswith(
        f"nightfold.yaml:4:3: schedule.cron: {message}"
    )


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Asia/Kolkata", "Etc/GMT+5"])
def test_a_known_time_zone_is_taken(zone):
    assert Schedule(timezone=zone).timezone == zone


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("America/NewYork", "Closest: America/New_York"),
        ("Europe/Berlim", "Closest: Europe/Berlin"),
        ("America", "Closest: "),
        ("../UTC", ""),
        ("/etc/localtime", ""),
        ("", "Known are those of the IANA time zone database."),
        ("xyzzy", "Known are those of the IANA time zone database."),
    ],
)
def test_an_unknown_time_zone_is_refused_at_its_place_with_the_closest(zone, hint, refusal):
    said = refusal(f"  timezone: '{zone}'\n")
    assert said.startswith(
        f"nightfold.yaml:3:3: schedule.timezone: {zone!r} is no time zone; expected one such"
    )
    assert hint in said and len(said) < 250
