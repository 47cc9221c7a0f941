"""Bad strategy entries: each is refused with its place and what was meant, and nothing is opened."""

import re

import pytest

from engine.stages import _prices, examine

HEAD = "data_dir: store\nsymbols: {AAA: {source: files}}\n"
TREND = "strategies:\n  - strategy: trend\n"  # lines 3 and 4
SEARCH = TREND + "    search: "  # column 14 within its braces
FAST = TREND + "    parameters:\n      fast: "  # line 6, column 7

BAD = [
    ("strategies:\n  - strategy: trned\n", r"4:5: strategy 'trned' is not known\. Closest: trend"),
    ("strategies:\n  - strategi: trend\n", r"4:5: 'strategies\.0\.strategy' is missing\n.*Closest: strategy"),
    (TREND + "    serach: {screen: 8}\n", r"5:5: unknown key 'strategies\.0\.serach'\. Closest: search"),
    (SEARCH + "{screan: 8}\n", r"5:14: unknown key .*screan'\. Closest: screen"),
    (TREND + "    folds: {train_bar: 8}\n", r"5:13: unknown key .*train_bar'\. Closest: train_bars"),
    (TREND + "    constraints: {min_trade: 8}\n", r"5:19: unknown key .*min_trade'\. Closest: min_trades"),
    (TREND + "    constraints: {max_sortino: 8}\n", r"5:19: unknown key .*max_sortino'"),
    (TREND + "    promotion: {confidense: .9}\n", r"5:17: unknown key .*confidense'\. Closest: confidence"),
    (SEARCH + "{sampler: tpee}\n", r"5:14: .*sampler is 'tpee'; expected one of .* Closest: tpe"),
    (SEARCH + "{pruner: halvin}\n", r"5:14: .*pruner is 'halvin'; expected one of .* Closest: halving"),
    (SEARCH + "{pruner: 'optuna:med'}\n", r"5:14: .*pruner is 'optuna:med'; .* Closest: optuna:median"),
    (SEARCH + "{objective: sharp}\n", r"5:14: .*objective is 'sharp'; .* Closest: sharpe"),
    (SEARCH + "{mode: threads}\n", r"5:14: .*mode is 'threads'; expected one of in-process"),
    (SEARCH + "{report: bars}\n", r"5:14: .*report: 'bars.*' is neither folds nor bars:N"),
    (SEARCH + "{report: 'bars:0'}\n", r"5:14: .*report: 'bars.*' is neither folds nor bars:N"),
    (SEARCH + "{report: 'bars:100', pruner: race}\n", r"5:5: .*bars:100: pruner race compares"),
    (SEARCH + "{report: 'bars:100', objective: calmar}\n", r"5:5: .*needs objective log_growth or roi"),
    (SEARCH + "{timeout: 2d}\n", r"5:14: .*timeout: '2d' is no time; expected one such as 30m or 2h"),
    (SEARCH + "{batch: 64}\n", r"5:5: .*batch 64 is more than max_trials 32"),
    (SEARCH + "{screen: -1}\n", r"5:14: .*screen is -1; expected greater than or equal to 0"),
    (TREND + "    folds: {inner_folds: 0}\n", r"5:13: .*inner_folds is 0; expected greater than"),
    (TREND + "    folds: {scheme: roling}\n", r"5:13: .*scheme is 'roling'; .* Closest: rolling"),
    (TREND + "    symbols: [AAB]\n", r"5:15: symbol 'AAB' is not under 'symbols'\. Closest: AAA"),
    (FAST + "{low: 5, high: 60}\n", r"6:7: 'strategies\.0\.parameters\.fast\.type' is missing"),
    (FAST + "{type: int, low: 60, high: 5}\n", r"6:7: .*low 60 is greater than high 5"),
    (FAST + "{type: int, low: 5, high: 60, step: 0}\n", r"6:43: .*step is 0; expected greater than 0"),
    (FAST + "{type: int, low: 5, high: 60, step: 7}\n", r"6:7: .*= 55 is not a multiple of step 7"),
    (FAST + "{type: int, low: 5.5, high: 60}\n", r"6:7: .*type int takes whole numbers"),
    (FAST + "{type: int, low: 0, high: 60, log: true}\n", r"6:7: .*log needs low > 0 and no step"),
    (FAST + "{type: int, low: 5}\n", r"6:7: .*type int needs \['high', 'low'\]"),
    (FAST + "{type: int, low: .nan, high: 60}\n", r"6:25: .*low is nan; expected a finite number"),
    (FAST + "{type: int, low: 5, high: 60, choices: [5]}\n", r"6:7: .*type int needs"),
    (FAST + "{type: loguniform, low: 5, high: 60}\n", r"6:14: .*'loguniform'; expected one of int, float"),
    (FAST + "{type: categorical, choices: []}\n", r"6:7: .*choices"),
    (FAST + "{type: categorical, choices: [5, 5]}\n", r"6:7: .*choices must be at least one, each once"),
    (FAST + "{type: categorical, choices: [5, five]}\n", r"6:7: .*be of one type, found \[5, 'five'\]"),
    (FAST + "{type: fixed}\n", r"6:7: .*type fixed needs \['value'\]"),
    (FAST + "null\n", r"6:7: .*fast is null; expected a mapping"),
    (FAST + "[5, 60]\n",
     r"6:7: .*fast is \[5, 60\]; expected a mapping such as {type: int, low: 5, high: 60}$"),
    ("strategies: [trend]\n", r"3:14: .* expected a mapping \(key: value\) with strategy$"),
    (TREND + "    folds: 8\n", r"5:5: .*folds is 8; expected a mapping .*; {} takes all defaults$"),
    (FAST + "{type: int, low: 1, high: 60}\n", r"6:7: parameter 'fast' is .* int from 2 to 100; found 1\."),
    (FAST + "{type: float, low: 5, high: 60}\n", r"6:7: parameter 'fast' is .* as int; found type float"),
    (FAST.replace("fast", "fats") + "{type: fixed, value: 9}\n", r"6:7: parameter 'fats' .* Closest: fast"),
    (SEARCH + "{sampler: grid}\n    parameters: {fast: {type: int, low: 5, high: 60}}\n",
     r"5:14: the grid has 56 points, more than search\.max_trials 32"),
    (TREND + "    folds: {train_bars: 8, train_bars: 9}\n", r"5:28: key 'train_bars' stands twice"),
    ("seed: -1\n" + TREND, r"3:1: seed is -1; expected greater than or equal to 0"),
]  # fmt: skip


@pytest.fixture
def refused(project, tmp_path, monkeypatch):
    """Return what `nightfold run` says of settings that it refuses, having opened and written nothing."""

    def opened(*_, **__):
        raise AssertionError("data was opened")

    def run(text):
        one = project(tmp_path)
        one.settings.write_text(HEAD + text)
        result = one("run")
        assert result.exit_code == 2, result.output
        assert [path.name for path in tmp_path.iterdir()] == ["nightfold.yaml"]
        return result.stderr

    for module in (_prices, examine):
        monkeypatch.setattr(module, "load", opened)
    return run


def test_a_sound_entry_does_open_its_data(project, tmp_path, monkeypatch, refused):
    """Without it the guard of the others could watch a door that nobody uses."""
    one = project(tmp_path)
    one.settings.write_text(HEAD + TREND)
    assert "AssertionError: data was opened" in one("run").output


def test_the_table_is_long_enough():
    assert len(BAD) >= 40 and len({text for text, _ in BAD}) == len(BAD)


@pytest.mark.parametrize("text, says", BAD, ids=[says[:34] for _, says in BAD])
def test_a_bad_entry_is_refused_with_its_place_and_what_was_meant(text, says, refused):
    assert re.search(rf"(?m)^nightfold\.yaml:{says}", refused(text)), refused(text)


def test_all_mistakes_of_form_are_listed_at_once_then_all_of_names(refused):
    form = [(text, says) for text, says in BAD if text.startswith(TREND) and "unknown key" in says]
    entries = "strategies:\n" + "".join(
        f"  - strategy: trend\n    name: e{k}\n{text.removeprefix(TREND)}" for k, (text, _) in enumerate(form)
    )
    lines = refused(entries).splitlines()
    assert len(lines) == len(form) >= 6
    assert [int(line.split(":")[1]) for line in lines] == [6 + 3 * k for k in range(len(form))]
    names = "strategies:\n  - strategy: trned\n  - strategy: trend\n"
    names += "    parameters: {fats: {type: fixed, value: 9}}\n"
    assert [line.split(" ")[0] for line in refused(names).splitlines()] == [
        "nightfold.yaml:4:5:", "nightfold.yaml:6:18:"
    ]  # fmt: skip
