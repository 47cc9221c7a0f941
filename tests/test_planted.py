"""The planted symbol of docs/search.md: trends that can be traded, promoted, explained, exported.

The short form of the truth benchmark runs with the slow tests.
"""

import json
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from engine import cli, cli_base
from engine.config_sections import Promotion

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import truth  # noqa: E402
import truth_chain  # noqa: E402
import truth_markets  # noqa: E402
import truth_planted  # noqa: E402


def _page():
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    return text[text.index("## A champion, seen") :]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The page's settings and its symbol, after one whole run."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "data" / "inbox").mkdir(parents=True)
    csv = truth_markets.to_csv(truth_markets.trending(1, 2500, 0.3, "PLANT"))
    (folder / "data" / "inbox" / "PLANT.csv").write_text(csv)
    settings = re.search(r"```yaml\n(.*?)```", _page(), re.S)[1]
    (folder / "nightfold.yaml").write_text(settings + "report: {charts: false}\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_base.kernel_cache, "use", lambda data_dir, environ: None)
        command = _command(folder)
        command.first = command("run")
        yield command


def _command(folder):
    def command(*arguments):
        line = ["--settings", str(folder / "nightfold.yaml"), *arguments]
        return CliRunner().invoke(cli.main, line, catch_exceptions=False)

    command.folder = folder
    return command


def test_the_planted_edge_is_promoted_and_the_page_shows_what_is_printed(planted):
    assert planted.first.exit_code == 0, planted.first.output
    assert "1 of 1 symbols have a champion" in planted.first.stdout
    why = planted("champions", "--why", "PLANT").stdout
    shown = re.search(r"```text\n(.*?)```", _page(), re.S)[1]
    numbers = re.compile(r"\d[\d.,-]*")
    assert numbers.sub("#", shown) == numbers.sub("#", why)
    for (here,), (there,) in zip(*([[n] for n in numbers.findall(t)] for t in (shown, why)), strict=True):
        try:
            assert float(here.replace(",", "")) == pytest.approx(float(there.replace(",", "")), abs=0.02)
        except ValueError:
            assert here == there  # a date
    page = (Path(planted("report").stdout.strip().removeprefix("report: "))).with_name("PLANT.html")
    assert "How much may be luck" in page.read_text()


def test_export_is_a_command_of_its_own(planted, tmp_path):
    target = tmp_path / "champions.json"
    done = planted("export", "--output", str(target))
    assert done.exit_code == 0 and done.stdout == f"export: {target}\n"
    found = json.loads(target.read_text())
    assert json.loads(planted("export", "PLANT").stdout) == found
    assert found["note"] == "paper only: nightfold places no orders"
    (champion,) = found["champions"]
    assert champion["strategy"] == "trend" and champion["p"] <= 0.05
    assert set(champion["parameters"]) == {"fast", "slow", "adx_min", "stop_atr", "target_atr"}


def test_a_night_later_the_forward_record_begins(planted, tmp_path):
    """One more bar: tonight's fit is made anew, last night's is scored on it, nothing is decided."""
    planted = _command(shutil.copytree(planted.folder, tmp_path / "copy"))
    first = json.loads(planted("export").stdout)
    path = planted.folder / "data" / "inbox" / "PLANT.csv"
    *_, (day, *values) = (line.split(",") for line in path.read_text().split())
    later = np.datetime64(day[:10]) + 1
    path.write_text(path.read_text().rstrip() + "\n" + ",".join([str(later), *values]) + "\n")
    done = planted("run")
    assert done.exit_code == 0 and "trend (champion)" in done.stdout
    (champion,) = json.loads(planted("export").stdout)["champions"]
    assert champion["decided_asof"] == first["champions"][0]["decided_asof"]
    record = champion["forward_record"]
    assert (record["nights"], record["bars"], record["left_out"]) == (1, 1, 0)
    assert record["since"][:10] == record["last_bar"][:10] == str(later)
    ask = f"select is_champion from next_orders union all select abs(net * 1e4 - {record['net_bps']}) < 1e-9"
    rows = planted("warehouse", f"{ask} from forward").stdout
    assert rows.count("True") == 2 and "False" not in rows


def test_rollback_takes_it_back_until_new_evidence(planted, tmp_path):
    planted = _command(shutil.copytree(planted.folder, tmp_path / "copy"))
    before = planted("champions", "--why", "PLANT").stdout
    done = planted("champions", "--rollback", "PLANT")
    assert done.exit_code == 0
    assert "PLANT: no champion (rolled back by hand from decision 0, until new evidence)" in done.stdout
    found = json.loads(planted("export").stdout)
    assert (found["champions"], found["without_champion"]) == ([], ["PLANT"])
    assert not any(order["is_champion"] for order in found["next_orders"])
    after = planted("champions", "--why", "PLANT").stdout
    assert after != before and "rolled_back" in after
    assert after.splitlines()[-1] == "in force: no champion (paper only: nightfold places no orders)"
    again = planted("champions", "--rollback", "PLANT")
    assert again.exit_code == 1 and "has no champion to roll back" in again.stderr
    assert planted("run", "--stage", "leaderboard").stdout.count("0 of 1 symbols have a champion") >= 1


def test_the_script_writes_the_symbol_as_a_file():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "truth_markets.py"), "PLANT"],
        capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == truth_markets.to_csv(truth_markets.trending(1, 2500, 0.3, "PLANT"))


def test_made_markets_have_sound_bars_fat_tails_and_clusters():
    returns = []
    for seed in range(20):
        bars = truth_markets.null(seed, 1000)
        low, high = np.minimum(bars.open, bars.close), np.maximum(bars.open, bars.close)
        assert (bars.low <= low).all() and (bars.high >= high).all() and bars.low.min() > 5
        returns.append(np.diff(np.log(bars.close)))
    joined = np.concatenate([(r - r.mean()) / r.std() for r in returns])
    assert 5 < np.mean(joined**4) < 60  # 3 is normal
    moves = np.abs(np.array(returns)) - np.abs(np.array(returns)).mean(axis=1, keepdims=True)
    assert np.mean(moves[:, 1:] * moves[:, :-1]) / np.mean(moves**2) > 0.05
    plain = np.array([np.corrcoef(r[1:], r[:-1])[0, 1] for r in returns])
    assert abs(plain.mean()) < 3 * 1.5 / np.sqrt(20 * 1000)  # nothing to trade on


def test_the_nights_that_decide_are_the_first_and_those_on_which_a_fold_closes():
    settings = truth_chain.settings_of("NULL0", truth.DEFAULT)
    found = truth_chain.deciding_nights(2520, settings, 250)
    levels = range(2290, 2521, 20)  # warm-up 250, training 500, tests of 20
    trend = (2375, 2500)  # training 1,000, tests of 125
    assert found == sorted({2270, *levels, *trend})


def test_the_other_nights_decide_nothing():
    bars = truth_markets.trending(6, 700, 0.5)
    easy = {"confidence": 0.51, "min_oos_bars": 30, "min_oos_trades": 1, "min_improvement": -1000.0}
    always = {"strategy": "levels_always_on", "levels": {"abstain": False}}
    alone = {"strategies": [always], "promotion": easy}
    few = {"warmup_bars": 250, "train_bars": 300, "test_bars": 20, "reoptimize": "when_due"}
    settings = truth_chain.settings_of(bars.symbol, truth.ZERO, folds=few, **alone)
    every = truth_chain.through_the_chain(bars, settings, range(666, 674))
    some = truth_chain.through_the_chain(bars, settings, [666, 670])
    assert [look["bars"] for look in some] == truth_chain.deciding_nights(673, settings, 7)
    decided = [{name: look[name] for name in ("champion", "p")} for look in every]
    assert decided[:4] == 4 * decided[:1] and decided[4:] == 4 * decided[4:5]
    assert [decided[0], decided[4]] == [{n: look[n] for n in ("champion", "p")} for look in some]
    assert decided[0]["p"] != decided[4]["p"] < 1.0  # the fold that closed at 670 bars was looked at


def test_the_curve_counts_no_symbol_whose_forecasts_bar_it_at_any_confidence(monkeypatch):
    settings = truth_chain.settings_of("NULL0", truth.ZERO)
    found = {
        "strategy": "levels_always_on", "settings_hash": "a", "bars": 1000, "trades": 90, "last_bar": 0,
        "net_bps": 2.0, "excess_bps": 2.0, "t": 4.0, "p": 0.001, "looked": 3,
    }  # fmt: skip
    row = {"symbol": "NULL0", "strategy": found["strategy"], "evidence": json.dumps(found), "in_force": False}
    reasons = ["", "the model's highs lose to its baselines (forecasts.allow_losing_forecasts)"]
    ps = []
    for why in reasons:
        monkeypatch.setattr(truth_chain, "rows_of", lambda table, why=why: [{**row, "reasons": why}])
        lake = types.SimpleNamespace(read=lambda *names: None)
        ps.append(truth_chain._decided(lake, "NULL0", settings)["p"])
    assert ps == [0.001, 1.0]


def _finished(cache, job, *ps, champion=""):
    looks = [{"bars": 2270 + i, "champion": champion, "p": p} for i, p in enumerate(ps)]
    made = {**job._asdict(), "looks": looks, "processor_s": 10.0, "sharpe": 1.2, "code": "made"}
    (cache / job.file).write_text(json.dumps(made))


def test_a_stopped_benchmark_goes_on_and_says_how_many_symbols_it_rests_on(tmp_path, monkeypatch):
    wanted = truth.jobs(4, 1, 2)
    assert len({job.file for job in wanted}) == len(wanted) == 4 * 2 + 1 + 2
    for job in wanted[:-1]:
        _finished(tmp_path, job, 0.5, 0.01, champion="trend" if job.market == truth.EDGE else "")
    ran = []
    monkeypatch.setattr(truth, "one_symbol", lambda job: ran.append(job) or {"looks": []})
    truth.finish(wanted[0], tmp_path)
    assert not ran
    truth.finish(wanted[-1], tmp_path)
    last = tmp_path / wanted[-1].file
    assert ran == [wanted[-1]] and json.loads(last.read_text())["seed"] == wanted[-1].seed

    last.unlink()
    asked = {truth.DEFAULT: 4, truth.ZERO: 4, truth.ALONE: 2, truth.EDGE: 1}
    rows = {row["metric"]: row for row in truth.report(truth.read(wanted, tmp_path), asked)}
    short = [row["detail"] for row in rows.values() if "the rest has not run" in row["detail"]]
    assert len(short) == 1 and wanted[-1].market in (truth.DEFAULT, truth.ZERO) and "3 of" not in short[0]
    assert "0 of 3 symbols (asked for 4" in short[0]
    luck = [row for name, row in rows.items() if name.startswith("random walks")]
    assert [row["holds"] for row in luck if row["detail"] == short[0]] == [None]  # 0 of 3 proves nothing
    assert [row["holds"] for row in luck if row["detail"] != short[0]] == [True]
    planted = next(row for name, row in rows.items() if name.startswith("planted edges"))
    assert planted["holds"] and planted["value"] == 100.0 and "1 of 1 symbols" in planted["detail"]
    assert "95 % interval 2.5 to 100.0 %" in planted["detail"]
    assert rows[f"curve: confidence 0.99, {truth.ZERO}"]["value"] == 100.0
    assert rows[f"curve: confidence 0.985, {truth.ALONE}"]["value"] == 100.0


def test_the_interval_is_that_of_clopper_and_pearson():
    assert truth.interval(0, 20) == pytest.approx((0.0, 100 * (1 - 0.025 ** (1 / 20))))
    low, high = truth.interval(10, 200)
    assert (low, high) == pytest.approx((2.42, 9.00), abs=0.01)


@pytest.mark.slow
def test_the_short_form_of_the_truth_benchmark(tmp_path):
    """20 random walks, every other one without costs, and 10 planted edges, through the whole chain.

    At true rates of 5 and 80 % other seeds would break the bounds in 7.5 and 3.3 % of runs.
    """
    walks = [truth.Job((truth.DEFAULT, truth.ZERO)[n % 2], n) for n in range(20)]
    wanted = [*walks, *(truth.Job(truth.EDGE, n) for n in range(10))]
    truth.compute(wanted, tmp_path, 2)
    found = truth.read(wanted, tmp_path)
    assert len(found[truth.DEFAULT]) == len(found[truth.ZERO]) == len(found[truth.EDGE]) == 10
    assert truth.crowned(found[truth.DEFAULT] + found[truth.ZERO]) <= 2
    assert truth.crowned(found[truth.EDGE]) >= 6
    for symbol in (one for market in found.values() for one in market):
        confidence = Promotion().confidence
        assert truth.crowned([symbol]) == truth.ever([symbol], confidence)  # the curve's way of counting
    low, high = truth_planted.SHARPE
    assert all(low - 0.1 <= one["sharpe"] <= high + 0.1 for one in found[truth.EDGE])


def test_the_page_s_table_is_that_of_the_benchmark():
    found = json.loads((ROOT / "benchmarks" / "results" / "truth.json").read_text())["rows"]
    values = {row["metric"]: row["value"] for row in found}
    markets = (truth.DEFAULT, truth.ZERO, truth.ALONE, truth.EDGE)
    wanted = [
        [f"{c:g}", *(f"{values[f'curve: confidence {c}, {market}']:.1f}" for market in markets)]
        for c in truth.CURVE
    ]
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    part = text[text.index("make bench-truth") : text.index("What this rule does not know")]
    lines = [line for line in part.splitlines() if re.match(r"\| [\d.*]+ \|", line)]
    written = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    assert written == wanted
    default = Promotion().confidence
    assert [line.startswith("| **") for line in lines] == [c == default for c in truth.CURVE]
