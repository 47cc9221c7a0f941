"""Strategies of the user's own through every stage: rules and a bar function, edited and put back."""

import json
import shutil

import pytest

from engine.config_file import load
from engine.errors import ConfigError, LakeError
from engine.features.table import FeatureSet
from engine.lake.publish import Lake, rows_of
from engine.simulation import run
from engine.stages import workers
from engine.stages.chain import run_leaderboard, run_stage
from engine.stages.common import default_columns, execution_of, purge_of, read_bars
from engine.stages.preflight import preflight
from engine.stages.single import single_run
from engine.strategies import registry, user

SYMBOL = "ALFA"
DIP = '''from engine.strategies import Float, Int, Rules, Strategy, atr, price, rsi, sma, strategy


@strategy("dip")
class Dip(Strategy):
    """Buys a dip."""

    parameters = {"n": Int(2, 30, default=3), "low": Float(5.0, 60.0, default=35.0)}

    @staticmethod
    def rules(p):
        return Rules(
            enter_long=rsi(p.n) < p.low,
            exit_long=price("close") > sma("close", 7),
            stop=2 * atr(13),
        )
'''
STEP = '''from engine.strategies import Float, Strategy, bar_function, strategy

from ._far import FAR


@strategy("step")
class Step(Strategy):
    """Follows a move."""

    kind = "bars"
    parameters = {"far": Float(0.5, 4.0, default=FAR)}
    state_size = 1
    holding_bars = 6

    @staticmethod
    def columns(p):
        return ["atr.n=11"]

    @bar_function
    def bar(t, bars, F, p, pos, state, out):
        if pos[0] == 0.0:
            moved = bars[3, t] - state[0] if state[0] > 0.0 else 0.0
            if state[0] == 0.0 or abs(moved) > p[0] * F[0, t]:
                state[0] = bars[3, t]
            out[2] = 3.0 * F[0, t]
            return 1 if moved > p[0] * F[0, t] else 2 if -moved > p[0] * F[0, t] else 0
        return 12 if pos[2] >= 5.0 else 0
'''
ENTRIES = [
    {"strategy": "dip", "parameters": {"n": {"type": "int", "low": 2, "high": 12},
                                       "low": {"type": "float", "low": 20, "high": 60, "step": 5}}},
    {"strategy": "step", "parameters": {"far": {"type": "float", "low": 0.5, "high": 2, "step": 0.25}}},
]  # fmt: skip


def put(bench, **files):
    folder = bench.data_dir / "strategies"
    folder.mkdir(exist_ok=True)
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text)


@pytest.fixture(scope="session")
def _own_lake(_early_lake, tmp_path_factory):
    bench = _early_lake.copy_to(tmp_path_factory.mktemp("own") / "data")
    bench.change(strategies=ENTRIES, search={"max_trials": 6, "batch": 3})
    put(bench, dip=DIP, step=STEP, _far="FAR = 1.0\n")
    bench.first = bench.chain()
    return bench


@pytest.fixture
def own(_own_lake, tmp_path):
    """A copy of the lake after one chain with both files."""
    bench = _own_lake.copy_to(tmp_path / "data")
    bench.first = _own_lake.first
    user.load(bench.data_dir)
    yield bench
    user.load(tmp_path / "nothing")


def _studies(bench, name):
    return [row["study_id"] for row in rows_of(bench.table("folds")) if row["strategy"] == name]


def _results(bench, name):
    return [row for row in bench.rows("backtests") if row["strategy"] == name]


def test_both_kinds_are_fitted_and_traded_out_of_sample(own):
    folds = rows_of(own.table("folds"))
    for name, searched in (("dip", {"n", "low"}), ("step", {"far"})):
        fits = [row for row in folds if row["strategy"] == name]
        assert len(fits) >= 5 and {row["status"] for row in fits} == {"ok"}
        assert all(set(json.loads(row["params"])) == searched for row in fits)
        assert len({row["params"] for row in fits}) > 1
        tuned = [r for r in _results(own, name) if r["variant"] == "tuned" and r["fold"] == -1]
        assert len(tuned) == 1 and tuned[0]["trades"] > 5 and tuned[0]["status"] == "valid"
        assert {r["variant"] for r in _results(own, name)} >= {"tuned", "untuned", "matched_hold"}
        trials = [row for row in own.rows("trials") if row["strategy"] == name]
        assert len({row["trades_hash"] for row in trials}) > 3
    trades = [row for row in own.rows("trades") if row["strategy"] == "step"]
    assert {row["side"] for row in trades} == {"long", "short"} and max(r["bars_held"] for r in trades) <= 6


def test_the_trades_of_a_bar_function_sum_to_its_equity(own):
    from engine.stages.verify import CHECKS

    for check in CHECKS["backtests"] + CHECKS["features"] + CHECKS["optimizations"]:
        found = check(own.lake, SYMBOL, own.settings)
        assert found.passed, found.note


def test_their_longest_holding_is_purged(own):
    dip, step = own.settings.entries(SYMBOL)
    assert (purge_of(dip), purge_of(step)) == (0, 6)
    purged = {row["strategy"]: row["purge_bars"] for row in rows_of(own.table("folds"))}
    assert purged == {"dip": 0, "step": 6}


def test_the_columns_of_their_defaults_are_stored(own):
    names = default_columns(own.settings, SYMBOL)
    assert {"rsi.n=3", "sma.close.n=7", "atr.n=13", "atr.n=11"} <= set(names)
    assert {"rsi.n=3", "atr.n=11"} <= set(own.table("features").column_names)


def test_each_says_its_next_order(own):
    rows = {row["strategy"]: row for row in own.rows("next_orders")}
    assert "holding long: " in rows["dip"]["note"]
    assert rows["step"]["note"] in ("from flat, levels as if filled at the last close", "no entry from flat")


def test_a_limit_entry_of_rules_is_a_limit_order_for_one_bar(own):
    from engine.stages.common import feature_set, read_bars
    from engine.stages.next_orders import next_orders

    limited = DIP.replace("rsi(p.n) < p.low", "rsi(p.n) < 101").replace("exit_long=price", "exit_short=price")
    put(own, dip=limited.replace("stop=2", 'enter_limit=price("close") * 0.99,\n            stop=2'))
    user.load(own.data_dir)
    instrument = own.settings.instrument(SYMBOL)
    bars = read_bars(own.lake, instrument)
    fit = next(row for row in rows_of(own.table("nightly")) if row["strategy"] == "dip")
    features, entry = feature_set(own.lake, bars, instrument), own.settings.entries(SYMBOL)[0]
    (row,) = next_orders(own.lake, bars, features, instrument, entry, [fit])
    assert (row["action"], row["type"], row["valid_for"]) == ("enter", "limit", "next_bar")
    assert row["limit"] == pytest.approx(bars.close[-1] * 0.99, abs=0.011) and row["stop"] < row["limit"]
    assert row["note"].startswith("from flat, levels as if filled at its limit; ")


def test_the_forward_record_of_a_bar_function_does_what_each_night_ordered(own):
    """One night a bar, every action is met; what the function remembers is its own since the training."""
    from engine.stages._forward import score_nights
    from engine.stages.common import feature_set, procedure_hash, read_bars
    from engine.stages.next_orders import next_orders

    instrument = own.settings.instrument(SYMBOL)
    bars = read_bars(own.lake, instrument)
    entry = own.settings.entries(SYMBOL)[1]
    made_by = procedure_hash(entry, instrument, own.settings)
    fit = next(row for row in rows_of(own.table("nightly")) if row["strategy"] == "step")
    assert fit["procedure"] == made_by
    features = feature_set(own.lake, bars, instrument)
    first = len(bars) - 60
    nights = [{**fit, "asof": int(bars.ts[t])} for t in range(first, len(bars))]
    rows = score_nights(own.lake, bars, features, instrument, entry, made_by, nights, [])
    assert len(rows) == 59
    met, before = set(), None
    for t, row in enumerate(rows, start=first):
        part = bars.slice(0, t + 1)
        known = type(features)(part, features.tick)
        (order,) = next_orders(own.lake, part, known, instrument, entry, [nights[t - first]], before)
        before = row
        met.add(order["action"])
        if bars.volume[t + 1] == 0:
            continue
        sign = {"long": 1, "short": -1, "": 0}[order["side"]]
        if order["action"] == "enter":
            assert row["position_in"] == 0.0 and row["fills"] >= 1 and order["stop"] > 0
            assert row["position_out"] * sign > 0 or row["fills"] == 2
        elif order["action"] == "exit":
            assert row["position_in"] * sign > 0 and row["position_out"] == 0.0
        elif order["action"] == "hold":
            assert row["position_in"] * sign > 0
            assert order["note"].startswith("held since ")
        else:
            assert row["fills"] == 0 and row["position_out"] == 0.0
    assert met == {"enter", "hold", "exit", "none"}


@pytest.mark.parametrize("name, given", [("dip", {"n": "5", "low": "40"}), ("step", {"far": "0.75"})])
def test_both_kinds_run_once_with_stated_parameters(own, name, given):
    done = single_run(own.lake, own.settings, SYMBOL, name, given)
    bars = read_bars(own.lake, own.settings.instrument(SYMBOL))
    (entry,) = (one for one in own.settings.entries(SYMBOL) if one.strategy == name)
    execution = execution_of(own.settings.instrument(SYMBOL), entry)
    params = {key: float(value) if key != "n" else int(value) for key, value in given.items()}
    direct = run(FeatureSet(bars, 0.01), registry.get(name), params, execution, start=0, stop=len(bars))
    assert done.params == params and done.metrics["n_trades"] > 5
    assert done.metrics == pytest.approx(direct.metrics, rel=1e-12, nan_ok=True)


def test_a_second_run_finds_everything_done(own):
    before = own.stamps()
    again = own.chain()
    assert all(result.unchanged for stage, result in again.items() if stage != "prices")
    assert own.stamps() == before


@pytest.mark.parametrize(
    "edit, name, other",
    [
        (lambda bench: put(bench, dip=DIP.replace("2 * atr(13)", "1 * atr(13)")), "dip", "step"),
        (lambda bench: put(bench, step=STEP.replace("3.0 * F", "1.5 * F")), "step", "dip"),
        (lambda bench: put(bench, _far="FAR = 1.25\n"), "step", "dip"),
    ],
    ids=["rules", "bar function", "helper"],
)
def test_an_edited_file_is_another_procedure_and_leaves_the_others(own, edit, name, other):
    mine, theirs, kept = _studies(own, name), _studies(own, other), _results(own, other)
    edit(own)
    again = own.chain()
    assert not again["optimizations"].unchanged and not again["backtests"].unchanged
    assert not set(_studies(own, name)) & set(mine)
    assert _studies(own, other) == theirs and _results(own, other) == kept
    assert again["optimizations"].metadata["fits_new"] == len(mine) + 1  # and tonight's


def test_an_edit_changes_the_results_and_put_back_it_never_was(own):
    def tuned():
        history = ("n_trials", "n_eff", "dsr")  # they count what was tried, the edited version too
        rows = [r for r in _results(own, "dip") if r["variant"] == "tuned"]
        return [{k: v for k, v in row.items() if k not in history} for row in rows]

    before, studies = tuned(), _studies(own, "dip")
    put(own, dip=DIP.replace("2 * atr(13)", "0.5 * atr(13)"))
    own.chain()
    assert tuned() != before
    put(own, dip=DIP)
    own.chain()
    assert tuned() == before and _studies(own, "dip") == studies


def test_backtests_alone_refuse_the_fits_of_another_version_of_a_file(own):
    put(own, dip=DIP + "# edited\n")
    with pytest.raises(LakeError) as caught:
        run_stage("backtests", own.lake, SYMBOL, own.settings, print, asof=None)
    assert str(caught.value) == (
        "the fits of dip on ALFA were made by another version of its file. "
        "Fit it anew: nightfold run ALFA --stage optimizations"
    )
    run_stage("optimizations", own.lake, SYMBOL, own.settings, print, asof=None)
    run_stage("backtests", own.lake, SYMBOL, own.settings, print, asof=None)


def test_a_champion_of_the_old_file_is_another_procedure(own):
    def decide():
        run_leaderboard(own.lake, own.settings, own.said.append, cpus=1, asof=None, problems={})
        return {row["strategy"]: row["settings_hash"] for row in own.rows("champions", "_all")}

    before = decide()
    assert set(before) == {"dip", "step"}
    put(own, dip=DIP + "# edited\n")
    own.chain()
    after = decide()
    assert after["dip"] != before["dip"] and after["step"] == before["step"]


def test_a_file_that_breaks_fails_before_any_stage(own):
    put(own, dip="1 / 0\n")
    with pytest.raises(ConfigError, match=r"^data/strategies/dip\.py:1: ZeroDivisionError"):
        own.chain()
    with pytest.raises(ConfigError, match=r"^data/strategies/dip\.py:1: ZeroDivisionError"):
        run_leaderboard(own.lake, own.settings, print, cpus=1, asof=None, problems={})


# ---- names and parameters in nightfold.yaml ---------------------------------------------------

HEAD = "symbols: {ALFA: {source: files}}\nstrategies:\n"


@pytest.fixture
def check(tmp_path):
    folder = tmp_path / "data" / "strategies"
    folder.mkdir(parents=True)
    for stem, text in {"dip": DIP, "step": STEP, "_far": "FAR = 1.0\n"}.items():
        (folder / f"{stem}.py").write_text(text)

    def run(text):
        (tmp_path / "nightfold.yaml").write_text(HEAD + text)
        preflight(load(tmp_path / "nightfold.yaml"))

    yield run
    user.load(tmp_path / "nothing")


def test_known_names_and_parameters_pass(check):
    check("  - strategy: dip\n    parameters: {n: {type: int, low: 3, high: 9}}\n  - strategy: step\n")


WRONG = [
    ("  - strategy: dipp\n", r"nightfold\.yaml:3:5: strategy 'dipp' is not known\. Closest: dip"),
    ("  - strategy: dip\n    parameters:\n      m: {type: fixed, value: 3}\n",
     r"nightfold\.yaml:5:7: parameter 'm' is not declared by this strategy\. Known: low, n\."),
    ("  - strategy: step\n    parameters:\n      far: {type: float, low: 0.1, high: 2}\n",
     r"nightfold\.yaml:5:7: parameter 'far' is declared as float from 0\.5 to 4\.0; found 0\.1"),
    ("  - strategy: step\n    folds: {purge_bars: 5}\n",
     r"nightfold\.yaml:3:5: purge_bars 5 is less than the 6 bars step may hold"),
]  # fmt: skip


@pytest.mark.parametrize("text, message", WRONG, ids=[message[24:60] for _, message in WRONG])
def test_parameters_of_ones_own_are_checked_like_built_in_ones(check, text, message):
    with pytest.raises(ConfigError, match=message):
        check(text)


# ---- other processes --------------------------------------------------------------------------

SETTINGS = """
symbols: {ALFA: {}, BETA: {}}
prices: {source: files}
forecasts: {levels: [0.1, 0.5, 0.9]}
devices: {device: cpu}
folds: {warmup_bars: 50, train_bars: 120, test_bars: 40, min_folds: 2, inner_folds: 2}
search: {max_trials: 2, batch: 2}
strategies: [{strategy: dip}, {strategy: step}]
workers: {start_method: spawn}
"""


def test_worker_processes_find_them_too(own, tmp_path, alfa):
    from engine.bars.synthetic import to_csv

    project = tmp_path / "project"
    (project / "data" / "inbox").mkdir(parents=True)
    shutil.copytree(own.data_dir / "strategies", project / "data" / "strategies")
    for key in ("ALFA", "BETA"):
        (project / "data" / "inbox" / f"{key}.csv").write_text(to_csv(alfa(350)).replace("ALFA", key))
    (project / "nightfold.yaml").write_text(SETTINGS)
    file = load(project / "nightfold.yaml")
    assert workers.run_symbols(file, ["ALFA"], 1, "prices", 10**18, 4, print) == {"ALFA": ""}
    outcomes = workers.run_symbols(file, ["ALFA", "BETA"], 2, "features", 10**18, 4, print)
    assert outcomes["ALFA"] == "" and "table bars of BETA is not in" in outcomes["BETA"]
    stored = Lake(project / "data").need("features", "ALFA", "features").column_names
    assert {"rsi.n=3", "atr.n=11"} <= set(stored)
