"""The leaderboard and the orders as text, on terminals of any width and on none."""

import io

import numpy as np
import pytest
from rich.console import Console

from engine.lake.paths import ALL_SYMBOLS
from engine.lake.publish import Lake
from engine.reports import terminal
from engine.reports.board import leaderboard_rows


def made(width=120):
    return Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)


NAMES = ("trend", "levels", "levels_entry_exit", "levels_always_on")
NOW = {symbol: dict.fromkeys(NAMES, "p") for symbol in ("AAA", "BBB", "CCC", "AAPL", "GOOG", "FB")}


def printed(function, *arguments, width=120, **named):
    console = made(width)
    function(console, *arguments, **named)
    return console.file.getvalue()


def test_without_a_terminal_the_whole_table_is_printed(example_lake, monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    console = terminal.console()
    terminal.print_leaderboard(console, example_lake, ["AAPL", "GOOG"])
    out = capsys.readouterr().out
    assert not console.is_terminal and "cash" in out and "\x1b" not in out


@pytest.mark.parametrize("width", [45, 60, 80, 100, 120])
def test_a_number_is_never_cut_whatever_the_width(example_lake, width):
    out = printed(terminal.print_leaderboard, example_lake, ["AAPL", "GOOG"], width=width)
    rows = leaderboard_rows(example_lake, ["AAPL", "GOOG"])
    assert len(rows) == 5 and "…" not in out
    for row in rows:
        line = next(line for line in out.splitlines() if line.split()[:2] == [row["symbol"], row["strategy"]])
        assert line.split()[2] == f"{row['bps_per_bar']:.2f}" and len(line) <= width
    assert ("A wider terminal shows more" in " ".join(out.split())) == (width < 103)


def test_wide_rows_hold_every_number(example_lake):
    out = printed(terminal.print_leaderboard, example_lake, ["AAPL"])
    row = leaderboard_rows(example_lake, ["AAPL"])[0]
    line = next(line for line in out.splitlines() if line.split()[:2] == ["AAPL", row["strategy"]])
    names = (
        "bps_per_bar", "untuned_bps_per_bar", "matched_hold_bps_per_bar", "buy_and_hold_bps_per_bar",
        "in_sample_bps_per_bar", "sharpe",
    )  # fmt: skip
    numbers = [f"{row[name]:.2f}" for name in names]
    numbers.insert(1, str(row["bars"]))
    cash = "-" if row["cash"] is None else f"{100 * row['cash']:.0f}"
    tail = [f"{100 * row['max_drawdown']:.1f}", str(row["trades"]), cash]
    assert line.split()[2:] == [*numbers, *tail]


def test_levels_show_their_bars_and_a_dash_for_cash(example_lake):
    """They are flat at every close, which is not the same as holding cash."""
    out = printed(terminal.print_leaderboard, example_lake, ["AAPL"])
    for row in leaderboard_rows(example_lake, ["AAPL"]):
        cells = next(line for line in out.splitlines() if row["strategy"] in line).split()
        assert cells[3] == str(row["bars"]) and row["bars"] > 0
        assert (cells[-1] == "-") == row["strategy"].startswith("levels")


def test_orders_stand_under_the_bar_they_follow(example, tmp_path):
    lake = Lake(tmp_path)
    day = 86_400_000_000

    def order(symbol, strategy, at, **values):
        row = {"symbol": symbol, "strategy": strategy, "policy": "", "asof": example.when(at * day), **values}
        return {"action": "none", "note": "no entry signal [bold] :smile:", **row}

    for symbol in ("AAA", "BBB"):
        example.publish(lake, "folds", symbol, [])
    example.publish(lake, "nightly", "AAA", [{**order("AAA", "trend", 16000), **example.FIT}])
    example.publish(lake, "next_orders", "AAA", [order("AAA", "trend", 16000)])
    buy = {"action": "buy", "order_type": "limit", "limit": 9.5, "quantity_per_100k": 1234.5}
    levels = order("BBB", "levels", 16001, **buy, note="out at the close")
    both = [levels, order("BBB", "trend", 16001)]
    example.publish(lake, "nightly", "BBB", [{**row, **example.FIT} for row in both])
    example.publish(lake, "next_orders", "BBB", both)
    names = ["AAA", "BBB", "CCC"]
    out = printed(terminal.print_next_orders, lake, names, width=60, procedures=NOW).splitlines()
    assert out[0] == "Next orders after the bar of 2013-10-23 (paper only: nightfold places no orders)"
    assert out[1].startswith("  BBB       levels") and "limit 9.50, 1,234.50 units per 100,000" in out[1]
    assert out[2] == "  BBB       trend              nothing: no entry signal [bold] :smile:"
    assert out[3].startswith("Next orders after the bar of 2013-10-22") and out[4].startswith("  AAA ")
    assert len(out) == 5


def test_a_failed_symbol_has_no_orders_and_its_rows_are_of_an_earlier_run(example_lake):
    names = ["AAPL", "GOOG", "FB"]
    failed = {"AAPL", "FB"}
    out = printed(terminal.print_next_orders, example_lake, names, failed, procedures=NOW).splitlines()
    assert out[-2:] == [
        "AAPL: failed in this run; no orders (results of an earlier run are kept)",
        "FB: failed in this run; no orders",
    ]
    assert {line.split()[0] for line in out[1:-2]} == {"GOOG"}
    board = printed(terminal.print_leaderboard, example_lake, names, {"AAPL", "FB"}).splitlines()
    rows = [line for line in board if " levels_" in line or " trend " in line]
    assert len(rows) == 5
    assert all(line.startswith("AAPL (earlier run) ") == ("AAPL" in line) for line in rows)
    assert "earlier" not in printed(terminal.print_leaderboard, example_lake, names)


def test_without_orders_nothing_is_printed(tmp_path):
    assert printed(terminal.print_next_orders, Lake(tmp_path), ["AAA"], procedures=NOW) == ""


def test_without_results_the_command_that_makes_them_is_named(tmp_path):
    out = printed(terminal.print_leaderboard, Lake(tmp_path), ["AAA", "BBB"], width=30)
    assert out == "no results of AAA, BBB yet. Make them: nightfold run\n"


def test_none_or_the_holder_is_named(example_lake, example, tmp_path):
    none = printed(terminal.print_champions, example_lake, ["AAPL", "GOOG"], width=30)
    assert none.startswith("0 of 2 symbols have a champion: no strategy's out-of-sample evidence holds")
    lake = Lake(tmp_path)
    for symbol in ("AAA", "BBB"):
        example.publish(lake, "backtests", symbol, [])
    row = example.champion_row("AAA", 0, example.when(0), decision="promoted", in_force=True, p=0.0123)
    example.publish(lake, "champions", ALL_SYMBOLS, [{**row, "params": '{"a": [1, 2]}'}])
    assert printed(terminal.print_champions, lake, ["AAA", "BBB"], width=30).splitlines() == [
        'AAA: champion trend (p 0.012), parameters {"a": [1, 2]}',
        "1 of 2 symbols have a champion. Why: nightfold champions --why KEY",
    ]
    assert "champion trend" not in printed(terminal.print_champions, lake, ["BBB"])


def test_reasons_stand_oldest_first_with_their_evidence(example, tmp_path):
    lake = Lake(tmp_path)
    rows = [
        example.champion_row("AAA", 0, example.when(0), p=float("nan")),
        {
            **example.champion_row("AAA", 1, example.when(0), decision="promoted", in_force=True),
            "reasons": "",
            "q": 0.041,
            "diff": '{"fast":[10,12]}',
        },
        example.champion_row("BBB", 0, example.when(0)),
    ]
    example.publish(lake, "champions", ALL_SYMBOLS, rows)
    out = printed(terminal.print_reasons, lake, "AAA", width=30).splitlines()
    assert (
        out[0] == "0 1970-01-01 trend: rejected (p -)"
        and out[7] == "1 1970-01-01 trend: promoted (p 0.370, q of the symbol's smallest p 0.041)"
    )
    assert out[1].startswith("  p nan was above") and out[8] == "  every condition is met"
    assert (
        out[2:7]
        == out[9:14]
        == [
            "    out-of-sample bars 420 (needs 500)",
            "    trades 17 (needs 20)",
            "    net 1.23 basis points per bar (needs more than 0)",
            "    excess over the matched hold -0.20 basis points per bar (needs 0.5)",
            "    t -, p - over 3 procedures (needs 0.050 or less)",
        ]
    )
    assert out[14:] == [
        "    fast: 10 before, now 12",
        "in force: trend (decision 1) (paper only: nightfold places no orders)",
    ]
    assert printed(terminal.print_reasons, lake, "CCC").startswith("no decision on CCC yet.")


def _levels_frame(policies, finer=False):
    from finer import parted

    from engine.bars.synthetic import make_bars
    from engine.config import Settings
    from engine.config_sections import Levels
    from engine.search.levels import cut_windows
    from engine.search.levels.simulations import simulate

    bars = make_bars(4, 200, volatility=0.02)
    instrument = Settings.model_validate({"symbols": {"TEST": {}}}).instrument("TEST")
    high, low = np.full(200, 0.01), np.full(200, -0.01)
    windows, base = cut_windows(200, 4, 100, 20, 20), parted(bars) if finer else None
    return simulate(bars, high, low, windows, Levels(policies=policies), instrument, base=base)


def test_the_levels_table_holds_both_samples_the_errors_and_what_to_compare_with():
    frame = _levels_frame(("path", "close"))
    out = printed(terminal.print_levels, "TEST", frame)
    assert out.startswith("TEST: 4 simulations, test bars ") and "solver exact, objective smoothed" in out
    assert "in-sample" in out and "out of sample" in out and "optimistic" not in out
    lines = [line.split() for line in out.splitlines()]
    means = frame[frame["row"] == "mean"].set_index(["strategy", "policy", "variant"])
    errors = frame[frame["row"] == "standard_error"].set_index(["strategy", "policy", "variant"])
    assert len(means) == 2 * 5 + 2
    for (strategy, policy, variant), mean in means.iterrows():
        line = next(x for x in lines if x[:3] == [strategy or "-", policy or "-", variant])
        error = errors.loc[(strategy, policy, variant)]
        if variant == "no_trade":
            assert line[3:5] == ["0.00", "0.00"]
        else:
            expected = [
                word
                for name in ("in_sample", "out_of_sample")
                for word in (f"{mean[name]:.2f}", f"({error[name]:.2f})")
            ]
            assert line[3:7] == expected


def test_target_exits_are_called_optimistic():
    out = printed(terminal.print_levels, "TEST", _levels_frame(("close", "target")))
    assert sum("target (optimistic)" in line for line in out.splitlines()) == 4
    assert "optimistic: target exits are credited in the bar of the entry" in " ".join(out.split())


def test_the_levels_table_says_whether_path_read_finer_bars():
    without = printed(terminal.print_levels, "TEST", _levels_frame(("path", "close")))
    assert "path: no finer bars were read, so that it is the same as close." in " ".join(without.split())
    with_them = printed(terminal.print_levels, "TEST", _levels_frame(("path", "close"), finer=True))
    assert "path: a same-bar target counts only where finer bars show" in " ".join(with_them.split())
    assert "path:" not in printed(terminal.print_levels, "TEST", _levels_frame(("close",), finer=True))
