"""Strategies of the user's own: files of a data folder, found by name."""

import os
import sys
from pathlib import Path

import pytest

from engine.errors import ConfigError, SimulationError
from engine.strategies import registry, user

DIP = '''"""A dip."""
from engine.strategies import Float, Int, Rules, Strategy, atr, rsi, strategy


@strategy("dip")
class Dip(Strategy):
    """Buys a dip."""

    parameters = {"n": Int(2, 30, default=5), "low": Float(5.0, 45.0, default=30.0)}

    @staticmethod
    def rules(p):
        return Rules(enter_long=rsi(p.n) < p.low, exit_long=rsi(p.n) > 60, stop=2 * atr(14))
'''
OTHER = DIP.replace('"dip"', '"other"').replace("Dip(", "Other(")
BAND = """from engine.strategies import Float, Strategy, bar_function, strategy


@strategy("band")
class Band(Strategy):
    kind = "bars"
    parameters = {"k": Float(0.5, 4.0, default=2.0)}
    state_size = 1

    @staticmethod
    def columns(p):
        return [f"bollinger.close.n=20.k={p.k}:lower", "close"]

    @bar_function
    def bar(t, bars, F, p, pos, state, out):
        return 1 if bars[3, t] < F[0, t] else 0
"""


@pytest.fixture
def data(tmp_path):
    """A data folder with an empty ``strategies/``; what it registers vanishes after the test."""
    folder = tmp_path / "data"
    (folder / "strategies").mkdir(parents=True)
    yield folder
    user.load(tmp_path / "nothing")
    assert not [name for name in sys.modules if name.startswith(user.PACKAGE + ".")]


def write(data, **files):
    for stem, text in files.items():
        (data / "strategies" / f"{stem}.py").write_text(text)


def refused(data):
    with pytest.raises(ConfigError) as caught:
        user.load(data)
    return str(caught.value)


def code(name):
    return registry.code_of(registry.get(name))


def test_a_file_registers_its_strategies_by_name(data):
    write(data, dip=DIP, band=BAND)
    user.load(data)
    dip, band = registry.get("dip"), registry.get("band")
    assert (dip.kind, band.kind, band.state_size) == ("rules", "bars", 1)
    assert registry.columns_of(dip, {"n": 7}) == ("atr.n=14", "rsi.n=7")
    assert registry.columns_of(band, {}) == ("bollinger.close.n=20.k=2:lower", "close")
    assert user.file_of(dip) == "strategies/dip.py"
    assert {"dip", "band", "trend"} <= set(registry.names())


def test_a_folder_without_strategies_and_no_folder_are_fine(data, tmp_path):
    before = registry.names()
    user.load(data)
    user.load(tmp_path / "no data yet")
    assert registry.names() == before


def test_strategies_of_another_folder_or_a_removed_file_are_gone(data, tmp_path):
    write(data, dip=DIP)
    user.load(data)
    (tmp_path / "second" / "strategies").mkdir(parents=True)
    write(tmp_path / "second", other=OTHER)
    user.load(tmp_path / "second")
    assert "dip" not in registry.names() and "other" in registry.names()
    (tmp_path / "second" / "strategies" / "other.py").unlink()
    user.load(tmp_path / "second")
    assert "other" not in registry.names()


def test_files_that_did_not_change_are_not_loaded_again(data):
    write(data, dip=DIP)
    user.load(data)
    first = registry.get("dip")
    user.load(data)
    assert registry.get("dip") is first


def test_an_edit_counts_at_once_even_where_size_and_stamp_stay(data):
    write(data, dip=DIP)
    path = data / "strategies" / "dip.py"
    stamp = path.stat().st_mtime_ns
    user.load(data)
    before = code("dip")
    write(data, dip=DIP.replace("30.0", "31.0"))
    sys.dont_write_bytecode, kept = False, sys.dont_write_bytecode
    try:
        os.utime(path, ns=(stamp, stamp))
        user.load(data)
    finally:
        sys.dont_write_bytecode = kept
    assert registry.get("dip").parameters["low"].default == 31.0
    assert code("dip") != before
    assert [p.name for p in (data / "strategies").iterdir()] == ["dip.py"]  # no bytecode beside it


def test_the_code_of_one_file_is_not_that_of_another(data):
    write(data, dip=DIP, other=OTHER)
    user.load(data)
    dip, other = code("dip"), code("other")
    assert dip != other
    write(data, dip=DIP + "# a comment counts too\n")
    user.load(data)
    assert code("dip") != dip and code("other") == other
    write(data, dip=DIP)
    user.load(data)
    assert (code("dip"), code("other")) == (dip, other)


@pytest.mark.parametrize(
    "line",
    [
        "from ._levels import LOW",
        "from . import _levels; LOW = _levels.LOW",
        "from user_strategies._levels import LOW",
        "import user_strategies._levels as levels; LOW = levels.LOW",
    ],
)
def test_a_helper_beside_it_counts_for_those_that_import_it(data, line):
    helped = DIP.replace("import Float", "import Float", 1).replace("default=30.0", "default=LOW")
    helped = helped.replace("\n\n\n@strategy", f"\n{line}\n\n\n@strategy", 1)
    write(data, dip=helped, other=OTHER, _levels="from ._deeper import DEEP\nLOW = 30.0 + DEEP\n")
    write(data, _deeper="DEEP = 1.0\n", _unused="boom\n")  # a helper that nobody imports is never run
    user.load(data)
    assert registry.get("dip").parameters["low"].default == 31.0
    dip, other = code("dip"), code("other")
    write(data, _deeper="DEEP = 2.0\n")
    user.load(data)
    assert registry.get("dip").parameters["low"].default == 32.0
    assert code("dip") != dip and code("other") == other


def test_the_code_of_the_engines_own_is_that_of_their_module():
    from engine.lake.records import code_id

    assert code("trend") == code_id("engine.strategies.trend")[0]
    assert registry.get("trend").code == ""


def test_a_strategy_from_elsewhere_runs_but_its_results_have_no_name(own_strategies):
    @registry.strategy("loose")
    class Loose(registry.Strategy):
        @staticmethod
        def rules(p):
            return registry.Rules()

    with pytest.raises(ConfigError, match=r"^strategy loose was declared in \S+, expected a file of the data "
                       r"folder's strategies/: only its results can be stored$"):  # fmt: skip
        registry.code_of(Loose)


RULES = "        return Rules("
BAR = "    @bar_function\n    def bar(t, bars, F, p, pos, state, out):\n"
WRONG = [
    (DIP.replace("rsi, strategy", "rsii, strategy"),
     "data/strategies/mine.py:2: ImportError: cannot import name 'rsii' from 'engine.strategies'"),
    (DIP.replace("class Dip(Strategy):", "class Dip(Strategy)"),
     "data/strategies/mine.py:6: SyntaxError: expected ':'; expected a file that can be imported"),
    ("\n\n1 / 0\n", "data/strategies/mine.py:3: ZeroDivisionError: division by zero; expected a file that"),
    ("import sys\nsys.exit(3)\n", "data/strategies/mine.py:2: SystemExit: 3; expected a file that can be"),
    ("import _levels\n", "data/strategies/mine.py:1: ModuleNotFoundError: No module named '_levels'; "
     "a file beside it is imported as: from ._levels import ..."),
    ("x = 1\n", 'data/strategies/mine.py:1: registers no strategy; expected a class under @strategy("mine")'),
    (DIP.replace('"dip"', '"trend"'),
     "data/strategies/mine.py:5: strategy trend is already registered by engine.strategies.trend.Trend"),
    (DIP.replace('"dip"', '"Dip"'), "data/strategies/mine.py:5: strategy name was 'Dip', expected lower"),
    (DIP.replace("default=5", "default=50"),
     "data/strategies/mine.py:9: Int(low=2, high=30, default=50, step=1, log=False): expected low <="),
    (DIP.replace("    @staticmethod", "    holding_bars = -1\n\n    @staticmethod"),
     "data/strategies/mine.py:5: strategy dip: holding_bars was -1, expected a whole number >= 0"),
    (DIP.replace("parameters = {", "parameters = 7, {"),
     "data/strategies/mine.py:5: strategy dip: parameters were (7, {"),
    (DIP.replace("def rules", "def rule"), "data/strategies/mine.py:5: strategy dip has no rules; expected"),
    (DIP.replace("rsi(p.n) < p.low", "rsi(p.m) < p.low"),
     "data/strategies/mine.py:13: strategy dip with {'n': 5, 'low': 30.0}: parameter 'm' is not declared. "
     "Known: low, n."),
    (DIP.replace("atr(14)", "rules.column('atrr.n=14')"),
     "data/strategies/mine.py:13: strategy dip with {'n': 5, 'low': 30.0}: rules(p) raised NameError: name"),
    (DIP.replace("atr, rsi", "atr, column, rsi").replace("atr(14)", "column('atrr.n=14')"),
     "data/strategies/mine.py:13: strategy dip with {'n': 5, 'low': 30.0}: feature 'atrr' is not known. "
     "Closest: atr"),
    (DIP.replace(RULES, "        return dict("),
     "data/strategies/mine.py:11: strategy dip with {'n': 5, 'low': 30.0}: rules(p) returned {"),
    (BAND.replace(BAR, BAR.replace("    @bar_function\n", "")),
     "data/strategies/mine.py:4: strategy band: bar was a function, expected @bar_function for kind"),
    (BAND.replace("t, bars, F, p, pos, state, out", "self, t, bars, p"),
     "data/strategies/mine.py:14: bar function bar takes (self, t, bars, p), expected (t, bars, F, p, pos, "
     "state, out)"),
    (BAND.replace("bollinger.close", "bolinger.close"),
     "data/strategies/mine.py:10: strategy band with {'k': 2.0}: feature 'bolinger' is not known. Closest: "
     "bollinger"),
    (BAND.replace(":lower", ""), "data/strategies/mine.py:10: strategy band with {'k': 2.0}: column "
     "'bollinger.close.n=20.k=2.0' stands for several, expected one of its outputs: mid, upper"),
    (BAND.replace("return [f", "return (f").replace(', "close"]', ")"),
     "data/strategies/mine.py:10: strategy band with {'k': 2.0}: columns(p) returned 'bollinger.close.n=20"),
    (BAND.replace("state_size = 1", "state_size = 1.5"),
     "data/strategies/mine.py:4: strategy band: state_size was 1.5, expected a whole number >= 0"),
    (BAND.replace("Float, ", "Choice, ").replace("Float(0.5, 4.0, default=2.0)", "Choice(('a', 'b'), 'a')"),
     "data/strategies/mine.py:4: strategy band: the choices of k are text, expected numbers for kind bars"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[24:70] for _, message in WRONG])
def test_a_wrong_file_is_refused_with_its_line(data, text, message):
    assert text not in (DIP, BAND)
    write(data, mine=text, _levels="LOW = 1\n")
    before = {name: registry.get(name) for name in registry.names()}
    found = refused(data)
    assert found.startswith(message) and "\n" not in found
    assert {name: registry.get(name) for name in registry.names()} == before
    assert refused(data) == found  # and again, not only the first time


def test_every_wrong_file_is_named_at_once(data):
    write(data, first="1 / 0\n", fine=DIP, second="x = 1\n")
    found = refused(data).splitlines()
    assert [line.split(":")[0] for line in found] == [f"data/strategies/{n}.py" for n in ("first", "second")]
    assert "dip" not in registry.names()


def test_two_files_cannot_take_one_name(data):
    write(data, one=DIP, two=DIP)
    assert refused(data) == (
        "data/strategies/two.py:5: strategy dip is already registered by user_strategies.one.Dip"
    )


@pytest.mark.parametrize("name", ["my-dip.py", "2dip.py", "class.py", "a b.py"])
def test_a_name_that_cannot_be_imported_is_refused(data, name):
    (data / "strategies" / name).write_text(DIP)
    stem = name.removesuffix(".py")
    assert refused(data) == (
        f"data/strategies/{name}: {stem!r} is no name that Python can import; expected letters, digits and _"
    )


def test_only_python_files_of_the_folder_itself_are_read(data):
    folder = data / "strategies"
    (folder / "below").mkdir()
    for place in ("notes.txt", "dip.py.orig", ".#dip.py", "below/dip.py", "below/__init__.py"):
        (folder / place).write_text("1 / 0\n")
    write(data, mine=DIP.replace("\n\n\n@", "\nfrom .below import dip\n\n\n@", 1))
    assert "No module named 'user_strategies.below'" in refused(data)
    write(data, mine=DIP)
    user.load(data)
    assert user.file_of(registry.get("dip")) == "strategies/mine.py"


def test_a_link_out_of_the_data_folder_is_refused(data, tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_text(DIP)
    (data / "strategies" / "mine.py").symlink_to(outside)
    assert refused(data) == (
        f"data/strategies/mine.py: it leads to {outside}, outside the data folder; expected the file itself"
    )
    (data / "strategies" / "mine.py").unlink()
    (data / "kept.py").write_text(DIP)
    (data / "strategies" / "mine.py").symlink_to(data / "kept.py")
    user.load(data)
    assert registry.get("dip").name == "dip"


def test_a_folder_that_leads_out_of_the_data_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.py").write_text(DIP)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "strategies").symlink_to(tmp_path / "elsewhere")
    assert "outside the data folder" in refused(tmp_path / "data")


def test_a_link_that_leads_nowhere_and_a_folder_are_no_files(data):
    (data / "strategies" / "gone.py").symlink_to(data / "gone.py")
    (data / "strategies" / "folder.py").mkdir()
    assert refused(data).splitlines() == [
        "data/strategies/folder.py: expected a file",
        "data/strategies/gone.py: expected a file",
    ]


def test_git_ignores_the_folder():
    lines = (Path(user.__file__).resolve().parents[2] / ".gitignore").read_text().splitlines()
    assert "/data/*" in lines and not [line for line in lines if line.startswith("!/data/strat")]


# ---- what a strategy answers, asked in one place ------------------------------------------------


def test_rules_that_raise_name_strategy_symbol_and_parameters(own_strategies):
    @registry.strategy("raises")
    class Raises(registry.Strategy):
        parameters = {"n": registry.Int(2, 30, default=5)}

        @staticmethod
        def rules(p):
            return {}[p.n] if p.n > 9 else registry.column(f"rssi.n={p.n}")

    with pytest.raises(SimulationError) as caught:
        registry.rules_of(Raises, {"n": 12}, "AAPL")
    assert str(caught.value) == "strategy raises on AAPL with {'n': 12}: rules(p) raised KeyError: 12"
    with pytest.raises(ConfigError) as caught:
        registry.rules_of(Raises, {}, "AAPL")
    assert str(caught.value).startswith(
        "strategy raises on AAPL with {'n': 5}: feature 'rssi' is not known. Closest: rsi"
    )
    with pytest.raises(ConfigError, match="^strategy raises: parameter 'm' is not declared"):
        registry.rules_of(Raises, {"m": 1}, "AAPL")


def test_levels_read_no_columns():
    assert registry.columns_of(registry.get("levels_always_on"), {}) == ()
