"""`check` on files and declarations, `explain`, `doctor --repair` and the inbox, as a user types them."""

import shutil

import pytest

from engine.bars.synthetic import make_bars, spoil, to_csv


def halved(text, line):
    """A file's text with all prices from one line on divided by two: a split that nobody declared."""
    rows = text.splitlines()
    for i in range(line - 1, len(rows)):
        stamp, *prices, volume = rows[i].split(",")
        rows[i] = ",".join([stamp, *(repr(float(p) / 2) for p in prices), volume])
    return "\n".join(rows) + "\n"


def test_any_file_is_checked_without_a_run(fresh, tmp_path):
    path = tmp_path / "somewhere.csv"
    path.write_text(to_csv(make_bars(4, 300)))
    good = fresh("check", str(path))
    assert good.exit_code == 0 and "300 bars" in good.stdout
    for rule in ("E02", "E05", "E07", "E15"):
        path.write_text(spoil(to_csv(make_bars(4, 300)), rule))
        bad = fresh("check", str(path))
        assert bad.exit_code == 1 and bad.stderr.startswith(f"{rule} ") and bad.stdout == ""
    missing = fresh("check", str(tmp_path / "nothing.csv"))
    assert missing.exit_code == 2 and not (fresh.data / "lake").exists()


def test_the_command_that_a_jump_names_explains_it(fresh):
    (fresh.inbox / "AAA.csv").write_text(halved(fresh.csv["AAA"], 200))
    refused = fresh("check", "AAA")
    assert refused.exit_code == 1
    command = refused.stderr.split("nightfold ")[1].split("   (")[0].split()
    assert command[:3] == ["check", "AAA", "--adjust"]
    declared = fresh(*command)
    assert declared.exit_code == 0, declared.output
    assert f"{fresh.data / 'events.csv'}: split 2 on " in declared.stdout and "350 bars" in declared.stdout
    assert fresh("check", "AAA").exit_code == 0
    assert fresh("run", "AAA", "--stage", "prices").exit_code == 0


def day(fresh, line):
    return fresh.csv["AAA"].splitlines()[line - 1].split(",")[0]


def test_a_file_of_no_symbol_is_brought_to_the_end_by_what_is_printed(fresh):
    path = fresh.inbox / "CCC.csv"
    path.write_text(halved(fresh.csv["AAA"], 200))
    refused = fresh("check", str(path))
    command = refused.stderr.split("nightfold ")[1].split("   (")[0].split()
    early = fresh(*command)
    line = refused.stderr.split("first write '")[1].split("'")[0]
    assert line == "CCC: {source: files}" and f"write '{line}' under symbols" in early.stderr
    fresh.edit("  AAA:", f"  {line}\n  AAA:")
    assert fresh(*command).exit_code == 0
    assert fresh("check", str(path)).exit_code == 0


@pytest.mark.parametrize(
    ("line", "given", "text"),
    [
        (0, ("--adjust", "2:1@{200}"), "x the close before: a 2:1 split there would make it "),
        (0, ("--scale", "100@{200}..{210}"), "a scale of 100 there would make it 0.0"),
        (0, ("--verified", "{200}"), "jumps: the open is "),
        (0, ("--adjust", "2:1@1999-01-04"), "cannot be compared with the prices: found bars from "),
        (0, ("--verified", "1999-01-04"), "there is no bar of 1999-01-04"),
        (200, ("--adjust", "2:1@{201}"), "Unexplained jumps: {200} (0."),
        (200, ("--adjust", "1:2@{200}"), "a 0.5:1 split there would make it 0.2"),
        (200, ("--verified", "{199}"), "Unexplained jumps: {200} (0."),
        (200, ("--adjust", "1.1:1@{200}"), "still a jump; expected a factor near "),
        (200, ("--adjust", "2:1@{200}", "--verified", "{210}"), "no bar of {210} jumps"),
    ],
)
def test_what_the_prices_do_not_show_is_not_written(fresh, line, given, text):
    if line:
        (fresh.inbox / "AAA.csv").write_text(halved(fresh.csv["AAA"], line))
    days = {str(n): day(fresh, n) for n in (199, 200, 201, 210)}
    for number, date in days.items():
        given, text = [g.replace(f"{{{number}}}", date) for g in given], text.replace(f"{{{number}}}", date)
    result = fresh("check", "AAA", *given)
    assert result.exit_code == 2 and text in result.stderr, result.output
    assert result.stderr.endswith("Nothing was written\n") and not (fresh.data / "events.csv").exists()


@pytest.mark.parametrize("at", [200, 205])
def test_a_row_that_makes_the_jump_itself_is_named_and_stays_the_only_one(fresh, at):
    """The split is at 200 or nowhere; the row says 205 in the one case, 200 in the other."""
    if at == 205:
        (fresh.inbox / "AAA.csv").write_text(halved(fresh.csv["AAA"], 200))
    rows = f"symbol,date,kind,value,note\nBBB,2015-01-05,dividend,0.1,\nAAA,{day(fresh, at)},split,2,\n"
    events = fresh.data / "events.csv"
    events.write_text(rows)
    refused = fresh("check", "AAA")
    assert refused.exit_code == 1 and refused.stderr.splitlines()[-1].endswith(
        "delete events.csv line 3, then: nightfold check AAA"
    )
    assert f"the split 2 of {day(fresh, at)} (events.csv line 3)" in refused.stderr
    assert "--adjust" not in refused.stderr and "--scale" not in refused.stderr
    for wrong in (
        ("--verified", day(fresh, at)),
        ("--scale", f"0.5@{day(fresh, 200)}..{day(fresh, at - 1)}"),
    ):
        if wrong[0] == "--verified" or at == 205:
            result = fresh("check", "AAA", *wrong)
            assert result.exit_code == 2 and "First delete events.csv line 3" in result.stderr
    assert events.read_text() == rows
    events.unlink()
    if at == 205:
        assert f"--adjust 2:1@{day(fresh, 200)}" in fresh("check", "AAA").stderr
    else:
        assert fresh("check", "AAA").exit_code == 0


def test_a_row_of_another_value_is_replaced_by_the_one_that_the_prices_show(fresh):
    (fresh.inbox / "AAA.csv").write_text(halved(fresh.csv["AAA"], 200))
    date = day(fresh, 200)
    (fresh.data / "events.csv").write_text(f"symbol,date,kind,value,note\nAAA,{date},split,4,\n")
    command = fresh("check", "AAA").stderr.split("nightfold ")[1].split("   (")[0].split()
    assert command == ["check", "AAA", "--adjust", f"2:1@{date}"]
    assert fresh(*command).exit_code == 0
    assert (fresh.data / "events.csv").read_text().splitlines()[1:] == [f"AAA,{date},split,2,"]


def test_a_small_split_that_no_check_asks_for_is_taken_where_the_prices_show_it(fresh):
    rows = fresh.csv["AAA"].splitlines()
    for i in range(199, len(rows)):
        stamp, *prices, volume = rows[i].split(",")
        rows[i] = ",".join([stamp, *(repr(float(p) / 1.2) for p in prices), volume])
    (fresh.inbox / "AAA.csv").write_text("\n".join(rows) + "\n")
    assert fresh("check", "AAA").exit_code == 0
    assert fresh("check", "AAA", "--adjust", f"1.2:1@{day(fresh, 205)}").exit_code == 2
    assert fresh("check", "AAA", "--adjust", f"1.2:1@{day(fresh, 200)}").exit_code == 0


def test_of_two_splits_each_can_be_declared_alone_and_a_real_move_is_taken(fresh):
    (fresh.inbox / "AAA.csv").write_text(halved(halved(fresh.csv["AAA"], 200), 300))
    first = fresh("check", "AAA", "--adjust", f"2:1@{day(fresh, 200)}")
    assert first.exit_code == 1 and f"--adjust 2:1@{day(fresh, 300)}" in first.stderr
    assert fresh("check", "AAA", "--verified", day(fresh, 300)).exit_code == 0
    assert len((fresh.data / "events.csv").read_text().splitlines()) == 3


def test_a_block_in_another_unit_is_taken_as_named_and_refused_a_day_off(fresh):
    rows = fresh.csv["AAA"].splitlines()
    for i in range(199, 209):
        stamp, *prices, volume = rows[i].split(",")
        rows[i] = ",".join([stamp, *(repr(float(p) * 100) for p in prices), volume])
    (fresh.inbox / "AAA.csv").write_text("\n".join(rows) + "\n")
    command = fresh("check", "AAA").stderr.split("nightfold ")[1].split("   (")[0].split()
    assert command == ["check", "AAA", "--scale", f"100@{day(fresh, 200)}..{day(fresh, 209)}"]
    assert fresh("check", "AAA", "--scale", f"100@{day(fresh, 200)}..{day(fresh, 210)}").exit_code == 2
    assert fresh("check", "AAA", "--scale", f"10@{day(fresh, 200)}..{day(fresh, 209)}").exit_code == 2
    assert not (fresh.data / "events.csv").exists()
    assert fresh(*command).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("AAA", "--adjust", "2@Monday"), "'2@Monday' is no split; expected a form such as 2:1@2005-02-28"),
        (("AAA", "--adjust", "0:1@2015-05-05"), "is no split"),
        (
            ("AAA", "--scale", "100@2015-05-05"),
            "is no scale; expected a form such as 100@2020-01-02..2020-01-15",
        ),
        (
            ("AAA", "--verified", "2015-02-30"),
            "'2015-02-30' is no verified move; expected a form such as 2005",
        ),
        (("AAB", "--verified", "2015-05-05"), "Closest: AAA."),
        (("--accept-revision",), "symbol '' is not in nightfold.yaml"),
    ],
)
def test_a_declaration_of_another_form_is_refused_with_2_and_writes_nothing(fresh, arguments, text):
    result = fresh("check", *arguments)
    assert result.exit_code == 2 and text in result.stderr
    assert not (fresh.data / "events.csv").exists()


def test_the_samples_events_are_not_the_users(fresh):
    fresh.edit("  AAA: {source: files}", "  AAA: {source: files}\n  IBM: {}")
    result = fresh("check", "IBM", "--verified", "2005-02-28")
    assert result.exit_code == 2 and "IBM is of the sample; its events come with it" in result.stderr


def test_a_file_that_became_shorter_is_taken_over_by_accept_revision(done):
    lines = done.csv["AAA"].splitlines()
    (done.inbox / "AAA.csv").write_text("\n".join(lines[:341]) + "\n")
    refused = done("check", "AAA")
    assert refused.exit_code == 1 and "nightfold check AAA --accept-revision" in refused.stderr
    accepted = done("check", "AAA", "--accept-revision")
    assert accepted.exit_code == 0, accepted.output
    assert "AAA: history of 340 bars published as result " in accepted.stdout
    assert done("check", "AAA").exit_code == 0


def test_a_declared_policy_sets_rows_aside_and_check_shows_them(fresh):
    fresh.edit("AAA: {source: files}", "AAA: {source: files, policy: quarantine}")
    (fresh.inbox / "AAA.csv").write_text(spoil(fresh.csv["AAA"], "E02"))
    result = fresh("check", "AAA")
    assert result.exit_code == 0 and "  set aside: E02 cell is not a number, line 176: 2015-" in result.stdout
    assert fresh("run", "AAA", "--stage", "prices").exit_code == 0
    assert "quarantine: 1 rows, 0 of them" in fresh("status", "AAA").stdout
    rows = fresh("warehouse", "select rule, line from quarantine").stdout
    assert rows == "rule\tline\nE02\t176\n"


def test_explain_names_the_inputs_of_a_result_and_says_whether_it_is_equal(done):
    identity = done("status", "AAA").stdout.split("features: ")[1].split("result ")[1].split()[0]
    tree = done("explain", identity)
    assert tree.exit_code == 0 and tree.stdout.startswith(f"features AAA: result {identity} (current)\n")
    assert "raw sha256 " in tree.stdout
    equal = done("explain", identity, "--verify")
    assert equal.exit_code == 0 and equal.stdout.endswith("features AAA: equal, bit by bit\n")
    done.edit("sma.close.n=20", "sma.close.n=30")
    other = done("explain", identity, "--verify")
    assert other.exit_code == 1 and "NOT EQUAL: params differ" in other.stdout
    assert done("explain", "AAB").exit_code == 2
    two = done("explain", "AAA", "BBB")
    assert two.exit_code == 0 and "symbol: 'AAA' / 'BBB'" in two.stdout


def test_doctor_repairs_what_it_finds(done):
    path = done.data / "lake" / "features" / "AAA.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    result = done("doctor", "--repair")
    assert result.exit_code == 0 and "1 repaired, 0 left" in result.stdout
    assert done("doctor").exit_code == 0
    assert done("run", "AAA", "--stage", "features").exit_code == 0 and path.read_bytes() == whole
    (done.data / "lake" / "notes.txt").write_text("mine")
    left = done("doctor", "--repair")
    assert left.exit_code == 1 and "0 repaired, 1 left" in left.stdout


def test_status_names_files_of_the_inbox_that_are_no_symbol(fresh):
    shutil.copy(fresh.inbox / "AAA.csv", fresh.inbox / "CCC.csv")
    said = fresh("status").stdout
    assert said.endswith("data/inbox/CCC.csv: add under symbols in nightfold.yaml: 'CCC: {source: files}'\n")
