"""The sections of nightfold.yaml, each key with its default and its bounds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from engine.config_data import Commit, Count, Day, List, NotNegative, Positive, Section, Share


class Features(Section):
    """Which indicator columns are stored."""

    columns: Annotated[tuple[str, ...], List] = (
        "sma.close.n=20", "sma.close.n=50", "sma.close.n=200", "ema.close.n=20", "ema.close.n=50",
        "rsi.n=14", "atr.n=14", "adx.n=14", "bollinger.close.n=20.k=2", "log_return.n=1", "volatility.n=20",
    )  # fmt: skip


class Forecasts(Section):
    """What is forecast, by which model, and from when on."""

    model: Literal["local", "kronos", "chronos-2", "toto-2"] = "local"
    weights: str | None = None  # hub id or folder; needed unless local
    revision: Commit | None = None  # with a hub id
    models_dir: str = "data/models"  # where `nightfold models fetch` puts files
    knowledge_cutoff: Day | None = None  # None = what is known of the weights, else unknown
    horizon: Annotated[int, Field(ge=1, le=20)] = 1  # steps ahead, 1..h
    levels: Annotated[tuple[float, ...], List] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    min_history_bars: Annotated[int, Field(ge=100)] = 250  # the first as-of bar has that many bars
    start: Day | None = None  # first as-of date; None = the first possible
    lookback: Annotated[int, Field(ge=32)] | None = None  # bars a model reads; None = 400, local 1000
    samples: Annotated[int, Field(ge=2, le=1024)] = 32  # paths of one forecast
    temperature: Positive = 1.0  # of the draws; below 1: narrower
    top_k: Annotated[int, Field(ge=0)] = 0  # draw among the k most likely; 0 = off
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9  # draw among the most likely of this share
    dtype: Literal["fp32", "bf16"] = "fp32"  # bf16 on CUDA only
    price_scale: Literal["unit", "none"] = "unit"  # unit: each window scaled to an as-of close of 100
    allow_losing_forecasts: bool = False  # let a model that loses to its baselines carry a champion

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not all(0 < level < 1 for level in self.levels) or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must rise strictly inside (0, 1), found {list(self.levels)}")
        return self

    def inferred(self) -> dict[str, Any]:
        """Return what may change a forecast, as plain JSON values; what it may carry does not."""
        return self.model_dump(mode="json", by_alias=True, exclude={"allow_losing_forecasts"})

    @model_validator(mode="after")
    def _of_the_model(self) -> Self:
        for name in _UNUSED.get(self.model, ()):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"model {self.model} has no use for {name}, found {getattr(self, name)!r}")
        if self.model != "local" and self.weights is None:
            raise ValueError(f"model {self.model} needs weights: a hub id with its revision, or a folder")
        return self


# what a model would leave without effect: the local one is fitted here, only kronos samples paths
_PATHS_ONLY = ("samples", "temperature", "top_k", "top_p", "dtype", "price_scale")
_UNUSED = {
    "local": ("weights", "revision", "knowledge_cutoff", "lookback", *_PATHS_ONLY),
    "chronos-2": _PATHS_ONLY,
    "toto-2": _PATHS_ONLY,
}


class Devices(Section):
    """Where tensors are computed."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda:\d+)$")] = "auto"
    allow_cpu_fallback: bool = False  # of forecasts: the CPU where the GPU is absent or fails; recorded
    slots_per_gpu: Count = 1  # processes that forecast on one GPU at once
    gpu_wait_s: Positive = 3600.0  # for a slot; then an error that names its holder


class Folds(Section):
    """Outer walk-forward and inner folds, in bars."""

    scheme: Literal["rolling", "anchored"] = "rolling"
    warmup_bars: Annotated[int, Field(ge=0)] = 250  # read first; never traded, never scored
    train_bars: Count = 1000
    test_bars: Count = 125
    inner_folds: Annotated[int, Field(ge=2)] = 8  # folds of a training part = pruning steps
    purge_bars: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"  # auto = the strategy's holding
    min_folds: Count = 4  # full outer folds a strategy needs
    reoptimize: Literal["nightly", "when_due"] = "nightly"  # nightly: a fit on the newest window every run

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.inner_folds > self.train_bars:
            raise ValueError(f"inner_folds {self.inner_folds} is more than train_bars {self.train_bars}")
        return self


class PositionSize(Section):
    """Size of a position, for strategies that state none: exactly one of the four."""

    fraction: Positive | None = None  # of the equity
    risk: Positive | None = None  # share of the equity lost when the price moves by the distance
    atr: Positive | None = None  # with risk: the distance in ATR(14); without: the stop's own
    units: Positive | None = None
    notional: Positive | None = None  # money's worth

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [
            name for name in ("fraction", "risk", "units", "notional") if getattr(self, name) is not None
        ]
        if len(given) != 1 or (self.atr is not None and self.risk is None):
            raise ValueError(
                "size is one of {fraction: f}, {risk: r}, {risk: r, atr: m}, {units: u}, {notional: n}; "
                f"found {sorted(name for name, value in self if value is not None) or 'nothing'}"
            )
        return self


class ExecutionSettings(Section):
    """How orders are filled."""

    initial_cash: Positive = 100_000.0
    size: PositionSize = PositionSize(fraction=1.0)
    leverage: Positive = 1.0
    cash_rule: Literal["cut", "refuse"] = "cut"
    min_qty: NotNegative = 0.0
    limit_fill: Literal["through", "touch"] = "through"  # a target fills one tick beyond it, or at a touch
    level_base: Literal["fill", "signal_close"] = "fill"  # what stops and targets are measured from
    limit_improvement: bool = False  # true: a limit entry fills at the open where that is better
    target_in_entry_bar: Literal["never", "after_open_entry"] = "never"
    breakeven_after_first: bool = False  # the first target filled moves the stop to the entry price
    exit_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the first quantity, at an exit signal
    max_bars: Annotated[int, Field(ge=0)] | None = None  # held after the entry bar; None = no limit
    on_opposite: Literal["hold", "reverse"] = "hold"
    fill_on_zero_volume: bool = False


class Cost(Section):
    """Costs of one class of instrument, in basis points."""

    fee_bps: NotNegative = 5.0
    slippage_bps: NotNegative = 2.0
    borrow_bps_year: NotNegative = 50.0
    financing_bps_year: NotNegative = 0.0


class Costs(Section):
    """Costs by class; a symbol may override each."""

    stock: Cost = Cost()
    crypto: Cost = Cost(fee_bps=15.0, slippage_bps=5.0, borrow_bps_year=0.0)


class Bounds(Section):
    """Offsets searched, per axis, in return units."""

    high: Annotated[tuple[float, float], List] = (-0.03, 0.03)
    low: Annotated[tuple[float, float], List] = (-0.03, 0.03)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, (low, high) in (("high", self.high), ("low", self.low)):
            if low >= high:
                raise ValueError(f"bounds.{name}: lower {low} is not below upper {high}")
        return self


class AbsoluteWidth(Section):
    """A fixed width of the smoothing."""

    absolute: Positive  # in return units


class Levels(Section):
    """The forecast-levels strategies."""

    solver: str = "exact"  # names: engine.search.levels.backends; checked before any work
    objective: Literal["smoothed", "sup"] = "smoothed"  # what a fit maximises; sup = the raw optimum
    smoothing: AbsoluteWidth | Positive = 0.25  # s = this x median EWMA(20) volatility of the window
    fill: Annotated[str, Field(pattern=r"^(touch|through:[1-9]\d*)$")] = "through:1"  # k ticks
    policies: Annotated[tuple[Literal["path", "close", "target"], ...], List] = ("path", "close")
    fee_mode: Literal["per_side", "per_leg"] = "per_side"
    side: Literal["maxdiff", "momentum"] = "maxdiff"  # side rule of entry_exit
    level: Annotated[float, Field(gt=0, lt=1)] = 0.5  # forecast quantile used for high and low
    bounds: Bounds = Bounds()
    budget: Count = 300  # evaluations of the searching solvers
    shrink: Share = 1.0  # offsets x this, after the fit
    abstain: bool = True  # trade nothing where the fit lost in sample
    num_simulations: Annotated[int, Field(ge=2)] = 70  # of `nightfold levels`, not of the pipeline

    @model_validator(mode="after")
    def _some_policy(self) -> Self:
        if not self.policies or len(set(self.policies)) != len(self.policies):
            raise ValueError(f"policies must name at least one exit rule, each once, found {self.policies}")
        return self


def _report(value: str) -> str:
    if re.fullmatch(r"folds|bars:[1-9]\d{0,8}", value) is None:
        raise ValueError(f"{value!r} is neither folds nor bars:N, such as bars:500")
    return value


def _time(value: str) -> str:
    if re.fullmatch(r"[1-9]\d{0,8}[smh]", value) is None:
        raise ValueError(f"{value!r} is no time; expected one such as 30m or 2h")
    return value


class Search(Section):
    """The Optuna study of each outer fold."""

    objective: Literal["auto", "log_growth", "roi", "sharpe", "calmar", "profit_per_trade"] = "auto"
    # quasi-random candidates first, 0 = none; with tpe a quarter as many again near the best of them
    screen: Annotated[int, Field(ge=0, le=65_536)] = 1024
    sampler: Literal["tpe", "random", "grid"] = "tpe"  # tpe sees the complete trials only
    max_trials: Count = 32  # trials told after the screen, duplicates excluded, per study
    batch: Count = 16  # trials asked, evaluated and told together
    pruner: Literal[
        "halving", "race", "none",
        "optuna:median", "optuna:percentile", "optuna:sha", "optuna:hyperband", "optuna:wilcoxon",
    ] = "halving"  # fmt: skip
    report: Annotated[str, AfterValidator(_report)] = "folds"  # where trials are cut: folds | bars:N
    mode: Literal["in-process", "subprocess"] = "in-process"  # subprocess: whole outer folds in processes
    max_concurrent: Count = 1  # processes of one symbol in subprocess mode
    timeout: Annotated[str, AfterValidator(_time)] | None = None  # of a study, e.g. 2h, after a whole batch
    search_all: bool = False  # true: parameters not named are searched over their declared bounds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch > self.max_trials:
            raise ValueError(f"batch {self.batch} is more than max_trials {self.max_trials}")
        if self.max_concurrent > 1 and self.mode == "in-process":
            raise ValueError(f"max_concurrent {self.max_concurrent} needs mode subprocess, found in-process")
        if self.report_bars and self.pruner in ("race", "none", "optuna:wilcoxon"):
            why = "cuts no trial" if self.pruner == "none" else "compares whole inner folds"
            raise ValueError(f"report {self.report}: pruner {self.pruner} {why}. Set report: folds")
        if self.report_bars and self.objective not in ("auto", "log_growth", "roi"):
            raise ValueError(
                f"report {self.report} needs objective log_growth or roi, whose value is known at every bar; "
                f"found {self.objective}. Set report: folds"
            )
        return self

    @property
    def report_bars(self) -> int | None:
        """Return the bars between two looks of the pruner; None = it looks after each inner fold."""
        return None if self.report == "folds" else int(self.report.removeprefix("bars:"))

    @property
    def timeout_s(self) -> float | None:
        """Return the seconds after which a study starts no further batch; None = no limit."""
        if self.timeout is None:
            return None
        return float(self.timeout[:-1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[self.timeout[-1]]


class Constraints(Section):
    """What a trial must meet over its training part; None = off."""

    min_trades: Annotated[int, Field(ge=0)] | None = 15
    max_trades: Count | None = None
    min_profit_factor: Positive | None = None
    max_drawdown: Share | None = 0.5
    max_fees_pct: Positive | None = None  # fees / gross profit
    max_turnover: Positive | None = None  # a year, both sides counted
    max_exposure: Share | None = None


class Promotion(Section):
    """What the out-of-sample evidence of a champion must meet."""

    enabled: bool = True
    min_oos_bars: Count = 500
    min_oos_trades: Count = 20
    min_improvement: float = 0.5  # bps per bar over the exposure-matched hold
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.985  # of one look: make bench-truth


class Leaf(Section):
    """How one parameter is searched, or fixed."""

    type: Literal["int", "float", "categorical", "fixed"]
    low: float | None = None
    high: float | None = None
    step: Positive | None = None
    log: bool = False
    choices: Annotated[tuple[str | int | float | bool, ...], List] | None = None
    value: str | int | float | bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = {name for name, value in self if value is not None and value is not False} - {"type"}
        given |= {"value"} if self.value is False else set()
        needed, allowed = {
            "int": ({"low", "high"}, {"low", "high", "step", "log"}),
            "float": ({"low", "high"}, {"low", "high", "step", "log"}),
            "categorical": ({"choices"}, {"choices"}),
            "fixed": ({"value"}, {"value"}),
        }[self.type]
        if needed - given or given - allowed:
            raise ValueError(
                f"type {self.type} needs {sorted(needed)}, may have {sorted(allowed)}; found {sorted(given)}"
            )
        if self.type == "categorical" and (not self.choices or len(set(self.choices)) != len(self.choices)):
            raise ValueError(f"choices must be at least one, each once, found {list(self.choices or ())}")
        kinds = {type(choice) if isinstance(choice, bool | str) else float for choice in self.choices or ()}
        if len(kinds) > 1:
            raise ValueError(f"choices must be of one type, found {list(self.choices or ())}")
        if self.low is not None and self.high is not None:
            _check_range(self.type, self.low, self.high, self.step, self.log)
        return self


def _check_range(kind: str, low: float, high: float, step: float | None, log: bool) -> None:
    if low > high:
        raise ValueError(f"low {low:g} is greater than high {high:g}")
    if kind == "int" and any(x is not None and x != int(x) for x in (low, high, step)):
        raise ValueError("type int takes whole numbers")
    if log and (low <= 0 or step is not None):
        raise ValueError("log needs low > 0 and no step")
    if step is not None:
        steps = (high - low) / step
        if abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
            raise ValueError(f"high - low = {high - low:g} is not a multiple of step {step:g}")


class Workers(Section):
    """How many symbols at once."""

    max_concurrent: Count | None = None  # CPU slots of the machine, over all runs; None = CPU count
    start_method: Literal["forkserver", "spawn"] = "forkserver"


class Report(Section):
    """The HTML report."""

    charts: bool = True  # false: tables only
