"""Every table of the lake: columns and types. The first column is always ``symbol``."""

from __future__ import annotations

import pyarrow as pa

from engine.errors import LakeError, closest

TS = pa.timestamp("us")  # UTC, without zone: the open of a bar
_F, _I, _B, _S = pa.float64(), pa.int64(), pa.bool_(), pa.string()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([("symbol", _S), *columns.items()])


# on the stitched row of `tuned`, else NaN: search.md section 10; column `undefined` says why one is NaN
STATISTICS = ("n_eff", "psr", "dsr", "min_trl", "pbo", "spa_p", "wfe", "neighbourhood", "stability")
# metrics of one run, simulation.md section 8; undefined is NaN
METRICS = (
    "bps_per_bar", "roi", "cagr", "sharpe", "sortino", "max_drawdown", "calmar", "profit_factor", "win_rate",
    "exposure", "net_exposure", "gross_exposure", "turnover", "fees", "slippage", "financing", "dividends",
)  # fmt: skip

TABLES: dict[str, pa.Schema] = {
    "base_bars": _schema(ts=TS, open=_F, high=_F, low=_F, close=_F, volume=_F, adj=_F, dividend=_F),
    "bars": _schema(ts=TS, open=_F, high=_F, low=_F, close=_F, volume=_F, adj=_F, dividend=_F),
    "quarantine": _schema(
        ts=TS, rule=_S, version=_S, source=_S, raw_sha=_S, line=_I, text=_S, reason=_S
    ),  # rows that the policy set aside; of a disputed history both versions
    "features": _schema(ts=TS),  # further columns: one float64 per stored feature
    "forecasts": _schema(
        model_key=_S, as_of=TS, step=pa.int16(), field=_S, level=pa.float32(), value=pa.float32()
    ),
    "forecast_inputs": _schema(
        model_key=_S, as_of=TS, input_hash=_S, status=_S, reason=_S, device=_S, dtype=_S,
        n_clamped=_I, n_repaired=_I, in_pretraining=_B,
    ),
    "forecast_models": _schema(
        model_key=_S, spec=_S, knowledge_cutoff=pa.date32(), cutoff_status=_S, first_as_of=TS
    ),
    "forecast_quality": _schema(
        model_key=_S, step=pa.int16(), field=_S, span=_S, n=_I, pinball=_F, pinball_fhs=_F,
        pinball_persist=_F, skill_fhs=_F, t_fhs=_F, mae_p50=_F, mae_zero=_F, cover_80=_F,
        crossing_rate=_F, clamp_rate=_F, verdict=_S,
    ),
    "trials": _schema(
        strategy=_S, fold=_I, study_id=_S, trial_number=_I, batch_no=_I, state=_S, outcome=_S, params=_S,
        params_hash=_S, trades_hash=_S, value=_F, fold_scores=pa.list_(_F), folds_done=_I, pruned_step=_I,
        bars_done=_I, trades=_I, fees=_F, max_drawdown=_F, sr=_F, skew=_F, kurt=_F,
        constraints=_S, duplicate_of=_I, signals=_I, blocked=_S, error=_S,
        reported=pa.list_(pa.struct([("bars", _I), ("value", _F)])),
        data_id=_S, config_hash=_S, config=_S, seed=_I, summary=_S,
    ),  # config: of the study, in the row of its first trial
    "folds": _schema(
        strategy=_S, fold=_I, policy=_S, scheme=_S, train_start=TS, train_end=TS, test_start=TS, test_end=TS,
        train_from=_I, train_to=_I, test_from=_I, test_to=_I, purge_bars=_I, open=_B, label=_S, params=_S,
        study_id=_S, trial_number=_I, solver=_S, objective=_S, in_sample=_F, in_sample_untuned=_F,
        regret=_F, n_trials=_I, n_pruned=_I, status=_S, selected=_B, ended=_S, inert=_S,
    ),
    "nightly": _schema(
        strategy=_S, policy=_S, asof=TS, train_start=TS, train_end=TS, params=_S, study_id=_S,
        trial_number=_I, solver=_S, objective=_S, in_sample=_F, in_sample_untuned=_F, regret=_F,
        n_trials=_I, n_pruned=_I, status=_S, selected=_B, procedure=_S, model_key=_S, ended=_S, inert=_S,
    ),
    "backtests": _schema(
        strategy=_S, fold=_I, policy=_S, variant=_S, start=TS, end=TS, bars=_I, label=_S, selected=_B,
        status=_S, in_sample_bps_per_bar=_F, bps_per_bar_equal_exposure=_F, trades=_I, annualisation=_I,
        **dict.fromkeys(METRICS, _F), n_trials=_I, **dict.fromkeys(STATISTICS, _F), undefined=_S,
    ),
    "trades": _schema(
        strategy=_S, variant=_S, trade=_I, fold=_I, side=_S, entry_ts=TS, exit_ts=TS, quantity=_F,
        entry_price=_F, exit_price=_F, fees=_F, slippage=_F, financing=_F, dividends=_F, pnl=_F, reason=_S,
        bars_held=_I,
        fills=pa.list_(
            pa.struct(
                [("ts", TS), ("side", _S), ("quantity", _F), ("price", _F), ("fee", _F), ("reason", _S)]
            )
        ),
    ),
    "equity": _schema(
        strategy=_S, variant=_S, ts=TS, fold=_I, equity=_F, position=_F, drawdown=_F, label=_S
    ),
    "next_orders": _schema(
        strategy=_S, policy=_S, asof=TS, action=_S, side=_S, type=_S, limit=_F, stop=_F, target=_F,
        quantity_per_100k=_F, valid_for=_S, note=_S,
    ),
    "forward": _schema(  # what each night's fit then earned: one row a night, written once
        procedure=_S, strategy=_S, policy=_S, asof=TS, label=_S, start=TS, end=TS, bars=_I, status=_S,
        fills=_I, gross=_F, costs=_F, net=_F, equity=_F, position_in=_F, position_out=_F, carried=_S,
    ),
    "looks": _schema(procedure=_S, strategy=_S, ts=TS, net=_F, x=_F),  # evidence of every procedure ever
    "champions": _schema(
        seq=_I, asof=TS, decision=_S, strategy=_S, settings_hash=_S, p=_F, q=_F, params=_S, study_id=_S,
        trial_number=_I, evidence=_S, reasons=_S, predecessor=_I, diff=_S, in_force=_B,
    ),
}  # fmt: skip


def schema_of(table: str) -> pa.Schema:
    """Return a table's declared columns.

    Raises
    ------
    LakeError
        No table has that name; names the closest three.
    """
    if table not in TABLES:
        raise LakeError(f"table {table!r} is not declared. {closest(table, TABLES)}")
    return TABLES[table]
