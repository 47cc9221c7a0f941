"""`nightfold backtest KEY STRATEGY`: one simulation as a user asks for it; nothing is stored."""

import pytest

from engine.config_file import load
from engine.lake.publish import Lake
from engine.stages.single import single_run

LINE = (
    "backtest",
    "AAA",
    "trend",
    "--set",
    "fast=7",
    "--set",
    "slow=30",
    "--range",
    "2015-09-01..2016-03-01",
)


def everything(project):
    return {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}


def test_prints_what_the_simulation_did_and_stores_nothing(done):
    before = everything(done)
    result = done(*LINE)
    assert result.exit_code == 0, result.stderr
    assert everything(done) == before
    file = load(done.settings)
    direct = single_run(
        Lake(done.data), file.settings, "AAA", "trend", {"fast": "7", "slow": "30"}, "2015-09-01..2016-03-01"
    )
    assert direct.metrics["n_trades"] > 0
    said = [line.strip() for line in result.stdout.splitlines()]
    assert said[0] == f"AAA trend: one simulation, {direct.bars} bars, 2015-09-01 to 2016-02-29"
    assert said[1] == (
        "parameters: fast 7 (set), slow 30 (set), adx_min 20.0 (default), stop_atr 2.0 (default), "
        "target_atr 4.0 (default)"
    )
    shown = dict(line.rsplit(None, 1) for line in said[2:] if line.count("  "))
    shown = {words.strip(): value for words, value in shown.items()}
    metrics = direct.metrics
    assert shown["status"] == "valid"
    assert shown["net growth, bps per bar"] == f"{metrics['log_growth']:,.4f}"
    assert shown["total return, %"] == f"{100 * metrics['roi']:,.2f}"
    assert shown["trades closed"] == f"{metrics['n_trades']:.0f}"
    assert shown["max drawdown, %"] == f"{100 * metrics['max_drawdown']:,.2f}"
    assert shown["winning trades, %"] == f"{100 * metrics['win_rate']:,.1f}"
    assert shown["bars with a position at the close, %"] == f"{100 * metrics['exposure']:,.1f}"
    assert shown["fees"] == f"{metrics['fees']:,.2f}"
    assert said[-1].startswith("Parameters chosen while looking at these bars are in-sample: this is no")


def test_levels_take_offsets_and_what_is_undefined_is_a_dash(done):
    result = done("backtest", "BBB", "levels_entry_exit", "--set", "u=0.03", "--set", "v=-0.03")
    assert result.exit_code == 0, result.stderr
    assert "parameters: u 0.03 (set), v -0.03 (set), policy path (settings)" in result.stdout
    assert "path: the symbol has no finer bars, so that it is the same as close." in result.stdout
    quiet = done("backtest", "AAA", "trend", "--set", "adx_min=60")
    assert quiet.exit_code == 0 and "No trade: no bar had an entry signal." in quiet.stdout
    (line,) = (line for line in quiet.stdout.splitlines() if line.startswith("winning trades"))
    assert line.split()[-1] == "-"


USAGE = [
    ((), "expected nightfold backtest KEY STRATEGY [--set NAME=VALUE]... [--range A..B], or"),
    (("AAA",), "expected nightfold backtest KEY STRATEGY"),
    (("AAA", "trend", "--trial", "0123/1"), "or nightfold backtest --trial STUDY/NUMBER"),
    (("--trial", "0123/1", "--set", "fast=7"), "or nightfold backtest --trial STUDY/NUMBER"),
    (("AAB", "trend"), "symbol 'AAB' is not in nightfold.yaml. Closest: AAA."),
    (("AAA", "tren"), "strategy 'tren' is none that the settings give AAA. Closest: trend."),
    (("AAA", "trend", "--set", "fast"), "--set 'fast': expected NAME=VALUE, such as fast=20"),
    (("AAA", "trend", "--set", "fast="), "--set 'fast=': expected NAME=VALUE, such as fast=20"),
    (("AAA", "trend", "--set", "fast=7", "--set", "fast=8"), "--set 'fast=8': is named twice"),
    (("AAA", "trend", "--set", "fats=7"), "parameter 'fats' is not declared. Closest: fast"),
    (("AAA", "trend", "--set", "fast=1000"), "fast was 1000, expected an integer from 2 to 100"),
]


@pytest.mark.parametrize(("arguments", "text"), USAGE, ids=[" ".join(case[0]) or "none" for case in USAGE])
def test_wrong_usage_is_refused_with_2_and_makes_no_lake(fresh, arguments, text):
    result = fresh("backtest", *arguments)
    assert result.exit_code == 2 and text in result.stderr and result.stdout == ""
    assert not (fresh.data / "lake").exists()


def test_a_range_without_bars_ends_with_2_and_a_lake_without_them_with_1(fresh, done):
    result = done("backtest", "AAA", "trend", "--range", "1990-01-01..1991-01-01")
    assert result.exit_code == 2 and "holds no bar of AAA; stored bars: " in result.stderr
    result = fresh("backtest", "AAA", "trend")
    assert result.exit_code == 1 and "nightfold run AAA --stage prices" in result.stderr
    assert not (fresh.data / "lake").exists()
