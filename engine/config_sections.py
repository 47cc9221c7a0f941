"""The sections of nightfold.yaml, each key with its default and its bounds."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
List = Field(strict=False)  # YAML lists become tuples; their items stay strict


def _day(value: object) -> object:
    """Return a date written as text; YAML dates are read as text."""
    if not isinstance(value, str):
        return value
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return date.fromisoformat(value)
    except ValueError:
        pass  # no such day
    raise ValueError(f"{value!r} is no date; expected one such as 2012-01-31")


Day = Annotated[date, BeforeValidator(_day)]


class Section(BaseModel):
    """A frozen group of settings; unknown keys, wrong types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FileForm(Section):
    """How a symbol's own file is written, where it is not the plain form."""

    path: str  # relative to the data folder
    zone: str | None = None  # zone of stamps without one, e.g. UTC
    date_format: Literal["iso", "epoch_s", "epoch_ms"] = "iso"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    ignore_columns: Annotated[tuple[str, ...], List] = ()


class Symbol(Section):
    """Options of one symbol; what is None comes from ``prices`` or ``costs.<class>``."""

    class_: Literal["stock", "crypto"] = Field("stock", alias="class")
    source: Literal["sample", "files", "yahoo", "exchange"] | None = None
    frame: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] | None = None
    start: Day | None = None
    provider_symbol: str | None = None  # name at the source; None = the key
    venue: str | None = None  # ccxt venue, for source exchange
    calendar: Literal["observed", "24/7"] | None = None  # None: observed for stock, 24/7 for crypto
    sides: Literal["both", "long"] | None = None  # None: both for stock, long for crypto
    tick: NotNegative | None = None  # raw price step; None: .01 for stock, 0 (unknown) for crypto
    lot: NotNegative = 0.0  # 0 = fractional quantities
    file: FileForm | None = None
    fee_bps: NotNegative | None = None
    slippage_bps: NotNegative | None = None
    borrow_bps_year: NotNegative | None = None
    financing_bps_year: NotNegative | None = None


class Overlap(Section):
    """Bars asked for again at each update, to see whether the vendor changed history."""

    daily: Count = 10
    intraday: Count = 100


class Prices(Section):
    """Where prices come from, for symbols that do not say otherwise."""

    source: Literal["sample", "files", "yahoo", "exchange"] = "sample"
    frame: Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"] = "1d"
    overlap_bars: Overlap = Overlap()
    start: Day | None = None  # first bar asked of a network source; None = all there is


class Features(Section):
    """Which indicator columns are stored."""

    columns: Annotated[tuple[str, ...], List] = (
        "sma.close.n=20", "sma.close.n=50", "sma.close.n=200", "ema.close.n=20", "ema.close.n=50",
        "rsi.n=14", "atr.n=14", "adx.n=14", "bollinger.close.n=20.k=2", "log_return.n=1", "volatility.n=20",
    )  # fmt: skip


class Forecasts(Section):
    """What is forecast, and from when on."""

    horizon: Annotated[int, Field(ge=1, le=20)] = 1  # steps ahead, 1..h
    levels: Annotated[tuple[float, ...], List] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    min_history_bars: Annotated[int, Field(ge=100)] = 250  # the first as-of bar has that many bars
    start: Day | None = None  # first as-of date; None = the first possible

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not all(0 < level < 1 for level in self.levels) or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must rise strictly inside (0, 1), found {list(self.levels)}")
        return self


class Devices(Section):
    """Where tensors are computed."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda:\d+)$")] = "auto"


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


class ExecutionSettings(Section):
    """How orders are filled."""

    initial_cash: Positive = 100_000.0
    leverage: Positive = 1.0
    cash_rule: Literal["cut", "refuse"] = "cut"
    min_qty: NotNegative = 0.0
    limit_fill: Literal["through", "touch"] = "through"  # a target fills one tick beyond it, or at a touch
    level_base: Literal["fill", "signal_close"] = "fill"  # what stops and targets are measured from
    target_in_entry_bar: Literal["never", "after_open_entry"] = "never"
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


class Search(Section):
    """The Optuna study of each outer fold."""

    sampler: Literal["tpe", "random"] = "tpe"
    max_trials: Count = 64  # trials of one study
    batch: Count = 16  # trials asked, evaluated and told together
    pruner: Literal["halving", "none"] = "halving"
    search_all: bool = False  # true: parameters not named are searched over their declared bounds

    @model_validator(mode="after")
    def _batch_fits(self) -> Self:
        if self.batch > self.max_trials:
            raise ValueError(f"batch {self.batch} is more than max_trials {self.max_trials}")
        return self


class Constraints(Section):
    """What a trial must meet over its training part; None = off."""

    min_trades: Annotated[int, Field(ge=0)] | None = 15
    max_trades: Count | None = None
    min_profit_factor: Positive | None = None
    max_drawdown: Share | None = 0.5


class Promotion(Section):
    """What the out-of-sample evidence of a champion must meet."""

    enabled: bool = True
    min_oos_bars: Count = 500
    min_oos_trades: Count = 20
    min_improvement: float = 0.5  # bps per bar over the exposure-matched hold
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


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


class Schedule(Section):
    """The nightly run of the Dagster daemon."""

    enabled: bool = True
    cron: str = "0 2 * * 2-6"  # the nights after Monday to Friday
    timezone: str = "America/New_York"


class Report(Section):
    """The HTML report."""

    charts: bool = True  # false: tables only
