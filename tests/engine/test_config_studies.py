"""Study files: the same as inline, nearer keys win, mistakes at their own place."""

import re
from pathlib import Path

import pytest
import yaml

from engine.bars.synthetic import make_bars
from engine.config import plain
from engine.config_file import load
from engine.config_studies import OLDER_KEYS
from engine.errors import ConfigError
from engine.features.table import FeatureSet
from engine.search.rules_fit import RulesFitter
from engine.simulation import Execution
from engine.stages.preflight import preflight
from engine.strategies import registry

BAND = """\
strategy: trend
name: band
symbols: [ALFA]
parameters:
  fast: {type: int, low: 5, high: 20}
  slow: {type: int, low: 30, high: 80, step: 10}
folds: {train_bars: 400, inner_folds: 4}
search: {screen: 64, max_trials: 24, batch: 12}
constraints: {min_trades: 3}
"""
HEAD = "symbols: {ALFA: {source: files}, BETA: {source: files}}\nsearch: {sampler: random}\n"


@pytest.fixture
def project(tmp_path):
    """Write files below a folder, nightfold.yaml with these entries, and load it."""

    def write(entries, study=None, **files):
        (tmp_path / "nightfold.yaml").write_text(HEAD + "strategies:\n" + entries)
        for name, text in files.items():
            path = tmp_path / "studies" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return load(tmp_path / "nightfold.yaml", None if study is None else tmp_path / study)

    return write


def entry_of(file):
    return plain(file.settings.resolved(file.settings.strategies[0]))


def study_id(file):
    bars = make_bars(5, 700, symbol="ALFA")
    entry = file.settings.resolved(file.settings.strategies[0])
    execution = Execution(tick=0.01)
    fitter = RulesFitter(FeatureSet(bars, 0.01), registry.get("trend"), entry, execution, 0)
    return fitter.study_id(200, 600)


def inline(text, **changes):
    value = {**yaml.safe_load(text), **changes}
    return "".join(f"{'  - ' if not i else '    '}{k}: {v!r}\n" for i, (k, v) in enumerate(value.items()))


def test_a_study_inline_and_by_file_are_the_same_study(project):
    by_file = project("  - file: studies/band.yaml\n", band=BAND)
    stands_inline = project(inline(BAND))
    assert by_file.settings == stands_inline.settings
    assert study_id(by_file) == study_id(stands_inline)
    other = project("  - file: studies/band.yaml\n", band=BAND.replace("high: 20", "high: 21"))
    assert study_id(other) != study_id(by_file)


def test_what_is_nearer_wins_key_by_key(project):
    base = "strategy: trend\nsearch: {screen: 8, batch: 4, max_trials: 40}\nfolds: {test_bars: 33}\n" + (
        "parameters: {slow: {type: fixed, value: 100}, fast: {type: int, low: 2, high: 9}}\n"
    )
    band = "extends: base.yaml\nsearch: {batch: 5, max_trials: 50}\n" + (
        "parameters: {slow: {type: int, low: 30, high: 50}}\n"
    )
    entry = "  - file: studies/band.yaml\n    name: mine\n    search: {max_trials: 60}\n"
    found = entry_of(project(entry, base=base, band=band))
    assert found["name"] == "mine" and found["folds"]["test_bars"] == 33
    search = found["search"]
    assert (search["screen"], search["batch"], search["max_trials"]) == (8, 5, 60)
    assert search["sampler"] == "random"  # what no study says is the settings'
    slow, fast = found["parameters"]["slow"], found["parameters"]["fast"]
    assert (slow["type"], slow["value"], slow["low"], fast["high"]) == ("int", None, 30, 9)


def refusal(project, entries, **files):
    with pytest.raises(ConfigError) as caught:
        preflight(project(entries, **files))
    return str(caught.value).split("\n")


ONE = "  - file: studies/band.yaml\n"
WRONG = [
    (BAND.replace("batch: 12", "bach: 12"),
     "studies/band.yaml:8:38: unknown key 'strategies.0.search.bach'. Closest: batch"),
    (BAND.replace("low: 5", "low: 50"),
     "studies/band.yaml:5:3: strategies.0.parameters.fast: low 50 is greater than high 20"),
    (BAND.replace("ALFA", "ALFB"), "studies/band.yaml:3:11: symbol 'ALFB' is not under 'symbols'"),
    (BAND.replace("fast:", "fats:"), "studies/band.yaml:5:3: parameter 'fats' is not declared by this"),
    (BAND.replace("strategy: trend", "strategy: trned"), "studies/band.yaml:1:1: strategy 'trned'"),
    (BAND.replace("strategy: trend\n", ""), "studies/band.yaml:1:1: 'strategies.0.strategy' is missing"),
    (BAND + "name: x\n", "studies/band.yaml:10:1: key 'name' stands twice; first in line 2"),
    ("strategy: [trend\n", "studies/band.yaml:2:1: not valid YAML: "),
    ("- strategy: trend\n", "studies/band.yaml:1:1: expected a mapping with the keys of a strategy entry"),
    ("file: other.yaml\n", "studies/band.yaml:1:1: file: a study file names no other; expected extends"),
    (BAND + "extends: absent.yaml\n", "studies/band.yaml:10:1: extends: there is no file 'absent.yaml'"),
    (BAND + "extends: ../../x.yaml\n", "studies/band.yaml:10:1: extends is '../../x.yaml'; expected a path"),
    (BAND + "extends: [a]\n", "studies/band.yaml:10:1: extends is ['a']; expected the path of a study"),
]  # fmt: skip


@pytest.mark.parametrize("text, message", WRONG, ids=[message[20:60] for _, message in WRONG])
def test_a_mistake_carries_the_place_in_the_study_file(text, message, project):
    (line,) = refusal(project, ONE, band=text)
    assert line.startswith(message), line


def test_a_mistake_carries_the_place_in_the_file_extended_or_beside_it(project):
    lines = refusal(
        project,
        "  - file: studies/band.yaml\n    folds: {test_bar: 9}\n",
        band="extends: base.yaml\nsearch: {screem: 1}\n",
        base="strategy: trend\nname: b\nsearch: {batch: 0}\n",
    )
    assert [line.split(" ")[0] for line in lines] == [
        "nightfold.yaml:5:13:", "studies/band.yaml:2:10:", "studies/base.yaml:3:10:"
    ]  # fmt: skip


def test_a_file_that_is_extended_extends_no_other(project):
    (line,) = refusal(
        project,
        ONE,
        band="extends: base.yaml\n",
        base="strategy: trend\nextends: band.yaml\n",
    )
    assert line == (
        "studies/base.yaml:2:1: extends: studies/band.yaml extends this file already; expected one level"
    )


@pytest.mark.parametrize("path", ["../band.yaml", "studies/../../band.yaml", "/etc/band.yaml", "link.yaml"])
def test_a_file_outside_the_project_is_refused(path, project, tmp_path):
    outside = tmp_path.parent / "band.yaml"
    outside.write_text(BAND)
    (tmp_path / "link.yaml").symlink_to(outside)
    (line,) = refusal(project, f"  - file: {path}\n")
    assert line == (
        f"nightfold.yaml:4:5: file is {path!r}; expected a path relative to the file that names it, "
        "inside the folder of nightfold.yaml"
    )


def test_every_entry_is_judged_at_once(project):
    lines = refusal(
        project,
        "  - file: studies/absent.yaml\n  - strategy: trend\n    nam: x\n  - file: studies/band.yaml\n",
        band="strategy: trend\nname: y\nsymbol: [ALFA]\n",
    )
    assert lines == [
        "nightfold.yaml:6:5: unknown key 'strategies.1.nam'. Closest: name.",
        "studies/band.yaml:3:1: unknown key 'strategies.2.symbol'. Closest: symbols.",
        "nightfold.yaml:4:5: file: there is no file 'studies/absent.yaml' beside nightfold.yaml",
    ]


OLDER = """\
strategy_family: trend
meta: {symbol: ALFA, timeframe: 1d, warmup_bars: 250}
runs: {max_trials: 32, max_concurrent: 1}
optuna: {sampler: {type: tpe}, pruner: {type: median}, storage: 'sqlite:///x.db'}
"""


def test_an_older_optimizer_file_is_refused_with_what_to_write(project, tmp_path):
    lines = refusal(project, ONE, band=OLDER)
    assert lines[0] == (
        "studies/band.yaml:1:1: 'strategy_family' is of an older kind of optimizer file. Write it anew:"
    )
    table = "\n".join(lines[1:])
    for old in ("strategy_family", "meta.symbol", "runs.max_trials", "optuna.sampler.type", "loguniform"):
        assert old in table
    for key in OLDER_KEYS:
        assert f"{key} ->" in table or f"{key}." in table or f"{key} ranges" in table
    (tmp_path / "old.yaml").write_text(OLDER)
    with pytest.raises(ConfigError, match=r"^old\.yaml:1:1: 'strategy_family' is of an older kind"):
        load(tmp_path / "old.yaml")


def test_one_study_is_read_without_the_others_of_the_settings(project, tmp_path):
    file = project("  - file: studies/broken.yaml\n", study="studies/band.yaml", band=BAND, broken=":")
    assert [entry.label for entry in file.settings.strategies] == ["band"]
    assert file.where("strategies", 0, "search", "batch") == "studies/band.yaml:8:38"
    outside = tmp_path.parent / "outside.yaml"
    outside.write_text(BAND)
    with pytest.raises(ConfigError, match=r"outside\.yaml lies outside .* the folder of nightfold\.yaml"):
        load(tmp_path / "nightfold.yaml", outside)


def test_the_example_of_the_docs_is_refused_in_its_older_form_and_sound_in_ours(tmp_path):
    page = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    older, ours = re.findall(r"```text\n(strategy.*?)```", page.split("### Study files")[1], flags=re.S)[:2]
    (tmp_path / "nightfold.yaml").write_text("symbols: {IBM: {}}\nstrategies: [{file: study.yaml}]\n")
    (tmp_path / "study.yaml").write_text(older)
    with pytest.raises(ConfigError, match=r"^study\.yaml:1:1: 'strategy_family' is of an older kind"):
        load(tmp_path / "nightfold.yaml")
    (tmp_path / "study.yaml").write_text(ours)
    file = load(tmp_path / "nightfold.yaml")
    preflight(file)
    assert entry_of(file)["search"]["max_trials"] == 240
