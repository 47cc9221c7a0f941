import inspect

import pytest

from engine import errors
from engine.errors import DataError, MissingExtra, closest, require

TREE = {
    "DataError": "NightfoldError",
    "ConfigError": "NightfoldError",
    "DeviceUnavailable": "ConfigError",
    "LakeError": "NightfoldError",
    "AlreadyRunning": "LakeError",
    "ForecastError": "NightfoldError",
    "ForecastInputError": "ForecastError",
    "WeightsNotFound": "ForecastError",
    "SearchError": "NightfoldError",
    "LevelsInputError": "SearchError",
    "SimulationError": "NightfoldError",
    "MissingExtra": "NightfoldError",
}


def test_the_tree_is_the_documented_one():
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == "engine.errors"
    }
    assert {
        name: cls.__mro__[1].__name__ for name, cls in classes.items() if name != "NightfoldError"
    } == TREE
    assert all(cls.__doc__ for cls in classes.values())


def test_a_data_error_leads_with_its_rule_and_keeps_symbol_and_rows():
    error = DataError("price <= 0: AAPL", rule="E04", symbol="AAPL", rows=("2005-02-28",))
    assert str(error) == "E04 price <= 0: AAPL"
    assert (error.rule, error.symbol, error.rows) == ("E04", "AAPL", ("2005-02-28",))


def test_a_present_package_is_returned():
    assert require("json", needed_by="a test", extra="dev").loads("1") == 1


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part"])
def test_an_absent_package_names_what_needs_it_and_the_pip_line(module):
    with pytest.raises(MissingExtra) as caught:
        require(module, needed_by="source 'yahoo'", extra="yahoo")
    assert str(caught.value) == (
        f"source 'yahoo' needs {module}, which is not installed. "
        'Run, in the root of the project: pip install -c constraints.txt -e ".[yahoo]"'
    )


def test_a_package_that_is_broken_itself_is_not_called_absent(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import a_dependency_of_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_dependency_of_it"):
        require("broken_package", needed_by="a test", extra="dev")


def test_a_package_installed_without_its_dependencies_names_the_one_that_is_absent(tmp_path, monkeypatch):
    (tmp_path / "alone.py").write_text("import a_dependency_of_it\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra) as caught:
        require("alone", needed_by="forecasts.model toto-2", extra="toto")
    assert str(caught.value) == (
        "forecasts.model toto-2 needs a_dependency_of_it, which is not installed. "
        'Run, in the root of the project: pip install -c constraints.txt -e ".[toto]", then: '
        "pip install --no-deps --ignore-requires-python gluonts toto-2 dd-unit-scaling unit-scaling"
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("trned", "Closest: trend."),
        ("train_bar", "Closest: train_bars, test_bars."),
        ("zzz", "Known: fast, test_bars, train_bars, trend."),
        (7, "Known: fast, test_bars, train_bars, trend."),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest_or_all(name, answer):
    assert closest(name, ["trend", "train_bars", "test_bars", "fast"]) == answer


def test_no_more_than_three_close_names_are_given():
    assert closest("bar", ["bar1", "bar2", "bar3", "bar4", "bar5"]).count(",") == 2
