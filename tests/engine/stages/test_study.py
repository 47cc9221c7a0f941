"""Studies through their stage: reported by bars, limited in time, noted, kept with their settings."""

import json
import shutil
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, LakeError, SearchError
from engine.lake.publish import rows_of
from engine.stages import study
from engine.stages._optimizations import optimizations
from engine.stages.common import read_bars

SYMBOL = "ALFA"
BY_BARS = {"screen": 32, "max_trials": 16, "batch": 16, "report": "bars:50", "pruner": "halving"}


@pytest.fixture
def fits(small_lake, tmp_path):
    """Fit `trend` alone, from nothing, with these settings of the search and others; return its bench."""

    def run(name, search, clock=None, **changes):
        other = small_lake.copy_to(tmp_path / name)
        for table in ("folds", "nightly", "trials"):
            shutil.rmtree(tmp_path / name / "lake" / table)
        trend = json.loads(json.dumps(other.raw["strategies"][2]))
        other.change(strategies=[{**trend, "search": search}], folds={"reoptimize": "when_due"}, **changes)
        other.result = optimizations(other.lake, SYMBOL, other.settings, other.said.append, clock=clock)
        return other

    return run


def _sorted(rows):
    return sorted(rows, key=lambda row: (row["study_id"], row["trial_number"]))


def test_by_bars_one_process_several_and_a_killed_run_give_one_ledger(fits):
    one = fits("one", BY_BARS)
    several = fits("several", {**BY_BARS, "mode": "subprocess", "max_concurrent": 2})
    rows = _sorted(one.rows("trials"))
    assert rows == _sorted(several.rows("trials"))
    assert one.rows("folds") == several.rows("folds")
    cut = [row for row in rows if row["state"] == "PRUNED" and row["bars_done"] % 100]
    assert len(cut) > 20  # inside a fold of 100 bars
    for row in rows:
        if row["state"] == "COMPLETE":
            assert row["reported"][-1] == {"bars": 400, "value": row["value"]}
    # what a kill leaves: the screen of one study, and nothing of the others
    part = one.lake.parts("trials", SYMBOL)[0]
    table = one.lake.read("trials", SYMBOL, part=part)
    left = table.filter(pa.compute.equal(table["batch_no"], 0))
    record = one.lake.record("trials", SYMBOL, part)
    for name in ("folds", "nightly"):
        (one.data_dir / "lake" / name / f"{SYMBOL}.parquet").unlink()
    for other in one.lake.parts("trials", SYMBOL)[1:]:
        (one.data_dir / "lake" / "trials" / SYMBOL / f"{other}.parquet").unlink()
    kept = {key: record[key] for key in record if key not in ("schema", "table", "content_sha", "record_sha")}
    one.lake.publish("trials", SYMBOL, left, kept, part=part)
    optimizations(one.lake, SYMBOL, one.settings, one.said.append)
    assert _sorted(one.rows("trials")) == rows


def test_a_time_limit_ends_studies_after_a_whole_batch_and_is_recorded(fits):
    ticks = iter(range(10**6))  # a second a look
    bench = fits("late", {"timeout": "2s"}, clock=lambda: float(next(ticks)))
    rows = bench.rows("folds")
    # began at 0, looked at 1 s before the second batch and at 2 s before the third
    trials = {row["study_id"]: 0 for row in rows}
    for row in bench.rows("trials"):
        trials[row["study_id"]] += 1
    assert {row["ended"] for row in rows if trials[row["study_id"]] > 10} <= {
        "", f"search.timeout 2s after {max(trials.values())} trials"
    }  # fmt: skip
    assert set(trials.values()) == {20}
    late = fits("later", {"timeout": "1s"}, clock=lambda: float(next(ticks)))
    assert {row["ended"] for row in late.rows("folds")} == {"search.timeout 1s after 10 trials"}
    assert {row["batch_no"] for row in late.rows("trials")} == {0}
    count = len(late.rows("folds"))
    assert late.result.metadata["ended early: trend"] == (
        f"{count} of {count} studies, the last: search.timeout 1s after 10 trials"
    )
    assert any("search.timeout 1s after 10 trials" in line for line in late.said)
    assert late.rows("folds")[0]["study_id"] != rows[0]["study_id"]  # the limit is part of the study


def test_a_higher_time_limit_makes_a_new_study_that_begins_with_the_same_trials(fits):
    """As the line says that `run --study` prints of a study that its limit has ended."""
    seconds = iter(range(10**6))
    short = fits("short", {"timeout": "1s"}, clock=lambda: float(next(seconds)))
    free = fits("free", {})

    def by_window(bench):
        found = {}
        for row in _sorted(bench.rows("trials")):
            plain = {k: v for k, v in row.items() if k not in ("study_id", "config_hash", "config")}
            found.setdefault((row["strategy"], row["fold"]), []).append(plain)
        return found

    cut, whole = by_window(short), by_window(free)
    assert cut.keys() == whole.keys()
    for window, rows in cut.items():
        assert rows == whole[window][: len(rows)] and len(rows) < len(whole[window])
    one = study.find(short.lake, [SYMBOL], short.rows("folds")[0]["study_id"])
    assert "search.timeout 1s after 10 trials" in study.state_note(short.lake, one)
    again = optimizations(short.lake, SYMBOL, short.settings, short.said.append, clock=lambda: 0.0)
    assert again.unchanged  # it does not go on
    one = study.find(free.lake, [SYMBOL], free.rows("folds")[0]["study_id"])
    said = study.state_note(free.lake, one)
    assert "time limit" not in said and said.startswith(
        f"study {one.study_id} of {SYMBOL} trend is finished: "
    )


def test_a_time_limit_without_a_clock_is_an_error_not_no_limit(fits):
    message = r"search\.timeout is set, but no clock was given"
    with pytest.raises(SearchError, match=message):
        fits("none", {"timeout": "1h"})


def test_the_chain_gives_the_stage_its_clock(small_lake, tmp_path):
    other = small_lake.copy_to(tmp_path / "data")
    strategies = json.loads(json.dumps(other.raw["strategies"][2:]))
    other.change(strategies=[{**strategies[0], "search": {"timeout": "9h"}}])
    assert set(row["ended"] for row in rows_of(other.table("folds"))) == {""}
    other.chain()
    assert set(row["ended"] for row in rows_of(other.table("folds"))) == {""}


def test_an_inert_parameter_is_one_line_of_the_stage_and_a_note_of_its_studies(fits, monkeypatch):
    from engine.strategies import registry

    trend = registry.get("trend")
    real = trend.rules
    monkeypatch.setattr(trend, "rules", lambda p: real(_With(p, adx_min=20.0)))
    bench = fits("inert", {"screen": 256, "pruner": "none", "sampler": "random"})
    noted = [row["inert"] for row in bench.rows("folds")]
    assert all(text.startswith("adx_min") for text in noted if text) and "adx_min" in noted
    lines = [line for line in bench.said if "inert parameter" in line]
    assert len(lines) == len({line for line in lines})
    (line,) = (line for line in lines if "trend adx_min" in line)
    count = sum("adx_min" in text for text in noted)
    what = "its values made no difference to the trades of trials in "
    assert line == (
        f"ALFA optimizations inert parameter: trend adx_min: {what}{count} of {len(noted)} studies"
    )
    assert bench.result.metadata["inert parameter: trend adx_min"] == f"{what}{count} of {len(noted)} studies"


class _With:
    """Parameters of which some have a set value whatever was chosen."""

    def __init__(self, params, **fixed):
        self._params, self._fixed = params, fixed

    def __getattr__(self, name):
        return self._fixed[name] if name in self._fixed else getattr(self._params, name)


def test_a_study_keeps_its_settings_in_the_row_of_its_first_trial(small_lake):
    first = [row for row in small_lake.rows("trials") if row["config"] is not None]
    assert first and {row["trial_number"] for row in first} == {0}
    assert len(first) == len({row["study_id"] for row in small_lake.rows("trials")})
    config = json.loads(first[0]["config"])
    assert config["folds"]["train_bars"] == 400 and config["search"]["max_trials"] == 20
    assert set(config["searched"]) == {"fast", "slow", "adx_min", "stop_atr"}
    assert isinstance(study.find(small_lake.lake, [SYMBOL], first[0]["study_id"]).config, dict)


def test_trials_of_tonight_and_duplicates_run_again_bit_for_bit(small_lake):
    rows = small_lake.rows("trials")
    tonight = [row for row in rows if row["fold"] < 0][:3]
    odd = [row for row in rows if row["outcome"] in ("DUPLICATE", "INVALID_PARAMS", "PRUNED")]
    by_outcome = {row["outcome"]: row for row in odd}
    assert tonight and {"INVALID_PARAMS", "PRUNED"} <= set(by_outcome)
    for row in [*tonight, *by_outcome.values()]:
        name = f"{row['study_id']}/{row['trial_number']}"
        said, equal = study.reproduce(small_lake.lake, small_lake.settings, name)
        assert equal, said


def test_trials_on_bars_that_changed_cannot_be_run_again(full, with_bar, alfa):
    row = next(row for row in full.rows("trials") if row["fold"] == 0)
    bars = read_bars(full.lake, full.settings.instrument(SYMBOL))
    table = full.table("bars")
    volume = np.array(table["volume"].to_numpy())
    volume[300] += 1
    index = table.schema.get_field_index("volume")
    record = full.lake.record("bars", SYMBOL)
    kept = {key: record[key] for key in record if key not in ("schema", "table", "content_sha", "record_sha")}
    full.lake.publish("bars", SYMBOL, table.set_column(index, "volume", pa.array(volume)), kept)
    assert len(bars) == 925
    with pytest.raises(LakeError, match=r"the bars that study \w+ of ALFA trained on are no longer the same"):
        study.reproduce(full.lake, full.settings, f"{row['study_id']}/0")
    found = study.find(full.lake, [SYMBOL], row["study_id"])
    with pytest.raises(ConfigError, match="data: the bars of its training part are no longer the same"):
        study.refuse_other(full.lake, full.settings, found)


def test_a_night_kept_as_a_summary_is_refused_by_its_name(full):
    from engine.stages import _trials

    night = {row["study_id"] for row in full.rows("trials") if row["fold"] == _trials.TONIGHT}
    bars = read_bars(full.lake, full.settings.instrument(SYMBOL))
    _trials.TrialLedger(full.lake, bars, {"result_id": "x"}).publish(night)
    message = r"is a night before the newest 30, kept as one summary row; its trials can no longer be run"
    for act in (
        partial(study.reproduce, full.lake, full.settings, f"{min(night)}/0"),
        partial(study.export, full.lake, [SYMBOL], min(night), full.data_dir / "x.db"),
    ):
        with pytest.raises(LakeError, match=message):
            act()


def test_a_ledger_without_the_newest_columns_is_added_to(full):
    """As an older nightfold left it; its studies are told apart, not mistaken for ours."""
    from engine.stages._trials import TrialLedger

    newest = ["signals", "blocked", "error", "reported", "config"]
    old = full.rows("trials")
    for path in sorted((full.data_dir / "lake" / "trials" / SYMBOL).glob("*.parquet")):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(newest), path)
    with pytest.raises(LakeError, match=r"study \w+ of ALFA was written without its settings; fit it anew"):
        study.find(full.lake, [SYMBOL], old[0]["study_id"])
    assert list(study.status_lines(full.lake, SYMBOL))
    bars = read_bars(full.lake, full.settings.instrument(SYMBOL))
    ledger = TrialLedger(full.lake, bars, {"result_id": "x"})
    part = ledger.part(650)
    found = next(row for row in old if row["trial_number"] == 0)
    ledger._new[part] = [{**found, "study_id": "new"}]
    ledger.publish()
    after = rows_of(full.lake.read("trials", SYMBOL, part=part))
    (new,) = (row for row in after if row["study_id"] == "new")
    assert new["config"] == found["config"]
    assert {row["config"] for row in after if row["study_id"] != "new"} == {None}


def test_what_changed_is_told_setting_by_setting():
    then = {"a": {"b": 1, "c": [1, 2]}, "gone": True, "same": 0.5}
    now = {"a": {"b": 2, "c": [1, 3]}, "new": None, "same": 0.5}
    assert study.changed(then, now) == [
        "a.b: was 1, is 2",
        "a.c: was [1,2], is [1,3]",
        "gone: was true, is nothing",
        "new: was nothing, is null",
    ]
