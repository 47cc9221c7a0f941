"""Names in the settings against the registries: each mistake with its place, all at once."""

import sys

import pytest

from engine.config_file import load
from engine.errors import ConfigError, MissingExtra
from engine.stages import preflight as module
from engine.stages.preflight import preflight

HEAD = "symbols: {ALFA: {source: files}}\n"
TREND = "strategies:\n  - strategy: trend\n"


@pytest.fixture
def check(tmp_path):
    def run(text):
        path = tmp_path / "nightfold.yaml"
        path.write_text(text)
        preflight(load(path))

    return run


def test_the_defaults_pass(check):
    check("symbols: {AAPL: {}, GOOG: {}}\n")


@pytest.mark.parametrize(
    "text",
    [
        HEAD
        + TREND
        + "    parameters: {fast: {type: fixed, value: 20}, slow: {type: int, low: 50, high: 90}}\n",
        HEAD + "features: {columns: [sma.close.n=10, bollinger.close.n=20.k=2]}\n",
        HEAD + "levels: {level: 0.4}\n",
        HEAD + TREND + "    folds: {purge_bars: 3}\n",
        HEAD + "forecasts: {levels: [0.25, 0.5, 0.75]}\n",
        HEAD + "forecasts: {min_history_bars: 229}\n",
        HEAD + TREND + "    folds: {warmup_bars: 0}\n",  # reads no forecast
    ],
)
def test_known_names_pass(check, text):
    check(text)


WRONG = [
    (HEAD + "strategies:\n  - strategy: trned\n",
     r"nightfold\.yaml:3:5: strategy 'trned' is not known\. Closest: trend"),
    (HEAD + TREND + "    parameters:\n      fats: {type: fixed, value: 3}\n",
     r"nightfold\.yaml:5:7: parameter 'fats' is not declared by this strategy\. Closest: fast"),
    (HEAD + TREND + "    parameters:\n      fast: {type: int, low: 1, high: 60}\n",
     r"nightfold\.yaml:5:7: parameter 'fast' is declared as int from 2 to 100; found 1\. "),
    (HEAD + TREND + "    parameters:\n      stop_atr: {type: float, low: 1, high: 40}\n",
     r"nightfold\.yaml:5:7: parameter 'stop_atr' is declared as float from 0\.5 to 10\.0; found 40\.0"),
    (HEAD + TREND + "    parameters:\n      fast: {type: float, low: 5, high: 60}\n",
     r"nightfold\.yaml:5:7: parameter 'fast' is declared as int; found type float"),
    (HEAD + "strategies:\n  - strategy: levels_entry_exit\n    parameters: {u: {type: fixed, value: 1}}\n",
     r"nightfold\.yaml:4:18: parameter 'u' is not declared by this strategy"),
    (HEAD + "features:\n  columns: [rsi.n=14, smaa.close.n=20]\n",
     r"nightfold\.yaml:3:23: .*'smaa' is not known\. Closest: sma"),
    (HEAD + "features:\n  columns:\n    - sma.closing.n=20\n",
     r"nightfold\.yaml:4:7: .*price column 'closing' is not known\. Closest: close"),
    (HEAD + "features:\n  columns:\n    - rsi\n", r"nightfold\.yaml:4:7: column 'rsi' lacks n"),
    (HEAD + "strategies:\n  - strategy: levels_always_on\n    levels: {level: 0.33}\n",
     r"nightfold\.yaml:3:5: levels\.level 0\.33 is not among forecasts\.levels \[0\.05, 0\.1"),
    (HEAD + "forecasts:\n  levels: [0.1, 0.9]\nstrategies: [{strategy: trend}]\n",
     r"nightfold\.yaml:3:3: forecasts\.levels must hold 0\.5, the median"),
    (HEAD + "strategies: [{strategy: levels_always_on}]\nfolds:\n  warmup_bars: 249\n",
     r"nightfold\.yaml:4:3: folds\.warmup_bars 249 of levels_always_on is less than the 250 bars before its "
     r"first forecast \(forecasts\.min_history_bars 250\)"),
    (HEAD + "forecasts: {min_history_bars: 300}\nstrategies:\n"
     "  - strategy: levels_entry_exit\n    name: mine\n    folds: {warmup_bars: 299}\n",
     r"nightfold\.yaml:6:13: folds\.warmup_bars 299 of mine is less than the 300 bars .*"
     r"forecasts\.min_history_bars 300\)"),
    (HEAD + "forecasts:\n  min_history_bars: 228\n",
     r"nightfold\.yaml:3:3: forecasts\.min_history_bars 228 is less than the 229 bars after which the model"),
    (HEAD + "forecasts:\n  horizon: 20\n  min_history_bars: 240\n",
     r"nightfold\.yaml:4:3: forecasts\.min_history_bars 240 is less than the 248 bars .*horizon 20\)"),
    ("symbols:\n  AAPL: {frame: 1h}\n",
     r"nightfold\.yaml:2:3: source 'sample' has no frame 1h \(AAPL\)"),
    (HEAD + "levels: {solver: exat}\n", r"nightfold\.yaml:2:10: levels\.solver was 'exat'\. Closest: exact"),
    (HEAD + TREND + "    levels: {solver: nevergard}\n",
     r"nightfold\.yaml:4:14: levels\.solver was 'nevergard'\. Closest: nevergrad"),
    (HEAD + "levels: {solver: 'nevergrad:NGOpt'}\n", r"nightfold\.yaml:2:10: .*NGOpt"),
]  # fmt: skip


@pytest.mark.parametrize("text, message", WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_name_is_refused_with_its_place(check, text, message):
    with pytest.raises(ConfigError, match=message):
        check(text)


def test_a_purge_shorter_than_the_longest_holding_is_refused(check, monkeypatch):
    from engine.strategies import registry

    monkeypatch.setattr(registry.get("trend"), "holding_bars", 12)
    check(HEAD + TREND + "    folds: {purge_bars: 12}\n")
    check(HEAD + TREND + "    folds: {purge_bars: auto}\n")
    with pytest.raises(
        ConfigError, match=r"nightfold\.yaml:3:5: purge_bars 11 is less than the 12 bars trend"
    ):
        check(HEAD + TREND + "    folds: {purge_bars: 11}\n")


@pytest.mark.parametrize(
    "source, package, extra",
    [("{source: yahoo}", "yfinance", "yahoo"),
     ("{source: exchange, venue: kraken, class: crypto}", "ccxt", "exchange")],
)  # fmt: skip
def test_an_absent_package_is_named_with_its_install_line(check, monkeypatch, source, package, extra):
    def absent(name, *, needed_by, extra):
        raise MissingExtra(f'{needed_by} needs {name}. Run: pip install -e ".[{extra}]"')

    monkeypatch.setattr(module, "require", absent)
    check(HEAD)
    with pytest.raises(ConfigError, match=rf'nightfold\.yaml:3:3: .* needs {package}.*"\.\[{extra}\]"'):
        check(f"symbols:\n  ALFA: {{}}\n  BETA: {source}\n".replace("ALFA: {}", "ALFA: {source: files}"))


@pytest.mark.parametrize(
    "package, options, message",
    [
        ("yfinance", "{source: yahoo, frame: 4h}", r"source 'yahoo' has no frame 4h \(BETA\)\. Closest: 1h"),
        ("ccxt", "{source: exchange, venue: krakn}", r"venue 'krakn' is not known to ccxt\. Closest: kraken"),
        (
            "ccxt",
            "{source: exchange, venue: coinbase, frame: 4h}",
            r"venue coinbase has no frame 4h \(BETA\)",
        ),
    ],
)
def test_what_a_network_source_does_not_serve_is_refused_unasked(check, package, options, message):
    pytest.importorskip(package)
    with pytest.raises(ConfigError, match=rf"nightfold\.yaml:3:3: {message}"):
        check(f"symbols:\n  ALFA: {{source: files}}\n  BETA: {options}\n")


def test_an_absent_calendar_package_is_named_with_its_install_line(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    check("symbols:\n  ALFA: {source: files, calendar: weekdays}\n")
    message = (
        r"nightfold\.yaml:2:25: calendar 'XNYS' needs exchange_calendars, which is not installed\. "
        r'Run, in the root of the project: pip install -c constraints\.txt -e "\.\[calendars\]"'
    )
    with pytest.raises(ConfigError, match=message):
        check("symbols:\n  ALFA: {source: files, calendar: XNYS}\n")


def test_an_unknown_exchange_is_refused_with_its_place_and_the_closest(check):
    pytest.importorskip("exchange_calendars")
    check("symbols:\n  ALFA: {source: files, calendar: XNYS, frame: 1d, base_frame: 1h}\n")
    with pytest.raises(ConfigError, match=r"nightfold\.yaml:2:25: calendar 'XNYZ' is not known\. Closest: "):
        check("symbols:\n  ALFA: {source: files, calendar: XNYZ}\n")


def test_a_source_must_serve_the_base_frame(check):
    with pytest.raises(ConfigError, match=r"source 'sample' has no frame 1h \(IBM\)"):
        check("symbols:\n  IBM: {base_frame: 1h, calendar: 24/7}\n")


@pytest.mark.parametrize("solver", ["evox", "botorch"])
def test_an_absent_solver_is_named_with_its_install_line(check, monkeypatch, solver):
    """It is never another solver in its place."""
    from engine.search.levels import external

    def absent(name, *, needed_by, extra):
        raise MissingExtra(f'{needed_by} needs {name}. Run: pip install -e ".[{extra}]"')

    monkeypatch.setattr(external, "require", absent)
    message = rf'nightfold\.yaml:2:10: levels\.solver {solver} needs {solver}.*"\.\[{solver}\]"'
    with pytest.raises(ConfigError, match=message):
        check(HEAD + f"levels: {{solver: {solver}}}\n")


@pytest.mark.parametrize(
    "solver",
    ["exact", "grid-gemm", "de-numba", "de-torch", "scipy-de", "scipy-direct", "nevergrad", "optuna"],
)
def test_every_solver_of_the_base_install_passes(check, solver):
    check(HEAD + f"levels: {{solver: {solver}}}\n")


FINER = (
    "symbols:\n  ALFA: {source: files, calendar: 24/7, frame: 1d, base_frame: 1h}\n  BETA: {source: files}\n"
)


@pytest.mark.parametrize("solver", ["exact-torch", "grid-gemm", "de-torch"])
def test_a_solver_that_cannot_read_finer_bars_is_refused_where_exit_path_needs_them(check, solver):
    entry = "strategies:\n  - strategy: levels_always_on\n    levels: {solver: %s%s}\n"
    message = (
        rf"nightfold\.yaml:6:14: levels\.solver {solver} cannot read finer bars, which exit path needs of "
        r"symbols with a base_frame \(ALFA\)\. Set levels\.solver to one that can \(exact, de-numba, "
        r".*optuna.*\), or levels\.policies without path"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        check(FINER + entry % (solver, ""))
    told = str(caught.value).split("one that can (")[1].split(")")[0].split(", ")
    assert {"exact", "botorch"} <= set(told) and not {solver, "exact-torch", "evox"} & set(told)
    with pytest.raises(ConfigError, match=message.replace("6:14", "4:10")):
        check(FINER + f"levels: {{solver: {solver}}}\nstrategies: [{{strategy: levels_always_on}}]\n")
    check(FINER + entry % (solver, ", policies: [close]"))
    check(FINER + (entry % (solver, "")).replace("always_on\n", "always_on\n    symbols: [BETA]\n"))
    check(FINER + entry % ("de-numba", ""))
    check(FINER + f"levels: {{solver: {solver}}}\n" + TREND)
    check(FINER.replace(", base_frame: 1h", "") + entry % (solver, ""))


def test_all_mistakes_are_told_at_once_each_once(check):
    with pytest.raises(ConfigError) as caught:
        check(
            HEAD + "features: {columns: [smaa.close.n=20]}\nstrategies:\n  - strategy: trned\n"
            "  - strategy: trend\n    parameters: {fats: {type: fixed, value: 1}, "
            "slow: {type: fixed, value: 1}}\n"
        )
    lines = str(caught.value).splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "4", "6", "6"]
    assert len(set(lines)) == 4


def test_reporting_by_bars_is_refused_where_the_size_is_searched(check, monkeypatch):
    from engine.search import rules_fit

    by_bars = "    search: {report: 'bars:500'}\n"
    check(HEAD + TREND + by_bars)
    monkeypatch.setattr(rules_fit, "size_is_searched", lambda *_: True)
    message = r"nightfold\.yaml:4:14: search\.report bars:500: objective auto is sharpe here, as a searched"
    with pytest.raises(ConfigError, match=message):
        check(HEAD + TREND + by_bars)
    with pytest.raises(ConfigError, match=message.replace("4:14", "2:10")):
        check(HEAD + by_bars.strip() + "\n" + TREND)
