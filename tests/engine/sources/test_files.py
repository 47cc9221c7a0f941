import datetime
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from engine.bars.synthetic import make_bars, to_csv
from engine.errors import DataError
from engine.sources import FileFormat, SymbolSource, load
from engine.sources.base import Request
from engine.sources.files import Files, read_parquet

BARS = make_bars(2, 60, symbol="AAA")
NUMBERS = ("open", "high", "low", "close", "volume")


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def table(stamp="date", kind=None, **changed):
    kind = kind or (pa.date32() if stamp == "date" else pa.timestamp("us", "UTC"))
    columns = {stamp: pa.array(BARS.ts).cast(pa.timestamp("us")).cast(kind)}
    columns |= {name: pa.array(getattr(BARS, name)) for name in NUMBERS}
    return pa.table(columns | changed)


def parquet_bytes(content):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(content, sink)
    return sink.getvalue()


def loaded(data_dir, key="AAA", frame="1d", **options):
    return load("files", key, SymbolSource(**options), data_dir=data_dir, frame=frame).bars


def test_csv_and_parquet_of_the_inbox_give_the_same_bars(inbox):
    (inbox / "AAA.csv").write_text(to_csv(BARS))
    (inbox / "BBB.parquet").write_bytes(parquet_bytes(table()))
    for key in ("AAA", "BBB"):
        bars = loaded(inbox.parent, key)
        for name in ("ts", *NUMBERS):
            np.testing.assert_array_equal(getattr(bars, name), getattr(BARS, name))


def test_a_declared_path_delimiter_and_date_format_are_used(tmp_path):
    lines = to_csv(BARS).replace("date", "timestamp").replace(",", ";").splitlines()
    rows = [f"{ts // 1_000_000}{line[10:]}" for ts, line in zip(BARS.ts.tolist(), lines[1:], strict=True)]
    (tmp_path / "mine.txt").write_text("\n".join([lines[0], *rows, ""]))
    form = FileFormat(path=str(tmp_path / "mine.txt"), delimiter=";", date_format="epoch_s")
    np.testing.assert_array_equal(loaded(tmp_path / "data", file=form).ts, BARS.ts)


def test_the_users_events_are_applied(inbox):
    day = datetime.date(1970, 1, 1) + datetime.timedelta(int(BARS.ts[30] // 86_400_000_000))
    (inbox / "AAA.csv").write_text(to_csv(BARS))
    (inbox.parent / "events.csv").write_text(
        f"symbol,date,kind,value,note\nAAA,{day},split,2,\nAAA,{day},verified_move,,\n"
    )
    bars = loaded(inbox.parent)
    np.testing.assert_array_equal(bars.close[:30] * 2, BARS.close[:30])
    np.testing.assert_array_equal(bars.close[30:], BARS.close[30:])


@pytest.mark.parametrize(
    ("names", "part", "end"),
    [
        (
            (),
            "found no AAA.csv or AAA.parquet in data/inbox. The folder holds no price file.",
            "declare file: {path",
        ),
        (("AAB.csv", "ZZ.parquet"), "in data/inbox. Closest: AAB.", "declare file: {path: ...}"),
        (
            ("AAA.csv", "AAA.parquet"),
            "found AAA.csv and AAA.parquet in data/inbox; expected one",
            "take one of them",
        ),
    ],
)
def test_a_file_that_is_absent_or_double_is_e16(inbox, names, part, end):
    for name in names:
        (inbox / name).write_text("x")
    with pytest.raises(DataError) as caught:
        loaded(inbox.parent)
    assert caught.value.rule == "E16" and part in str(caught.value) and end in str(caught.value)


def test_a_declared_file_that_is_absent_is_e16(tmp_path):
    with pytest.raises(DataError, match=r"E16 .*\n  found no file gone\.csv; expected it as declared"):
        loaded(tmp_path, file=FileFormat(path="gone.csv"))


def test_fetch_gives_the_bytes_as_they_are(inbox):
    (inbox / "AAA.csv").write_bytes(b"no price file at all")
    batches = list(Files(inbox.parent).fetch(Request("AAA", "1d")))
    assert [(batch.data, batch.form, batch.origin) for batch in batches] == [
        (b"no price file at all", "csv", "AAA.csv")
    ]


def read(content, frame="1d", calendar="observed", **form):
    data = content if isinstance(content, bytes) else parquet_bytes(content)
    return read_parquet(data, "AAA", frame, calendar, FileFormat(**form), "AAA.parquet")


def test_parquet_stamps_in_any_unit_and_with_a_declared_zone():
    for kind in (
        pa.timestamp("us", "UTC"),
        pa.timestamp("ms", "America/New_York"),
        pa.timestamp("ns", "UTC"),
    ):
        np.testing.assert_array_equal(read(table("timestamp", kind), calendar="24/7").ts, BARS.ts)
    np.testing.assert_array_equal(read(table("timestamp", pa.timestamp("us")), zone="Asia/Tokyo").ts, BARS.ts)
    local = read(table("timestamp", pa.timestamp("us")), calendar="24/7", zone="Asia/Tokyo")
    np.testing.assert_array_equal(local.ts, BARS.ts - 9 * 3_600_000_000)


NO_NUMBERS = pa.array(["x"] * len(BARS))
PARQUET_CASES = {
    "text": (b"date,open\n", "E15", "found no Parquet footer"),
    "cut": (parquet_bytes(table())[:-20], "E15", "found no Parquet footer"),
    "footer damaged": (parquet_bytes(table())[:-200] + b"\0" * 192 + b"\x08\0\0\0PAR1", "E15", "file torn"),
    "missing column": (table().drop_columns(["low"]), "E01", "found no column 'low'"),
    "unknown column": (table(vwap=pa.array(BARS.close)), "E01", "list it in ignore_columns of AAA's file"),
    "text price": (table(close=NO_NUMBERS), "E01", "found close as string; expected double"),
    "text date": (table(date=NO_NUMBERS), "E01", "found date as string; expected date or timestamp"),
    "no row": (table().slice(0, 0), "E17", "found 0 rows"),
    "no stamp": (
        table(date=pa.array([None, *range(len(BARS) - 1)], pa.int32()).cast(pa.date32())),
        "E02",
        "1 without stamp",
    ),
    "no zone": (table("timestamp", pa.timestamp("us")), "E08", "first AAA.parquet row 1, AAA.parquet row 2"),
    "another symbol": (
        table(symbol=pa.array(["AAA"] * 59 + ["B"])),
        "E16",
        "first AAA.parquet row 60\n  found 'B'",
    ),
    "nanoseconds": (
        table(date=pa.array(BARS.ts * 1000 + 1, pa.timestamp("ns", "UTC"))),
        "E02",
        "stamp finer than a microsecond",
    ),
}


@pytest.mark.parametrize("case", sorted(PARQUET_CASES))
def test_refuses_every_bad_parquet_file(case):
    content, rule, part = PARQUET_CASES[case]
    with pytest.raises(DataError) as caught:
        read(content)
    assert caught.value.rule == rule and part in str(caught.value)
    assert str(caught.value).endswith("then: nightfold check AAA")


def test_an_absent_parquet_value_is_e03(inbox):
    close = pa.array([None, *BARS.close[1:].tolist()], pa.float64())
    (inbox / "AAA.parquet").write_bytes(parquet_bytes(table(close=close)))
    with pytest.raises(DataError, match=r"E03 .* first 2015-01-02 \(AAA\.parquet row 1\)"):
        loaded(inbox.parent)
