"""One study by its id: checked from its file, gone on with, run again trial by trial, exported."""

import json
import re

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

STUDY = """\
strategy: trend
name: mine
symbols: [AAA]
parameters:
  fast: {type: int, low: 5, high: 10}
  slow: {type: fixed, value: 30}
"""


def trials(project, key="AAA"):
    parts = sorted((project.data / "lake" / "trials" / key).glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def studies(project):
    return list(dict.fromkeys(row["study_id"] for row in trials(project)))


def test_check_of_one_study_file(fresh):
    path = fresh.folder / "studies" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(STUDY)
    result = fresh("check", str(path))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (f"{path}: study mine of strategy trend is sound; symbols AAA; searched: fast\n")
    path.write_text(STUDY.replace("fast:", "fats:").replace("high: 10", "high: 1"))
    result = fresh("check", str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith("studies/mine.yaml:5:3: strategies.0.parameters.fats: low 5 is greater")
    assert fresh("check", str(fresh.folder / "absent.yaml")).exit_code == 2


def test_a_study_by_file_gives_the_trials_of_the_same_study_inline(done):
    """Its fits are found in the lake, so nothing is fitted again."""
    before = done.lake_files()
    done.edit(
        "  - strategy: trend\n    parameters: {fast: {type: int, low: 5, high: 10}, "
        "slow: {type: int, low: 20, high: 40, step: 5}}\n",
        "  - file: studies/band.yaml\n",
    )
    (done.folder / "studies").mkdir()
    (done.folder / "studies" / "band.yaml").write_text(
        "strategy: trend\nparameters:\n  fast: {type: int, low: 5, high: 10}\n"
        "  slow: {type: int, low: 20, high: 40, step: 5}\n"
    )
    result = done("run", "AAA", "--stage", "optimizations")
    assert result.exit_code == 0, result.stderr
    assert "AAA optimizations unchanged" in result.stdout
    assert done.lake_files() == before


def test_run_goes_on_with_a_study_of_the_same_settings(done):
    result = done("run", "--study", studies(done)[0], "--stage", "optimizations")
    assert result.exit_code == 0, result.stderr
    assert "AAA optimizations unchanged" in result.stdout and "BBB" not in result.stdout


def test_run_says_of_a_study_that_it_is_finished_or_what_it_is_to_reach(done):
    """The fit of a study that was killed stands in no table yet; its trials are those told so far."""
    study = studies(done)[0]
    counts = "2 trials (2 complete, 0 pruned, 0 failed)"
    result = done("run", "--study", study, "--stage", "features")
    assert result.stdout.startswith(f"study {study} of AAA trend is finished: {counts}\n")
    for name in ("folds", "nightly"):
        path = done.data / "lake" / name / "AAA.parquet"
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.not_equal(table["study_id"], study)), path)
    result = done("run", "--study", study, "--stage", "features")
    assert result.stdout.startswith(
        f"study {study} of AAA trend is not finished: {counts} so far, with search.screen 0 and "
        "search.max_trials 2; it goes on where it stopped\n"
    )


def test_run_says_that_a_study_ended_by_its_time_limit_does_not_go_on(done):
    first, other = studies(done)[:2]
    folds = done.data / "lake" / "folds" / "AAA.parquet"
    table = pq.read_table(folds)
    ended = {first: "search.timeout 1s after 2 trials", other: "space exhausted"}
    rows = [{**row, "ended": ended.get(row["study_id"], "")} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folds)
    said = (
        f"study {first} of AAA trend has ended by its time limit (search.timeout 1s after 2 trials) and does "
        "not go on: the limit is part of it. Raise search.timeout in the settings and run without --study: "
        "the new study begins with the same trials\n"
    )
    result = done("run", "--study", first, "--stage", "optimizations")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(said)
    assert "time limit" not in done("run", "--study", other, "--stage", "optimizations").stdout


def test_run_refuses_a_study_whose_settings_differ_and_says_how(done):
    before = done.lake_files()
    done.edit("max_trials: 2", "max_trials: 4")
    done.edit("min_trades: 0", "min_trades: 3")
    study = studies(done)[0]
    result = done("run", "--study", study)
    assert result.exit_code == 2
    assert result.stderr == (
        f"study {study} of AAA trend was made with other settings; run now, it would be another study:\n"
        "  constraints.min_trades: was 0, is 3\n"
        "  search.max_trials: was 2, is 4\n"
        "Put them back, or run without --study\n"
    )
    assert done.lake_files() == before


def test_run_refuses_a_study_of_other_bars_or_of_no_entry(done):
    study = studies(done)[0]
    path = done.inbox / "AAA.csv"
    path.write_text(path.read_text())
    done.edit("train_bars: 120", "train_bars: 110")
    result = done("run", "--study", study)
    assert result.exit_code == 2 and "folds.train_bars: was 120, is 110" in result.stderr
    done.edit("  - strategy: trend\n", "  - strategy: trend\n    name: other\n")
    result = done("run", "--study", study)
    assert result.exit_code == 2
    assert f"study {study} is of strategy 'trend', which the settings no longer give AAA" in result.stderr
    assert "other" in result.stderr
    result = done("run", "--study", "0123")
    assert (result.exit_code, result.stderr) == (
        2,
        "study '0123' is in no ledger of AAA, BBB. List those of a symbol: nightfold status KEY\n",
    )


def test_every_trial_of_the_ledger_runs_again_bit_for_bit(done):
    rows = [row for row in trials(done) if row["study_id"] in studies(done)[:2]]
    assert rows
    for row in rows:
        result = done("backtest", "--trial", f"{row['study_id']}/{row['trial_number']}")
        assert result.exit_code == 0, result.stdout + result.stderr
        said = result.stdout.splitlines()
        assert said[0] == f"AAA trend trial {row['trial_number']}: {row['params']}"
        assert said[-1].endswith(f"value {row['value']}: equal, bit for bit")


def test_a_trial_that_is_not_what_was_stored_is_told_with_both_numbers(done, monkeypatch):
    from engine.stages import study

    real = study.find

    def edited(*arguments):
        found = real(*arguments)
        found.rows[0]["fees"] += 1e-9
        return found

    monkeypatch.setattr(study, "find", edited)
    result = done("backtest", "--trial", f"{studies(done)[0]}/0")
    assert result.exit_code == 1
    assert re.search(r"not equal: fees was \d+\.\d+, is \d+\.\d+$", result.stdout.strip())


@pytest.mark.parametrize(
    "name, message",
    [
        ("abc", "trial 'abc' is no STUDY/NUMBER; expected one such as 0123456789abcdef/17"),
        ("{study}/77", "study {study} has no trial 77; its trials are 0 to 1"),
    ],
)
def test_no_such_trial(done, name, message):
    study = studies(done)[0]
    result = done("backtest", "--trial", name.format(study=study))
    assert (result.exit_code, result.stderr.strip()) == (2, message.format(study=study))


def test_a_trial_under_other_settings_is_refused_with_the_differences(done):
    done.edit("min_trades: 0", "min_trades: 3")
    result = done("backtest", "--trial", f"{studies(done)[0]}/0")
    assert result.exit_code == 2
    assert "constraints.min_trades: was 0, is 3" in result.stderr


def test_a_study_is_exported_to_a_file_that_optuna_opens(done):
    import optuna

    out, study = done.folder / "mine.db", studies(done)[0]
    result = done("export", "--study", study, "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        f"export writes 2 trials of study {study}, some 20 ms each\n"
        f"{out}: 2 trials of study {study}; to look at it: optuna-dashboard sqlite:///{out}\n"
    )
    (name,) = optuna.get_all_study_names(f"sqlite:///{out}")
    loaded = optuna.load_study(study_name=name, storage=f"sqlite:///{out}")
    rows = [row for row in trials(done) if row["study_id"] == study]
    assert name == f"AAA trend fold 1 {study}"
    assert [t.value for t in loaded.trials] == [row["value"] for row in rows]
    for told, row in zip(loaded.trials, rows, strict=True):
        config = json.loads(row["params"])
        assert told.params == {"fast": config["fast"], "slow": config["slow"]}
        assert told.user_attrs["trades"] == row["trades"]
    again = done("export", "--study", study, "--out", str(out))
    assert again.exit_code == 2 and "exists already and is left as it is" in again.stderr
    assert done("export", "--study", study).exit_code == 2


def test_status_says_why_a_study_made_no_trade_and_what_had_no_effect(done):
    path = min((done.data / "lake" / "trials" / "AAA").glob("*.parquet"))
    lines = [line for line in done("status", "AAA").stdout.splitlines() if line.startswith("  study ")]
    assert len(lines) == len(studies(done)) and not any("no trade" in line for line in lines)
    table = pq.read_table(path)
    first = studies(done)[0]
    silent = table.to_pylist()
    for row in silent:
        if row["study_id"] == first:
            gates = {**json.loads(row["blocked"]), "conflicts": 3}
            row |= {"trades": 0, "signals": 7, "blocked": json.dumps(gates)}
    pq.write_table(pa.Table.from_pylist(silent, schema=table.schema), path)
    folds = done.data / "lake" / "folds" / "AAA.parquet"
    table = pq.read_table(folds)
    noted = [
        {**row, "inert": "slow", "ended": "search.timeout 1s after 2 trials"}
        if row["study_id"] == first
        else row
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(noted, schema=table.schema), folds)
    (line,) = (line for line in done("status", "AAA").stdout.splitlines() if first in line)
    assert line.endswith(
        "; no trade: 14 entry signals, stopped by: conflicts 6, orders_refused 0, refused_levels 0, "
        "signals_unfilled 0, limits_expired 0; ended: search.timeout 1s after 2 trials; no effect of: slow"
    )
