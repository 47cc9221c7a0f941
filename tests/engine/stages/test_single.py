"""One simulation with stated parameters: the same numbers as the simulator's, the ledger's, the levels'."""

import json

import numpy as np
import pytest

from engine.errors import ConfigError, LakeError, LevelsInputError
from engine.features.table import FeatureSet
from engine.lake.publish import rows_of
from engine.search.folds import inner_spans
from engine.simulation import levels, run
from engine.stages.chain import run_stage
from engine.stages.common import execution_of, median_forecasts, read_bars
from engine.stages.single import IN_SAMPLE, single_run
from engine.strategies import registry

SYMBOL = "ALFA"
SET = {"fast": "7", "slow": "40", "adx_min": "12.5"}
PARAMS = {"fast": 7, "slow": 40, "adx_min": 12.5, "stop_atr": 2.0, "target_atr": 4.0}


@pytest.fixture(scope="module")
def bars(small_lake):
    return read_bars(small_lake.lake, small_lake.settings.instrument(SYMBOL))


@pytest.fixture
def single(small_lake):
    """`single_run` on the small lake, in which nothing may change."""

    def ask(name="trend", given=(), span=None, settings=small_lake.settings):
        return single_run(small_lake.lake, settings, SYMBOL, name, dict(given), span)

    def found():
        root = small_lake.data_dir
        return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}

    before = found()
    yield ask
    assert found() == before


def day(bars, t):
    return str(np.datetime64(int(bars.ts[t]), "us").astype("datetime64[D]"))


def trend_on(bench, bars, start, stop):
    """Run the simulator directly, features computed anew from all bars."""
    entry = next(e for e in bench.settings.entries(SYMBOL) if e.strategy == "trend")
    execution = execution_of(bench.settings.instrument(SYMBOL), entry)
    return run(FeatureSet(bars, 0.01), registry.get("trend"), PARAMS, execution, start=start, stop=stop)


def test_it_is_one_direct_run_of_the_simulator(small_lake, bars, single):
    done, direct = single(given=SET), trend_on(small_lake, bars, 0, len(bars))
    assert done.params == PARAMS and done.status == "valid" == direct.status
    assert done.metrics["n_trades"] > 5
    np.testing.assert_equal(done.metrics, direct.metrics)
    assert done.growth == direct.metrics["log_growth"]
    assert (done.first, done.last, done.bars) == (bars.ts[0], bars.ts[-1], len(bars))


def test_in_a_range_only_its_bars_trade_and_the_indicators_read_those_before(small_lake, bars, single):
    done = single(given=SET, span=f"{day(bars, 400)}..{day(bars, 600)}")
    direct = trend_on(small_lake, bars, 400, 600)
    np.testing.assert_equal(done.metrics, direct.metrics)
    assert (done.first, done.last, done.bars) == (bars.ts[400], bars.ts[599], 200)
    assert direct.trades["entry_ts"].min() < bars.ts[440]  # the slow average was not warmed up inside


def test_on_an_inner_fold_it_earns_the_score_of_the_ledger(small_lake, bars, single):
    fold = next(row for row in rows_of(small_lake.table("folds")) if row["strategy"] == "trend")
    rows = [row for row in small_lake.rows("trials") if row["study_id"] == fold["study_id"]]
    row = next(row for row in rows if row["state"] == "COMPLETE" and row["trades"] > 8)
    assert row["value"] == pytest.approx(np.mean(row["fold_scores"]))
    spans = inner_spans(fold["train_from"], fold["train_to"], 4)
    given = {name: str(value) for name, value in json.loads(row["params"]).items()}
    found = [single(given=given, span=f"{day(bars, a)}..{day(bars, b)}").growth for a, b in spans]
    assert found == row["fold_scores"]


def test_parameters_come_from_the_command_then_the_settings_then_the_declaration(small_lake, single):
    bench = type(small_lake)(small_lake.data_dir, small_lake.raw)
    entry = {
        "strategy": "trend",
        "name": "mine",
        "parameters": {
            "fast": {"type": "fixed", "value": 9},
            "stop_atr": {"type": "fixed", "value": 3},
            "slow": {"type": "int", "low": 20, "high": 120},
        },
    }
    bench.change(strategies=[entry])
    for name in ("mine", "trend"):
        done = single(name, {"fast": "11"}, settings=bench.settings)
        assert done.strategy == "mine"
        assert done.params == {**PARAMS, "fast": 11, "slow": 100, "adx_min": 20.0, "stop_atr": 3.0}
        assert done.origin == {
            "fast": "set", "slow": "default", "adx_min": "default", "stop_atr": "settings",
            "target_atr": "default",
        }  # fmt: skip
    bench.change(strategies=[entry, {**entry, "name": "other"}])
    with pytest.raises(ConfigError, match=r"^2 entries of ALFA are of strategy 'trend'; expected one of "
                                          r"their names: mine, other$"):  # fmt: skip
        single("trend", settings=bench.settings)
    assert single("other", settings=bench.settings).strategy == "other"


def test_without_a_signal_or_a_fill_it_says_why(small_lake, single):
    quiet = single(given={"adx_min": "50"}, span="2015-01-05..2015-02-01")
    assert quiet.status == "no_signal" and quiet.notes[0] == "No trade: no bar had an entry signal."
    assert quiet.growth == 0.0 and np.isnan(quiet.metrics["win_rate"])
    bench = type(small_lake)(small_lake.data_dir, small_lake.raw)
    bench.change(execution={"min_qty": 1e9})
    blocked = single(given=SET, settings=bench.settings)
    assert blocked.status == "blocked"
    assert blocked.notes[0].startswith("No trade: ") and "orders_refused " in blocked.notes[0]
    assert "orders_refused 0" not in blocked.notes[0]


def test_every_result_says_that_it_is_no_evidence(single):
    for name in ("trend", "levels_always_on"):
        assert single(name).notes[-1] == IN_SAMPLE
    assert "in-sample: this is no evidence" in IN_SAMPLE


@pytest.mark.parametrize("name", ["levels_entry_exit", "levels_always_on"])
@pytest.mark.parametrize("policy", ["close", "target"])
def test_levels_trade_the_stated_offsets_on_the_stored_forecasts(small_lake, bars, single, name, policy):
    given = {"u": "-0.004", "v": "0.003", "policy": policy}
    done = single(name, given, span=f"{day(bars, 500)}..{day(bars, 700)}")
    instrument = small_lake.settings.instrument(SYMBOL)
    entry = next(e for e in small_lake.settings.entries(SYMBOL) if e.strategy == name)
    high, low, _ = median_forecasts(small_lake.lake, bars, 0.5)
    problem = levels.problem(
        bars, high, low, 500, 700, objective=registry.get(name).objective, side="maxdiff", sides="both",
        fee_bps=5.0, slippage_bps=2.0, fee_mode="per_side", fill="through:1", tick=instrument.tick,
    )  # fmt: skip
    net = levels.bar_net(problem, -0.004, 0.003, policy).net
    assert done.status == "valid" and done.bars == 200
    assert done.growth == pytest.approx(1e4 * net.sum() / 200, rel=1e-12) and abs(done.growth) > 0.1
    assert done.metrics["roi"] == pytest.approx(net.sum(), rel=1e-12)
    assert done.params == {"u": -0.004, "v": 0.003, "policy": policy}
    assert any("optimistic" in note for note in done.notes) == (policy == "target")
    assert entry.levels.policies[0] == "path" and single(name).params["policy"] == "path"


def test_levels_begin_at_the_first_forecast_and_say_what_lacks_one(bars, single, small_lake):
    high, _, _ = median_forecasts(small_lake.lake, bars, 0.5)
    first = int(np.flatnonzero(np.isfinite(high))[0]) + 1
    whole = single("levels_always_on")
    assert whole.first == bars.ts[first] and whole.bars == len(bars) - first
    assert not any("have no stored forecast" in note for note in whole.notes)
    early = single("levels_always_on", span=f"{day(bars, first - 10)}..{day(bars, first + 30)}")
    assert early.bars == 40
    assert "10 of the bars have no stored forecast and trade nothing." in early.notes
    message = "^ALFA levels_always_on trades on forecasts, and none of these 9 bars has a stored one"
    with pytest.raises(LevelsInputError, match=message):
        single("levels_always_on", span=f"{day(bars, 0)}..{day(bars, 10)}")


REFUSED = [
    (("trnd",), {}, None, "strategy 'trnd' is none that the settings give ALFA. Closest: trend."),
    (("trend",), {"fats": "7"}, None, "strategy trend: parameter 'fats' is not declared. Closest: fast"),
    (("trend",), {"fast": "7.5"}, None, "strategy trend: fast was '7.5', expected an integer from "),
    (("trend",), {"fast": "0"}, None, "strategy trend: fast was 0, expected an integer from "),
    (("trend",), {"adx_min": "nan"}, None, "strategy trend: adx_min was nan, expected a number from "),
    (("trend",), {"fast": "90", "slow": "40"}, None, "strategy trend: found {"),
    (("levels_always_on",), {"w": "0"}, None, "strategy levels_always_on: parameter 'w' is not declared"),
    (("levels_always_on",), {"u": "0.2"}, None, "strategy levels_always_on: u was 0.2, expected a number"),
    (("levels_always_on",), {"policy": "clos"}, None, "levels_always_on: policy was 'clos'. Closest: close"),
    (("trend",), {}, "2015", "range was '2015'; expected two dates (UTC), the second not included, such as"),
    (("trend",), {}, "2015-02-30..2015-03-02", "range was '2015-02-30..2015-03-02'; expected two dates"),
    (("trend",), {}, "1990-01-01..1991-01-01", "range 1990-01-01..1991-01-01 holds no bar of ALFA; stored "),
    (("trend",), {}, "2016-01-01..2016-01-01", "range 2016-01-01..2016-01-01 holds no bar of ALFA; stored "),
    (("trend",), {}, "2017-01-01..2016-01-01", "range 2017-01-01..2016-01-01 holds no bar of ALFA; stored "),
]  # fmt: skip


@pytest.mark.parametrize("name, given, span, message", REFUSED, ids=[case[3][:45] for case in REFUSED])
def test_refuses_what_does_not_exist(single, name, given, span, message):
    with pytest.raises(ConfigError) as error:
        single(*name, given, span)
    assert message in str(error.value)


def test_refuses_tables_of_other_bars_and_a_lake_without_any(early, bench, tmp_path, alfa):
    early.write(alfa(890))
    run_stage("prices", early.lake, SYMBOL, early.settings, early.said.append, asof=None)
    for name, table in (("trend", "features"), ("levels_always_on", "forecasts")):
        with pytest.raises(LakeError, match=f"^table {table} of ALFA was made from bars "):
            single_run(early.lake, early.settings, SYMBOL, name, {})
    empty = bench(tmp_path / "empty")
    with pytest.raises(LakeError, match="nightfold run ALFA --stage prices$"):
        single_run(empty.lake, empty.settings, SYMBOL, "trend", {})


def test_bars_of_another_frame_than_the_settings_say_are_refused(small_lake, single):
    options = small_lake.settings.symbols[SYMBOL].model_copy(update={"frame": "4h"})
    other = small_lake.settings.model_copy(update={"symbols": {SYMBOL: options}})
    with pytest.raises(ConfigError, match="bars of ALFA are of 1d, the settings say 4h. Run nightfold run"):
        single(given=SET, settings=other)
