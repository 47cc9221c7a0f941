import pytest

from engine.lake.doctor import repair

SYMBOL = "ALFA"


def test_every_bar_after_the_least_history_has_one_forecast(small_lake):
    inputs = small_lake.rows("forecast_inputs")
    stamps = small_lake.table("bars")["ts"].to_pylist()
    assert [row["as_of"] for row in inputs] == stamps[249:]
    assert {row["status"] for row in inputs} <= {"ok", "repaired"}
    rows = small_lake.rows("forecasts")
    assert len(rows) == len(inputs) * 3 * 3  # fields x levels


def test_the_device_is_recorded_and_no_part_of_the_id(early, early_lake):
    assert {row["device"] for row in early_lake.rows("forecast_inputs")} == {"cpu"}
    early.change(devices={"device": "auto"})
    assert early.chain()["forecasts"].unchanged


def test_other_levels_are_another_model_beside_the_first(early, early_lake):
    early.change(forecasts={"levels": [0.2, 0.5, 0.8]})
    result = early.chain()["forecasts"]
    assert result.metadata["forecasts_new"] == len(early_lake.rows("forecast_inputs"))
    keys = {row["model_key"] for row in early.rows("forecasts")}
    assert {row["model_key"] for row in early_lake.rows("forecasts")} < keys
    assert early.rows("forecast_models")[0]["model_key"] == result.metadata["model_key"]


def test_a_corrected_bar_is_forecast_again_from_there_on(early, early_lake, alfa, with_bar):
    early.write(with_bar(alfa(888), 860, 1.01))
    again = early.chain()["forecasts"].metadata["forecasts_new"]
    assert 888 - 860 <= again <= 888 - 860 + 1
    old, new = early_lake.rows("forecasts"), early.rows("forecasts")
    stamp = early.table("bars")["ts"][860].as_py()
    assert [r for r in old if r["as_of"] < stamp] == [r for r in new if r["as_of"] < stamp]


@pytest.mark.parametrize("torn", [False, True], ids=["lost", "an older generation restored"])
def test_forecasts_of_another_run_than_their_inputs_are_inferred_anew(early, alfa, with_bar, torn):
    """The older generation was made from another bar 860: its rows look complete and are not the inputs'."""
    early.write(with_bar(alfa(889), 860, 1.01))
    early.chain()
    names = ("forecasts", "forecast_inputs", "forecast_models", "forecast_quality")
    before = {name: early.rows(name) for name in names}
    path = early.data_dir / "lake" / "forecasts" / f"{SYMBOL}.parquet"
    data = path.read_bytes()
    path.unlink()
    if torn:
        path.write_bytes(data[:1000])
        (done,), left = repair(early.data_dir)
        assert "generation 000001 restored" in done and not left
        assert early.rows("forecasts") != before["forecasts"]
    result = early.chain()["forecasts"]
    assert {name: early.rows(name) for name in names} == before
    assert result.metadata["forecasts_new"] == len(before["forecast_inputs"])
    assert any("are of two runs: every as-of bar is inferred anew" in line for line in early.said)
    assert early.chain()["forecasts"].unchanged
