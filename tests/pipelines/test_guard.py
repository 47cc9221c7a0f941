"""What the engine raises on purpose, as Dagster shows it."""

import traceback

import dagster as dg
import pytest

from engine.errors import AlreadyRunning, ConfigError, DataError
from pipelines import guard, resources


@pytest.mark.parametrize("error", [DataError("too few bars", rule="E17"), ConfigError("no such setting")])
def test_a_refusal_fails_with_its_message_and_without_the_way_through_the_engine(error):
    with pytest.raises(dg.Failure) as caught, guard.refusals(dg.build_op_context()):
        raise error
    assert caught.value.description == str(error)
    assert caught.value.allow_retries is False
    assert str(error) not in "".join(traceback.format_exception(caught.value)[:-1])  # no chained error


def test_an_unexpected_error_passes_untouched():
    with pytest.raises(ZeroDivisionError) as caught, guard.refusals(dg.build_op_context()):
        1 / 0  # noqa: B018
    assert caught.value.__cause__ is None


def test_a_symbol_held_elsewhere_ends_the_work_with_a_warning(monkeypatch):
    context, said = dg.build_op_context(), []
    monkeypatch.setattr(context.log, "warning", said.append)
    with guard.refusals(context):
        raise AlreadyRunning("already running: AAA by pid 7")
    assert said == ["already running: AAA by pid 7; nothing was materialised"]


def test_a_symbol_that_left_the_settings_is_refused_with_what_to_press(monkeypatch, tmp_path):
    path = tmp_path / "nightfold.yaml"
    path.write_text("symbols: {AAPL: {}}\n")
    monkeypatch.setattr(resources, "settings_path", lambda: path)
    assert "AAPL" in guard.open_symbol("AAPL").settings.symbols
    message = (
        r"symbol 'AAPK' is no longer in nightfold\.yaml\. Closest: AAPL\. "
        r"Reload the definitions in the web UI: Deployment > Reload definitions"
    )
    with pytest.raises(ConfigError, match=message):
        guard.open_symbol("AAPK")
