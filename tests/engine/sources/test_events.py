import pytest

from engine.bars.splits import Event
from engine.errors import DataError
from engine.sources.events import combine, events_sha, read_events

DAY = 86_400_000_000
HEADER = "symbol,date,kind,value,note\n"


def events(tmp_path, text, key="AAA"):
    path = tmp_path / "events.csv"
    path.write_text(HEADER + text if not text.startswith("!") else text[1:])
    return read_events(path, key, "1d")


def test_reads_the_rows_of_one_symbol_oldest_first(tmp_path):
    text = 'AAA,1970-01-03,dividend,0.5,\nBBB,x,y,z,\nAAA,1970-01-02,split,2,"two, for one"\n\n'
    found = events(tmp_path, text + "AAA,1970-01-04,verified_move,,real\n")
    assert found == (
        Event(1 * DAY, "split", 2.0, "events.csv line 4"),
        Event(2 * DAY, "dividend", 0.5, "events.csv line 2"),
        Event(3 * DAY, "verified_move", 0.0, "events.csv line 6"),
    )


def test_an_absent_file_holds_no_event(tmp_path):
    assert read_events(tmp_path / "events.csv", "AAA", "1d") == ()


@pytest.mark.parametrize(
    ("text", "rule", "part"),
    [
        (
            "AAA,2024-13-01,split,2,\n",
            "E02",
            "first events.csv line 2\n  found '2024-13-01'; expected YYYY-MM-DD",
        ),
        ("AAA,20240101,split,2,\n", "E02", "found '20240101'"),
        ("AAA,2024-01-01,splitt,2,\n", "E02", "found 'splitt'. Closest: split."),
        ("AAA,2024-01-01,split,two,\n", "E02", "found 'two'; expected new shares per old"),
        ("AAA,2024-01-01,split,,\n", "E02", "found ''; expected new shares per old"),
        ("AAA,2024-01-01,verified_move,1,\n", "E02", "found '1'; expected nothing"),
        ("AAA,2024-01-01,split,2\n", "E01", "line 2\n  found 4 cells; expected 5"),
        (
            "AAA,2024-01-01,split,2,\nAAA,2024-01-01,split,2,\n",
            "E02",
            "also in events.csv line 2; expected one row",
        ),
        (
            "!symbol,date,kind,value\n",
            "E01",
            "found 'symbol,date,kind,value'; expected symbol,date,kind,value,note",
        ),
        ("!", "E01", "found 'nothing'"),
    ],
)
def test_refuses_bad_rows_with_their_line(tmp_path, text, rule, part):
    with pytest.raises(DataError) as caught:
        events(tmp_path, text)
    assert caught.value.rule == rule and part in str(caught.value)
    assert str(caught.value).endswith("then: nightfold check AAA")


def test_refuses_a_file_that_is_not_text(tmp_path):
    (tmp_path / "events.csv").write_bytes(b"symbol,\xff")
    with pytest.raises(DataError, match=r"E02 file is not UTF-8: AAA 1d, events\.csv\n"):
        read_events(tmp_path / "events.csv", "AAA", "1d")


def test_the_users_event_stands_before_the_vendors_of_the_same_kind_and_date():
    own, vendor = Event(DAY, "split", 3.0, "own"), Event(DAY, "split", 2.0, "vendor")
    other = Event(DAY, "dividend", 1.0, "vendor")
    assert combine([own], [vendor, other]) == (other, own)


def test_the_sha_names_the_rows_and_not_their_order_lines_or_notes(tmp_path):
    a = events(tmp_path, "AAA,2024-01-02,split,2,\nAAA,2024-01-03,dividend,1,\n")
    b = events(
        tmp_path, "AAA,2024-01-03,dividend,1.0,note\nBBB,2024-01-02,split,5,\nAAA,2024-01-02,split,2,\n"
    )
    c = events(tmp_path, "AAA,2024-01-02,split,2.5,\nAAA,2024-01-03,dividend,1,\n")
    assert events_sha(a) == events_sha(b) != events_sha(c)
    assert len(events_sha(())) == 64
