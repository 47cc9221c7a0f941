import json
import re
from dataclasses import replace
from html import unescape

import pytest

from engine.lake.schemas import STATISTICS
from engine.reports.luck import _LINES, luck_table
from engine.reports.results import SymbolResults


def _row(**changes):
    values = {
        "n_trials": 640, "n_eff": 12.3, "psr": 0.913, "dsr": 0.204, "min_trl": 1500.2, "pbo": 0.31,
        "spa_p": 0.0421, "wfe": 0.52, "neighbourhood": 0.9, "stability": 0.75, "undefined": "",
    }  # fmt: skip
    row = {"strategy": "trend", "fold": -1, "variant": "tuned", "policy": "", "selected": True}
    return SymbolResults("AAA", backtests=[{**row, **values, **changes}])


def _plain(html):
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    return unescape(words).replace("\N{NO-BREAK SPACE}", " ")


def test_every_statistic_stands_with_what_it_means():
    text = _plain(luck_table(_row(), "trend"))
    for value in ("640", "91.3 %", "20.4 %", "1,500", "31.0 %", "0.042", "52.0 %", "90.0 %", "75.0 %"):
        assert f" {value} " in text, value
    assert "None of these decides about champions" in text
    assert {key for key, *_ in _LINES} == {"n_trials", *STATISTICS}
    assert all(sentence.endswith(".") and sentence in text for *_, sentence in _LINES)


@pytest.mark.parametrize("pbo, red", [(0.5, False), (0.51, True), (float("nan"), False)])
def test_overfitting_above_a_half_is_red(pbo, red):
    assert ('class="tag bad"' in luck_table(_row(pbo=pbo), "trend")) == red


def test_a_knife_edge_is_marked():
    assert "knife edge" in _plain(luck_table(_row(neighbourhood=0.49), "trend")).replace(
        "stands on a knife edge", ""
    )
    assert "knife edge" not in _plain(luck_table(_row(), "trend")).replace("stands on a knife edge", "")


def test_what_is_undefined_says_why():
    why = json.dumps({"pbo": "9 complete trials, needs 10"})
    text = _plain(luck_table(_row(pbo=float("nan"), undefined=why), "trend"))
    assert "9 complete trials, needs 10" in text and "nan" not in text
    old = SymbolResults("AAA", backtests=[{"strategy": "trend", "fold": -1, "variant": "tuned",
                                           "policy": "", "selected": True}])  # fmt: skip
    assert "nan" not in _plain(luck_table(old, "trend"))  # a row of an older version


def test_stability_says_over_how_many_folds_it_is():
    fold = {"strategy": "trend", "policy": "", "selected": True, "label": "clean"}
    statuses = ["ok", "abstain", "ok", "ok", "no_candidate", "ok"]
    folds = [{**fold, "fold": i, "status": status} for i, status in enumerate(statuses)]
    tainted = {**fold, "fold": 9, "status": "ok", "label": "contaminated"}
    some = replace(_row(), folds=[*folds, tainted])
    assert "75.0 % over 4 of 6 folds" in _plain(luck_table(some, "trend"))
    every = replace(_row(), folds=[row for row in folds if row["status"] == "ok"])
    assert " of 4 folds" not in _plain(luck_table(every, "trend"))
    undefined = replace(some, backtests=[{**some.backtests[0], "stability": float("nan")}])
    assert "folds " not in _plain(luck_table(undefined, "trend")).split("Parameter stability")[1][:20]
