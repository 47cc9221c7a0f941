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
