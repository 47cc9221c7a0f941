"""The statistics of luck on the stitched ``tuned`` row of a strategy: how far its search fooled itself.

They inform; the champion rule decides without them. A number that is undefined is NaN, and column
``undefined`` says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc

from engine.bars.model import Bars, Floats
from engine.config import Instrument, Strategy
from engine.features.table import FeatureSet
from engine.lake.publish import Lake
from engine.lake.records import arrays_sha, canonical, code_id, digest
from engine.lake.schemas import STATISTICS
from engine.search.fit import bars_sha
from engine.search.folds import inner_spans
from engine.search.space import make_space
from engine.stages._decisions import newest_fit
from engine.stages.common import execution_of, procedure
from engine.strategies import registry
from engine.validation import overfitting, statistics
from engine.validation.bootstrap import superior_predictive_ability
from engine.validation.champion import Series, draw_seed
from engine.validation.cross_validation import backtest_overfitting
from engine.validation.statistics import Statistic, undefined

Row = dict[str, Any]
SOLVED = "its levels are solved, not searched by trials"
BLANK: Row = {"n_trials": None, **dict.fromkeys(STATISTICS, math.nan), "undefined": ""}


def luck(
    lake: Lake,
    bars: Bars,
    features: FeatureSet,
    instrument: Instrument,
    entry: Strategy,
    folds: Sequence[Row],
    series: Series,
    returns: Floats,
    growth: float,
    seed: int,
    known: Row,
) -> tuple[Row, Row]:
    """Return the columns of `STATISTICS`, ``n_trials`` and ``undefined``, and what the next night may reuse.

    Parameters
    ----------
    lake, bars, features, instrument, entry
        As in the stage.
    folds : sequence of dict
        The chosen rows of table ``folds`` of this entry.
    series : Series
        Closed out-of-sample bars above the matched hold.
    returns : float64 array, shape (T,)
        Net returns per out-of-sample bar, the open fold's included.
    growth : float
        Log growth out of sample, bps per bar; of a fixed notional the mean net move.
    seed : int
        The setting.
    known : dict
        What was returned beside the row of the night before; {} where there is none.
    """
    levels = registry.get(entry.strategy).kind == "levels"
    studies = [row["study_id"] for row in sorted(folds, key=lambda row: int(row["fold"]))]
    trials = None if levels else read_trials(lake, bars.symbol, entry.label, studies)
    lasting = _until_a_fold_closes(bars, features, instrument, entry, folds, series, trials, seed, known)
    kept = {name: Statistic(math.nan if value is None else value, why)
            for name, (value, why) in lasting["found"].items()}  # fmt: skip
    found: dict[str, Statistic] = {
        "psr": statistics.probabilistic_sharpe(returns),
        "min_trl": statistics.min_track_record(returns),
        "spa_p": kept["spa_p"],
        "wfe": statistics.walk_forward_efficiency(growth, _in_sample(folds)),
        "stability": statistics.parameter_stability(_chosen(folds), _ranges(entry)),
    }
    if trials is None:
        found |= dict.fromkeys(("n_eff", "dsr", "pbo", "neighbourhood"), undefined(SOLVED))
    else:
        found |= {
            "n_eff": statistics.effective_trials(kept["correlation"], trials.count),
            "dsr": statistics.deflated_sharpe(returns, trials.sharpes, trials.count),
            "pbo": kept["pbo"],
            "neighbourhood": _neighbourhood(lake, bars, features, instrument, entry, series.procedure, seed),
        }
    why = {name: one.reason for name, one in found.items() if one.reason}
    if trials is None:
        why["n_trials"] = SOLVED
    values = {name: found[name].value for name in STATISTICS}
    row = {"n_trials": trials.count if trials else None, **values, "undefined": canonical(why) if why else ""}
    return row, lasting


def read_trials(lake: Lake, symbol: str, name: str, studies: Sequence[str]) -> overfitting.Trials:
    """Return the trials of one strategy from the ledger, of all folds and nights.

    Parameters
    ----------
    lake, symbol, name
        Whose ledger, and the strategy's name there.
    studies : sequence of str
        Ids of the outer folds' studies, oldest first: the complete trials are theirs, in this order.
        (A fold's study may stand in the ledger as an earlier night's.) Nights that were cut to a summary
        add all their configurations: an upper bound of the count.
    """
    columns = ["strategy", "study_id", "trial_number", "state", "outcome", "params", "params_hash"]
    columns += ["duplicate_of", "sr", "bars_done", "summary"]
    keys: set[str] = set()
    sharpes: list[Floats] = []
    ended: list[tuple[int, int, str, str]] = []
    summarised = 0
    place = {study: number for number, study in enumerate(studies)}
    for part in lake.parts("trials", symbol):
        rows = lake.read("trials", symbol, columns, part)
        if rows is None:
            continue
        ran = pc.and_(pc.is_null(rows["duplicate_of"]), pc.not_equal(rows["outcome"], "INVALID_PARAMS"))
        rows = rows.filter(pc.and_(ran, pc.equal(rows["strategy"], name)))
        nights = rows.filter(pc.equal(rows["state"], "SUMMARY"))["summary"].to_pylist()
        summarised += sum(json.loads(text)["n_configs"] for text in nights)
        rows = rows.filter(pc.not_equal(rows["state"], "SUMMARY"))
        keys.update(rows["params_hash"].to_pylist())
        long = rows.filter(pc.greater_equal(rows["bars_done"], statistics.MIN_RETURNS))
        sharpes.append(long["sr"].to_numpy())
        whole = rows.filter(pc.equal(rows["state"], "COMPLETE"))
        ended += [
            (place[row["study_id"]], row["trial_number"], row["params_hash"], row["params"])
            for row in whole.to_pylist()
            if row["study_id"] in place
        ]
    complete: dict[str, overfitting.Config] = {}
    for _, _, key, params in sorted(ended):
        complete.setdefault(key, json.loads(params))
    known = np.sort(np.concatenate([np.zeros(0), *sharpes]))  # the ledger's order is that of the nights
    return overfitting.Trials(len(keys) + summarised, known[np.isfinite(known)], list(complete.values()))


def _until_a_fold_closes(
    bars: Bars,
    features: FeatureSet,
    instrument: Instrument,
    entry: Strategy,
    folds: Sequence[Row],
    series: Series,
    trials: overfitting.Trials | None,
    seed: int,
    known: Row,
) -> Row:
    """Return what rests on closed folds and the folds' own studies alone, as plain JSON values.

    The same every night until a fold closes, and dear: taken from ``known`` where its ``key``, a hash
    of all that goes in, is this one. ``found`` holds [value, why it is undefined] by name.
    """
    start, stop = min(row["train_from"] for row in folds), max(row["train_to"] for row in folds)
    configs = [] if trials is None else overfitting.thinned(trials.complete)
    draws = draw_seed(bars.symbol, seed, [series])
    arrays = {"excess": series.excess, "ts": series.ts}
    key = digest([code_id(__name__), procedure(entry), instrument.trading(), draws, arrays_sha(arrays),
                  configs, start, stop, bars_sha(bars, stop)])  # fmt: skip
    if known.get("key") == key:
        return known
    found = {"spa_p": superior_predictive_ability(series.excess[:, None], seed=draws)}
    if trials is not None:
        strategy, execution = registry.get(entry.strategy), execution_of(instrument, entry)
        matrix = overfitting.trial_returns(features, strategy, configs, execution, start, stop)
        halves = backtest_overfitting(matrix)
        found |= {
            "correlation": statistics.mean_correlation(matrix),
            "pbo": Statistic(halves.probability, halves.reason),
        }
    plain = {n: [one.value if math.isfinite(one.value) else None, one.reason] for n, one in found.items()}
    return {"key": key, "found": plain}


def _neighbourhood(
    lake: Lake, bars: Bars, features: FeatureSet, instrument: Instrument, entry: Strategy, procedure: str,
    seed: int,
) -> Statistic:  # fmt: skip
    """Return the neighbourhood profit of the procedure's newest fit, on the bars it was fitted to."""
    fit = newest_fit(lake, bars.symbol, entry.label, procedure)
    if fit["status"] != "ok":
        return undefined("no trial qualified in the newest fit")
    strategy = registry.get(entry.strategy)
    space = make_space(strategy.parameters, entry.parameters, search_all=entry.search.search_all)
    start, stop = (int(np.searchsorted(bars.ts, fit[name])) for name in ("train_start", "train_end"))
    chosen = json.loads(fit["params"])
    configs = [chosen, *overfitting.neighbours(space, strategy, chosen, seed)]
    spans = inner_spans(start, stop, entry.folds.inner_folds)
    execution = replace(execution_of(instrument, entry), close_at_end=True)  # as the search runs them
    values = overfitting.mean_values(features, strategy, configs, execution, spans)
    return statistics.neighbourhood(float(values[0]), values[1:])


def _in_sample(folds: Sequence[Row]) -> float:
    """Return in-sample growth per bar over all folds; where nothing qualified, nothing was earned."""
    bars = np.array([row["train_to"] - row["train_from"] for row in folds], dtype=np.float64)
    values = np.nan_to_num(np.array([row["in_sample"] for row in folds], dtype=np.float64))
    return float(values @ bars / bars.sum())


def _chosen(folds: Sequence[Row]) -> list[Mapping[str, float]]:
    return [json.loads(row["params"]) for row in folds if row["status"] == "ok"]


def _ranges(entry: Strategy) -> dict[str, tuple[float, float]]:
    """Return the searched range of each numeric parameter; of a levels strategy its two offsets'."""
    strategy = registry.get(entry.strategy)
    if strategy.kind == "levels":
        return {"u": entry.levels.bounds.high, "v": entry.levels.bounds.low}
    space = make_space(strategy.parameters, entry.parameters, search_all=entry.search.search_all)
    return {
        name: (float(leaf.low or 0.0), float(leaf.high or 0.0))
        for name, leaf in space.searched.items()
        if leaf.choices is None
    }
