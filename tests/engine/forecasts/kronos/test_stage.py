"""Kronos through the stage: settings in, labelled rows out; what is bad writes nothing."""

import json
from datetime import UTC
from pathlib import Path

import pytest

from engine.config_file import load
from engine.errors import ConfigError
from engine.stages._forecasts import forecasts
from engine.stages._prices import prices
from engine.stages.common import forecast_label
from engine.stages.verify import forecasts_against_baselines, forecasts_are_ordered
from engine.stages.workers import run_symbols

KRONOS = {"model": "kronos", "weights": "weights", "samples": 10, "lookback": 40, "min_history_bars": 250}


def ignore(text):
    return None


@pytest.fixture
def kronos(bench, alfa, kronos_folder, tmp_path):
    made = bench(tmp_path / "data")
    made.write(alfa(330))
    made.change(folds={"train_bars": 40, "test_bars": 20, "min_folds": 1})
    made.change(forecasts={**KRONOS, "levels": [0.05, 0.1, 0.5, 0.9, 0.95]})
    prices(made.lake, "ALFA", made.settings, ignore, asof=None)
    return made


def run(made):
    return forecasts(made.lake, "ALFA", made.settings, made.said.append)


def test_the_stage_stores_labelled_possible_forecasts_once(kronos):
    result = run(kronos)
    told = result.metadata
    assert (told["model"], told["forecasts_new"], told["device"]) == ("kronos", 81, "cpu")
    assert told["knowledge_cutoff"] == "unknown" and told["lookback"] == 40
    inputs = kronos.rows("forecast_inputs")
    assert len(inputs) == 81 and all(row["in_pretraining"] for row in inputs)
    assert {row["status"] for row in inputs} <= {"ok", "repaired", "rejected"}
    (about,) = kronos.rows("forecast_models")
    assert about["cutoff_status"] == "unknown" and json.loads(about["spec"])["backend"] == "kronos"
    quality = kronos.rows("forecast_quality")
    assert {(row["field"], row["span"]) for row in quality} == {
        (f, "before") for f in ("high", "low", "close")
    }
    assert forecasts_are_ordered(kronos.lake, "ALFA", kronos.settings).passed
    assert forecasts_against_baselines(kronos.lake, "ALFA", kronos.settings).note.startswith("loses: ")
    files = kronos.files()
    assert run(kronos).unchanged and kronos.files() == files


def test_one_more_bar_is_one_more_forecast_and_the_old_rows_stay(kronos, alfa):
    run(kronos)
    old = kronos.rows("forecasts")
    kronos.write(alfa(331))
    prices(kronos.lake, "ALFA", kronos.settings, ignore, asof=None)
    assert run(kronos).metadata["forecasts_new"] == 1
    assert kronos.rows("forecasts")[: len(old)] == old


def test_metrics_are_split_at_the_cutoff(kronos):
    days = kronos.table("bars")["ts"].to_pylist()
    kronos.change(forecasts={"knowledge_cutoff": days[299].date().isoformat()})
    result = run(kronos)
    label = {row["as_of"]: row["in_pretraining"] for row in kronos.rows("forecast_inputs")}
    assert label[days[299]] and not label[days[300]]
    (about,) = kronos.rows("forecast_models")
    assert (about["cutoff_status"], about["knowledge_cutoff"]) == ("stated", days[299].date())
    counts = dict({(row["span"], row["n"]) for row in kronos.rows("forecast_quality")})
    assert counts.keys() == {"before", "after"}
    assert 45 <= counts["before"] <= 51 and 24 <= counts["after"] <= 29  # of 51 and 29, some rejected
    assert "skill vs FHS close after %" in result.metadata


def test_a_cutoff_stated_later_labels_the_old_rows_anew_and_infers_nothing(kronos):
    run(kronos)
    days = kronos.table("bars")["ts"].to_pylist()
    kronos.change(forecasts={"knowledge_cutoff": days[299].date().isoformat()})
    assert run(kronos).metadata["forecasts_new"] == 0
    labels = [row["in_pretraining"] for row in kronos.rows("forecast_inputs")]
    assert labels == [True] * 51 + [False] * 30


def test_other_weights_are_another_model_beside_the_first(kronos, kronos_folder):
    run(kronos)
    first = {row["model_key"] for row in kronos.rows("forecast_models")}
    path = kronos_folder / "model" / "config.json"
    path.write_text(path.read_text() + "\n")
    assert run(kronos).metadata["forecasts_new"] == 81
    assert first < {row["model_key"] for row in kronos.rows("forecasts")}


def damage(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-8])


def pickled(folder):
    path = folder / "model" / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))


def misspelt(folder):
    path = folder / "model" / "config.json"
    path.write_text(path.read_text().replace("learn_te", "lern_te"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "holds pytorch_model.bin, a pickled checkpoint, which is refused"),
        (misspelt, "key 'lern_te' is not known. Closest: learn_te."),
        (lambda folder: (folder / "model/model.safetensors").unlink(), "model.safetensors was not found"),
        (lambda folder: damage(folder, "model/model.safetensors"), "model.safetensors is damaged"),
        (lambda folder: damage(folder, "model/config.json"), "config.json cannot be read"),
    ],
    ids=["pickle", "unknown key", "absent", "cut off", "no config"],
)
def test_bad_weights_fail_the_symbol_and_write_nothing(kronos, kronos_folder, tmp_path, spoil, message):
    spoil(kronos_folder)
    files = kronos.files()
    path = tmp_path / "nightfold.yaml"
    path.write_text(json.dumps(kronos.raw))
    outcomes = run_symbols(load(path), ["ALFA"], 1, "forecasts", 0, 1, kronos.said.append)
    assert message in outcomes["ALFA"] and kronos.files() == files


def test_a_lookback_longer_than_the_context_fails_the_symbol_and_writes_nothing(kronos):
    kronos.change(forecasts={"lookback": 513})
    files = kronos.files()
    with pytest.raises(ConfigError, match="lookback was 513 .* at most 512 bars, the context of the model"):
        run(kronos)
    assert kronos.files() == files


def test_a_symbol_with_a_bar_that_is_no_number_is_refused_and_the_other_is_forecast(kronos, tmp_path):
    inbox = kronos.data_dir / "inbox"
    lines = (inbox / "ALFA.csv").read_text().splitlines()
    lines[290] = ",".join([*lines[290].split(",")[:2], "nan", *lines[290].split(",")[3:]])
    (inbox / "BETA.csv").write_text("\n".join(lines) + "\n")
    path = tmp_path / "nightfold.yaml"
    path.write_text(json.dumps({**kronos.raw, "symbols": {"ALFA": {}, "BETA": {}}}))
    read, answered = (
        run_symbols(load(path), ["BETA", "ALFA"], 1, stage, 2**52, 1, kronos.said.append)
        for stage in ("prices", "forecasts")
    )
    assert "nan" in read["BETA"] and read["ALFA"] == answered["ALFA"] == ""
    assert "table bars of BETA is not in" in answered["BETA"]
    assert len(kronos.rows("forecast_inputs")) == 81 and kronos.lake.read("forecasts", "BETA") is None


@pytest.mark.parametrize("cutoff", [None, 299], ids=["unknown", "stated"])
def test_what_the_weights_may_have_seen_ends_at_the_cutoff_or_never(kronos, cutoff):
    days = kronos.table("bars")["ts"].to_pylist()
    if cutoff is not None:
        kronos.change(forecasts={"knowledge_cutoff": days[cutoff].date().isoformat()})
    run(kronos)
    label = forecast_label(kronos.lake, "ALFA")
    stamps = [int(day.replace(tzinfo=UTC).timestamp()) * 1_000_000 for day in days]
    if cutoff is None:
        assert {label(stamp) for stamp in stamps} == {"unknown"}
    else:
        assert (label(stamps[cutoff]), label(stamps[cutoff + 1])) == ("contaminated", "clean")
    kronos.change(forecasts={"model": "local", "weights": None, "samples": 32, "lookback": None})
    if cutoff is None:
        run(kronos)
        clean = forecast_label(kronos.lake, "ALFA")  # the local model saw nothing later
        assert {clean(stamp) for stamp in stamps} == {"clean"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model": "kronos"},
            "forecasts: model kronos needs weights: a hub id with its revision, or a folder",
        ),
        (
            {**KRONOS, "revision": "main"},
            "forecasts.revision: 'main' is not pinned; expected the 40 hex digits of a commit",
        ),
        ({**KRONOS, "lookback": 5}, "forecasts.lookback is 5; expected greater than or equal to 32"),
        ({**KRONOS, "top_p": 0.0}, "forecasts.top_p is 0.0; expected greater than 0"),
        ({**KRONOS, "samples": 1}, "forecasts.samples is 1; expected greater than or equal to 2"),
        ({**KRONOS, "dtype": "fp16"}, "forecasts.dtype is 'fp16'; expected one of fp32, bf16"),
        ({"model": "chronos"}, "forecasts.model is 'chronos'; expected one of"),
        ({"samples": 8}, "forecasts: model local has no use for samples, found 8"),
        ({"weights": "x"}, "forecasts: model local has no use for weights, found 'x'"),
    ],
)
def test_refuses_settings(tmp_path, values, message):
    path = Path(tmp_path) / "nightfold.yaml"
    path.write_text(json.dumps({"symbols": {"AAPL": {}}, "forecasts": values}))
    with pytest.raises(ConfigError) as error:
        load(path)
    assert message in str(error.value)


def test_folds_that_the_training_may_have_held_are_contaminated_and_prove_nothing(kronos):
    days = kronos.table("bars")["ts"].to_pylist()
    kronos.change(forecasts={"knowledge_cutoff": days[309].date().isoformat()})
    kronos.change(strategies=[{"strategy": "levels_always_on", "folds": {"train_bars": 20, "test_bars": 10}}])
    kronos.chain()
    folds = sorted((row["test_start"], row["label"]) for row in kronos.rows("folds") if row["selected"])
    assert {label for start, label in folds if start <= days[310]} == {"contaminated"}
    assert {label for start, label in folds if start > days[310]} == {"clean"}
    labels = {row["fold"]: row["label"] for row in kronos.rows("folds")}
    assert all(row["label"] == labels[row["fold"]] for row in kronos.rows("equity"))
