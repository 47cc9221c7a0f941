"""`benchmarks/engine`: workloads as stated, peers outside, rows in their form."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import engine  # noqa: F401  (before the benchmark's folders, one of which has the same name, are searched)

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "engine"
PEERS = {"vectorbt", "vectorbt_rust", "backtesting", "backtrader", "talib", "pybroker", "nautilus_trader"}


@pytest.fixture
def load(monkeypatch):
    """Import a module of the benchmark; the path of the interpreter is as before afterwards."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path, str(FOLDER.parent)])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_synthetic_series_is_the_stated_one(load):
    workloads = load("workloads")
    series = workloads.synthetic(100_000)
    workloads.check("S100K", series)
    assert (series["close"][0], series["close"][-1]) == (100.09558, 99.24678)
    assert series["ts"][1] - series["ts"][0] == 60_000_000
    series["close"] = series["close"] + 1e-5
    with pytest.raises(SystemExit, match="S100K: the prices have checksum .*, expected f436b8764cdeacca"):
        workloads.check("S100K", series)


def test_the_pairs_of_windows_are_the_stated_ones(load):
    fast, slow = load("workloads").pairs(19_900)
    assert list(zip(fast[:3], slow[:3], strict=True)) == [(29, 182), (4, 195), (103, 201)]
    assert len(set(zip(fast, slow, strict=True))) == 19_900
    assert fast.min() == 2 and slow.max() == 201 and (fast < slow).all()


def test_the_random_configs_keep_their_bounds(load):
    configs = load("workloads").stop_configs(10_000)
    bounds = {
        "fast": (2, 61), "slow": (3, 191), "n_adx": (5, 30), "n_atr": (5, 30),
        "adx_min": (10, 35), "stop": (1, 4), "target": (1, 6), "trail": (1, 5),
    }  # fmt: skip
    assert list(configs) == list(bounds)
    assert all(low <= configs[k].min() and configs[k].max() <= high for k, (low, high) in bounds.items())
    assert (configs["fast"] < configs["slow"]).all()


def test_crosses_are_those_of_whole_numbers(load):
    rng = np.random.default_rng(5)
    ticks = 1000 + rng.integers(-2, 3, 300)  # few prices, many ties
    up, down = load("workloads").crosses(ticks * 0.01, 2, 5, 0.01)

    def gap(t):
        return int(ticks[t - 1 : t + 1].sum()) * 5 - int(ticks[t - 4 : t + 1].sum()) * 2

    for t in range(300):
        assert up[t] == (t >= 5 and gap(t) > 0 and gap(t - 1) <= 0)
        assert down[t] == (t >= 5 and gap(t) < 0 and gap(t - 1) >= 0)
    assert up.sum() > 10 and any(gap(t) == 0 for t in range(5, 300))


def test_the_project_never_imports_what_it_is_measured_against():
    sources = [
        path
        for folder in ("engine", "pipelines", "tests", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if ".venv" not in path.parts and not path.name.startswith("peer_")
    ]
    found = []
    for path in sources:
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}:{node.lineno}" for name in names if name.split(".")[0] in PEERS]
    assert len(sources) > 100 and found == []
    for declared in ("pyproject.toml", "constraints.txt"):
        assert not re.search(
            r"(?im)^\W*(vectorbt|backtesting|backtrader|ta-lib)\b", (ROOT / declared).read_text()
        )


def test_the_peers_environment_is_exact():
    lines = (FOLDER / "requirements.txt").read_text().splitlines()
    packages = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert packages["vectorbt"] == packages["vectorbt-rust"] == "1.2.0"
    assert packages["backtesting"] == "0.6.6"
    assert packages["backtrader"].startswith("1.9.78.") and packages["TA-Lib"].startswith("0.8.")


def test_a_worker_is_asked_in_turn_and_ended_when_it_takes_too_long(load, tmp_path, monkeypatch, capsys):
    race = load("race")
    script = tmp_path / "arms.py"
    script.write_text(
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from worker import serve\n"
        "import numpy as np\n"
        "def quick(folder, n):\n"
        "    return (lambda: print('noise') or n), (lambda x: {'n': x, 'all': np.arange(x)})\n"
        "def slow(folder): return (lambda: time.sleep(60)), (lambda x: {'n': 0})\n"
        f"sys.argv[1] = {str(tmp_path)!r}\n"
        "serve({'quick': quick, 'slow': slow})\n"
    )
    worker = race.Worker(sys.executable, str(script), FOLDER)
    one, two = race.Runner(worker, "quick", {"n": 3}), race.Runner(worker, "quick", {"n": 4})
    race.race(5, one, two)
    assert one.found["n"] == 3 and one.found["all"].tolist() == [0, 1, 2]
    assert len(one.times) == len(two.times) == 5 and race.ratio(one, two) > 0
    monkeypatch.setattr(race, "LONGEST", 0.2)
    late = race.Runner(worker, "slow", {})
    race.race(5, late)
    assert late.found == {} and late.times == [] and worker.process is None
    assert "left out: slow {}: no result in 0 s" in capsys.readouterr().out


def _runner(race, **found):
    return race.Runner(None, "", {}, found)


def test_a_difference_and_a_miss_are_rows_that_say_so(load, monkeypatch, tmp_path, capsys):
    race, agreement, record = (load(name) for name in ("race", "agreement", "record"))
    same = {"final": 101_234.5, "trades": 3, "drawdown": 0.25, "fees": 1.0}
    rows = [
        agreement.single("W1", _runner(race, **same), "peer", _runner(race, **same)),
        agreement.single("W1", _runner(race, **same), "peer", _runner(race, **{**same, "final": 101_234.6})),
        agreement.single("W1", _runner(race, **same), "peer", _runner(race, **{**same, "trades": 4})),
        agreement.indicator(
            "adx", *(_runner(race, values=np.array([np.nan, x])) for x in (1.0, 1.0 + 2e-16))
        ),
        agreement.indicator(
            "sma", *(_runner(race, values=np.array([np.nan, x])) for x in (1.0, 1.0 + 2e-16))
        ),
        record.row("speed", 3.0, "times", 15, "higher"),
    ]
    assert [r["holds"] for r in rows] == [True, False, False, False, True, False]
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    record.write("engine", rows)
    assert capsys.readouterr().out.count("FALLS SHORT") == 4
    written = json.loads((tmp_path / "engine.json").read_text())
    assert set(written) == {"name", "machine", "versions", "rows"}
    keys = {"metric", "value", "unit", "goal", "better", "holds", "detail"}
    assert all(set(r) == keys for r in written["rows"])


def test_a_ratio_that_became_worse_than_the_recorded_one_is_named(load, tmp_path):
    recorded, record = load("recorded"), load("record")
    path = tmp_path / "engine.json"
    assert recorded.slower(path, [record.row("a", 1.0, "times", 9, "higher")], {"a"}) == []
    path.write_text(json.dumps({"rows": [record.row(n, 10.0, "times", 9, "higher") for n in "ab"]}))
    now = [record.row("a", 7.9, "times", 9, "higher"), record.row("b", 1.0, "times", 9, "higher")]
    assert recorded.slower(path, now, {"a"}) == ["a: 10.0 recorded, 7.9 now"]
    assert recorded.slower(path, [record.row("a", 8.1, "times", 9, "higher")], {"a"}) == []


RESULT = ROOT / "benchmarks" / "results" / "engine.json"


@pytest.mark.skipif(not RESULT.exists(), reason="no recorded run yet: make bench-engine")
def test_the_recorded_run_names_machine_versions_and_every_workload():
    recorded = json.loads(RESULT.read_text())
    assert {"cpu", "cores", "system", "load", "load_at_start"} <= recorded["machine"].keys()
    assert {"numpy", "peers: vectorbt", "peers: backtesting", "peers: TA-Lib"} <= recorded["versions"].keys()
    metrics = " ".join(r["metric"] for r in recorded["rows"])
    assert all(name in metrics for name in ("W1 E5K", "W1 S1M", "W2", "W3", "W4", "W5", "memory", "import"))
