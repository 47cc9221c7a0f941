"""Simulations of the levels strategies: what each row says, and the sample's out-of-sample check."""

import numpy as np
import pandas as pd
import pytest
from finer import parted

from engine.bars.synthetic import make_bars
from engine.config import Settings
from engine.config_sections import Levels
from engine.errors import ConfigError, LakeError, LevelsInputError
from engine.lake.publish import Lake
from engine.search.levels import backtest_forecasts, cut_windows, optimize_levels, simulations
from engine.search.levels.simulations import simulate
from engine.simulation.levels import problem, value
from engine.sources import sample

INSTRUMENT = Settings.model_validate({"symbols": {"TEST": {}}}).instrument("TEST")
FREE = INSTRUMENT.model_copy(
    update={"cost": INSTRUMENT.cost.model_copy(update={"fee_bps": 0, "slippage_bps": 0})}
)
LEVELS = Levels(policies=("path", "close", "target"))


def ewma_forecasts(bars, span=20):
    """EWMA of each bar's high and low moves against the close before, known at its close."""
    keep = 1 - 2 / (span + 1)
    out = np.full((2, len(bars)), np.nan)
    held = np.zeros(2)
    for t in range(1, len(bars)):
        moves = np.log([bars.high[t] / bars.close[t - 1], bars.low[t] / bars.close[t - 1]])
        held = moves if t == 1 else keep * held + (1 - keep) * moves
        out[:, t] = held
    return out


@pytest.fixture(scope="module")
def bars():
    return make_bars(4, 260, volatility=0.02)


@pytest.fixture(scope="module")
def made(bars):
    high, low = ewma_forecasts(bars)
    return simulate(bars, high, low, cut_windows(260, 5, 100, 20, 20), LEVELS, FREE)


def test_every_simulation_has_every_row(made):
    runs = made[made["row"] == "simulation"]
    counts = runs.groupby(["strategy", "policy", "variant"]).size().to_dict()
    expected = {
        (strategy, policy, variant): 5
        for strategy in ("entry_exit", "always_on")
        for policy in ("path", "close", "target")
        for variant in ("tuned", "untuned")
    } | {("", "", "no_trade"): 5, ("", "", "buy_and_hold"): 5}
    assert counts == expected
    assert set(runs["sim"]) == set(range(5))
    assert (runs["optimistic"].fillna(False) == (runs["policy"] == "target")).all()
    assert made.dtypes["sim"] == pd.Int64Dtype() and made.dtypes["in_sample"] == np.float64
    assert made.dtypes["test_start"] == np.dtype("datetime64[us]") and made.dtypes["selected"] == "boolean"


def test_rows_tell_what_the_offsets_earn_in_and_out_of_sample(bars, made):
    high, low = ewma_forecasts(bars)
    for window in cut_windows(260, 5, 100, 20, 20):
        for strategy in ("entry_exit", "always_on"):

            def rows(start, stop, strategy=strategy):
                return problem(
                    bars, high, low, start, stop, objective=strategy, side="maxdiff", sides="both",
                    fee_bps=0, slippage_bps=0, fee_mode="per_side", fill="through:1", tick=0.01,
                )  # fmt: skip

            train, test = rows(window.train_start, window.train_end), rows(window.test_start, window.test_end)
            for policy in LEVELS.policies:
                best = optimize_levels(train, exit=policy)
                chosen = (
                    (made["sim"] == window.sim) & (made["strategy"] == strategy) & (made["policy"] == policy)
                )
                tuned = made[chosen & (made["variant"] == "tuned")].iloc[0]
                untuned = made[chosen & (made["variant"] == "untuned")].iloc[0]
                assert [tuned["u"], tuned["v"]] == best.offsets[0].tolist() and tuned[
                    "status"
                ] == best.status[0]
                trades = best.status[0] == "ok"
                assert tuned["in_sample"] == (best.profit[0] * 100 if trades else 0)
                outside = value(test, *best.offsets[0], policy) * 500
                assert tuned["out_of_sample"] == pytest.approx(outside if trades else 0, abs=1e-12)
                assert tuned["regret"] == pytest.approx(best.regret[0] * 100, abs=1e-12)
                assert untuned["in_sample"] == pytest.approx(value(train, 0, 0, policy) * 100, abs=1e-12)
                assert untuned["out_of_sample"] == pytest.approx(value(test, 0, 0, policy) * 500, abs=1e-12)
        held = made[(made["sim"] == window.sim) & (made["variant"] == "buy_and_hold")].iloc[0]
        moves = bars.close[1:] / bars.close[:-1] - 1
        inside = moves[window.train_start - 1 : window.train_end - 1].mean() * 1e4
        assert held["in_sample"] == pytest.approx(inside, abs=1e-9)
        outside = moves[window.test_start - 1 : window.test_end - 1].mean() * 1e4
        assert held["out_of_sample"] == pytest.approx(outside, abs=1e-9)
        assert pd.Timestamp(bars.ts[window.test_start], unit="us") == held["test_start"]
        assert pd.Timestamp(bars.ts[window.train_end - 1], unit="us") == held["train_end"]


def test_summaries_are_means_and_standard_errors_over_the_simulations(made):
    runs = made[made["row"] == "simulation"].fillna({"strategy": "", "policy": ""})
    keys = ["strategy", "policy", "variant"]
    for kind, tell in (("mean", "mean"), ("standard_error", "sem")):
        for place, row in made[made["row"] == kind].set_index(keys).iterrows():
            strategy, policy, variant = place
            of = runs[(runs["strategy"] == strategy) & (runs["variant"] == variant)]
            of = of[of["selected"].fillna(False)] if policy == "chosen" else of[of["policy"] == policy]
            assert row["simulations"] == len(of) == 5
            for name in ("in_sample", "out_of_sample"):
                assert row[name] == pytest.approx(getattr(of[name], tell)(), rel=1e-12, abs=1e-12)


def test_the_policy_that_earned_most_in_training_is_the_chosen_one(made):
    tuned = made[(made["row"] == "simulation") & (made["variant"] == "tuned")]
    for _, group in tuned.groupby(["strategy", "sim"]):
        assert group["selected"].sum() == 1
        assert group[group["selected"]]["in_sample"].iloc[0] == group["in_sample"].max()


def test_no_test_bar_changes_a_fit(bars, with_bar):
    high, low = ewma_forecasts(bars)
    windows = cut_windows(260, 1, 100, 20, 20)
    start = windows[0].test_start
    first = simulate(bars, high, low, windows, LEVELS, FREE)
    high[start:], low[start:] = 0.05, -0.05
    later = simulate(with_bar(bars, start, 1.3), high, low, windows, LEVELS, FREE)
    names = ["strategy", "policy", "variant", "in_sample", "u", "v", "selected"]
    rows = [frame[frame["row"] == "simulation"][names] for frame in (first, later)]
    pd.testing.assert_frame_equal(*rows)
    assert not first["out_of_sample"].equals(later["out_of_sample"])


def test_long_only_and_dear_trading_are_seen(bars):
    high, low = ewma_forecasts(bars)
    windows = cut_windows(260, 3, 100, 20, 20)
    crypto = FREE.model_copy(update={"sides": "long"})
    runs = simulate(bars, high, low, windows, Levels(), crypto)
    assert (runs[(runs["strategy"] == "always_on") & (runs["row"] == "simulation")]["u"] == 0).all()
    dear = FREE.model_copy(update={"cost": FREE.cost.model_copy(update={"fee_bps": 900.0})})
    runs = simulate(bars, high, low, windows, Levels(), dear)
    tuned = runs[(runs["variant"] == "tuned") & (runs["row"] == "simulation")]
    assert (tuned["status"] == "abstain").all() and not tuned[["in_sample", "out_of_sample", "fills"]].any(
        axis=None
    )


def test_reads_the_stored_forecasts_and_stores_nothing(small_lake, fresh_settings):
    lake = Lake(small_lake.data_dir)
    before = small_lake.stamps()
    made = backtest_forecasts(lake, "ALFA", 3, settings=fresh_settings)
    assert made["sim"].max() == 2 and small_lake.stamps() == before
    assert set(made["solver"].dropna()) == {"exact"} and set(made["objective"].dropna()) == {"smoothed"}
    raw = backtest_forecasts(lake, "ALFA", 3, settings=fresh_settings, solver="de-numba", objective="sup")
    assert set(raw["solver"].dropna()) == {"de-numba"} and set(raw["objective"].dropna()) == {"sup"}
    fitted = made[(made["variant"] == "tuned") & (made["row"] == "simulation")]
    assert (fitted["train_end"] < fitted["test_start"]).all()


def test_without_a_number_as_many_as_fit_are_run_and_a_number_that_does_not_fit_is_refused(
    small_lake, fresh_settings
):
    lake = Lake(small_lake.data_dir)
    made = backtest_forecasts(lake, "ALFA", settings=fresh_settings)
    fit = int(made["sim"].max()) + 1
    assert 2 <= fit < 70
    assert len(backtest_forecasts(lake, "ALFA", fit, settings=fresh_settings)) == len(made)
    with pytest.raises(LevelsInputError, match=rf"{fit + 1} simulations of 500 \+ 20 bars.* hold {fit} and"):
        backtest_forecasts(lake, "ALFA", fit + 1, settings=fresh_settings)
    few = fresh_settings.model_copy(update={"levels": Levels(num_simulations=2)})
    assert backtest_forecasts(lake, "ALFA", settings=few)["sim"].max() == 1


def test_the_first_published_lengths_are_a_preset(small_lake, fresh_settings):
    made = backtest_forecasts(Lake(small_lake.data_dir), "ALFA", settings=fresh_settings, preset="seed70")
    runs = made[(made["variant"] == "tuned") & (made["row"] == "simulation")]
    assert len(runs) == 280 and (runs["test_start"] == runs["test_end"]).all()
    with pytest.raises(ConfigError, match=r"^preset was 'seed'\. Closest: seed70"):
        backtest_forecasts(Lake(small_lake.data_dir), "ALFA", settings=fresh_settings, preset="seed")


def test_a_symbol_that_was_never_run_is_refused(tmp_path, fresh_settings):
    with pytest.raises(LakeError, match="nightfold run ALFA --stage prices"):
        backtest_forecasts(Lake(tmp_path), "ALFA", settings=fresh_settings)


@pytest.fixture
def fresh_settings(small_lake):
    return small_lake.settings


def block_interval(paired, block=20, draws=2000, seed=0):
    """95 % interval of the mean of a series, circular block bootstrap."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, len(paired), (draws, -(-len(paired) // block)))
    rows = (starts[:, :, None] + np.arange(block)) % len(paired)
    return np.quantile(paired[rows.reshape(draws, -1)[:, : len(paired)]].mean(axis=1), [0.025, 0.975])


@pytest.mark.slow
def test_smoothed_long_windows_hold_up_better_than_raw_short_ones_on_the_sample(capsys):
    """500 bars smoothed against 60 bars raw, same test bars, default costs; the interval is printed."""
    found = {}
    for exit in ("close", "target"):
        paired = []
        for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
            series = sample(symbol)
            high, low = ewma_forecasts(series)
            instrument = Settings.model_validate({"symbols": {symbol: {}}}).instrument(symbol)
            fit = (len(series) - 60 - 520) // 20 + 1
            frames = {}
            for name, train, objective in (("long", 500, "smoothed"), ("short", 60, "sup")):
                levels = Levels(policies=(exit,), objective=objective)
                windows = cut_windows(len(series), fit, train, 20, 20)
                runs = simulate(series, high, low, windows, levels, instrument)
                assert {"no_trade", "buy_and_hold", "untuned", "tuned"} == set(runs["variant"])
                assert (runs[runs["policy"] == exit]["optimistic"] == (exit == "target")).all()
                tuned = runs[(runs["row"] == "simulation") & (runs["variant"] == "tuned")]
                frames[name] = tuned.set_index(["strategy", "sim"])["out_of_sample"].sort_index()
            paired.append((frames["long"] - frames["short"]).to_numpy())
        paired = np.concatenate(paired)
        found[exit] = (paired.mean(), *block_interval(paired, block=5))
    with capsys.disabled():
        for exit, (mean, low, high) in found.items():
            interval = f"[{low:+.2f}, {high:+.2f}]"
            print(f"\n{exit}: smoothed 500 less raw 60, out of sample: {mean:+.2f} bps/bar {interval}")
    assert all(mean >= 0 for mean, _, _ in found.values())


def test_path_reads_finer_bars_where_there_are_any_and_says_so(bars, made):
    high, low = ewma_forecasts(bars)
    windows, base = cut_windows(260, 5, 100, 20, 20), parted(bars)
    runs = simulate(bars, high, low, windows, LEVELS, FREE, base=base)
    ours, theirs = (
        frame[(frame["row"] == "simulation") & (frame["variant"] == "tuned")].set_index(["strategy", "sim"])
        for frame in (runs, made)
    )
    for policy in ("close", "target"):
        now, was = (frame[frame["policy"] == policy][["u", "v", "out_of_sample"]] for frame in (ours, theirs))
        pd.testing.assert_frame_equal(now, was)
    path, close = (ours[ours["policy"] == policy] for policy in ("path", "close"))
    assert path["finer"].all() and not close["finer"].any() and not theirs["finer"].any()
    assert (path["u"] != close["u"]).any()
    for (strategy, sim), row in path.iterrows():
        window = windows[sim]
        tested = problem(
            bars, high, low, window.test_start, window.test_end, objective=strategy, side=LEVELS.side,
            sides="both", fee_bps=0.0, slippage_bps=0.0, fee_mode=LEVELS.fee_mode, fill=LEVELS.fill,
            tick=0.01, finer=base,
        )  # fmt: skip
        expected = 1e4 / 20 * value(tested, row["u"], row["v"], "path") if row["status"] == "ok" else 0.0
        assert row["out_of_sample"] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_the_lake_s_finer_bars_and_the_device_reach_the_simulations(small_lake, monkeypatch, fresh_settings):
    seen = {}
    monkeypatch.setattr(simulations, "base_bars_of", lambda lake, symbol, settings: f"finer {symbol}")
    monkeypatch.setattr(simulations, "simulate", lambda *given, **named: seen.update(named))
    settings = fresh_settings.model_copy(
        update={"devices": fresh_settings.devices.model_copy(update={"device": "cuda:7"})}
    )
    backtest_forecasts(small_lake.lake, "ALFA", 5, settings=settings)
    assert (seen["base"], seen["device"]) == ("finer ALFA", "cuda:7")
