"""The page about strategies of one's own: its examples are run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from engine import cli, cli_base
from engine.bars.synthetic import make_bars
from engine.features.table import FeatureSet
from engine.features.truncation import look_ahead
from engine.simulation import Execution, run, sweep
from engine.sources import sample
from engine.strategies import registry, user

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`data/strategies/(\w+)\.py`:\n\n```py\n(.*?)^```", PAGE, flags=re.M | re.S))
(ENTRIES,) = re.findall(r"^```yml\n(.*?)^```", PAGE, flags=re.M | re.S)
TICK = 0.01


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the settings of the page and its two files, on the sample data."""
    monkeypatch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)
    (tmp_path / "data" / "strategies").mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / "data" / "strategies" / f"{name}.py").write_text(text)
    (tmp_path / "nightfold.yaml").write_text(f"symbols: {{AAPL: {{}}}}\n{ENTRIES}")
    yield tmp_path
    user.load(tmp_path / "nothing")


def nightfold(project, *arguments):
    return CliRunner().invoke(cli.main, ["--settings", str(project / "nightfold.yaml"), *arguments])


def test_there_is_one_example_of_each_kind_in_under_30_lines(project):
    assert nightfold(project, "check", "--features").exit_code == 0
    assert {name: registry.get(name).kind for name in FILES} == {"reversion": "rules", "chandelier": "bars"}
    assert all(len(text.splitlines()) < 30 for text in FILES.values())
    for name in FILES:
        assert user.file_of(registry.get(name)) == f"strategies/{name}.py"


def test_check_accepts_and_lists_them(project):
    done = nightfold(project, "check")
    assert (done.exit_code, done.output.splitlines()[0]) == (0, "nightfold.yaml: settings are sound")
    listed = nightfold(project, "check", "--strategies").output
    assert "reversion (rules, strategies/reversion.py): Buys below the lower band, sells at" in listed
    assert "chandelier (bars, strategies/chandelier.py): Buys a breakout, leaves in two steps." in listed
    assert "  k: Float(low=1.0, high=6.0, default=3.0" in listed and "trend (rules): " in listed


def test_check_refuses_a_broken_file_with_exit_code_2_and_nothing_runs(project):
    broken = FILES["reversion"].replace("rsi(14)", "rsii(14)")
    (project / "data" / "strategies" / "reversion.py").write_text(broken)
    for command in (["check"], ["run"], ["report"]):
        done = nightfold(project, *command)
        assert done.exit_code == 2
        assert done.output == (
            "data/strategies/reversion.py:21: strategy reversion with {'n': 20, 'rsi_max': 40.0, "
            "'stop_atr': 3.0, 'target_atr': 4.0}: rules(p) raised NameError: name 'rsii' is not defined\n"
        )
    assert not (project / "data" / "lake").exists()


def test_check_refuses_a_bar_function_that_cannot_be_compiled(project):
    broken = FILES["chandelier"].replace("close, far = bars[3, t]", "close, far = bars[3, t].nothing")
    (project / "data" / "strategies" / "chandelier.py").write_text(broken)
    done = nightfold(project, "check")
    assert done.exit_code == 2
    where = r"nightfold\.yaml:\d+:5: chandelier\.py:2\d: strategy chandelier: bar cannot be compiled: "
    assert re.match(where + ".*nothing", done.output)


@pytest.mark.parametrize("name", FILES)
def test_a_small_backtest_trades(project, name):
    user.load(project / "data")
    bars = sample("AAPL")
    features, cls = FeatureSet(bars, TICK), registry.get(name)
    execution = Execution(tick=TICK)
    done = run(features, cls, {}, execution, start=250, stop=len(bars))
    reasons = {done.reasons[reason] for reason in done.fills["reason"]}
    assert done.status == "valid" and len(done.trades["pnl"]) >= 10
    assert reasons >= ({"entry", "signal", "stop"})
    total = done.equity[-1] - execution.initial_cash
    assert float(np.sum(done.trades["pnl"])) == pytest.approx(total, abs=1e-9 * execution.initial_cash)
    if name == "chandelier":  # it leaves in two steps
        assert max(np.bincount(done.fills["trade"])) == 3
    swept = sweep(features, cls, [{}, {"n": 30}], execution, start=250, stop=len(bars))
    assert swept.trades_hash[0] == done.trades_hash != swept.trades_hash[1]


@pytest.mark.parametrize("name", FILES)
def test_no_example_knows_a_later_bar(project, name):
    user.load(project / "data")
    cls, execution = registry.get(name), Execution(tick=TICK, close_at_end=False)
    bars = make_bars(5, 400, tick=TICK, volatility=0.02)

    def held(part):
        done = run(FeatureSet(part, TICK), cls, {"n": 10}, execution, start=0, stop=len(part))
        return [done.equity, done.position]

    assert held(bars)[1].any()
    assert look_ahead(held, bars, seed=4) == []


def test_names_that_the_page_offers_can_be_imported():
    import engine.strategies as words

    offered = set(re.findall(r"^from engine\.strategies import (.+)$", PAGE, flags=re.M)[0].split(", "))
    offered |= {"cross_above", "cross_below", "Choice", "Fraction", "Units", "Notional"}
    assert offered <= set(words.__all__) and all(hasattr(words, name) for name in words.__all__)
    with pytest.raises(AttributeError, match="^module engine.strategies has no attribute 'rsii'$"):
        words.rsii  # noqa: B018


def test_the_arguments_of_a_bar_function_are_all_described():
    from engine.strategies.expert import ARGUMENTS

    rows = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.M)
    assert tuple(rows) == ARGUMENTS


def test_dagster_finds_and_refuses_them_too(project, monkeypatch):
    from engine.errors import ConfigError
    from pipelines import guard, resources

    monkeypatch.setattr(resources, "settings_path", lambda: project / "nightfold.yaml")
    file = guard.open_symbol("AAPL")
    assert [entry.strategy for entry in file.settings.entries("AAPL")] == ["reversion", "chandelier"]
    assert registry.get("chandelier").kind == "bars"
    (project / "data" / "strategies" / "chandelier.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"^data/strategies/chandelier\.py:1: ZeroDivisionError"):
        guard.open_symbol("AAPL")
