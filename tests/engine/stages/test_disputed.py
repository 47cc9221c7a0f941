"""A vendor that changed its history, or its currency: both versions are kept, and accepting goes on."""

from dataclasses import replace

import numpy as np
import pytest
from replies import Replies

from engine.errors import DataError
from engine.lake.publish import rows_of
from engine.sources import loading
from engine.stages import _prices, examine
from engine.stages._prices import prices
from engine.stages.chain import run_stage

SYMBOL = "ALFA"


@pytest.fixture
def one(bench, tmp_path, alfa, monkeypatch):
    project = bench(tmp_path / "data")
    project.change(prices={"source": "exchange"})
    project.vendor = Replies(alfa(800))
    monkeypatch.setattr(loading, "make_source", lambda *_: project.vendor)
    return project


def fetch(one, **options):
    return prices(one.lake, SYMBOL, one.settings, one.said.append, asof=None, **options)


def quarantined(one):
    return rows_of(one.lake.read("quarantine", SYMBOL))


def test_a_changed_history_stops_the_symbol_and_both_versions_are_kept(one, alfa, with_bar):
    fetch(one)
    before = one.files()
    one.vendor.bars = with_bar(alfa(803), 795, 1.02)
    for _ in range(2):  # a second night adds nothing
        with pytest.raises(DataError, match=r"^E13 (?s:.*)nightfold check ALFA --accept-revision$"):
            fetch(one)
        rows = quarantined(one)
        assert [(row["rule"], row["version"], row["ts"]) for row in rows] == [
            ("E13", version, int(alfa(800).ts[795])) for version in ("stored", "vendor")
        ]
    texts = [dict(pair.split("=") for pair in row["text"].split(",")) for row in rows]
    assert float(texts[0]["close"]) == alfa(800).close[795]
    assert float(texts[1]["close"]) == one.vendor.bars.close[795]
    assert {name: one.files()[name] for name in before} == before
    assert "quarantine: 2 rows, 2 of them of a history its vendor changed (E13)" in "\n".join(
        examine.status(SYMBOL, one.settings, one.data_dir, studies=False)
    )


def test_accepting_publishes_the_vendors_history_and_the_next_night_goes_on(one, alfa, with_bar):
    fetch(one)
    old = one.files()["bars/ALFA.parquet"]
    one.vendor.bars = with_bar(alfa(803), 795, 1.02)
    with pytest.raises(DataError, match="^E13 "):
        fetch(one)
    said = examine.accept(SYMBOL, one.settings, one.data_dir, None, 4)
    assert said.startswith("ALFA: history of 803 bars published as result ")
    np.testing.assert_array_equal(one.table("bars")["close"].to_numpy(), one.vendor.bars.close)
    assert one.files()[".history/bars/ALFA/000001.parquet"] == old
    one.vendor.bars = with_bar(alfa(806), 795, 1.02)
    assert fetch(one).metadata["bars_new"] == 3


def test_history_older_than_the_vendor_reaches_stays_when_a_revision_is_accepted(one, alfa, with_bar):
    fetch(one)
    one.vendor.bars = with_bar(alfa(803), 795, 1.02).slice(700, None)
    assert fetch(one, accept_revision=True).rows == 803
    np.testing.assert_array_equal(one.table("bars")["close"].to_numpy()[:700], alfa(700).close)


def test_the_repair_accept_revision_takes_it_over_and_is_part_of_the_id(one, alfa, with_bar):
    first = fetch(one)
    one.vendor.bars = with_bar(alfa(800), 795, 1.02)
    one.change(prices={"policy": "repair", "repairs": ["accept_revision"]})
    second = fetch(one)
    assert second.result_id != first.result_id
    assert one.lake.record("bars", SYMBOL)["repairs"] == [
        "accept_revision: the vendor's history in place of the stored one"
    ]


def test_e18_another_currency_stops_the_symbol(one):
    fetch(one)
    before = one.files()
    one.vendor.currency = "EUR"
    with pytest.raises(DataError) as caught:
        fetch(one)
    assert str(caught.value) == (
        "E18 currency differs from the stored one: ALFA 1d, 1 series\n"
        "  stored prices are in USD, the source's in EUR; expected USD\n"
        "  a series in two currencies has a jump that nobody traded\n"
        "  correct provider_symbol: of ALFA in nightfold.yaml, or add it under another key, "
        "then: nightfold check ALFA"
    )
    assert one.files() == before


def test_a_jump_between_stored_and_new_bars_is_e12(one, alfa):
    fetch(one)
    bars = alfa(803)
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[801:] *= 0.5
    one.vendor.bars = replace(bars, **columns)
    with pytest.raises(DataError, match=r"^E12 unexplained price gap: ALFA 1d, 1 bar(?s:.*)--adjust 2:1@"):
        fetch(one)


def test_e14_rows_from_before_the_request_are_refused_or_set_aside(one, alfa):
    fetch(one)
    real = one.vendor.fetch

    def from_the_start(request):
        for batch in real(replace(request, start=None)):
            yield replace(batch, start=request.start)

    one.vendor.bars = alfa(803)
    one.vendor.fetch = from_the_start
    with pytest.raises(DataError, match="^E14 stamp outside the request: ALFA 1d, 790 bars"):
        fetch(one)


def test_every_reply_is_kept_before_it_is_judged(one, alfa, with_bar):
    fetch(one)
    one.vendor.bars = with_bar(alfa(803), 795, 1.02)
    with pytest.raises(DataError):
        fetch(one)
    kept = sorted(path.read_bytes() for path in (one.data_dir / "raw/exchange/ALFA").iterdir())
    assert len(kept) == 2 and b'["USD"' in kept[0][:6]


@pytest.fixture
def inbox(bench, tmp_path, alfa):
    project = bench(tmp_path / "data")
    project.change(prices={"policy": "quarantine"})
    project.write(alfa(800))
    return project


def spoil_rows(project, *numbers):
    path = project.data_dir / "inbox/ALFA.csv"
    lines = path.read_text().splitlines()
    for number in numbers:
        lines[number - 1] = ",".join([*lines[number - 1].split(",")[:4], "oops", "1"])
    path.write_text("\n".join(lines) + "\n")
    return lines


def test_rows_set_aside_are_in_the_table_once_and_the_rest_is_published(inbox):
    lines = spoil_rows(inbox, 100, 200)
    for _ in range(2):
        result = run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
        assert (result.rows, result.metadata["set_aside"]) == (798, 2)
        rows = quarantined(inbox)
        assert [(row["rule"], row["version"], row["line"], row["text"]) for row in rows] == [
            ("E02", "row", number, lines[number - 1]) for number in (100, 200)
        ]
    assert result.unchanged


def test_the_settings_limit_what_is_set_aside(inbox):
    spoil_rows(inbox, 100, 200)
    inbox.change(prices={"quarantine_max_rows": 1})
    with pytest.raises(DataError, match="^E02 "):
        run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    inbox.change(prices={"quarantine_max_rows": 20, "quarantine_max_share": 0.001})
    with pytest.raises(DataError, match="^E02 "):
        run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    inbox.change(symbols={SYMBOL: {"policy": "refuse"}}, prices={"quarantine_max_share": 0.01})
    with pytest.raises(DataError, match="^E02 "):
        run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    assert inbox.files() == {}


def test_a_symbols_own_repairs_win_over_the_files(inbox):
    path = inbox.data_dir / "inbox/ALFA.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *rows[::-1]]) + "\n")
    inbox.change(prices={"policy": "repair", "repairs": ["clip_range"]})
    with pytest.raises(DataError, match="^E07 "):
        run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    inbox.change(symbols={SYMBOL: {"repairs": ["sort"]}})
    run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    assert inbox.lake.record("bars", SYMBOL)["repairs"] == ["sort: 799 bars stood before an earlier one"]
    assert "ALFA prices repaired sort: 799 bars stood before an earlier one" in inbox.said


def test_a_series_that_ends_long_before_the_others_is_said(inbox, alfa):
    inbox.change(symbols={SYMBOL: {}, "BETA": {}})
    run_stage("prices", inbox.lake, SYMBOL, inbox.settings, inbox.said.append, asof=None)
    path = inbox.data_dir / "inbox/BETA.csv"
    path.write_text("\n".join((inbox.data_dir / "inbox/ALFA.csv").read_text().splitlines()[:741]) + "\n")
    run_stage("prices", inbox.lake, "BETA", inbox.settings, inbox.said.append, asof=None)
    assert any("BETA prices W07 series ends" in line for line in inbox.said)


def test_events_that_are_declared_explain_the_jump(inbox):
    path = inbox.data_dir / "inbox/ALFA.csv"
    lines = path.read_text().splitlines()
    for i in range(400, len(lines)):
        cells = lines[i].split(",")
        lines[i] = ",".join([cells[0], *(repr(float(c) / 4) for c in cells[1:5]), cells[5]])
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="--adjust 4:1@") as caught:
        examine.symbol_data(SYMBOL, inbox.settings, inbox.data_dir, None)
    declared = str(caught.value).split("--adjust ")[1].split()[0]
    said = examine.declare(SYMBOL, inbox.settings, inbox.data_dir, [("split", declared)], None)
    assert said.startswith(f"{inbox.data_dir / 'events.csv'}: split 4 on ")
    assert "800 bars" in examine.symbol_data(SYMBOL, inbox.settings, inbox.data_dir, None)
    examine.declare(SYMBOL, inbox.settings, inbox.data_dir, [("split", declared)], None)  # again: one row
    assert (inbox.data_dir / "events.csv").read_text().count(",split,") == 1


def test_the_settings_of_gaps_have_effect(inbox):
    path = inbox.data_dir / "inbox/ALFA.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:300] + lines[330:]) + "\n")
    with pytest.raises(DataError, match="^E11 gap in time: ALFA 1d, 1 gap"):
        examine.symbol_data(SYMBOL, inbox.settings, inbox.data_dir, None)
    inbox.change(prices={"max_gap_bars": 60})
    assert "770 bars" in examine.symbol_data(SYMBOL, inbox.settings, inbox.data_dir, None)


def test_the_stage_needs_no_vendor_to_know_a_symbol(one):
    """Whatever `make_source` gives is asked; nothing here reaches a network."""
    fetch(one)
    assert one.vendor.asked == [None] and _prices.NETWORK_SOURCES == loading.NETWORK
