"""`nightfold levels`: the table of one symbol, as a user asks for it."""

import pytest
import yaml


@pytest.fixture
def on_small_lake(small_lake, project, tmp_path):
    """A settings file on the data of the small lake; nothing may change there."""

    def write(**changes):
        made = project(tmp_path)
        raw = {**small_lake.raw, "data_dir": str(small_lake.data_dir), **changes}
        made.settings.write_text(yaml.safe_dump(raw, sort_keys=False))
        return made

    before = small_lake.stamps()
    yield write
    assert small_lake.stamps() == before


def test_prints_the_table_and_stores_nothing(on_small_lake):
    result = on_small_lake()("levels", "ALFA", "--num-simulations", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("ALFA: 3 simulations, test bars ")
    assert "solver exact, objective smoothed" in result.stdout
    for words in ("in-sample", "out of sample", "untuned", "no_trade", "buy_and_hold", "chosen"):
        assert words in result.stdout
    assert "optimistic" not in result.stdout


def test_the_number_comes_from_the_settings_or_as_many_as_fit(on_small_lake):
    assert on_small_lake(levels={"num_simulations": 2})("levels", "ALFA").stdout.startswith(
        "ALFA: 2 simulations"
    )
    assert "simulations" in on_small_lake()("levels", "ALFA").stdout


def test_the_solver_may_be_named(on_small_lake):
    result = on_small_lake()("levels", "ALFA", "--num-simulations", "2", "--solver", "de-numba")
    assert result.exit_code == 0 and "solver de-numba, objective smoothed" in result.stdout


def test_target_exits_are_called_optimistic(on_small_lake):
    made = on_small_lake(levels={"policies": ["close", "target"]})
    assert "target (optimistic)" in made("levels", "ALFA", "--num-simulations", "2").stdout


def test_refusals_say_why(on_small_lake, fresh):
    made = on_small_lake()
    unknown = made("levels", "ALFA", "--num-simulations", "2", "--solver", "exat")
    assert unknown.exit_code == 2 and "levels.solver was 'exat'. Closest: exact" in unknown.stderr
    many = made("levels", "ALFA", "--num-simulations", "400")
    assert many.exit_code == 1 and "levels windows: 400 simulations of 500 + 20 bars" in many.stderr
    assert made("levels", "ALFA", "--num-simulations", "1").exit_code == 2
    assert made("levels").exit_code == 2 and made("levels", "BETA").exit_code == 2
    never = fresh("levels", "AAA")
    assert never.exit_code == 1 and "nightfold run AAA --stage prices" in never.stderr
