"""A study as an Optuna storage: what is in the file, and that it is whole or not there."""

import json
import math

import pytest
from landscape import SPACE, Landscape

from engine.config import plain
from engine.config_sections import Constraints, Search
from engine.errors import ConfigError
from engine.lake import files
from engine.search.export import export_study, space_of
from engine.search.ledger import to_rows

CONFIG = {
    "searched": {name: plain(leaf) for name, leaf in SPACE.searched.items()},
    "fixed": SPACE.fixed, "strategy": "hill", "objective": "log_growth", "seed": 0, "code": ["a", "b"],
}  # fmt: skip


@pytest.fixture(scope="module")
def trials():
    return Landscape(
        score=lambda c, s: math.nan if c["x"] == 50 else 1.0 * c["x"], trades=lambda c, s: c["y"] % 3
    ).run(
        Search(screen=16, max_trials=16, batch=16),
        Constraints(min_trades=2, max_drawdown=None),
        valid=lambda config: config["x"] != config["y"],
    )


@pytest.fixture(scope="module")
def loaded(trials, tmp_path_factory):
    import optuna

    path = tmp_path_factory.mktemp("export") / "study.db"
    export_study(path, "ALFA hill", list(reversed(to_rows(trials, {}))), json.loads(json.dumps(CONFIG)))
    return optuna.load_study(study_name="ALFA hill", storage=f"sqlite:///{path}")


def test_every_trial_is_in_the_file_in_its_order(loaded, trials):
    assert [t.number for t in loaded.trials] == [t.number for t in trials]
    assert loaded.direction.name == "MAXIMIZE"
    for told, trial in zip(loaded.trials, trials, strict=True):
        assert (told.state.name, told.params) == (trial.state, trial.chosen)
        assert told.distributions == SPACE.distributions()
        assert told.value == (trial.value if trial.state == "COMPLETE" else None)
        assert told.intermediate_values == trial.steps()
        assert told.intermediate_values[max(told.intermediate_values)] == trial.value  # one scale
    assert {t.state.name for t in loaded.trials} == {"COMPLETE", "PRUNED"}


def test_outcome_trades_and_constraints_stand_beside(loaded, trials):
    for told, trial in zip(loaded.trials, trials, strict=True):
        found = told.user_attrs
        assert (found["outcome"], found["trades"], found["batch_no"]) == (
            trial.outcome,
            trial.trades,
            trial.batch,
        )
        assert json.loads(found["constraints"]) == trial.constraints
        assert found.get("duplicate_of") == trial.duplicate_of
    feasible = [t for t in loaded.best_trials] if loaded.best_trials else []
    best = max((t for t in trials if t.feasible), key=lambda t: t.value)
    assert best.number in [t.number for t in feasible]
    assert loaded.user_attrs["strategy"] == "hill"


def test_a_space_comes_back_from_the_settings_of_its_study():
    assert space_of(json.loads(json.dumps(CONFIG))) == SPACE


def test_a_file_that_is_there_is_left_alone(tmp_path, trials):
    path = tmp_path / "study.db"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"study\.db exists already and is left as it is\. Name another"):
        export_study(path, "s", to_rows(trials, {}), CONFIG)
    assert path.read_text() == "mine"


def test_a_write_cut_short_leaves_nothing(tmp_path, trials, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export_study(tmp_path / "study.db", "s", to_rows(trials[:2], {}), CONFIG)
    assert list(tmp_path.iterdir()) == []
