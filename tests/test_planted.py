"""The planted symbol of docs/search.md: trends that can be traded, promoted, explained, exported.

The short form of the truth benchmark runs with the slow tests.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from engine import cli, cli_base
from engine.config_sections import Promotion

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import truth  # noqa: E402
import truth_markets  # noqa: E402


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
        command.folder, command.first = folder, command("run")
        yield command


def _command(folder):
    def command(*arguments):
        line = ["--settings", str(folder / "nightfold.yaml"), *arguments]
        return CliRunner().invoke(cli.main, line, catch_exceptions=False)

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


def test_rollback_takes_it_back_until_new_evidence(planted, tmp_path):
    planted = _command(shutil.copytree(planted.folder, tmp_path / "copy"))
    before = planted("champions", "--why", "PLANT").stdout
    done = planted("champions", "--rollback", "PLANT")
    assert done.exit_code == 0
    assert "PLANT: no champion (rolled back by hand from decision 0, until new evidence)" in done.stdout
    assert planted("export").stdout.count('"PLANT"') == 1  # among those without a champion
    after = planted("champions", "--why", "PLANT").stdout
    assert after != before and "rolled_back" in after
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


@pytest.mark.slow
def test_the_short_form_of_the_truth_benchmark():
    """20 random walks at both costs, 10 planted edges."""
    found, sharpes = truth.compute(20, 10, 2)
    rows = {r["metric"]: r for r in truth.report(found, sharpes, 0.0)}
    luck = [r["value"] for name, r in rows.items() if name.startswith("random walks")]
    assert len(luck) == 2 and max(luck) <= 15.0  # 5 % of 20 is one symbol; three are within its noise
    assert next(r["value"] for name, r in rows.items() if name.startswith("planted")) >= 70.0
    assert all(truth.SHARPE[0] - 0.1 <= s <= truth.SHARPE[1] + 0.1 for s in sharpes)


def test_the_page_s_table_is_that_of_the_benchmark():
    found = json.loads((ROOT / "benchmarks" / "results" / "truth.json").read_text())["rows"]
    values = {row["metric"]: row["value"] for row in found}
    markets = ("default costs", "no costs", truth.ALONE, "planted")
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
