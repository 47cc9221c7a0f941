import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bars.checks import Context, check, refuse
from engine.bars.synthetic import EDITS, make_bars, spoil, to_csv
from engine.errors import DataError
from engine.sources.base import FileFormat
from engine.sources.read_csv import read_csv

HEADER = "date,open,high,low,close,volume"
ROW = "2024-01-02,10.0,11.0,9.0,10.5,100"
GOOD = f"{HEADER}\n{ROW}\n2024-01-03,10.5,11.0,9.0,10.0,100\n2024-01-04,10.0,11.0,9.0,10.5,100\n"


def read(text, *, frame="1d", calendar="observed", **form):
    data = text if isinstance(text, bytes) else text.encode()
    return read_csv(data, "AAA", frame, calendar, FileFormat(**form), "AAA.csv")


def refused(text, **options):
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return caught.value


def test_reads_any_order_of_columns_a_bom_crlf_and_quotes():
    raw = read("\ufeffvolume,close,low,high,open,date\r\n1e2,10.5,9,11,+10,2024-01-02\r\n")
    assert (raw.open[0], raw.high[0], raw.low[0], raw.close[0], raw.volume[0]) == (
        10.0,
        11.0,
        9.0,
        10.5,
        100.0,
    )
    assert raw.ts[0] == np.datetime64("2024-01-02", "us").astype(int) and raw.line.tolist() == [2]
    assert read(GOOD.replace("10.0,", '"10.0",')).open.tolist() == [10.0, 10.5, 10.0]


def test_a_symbol_column_and_ignored_columns_are_allowed():
    text = "symbol,date,open,high,low,close,volume,vwap\nAAA,2024-01-02,1,1,1,1,1,text\n"
    assert len(read(text, ignore_columns=("vwap",))) == 1


def with_line(line, number=3):
    """GOOD with one line (header = 1) put in the place of another."""
    lines = GOOD.splitlines()
    lines[number - 1] = line
    return "\n".join(lines) + "\n"


# Every case: the text, what is declared, the rule, the line it names (None: no line), a part of the message.
CASES = {
    "empty file": ("", {}, "E17", None, "found an empty file"),
    "blank file": (" \n\n", {}, "E17", None, "found an empty file"),
    "header alone": (HEADER + "\n", {}, "E17", None, "found a header line and no bar"),
    "no final newline": (GOOD[:-1], {}, "E15", 4, "expected one at the file's end"),
    "last number cut in half": (
        GOOD[:-3],
        {},
        "E15",
        4,
        "found no newline after '2024-01-04,10.0,11.0,9.0,10.5,1'",
    ),
    "cut in mid row": (GOOD[:-12] + "\n", {}, "E01", 4, "found 4 cells; expected 6"),
    "cut in mid row with comma": (GOOD[:-4] + "\n", {}, "E02", 4, "found '' in column volume of line 4"),
    "one extra column in a row": (with_line(ROW + ",1"), {}, "E01", 3, "found 7 cells; expected 6"),
    "blank line": (with_line(""), {}, "E01", 3, "row has another number of cells"),
    "N/A in a price": (
        with_line("2024-01-03,10,11,N/A,10,1"),
        {},
        "E02",
        3,
        "found 'N/A' in column low of line 3",
    ),
    "empty cell": (with_line("2024-01-03,10,,9,10,1"), {}, "E02", 3, "found '' in column high"),
    "text in a price": (with_line("2024-01-03,ten,11,9,10,1"), {}, "E02", 3, "found 'ten' in column open"),
    "underscore in a number": (with_line("2024-01-03,1_03,11,9,10,1"), {}, "E02", 3, "found '1_03'"),
    "Arabic-Indic digits": (with_line("2024-01-03,١٠,11,9,10,1"), {}, "E02", 3, "found '١٠'"),
    "full-width digits": (with_line("2024-01-03,１０,11,9,10,1"), {}, "E02", 3, "found '１０'"),
    "hexadecimal": (with_line("2024-01-03,0x10,11,9,10,1"), {}, "E02", 3, "found '0x10'"),
    "decimal comma": (with_line('2024-01-03,"10,5",11,9,10,1'), {}, "E02", 3, "found '10,5'"),
    "quoted newline": (with_line('2024-01-03,"10\n5",11,9,10,1'), {}, "E0", None, ""),
    "header repeated": (with_line(HEADER), {}, "E02", 3, "found 'open' in column open of line 3"),
    "NUL byte": (with_line("2024-01-03,10,11,9,10,\0"), {}, "E15", 3, "found a NUL byte"),
    "not UTF-8": (GOOD.encode().replace(b"10.5,1", b"10.5,\xff", 1), {}, "E02", 2, "found byte 0xff"),
    "semicolons": (GOOD.replace(",", ";"), {}, "E01", 1, "declare file: {delimiter: ';'} for AAA"),
    "wrong declared delimiter": (
        GOOD,
        {"delimiter": ";"},
        "E01",
        1,
        "declare file: {delimiter: ','} for AAA",
    ),
    "missing column": (
        GOOD.replace("volume", "", 1).replace(",\n", "\n", 1),
        {},
        "E01",
        1,
        "no column 'volume'",
    ),
    "unknown column": (
        GOOD.replace("close", "closing", 1),
        {},
        "E01",
        1,
        "found column 'closing'. Closest: close;",
    ),
    "capital letters": (
        GOOD.replace("close", "Close", 1),
        {},
        "E01",
        1,
        "found column 'Close'. Closest: close;",
    ),
    "extra column": (
        "a," + GOOD.replace("\n2", "\n1,2"),
        {},
        "E01",
        1,
        "or list it in ignore_columns of AAA's file",
    ),
    "doubled column": (GOOD.replace("low", "high", 1), {}, "E01", 1, "found column 'high' twice"),
    "date and timestamp": (GOOD.replace("volume", "timestamp", 1), {}, "E01", 1, "twice or beside its twin"),
    "no stamp": (GOOD.replace("date", "day", 1), {}, "E01", 1, "found column 'day'. Closest: date;"),
    "day first": (
        with_line("03/01/2024,10,11,9,10,1"),
        {},
        "E02",
        3,
        "found '03/01/2024'; expected YYYY-MM-DD",
    ),
    "no such day": (with_line("2024-02-30,10,11,9,10,1"), {}, "E02", 3, "found '2024-02-30'"),
    "leading blank": (with_line(" 2024-01-03,10,11,9,10,1"), {}, "E02", 3, "found ' 2024-01-03'"),
    "compact date": (with_line("20240103,10,11,9,10,1"), {}, "E02", 3, "found '20240103'"),
    "hour alone": (with_line("2024-01-03 09,10,11,9,10,1"), {}, "E02", 3, "the same form in every row"),
    "one stamp with time": (
        with_line("2024-01-03 09:30,10,11,9,10,1"),
        {"zone": "UTC"},
        "E02",
        3,
        "same form",
    ),
    "one stamp with zone": (
        "\n".join([HEADER, "2024-01-02 09:30Z,1,1,1,1,1", "2024-01-02 09:31,1,1,1,1,1", ""]),
        {"frame": "1m"},
        "E02",
        3,
        "found '2024-01-02 09:31'",
    ),
    "no zone": (
        f"{HEADER}\n2024-01-02 09:30,1,1,1,1,1\n",
        {"frame": "1m"},
        "E08",
        2,
        "declare file: {zone: America/New_York} (or the zone it is) for AAA in nightfold.yaml",
    ),
    "unknown zone": (
        f"{HEADER}\n2024-01-02 09:30,1,1,1,1,1\n",
        {"frame": "1m", "zone": "New York"},
        "E08",
        2,
        "where zone is 'New York'",
    ),
    "hour that occurs twice": (
        f"{HEADER}\n2024-11-03 00:30,1,1,1,1,1\n2024-11-03 01:30,1,1,1,1,1\n",
        {"frame": "1m", "zone": "America/New_York"},
        "E08",
        3,
        "local time occurs twice or never",
    ),
    "hour that never was": (
        f"{HEADER}\n2024-03-10 02:30,1,1,1,1,1\n",
        {"frame": "1m", "zone": "America/New_York"},
        "E08",
        2,
        "expected a time that occurs once in America/New_York",
    ),
    "dates for minutes": (GOOD, {"frame": "1m"}, "E08", 2, "expected date and time for 1m bars"),
    "all daily bars with a time": (
        f"{HEADER}\n2024-01-02 16:00Z,1,1,1,1,1\n",
        {},
        "E09",
        2,
        "expected the session's date",
    ),
    "milliseconds read as seconds": (
        f"{HEADER}\n1704205800,1,1,1,1,1\n1704205860000,1,1,1,1,1\n",
        {"frame": "1m", "date_format": "epoch_s"},
        "E14",
        3,
        "found '1704205860000'; expected epoch_s stamps",
    ),
    "date for seconds": (
        GOOD,
        {"date_format": "epoch_s"},
        "E02",
        None,
        "file cannot be read as typed columns",
    ),
    "another symbol": (
        f"symbol,{HEADER}\nAAA,2024-01-02,1,1,1,1,1\nBBB,2024-01-03,1,1,1,1,1\n",
        {},
        "E16",
        3,
        "found 'BBB' in column symbol; expected AAA",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_refuses_every_bad_file_with_its_line(case):
    text, options, rule, line, part = CASES[case]
    error = refused(text, **options)
    assert error.rule.startswith(rule) and part in str(error) and error.symbol == "AAA"
    if line is not None:
        assert f"first AAA.csv line {line}" in str(error)
    else:
        assert "AAA.csv" in str(error)
    assert str(error).endswith("then: nightfold check AAA")


def test_there_are_enough_bad_cases():
    assert len(CASES) >= 40


def test_counts_all_bad_lines_and_shows_three():
    lines = [HEADER] + [
        f"2024-01-0{i},x,11,9,10,1" if i % 2 else f"2024-01-0{i},10,11,9,10,1" for i in range(1, 10)
    ]
    error = refused("\n".join(lines) + "\n")
    assert (
        "cell is not a number: AAA 1d, 5 lines, first AAA.csv line 2, AAA.csv line 4, AAA.csv line 6\n"
        in str(error)
    )


def test_a_file_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("engine.sources.read_csv.MAX_BYTES", 50)
    assert "found 134 bytes; expected at most 50" in str(refused(GOOD))


@pytest.mark.parametrize(
    ("stamp", "options", "utc"),
    [
        ("2024-01-02", {"frame": "1d"}, "2024-01-02T00:00"),
        ("2024-01-02 09:30Z", {"frame": "1m"}, "2024-01-02T09:30"),
        ("2024-01-02T09:30:15.5+05:30", {"frame": "1m"}, "2024-01-02T04:00:15.5"),
        ("2024-01-02 09:30", {"frame": "1m", "zone": "America/New_York"}, "2024-01-02T14:30"),
        ("2024-07-02 09:30", {"frame": "1m", "zone": "America/New_York"}, "2024-07-02T13:30"),
        ("2024-07-02 00:00", {"frame": "1d", "zone": "America/New_York"}, "2024-07-02T00:00"),
        ("1704187800", {"frame": "1m", "date_format": "epoch_s"}, "2024-01-02T09:30"),
        ("1704187800500", {"frame": "1m", "date_format": "epoch_ms"}, "2024-01-02T09:30:00.5"),
    ],
)
def test_stamps_become_utc_by_the_declared_format(stamp, options, utc):
    raw = read(f"{HEADER.replace('date', 'timestamp')}\n{stamp},1,1,1,1,1\n", **options)
    assert raw.ts[0] == np.datetime64(utc, "us").astype(int)


def checked(text, bars):
    """What reading and checking find: rule, or the warnings."""
    try:
        raw = read_csv(text.encode(), "TEST", bars.frame, bars.calendar, FileFormat(), "TEST.csv")
        return refuse(check(raw, Context("TEST", bars.frame, bars.calendar)), "TEST", bars.frame)
    except DataError as error:
        return error.rule


def quiet_bars(frame):
    """A series without zero-volume bars, so that a spoiled file shows its own finding alone."""
    return next(bars for seed in range(99) if (bars := make_bars(seed, 40, frame)).volume.min() > 0)


@pytest.mark.parametrize("frame", ["1d", "5m"])
@pytest.mark.parametrize("rule", sorted(set(EDITS) - {"E13"}))
def test_a_spoiled_file_breaks_exactly_its_rule(rule, frame):
    bars = quiet_bars(frame)
    text = to_csv(bars)
    assert checked(text, bars) == []
    found = checked(spoil(text, rule), bars)
    if rule.startswith("E"):
        assert found == rule
    else:
        assert [warning[:3] for warning in found] == [rule]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5000),
    st.integers(1, 80),
    st.sampled_from(["1d", "1m"]),
    st.sampled_from(["observed", "24/7"]),
)
def test_equals_the_slow_twin_on_clean_series(seed, n, frame, calendar):
    bars = make_bars(seed, n, frame, calendar=calendar)
    text = to_csv(bars)
    raw = read_csv(text.encode(), "TEST", frame, calendar, FileFormat(), "TEST.csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    for name in ("open", "high", "low", "close", "volume"):
        assert (
            getattr(raw, name).tolist() == [float(row[name]) for row in rows] == getattr(bars, name).tolist()
        )
    assert raw.ts.tolist() == bars.ts.tolist()
    assert not [f for f in check(raw, Context("TEST", frame, calendar)) if f.rule != "W01"]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 300), st.integers(0, 2000), st.binary(min_size=1, max_size=3))
def test_a_mutated_file_is_read_as_text_says_or_refused(seed, at, junk):
    data = to_csv(make_bars(seed % 7, 20)).encode()
    at %= len(data)
    try:
        raw = read_csv(
            data[:at] + junk + data[at + len(junk) :], "TEST", "1d", "observed", FileFormat(), "TEST.csv"
        )
    except DataError as error:
        assert error.symbol == "TEST" and "nightfold check TEST" in str(error)
    else:
        assert len(raw) == 20
