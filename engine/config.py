"""The settings of nightfold.yaml as frozen, validated values, defaults filled.

The sections and their defaults stand in `engine.config_sections`; `engine.config_file.load`
reads the file. A key stands there only once it has an effect. Names (strategies, features,
sources) are resolved later, in `engine.stages.preflight`.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from engine.config_data import FRAME_MINUTES, FileForm, Inbox, List, Prices, Section, Symbol
from engine.config_schedule import Schedule
from engine.config_sections import (
    Constraints,
    Cost,
    Costs,
    Devices,
    ExecutionSettings,
    Features,
    Folds,
    Forecasts,
    Leaf,
    Levels,
    Promotion,
    Report,
    Search,
    Workers,
)


class Strategy(Section):
    """One strategy entry; sections given here replace the file's, key by key."""

    strategy: str  # registered name
    name: str | None = None  # the `strategy` column of the lake; None = the registered name
    symbols: Annotated[tuple[str, ...], List] | None = None  # None = all
    parameters: dict[str, Leaf] = Field(default_factory=dict)
    folds: Folds = Folds()
    search: Search = Search()
    constraints: Constraints = Constraints()
    execution: ExecutionSettings = ExecutionSettings()
    levels: Levels = Levels()
    promotion: Promotion = Promotion()

    @property
    def label(self) -> str:
        """Return the entry's name in the lake."""
        return self.name or self.strategy


_LEVELS_FOLDS = Folds(train_bars=500, test_bars=20)
_DEFAULT_STRATEGIES = (
    Strategy(strategy="levels_entry_exit", folds=_LEVELS_FOLDS),
    Strategy(strategy="levels_always_on", folds=_LEVELS_FOLDS),
    Strategy(
        strategy="trend",
        parameters={
            "fast": Leaf(type="int", low=5, high=60),
            "slow": Leaf(type="int", low=20, high=200, step=5),
            "adx_min": Leaf(type="float", low=10, high=30, step=1),
            "stop_atr": Leaf(type="float", low=1, high=4, step=0.25),
            "target_atr": Leaf(type="float", low=2, high=8, step=0.5),
        },
    ),
)
_OVERRIDABLE = ("folds", "search", "constraints", "execution", "levels", "promotion")


class Settings(Section):
    """Everything nightfold.yaml says, defaults filled."""

    version: Literal[1] = 1
    data_dir: str = "data"  # all that is written lies under it
    seed: Annotated[int, Field(ge=0)] = 0
    asof: str | None = None  # ISO time; None = now, read by the command line and pipelines only
    symbols: dict[str, Symbol]
    prices: Prices = Prices()
    features: Features = Features()
    forecasts: Forecasts = Forecasts()
    devices: Devices = Devices()
    folds: Folds = Folds()
    execution: ExecutionSettings = ExecutionSettings()
    costs: Costs = Costs()
    levels: Levels = Levels()
    search: Search = Search()
    constraints: Constraints = Constraints()
    promotion: Promotion = Promotion()
    strategies: Annotated[tuple[Strategy, ...], List] = _DEFAULT_STRATEGIES
    workers: Workers = Workers()
    schedule: Schedule = Schedule()
    inbox: Inbox = Inbox()
    report: Report = Report()

    @field_validator("asof")
    @classmethod
    def _iso(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                datetime.fromisoformat(value)
            return value
        except ValueError:
            raise ValueError(
                f"{value!r} is no ISO time; expected one such as 2013-03-01 or 2013-03-01T21:00Z"
            ) from None

    @model_validator(mode="after")
    def _entries_fit(self) -> Self:
        """Refuse a section that is sound alone and not together with the file's."""
        mistakes: list[InitErrorDetails] = []
        for index, entry in enumerate(self.strategies):
            for name in _OVERRIDABLE:
                try:
                    _merge(getattr(self, name), getattr(entry, name))
                except ValidationError as error:
                    text = error.errors()[0]["msg"].removeprefix("Value error, ")
                    problem = PydanticCustomError("value_error", "{text}", {"text": text})
                    mistakes.append(
                        InitErrorDetails(type=problem, loc=("strategies", index, name), input=None)
                    )
        if mistakes:
            raise ValidationError.from_exception_data("Settings", mistakes)
        return self

    @model_validator(mode="after")
    def _base_frames_fit(self) -> Self:
        """Refuse a base frame from which the symbol's bars cannot be made."""
        mistakes: list[InitErrorDetails] = []
        for key, options in self.symbols.items():
            it = self.instrument(key)
            if it.base_frame is None:
                continue
            frame, base = FRAME_MINUTES[it.frame], FRAME_MINUTES[it.base_frame]
            text = ""
            if base >= frame or frame % base:
                text = f"{it.base_frame} is not finer than frame {it.frame}; expected one that goes into it"
            elif it.calendar == "observed":
                text = (
                    f"bars of {it.frame} cannot be made from {it.base_frame} under calendar observed, which "
                    f"does not say which belong together. Set calendar: of {key} to 24/7, weekdays, or the "
                    "code of an exchange such as XNYS"
                )
            if text:
                problem = PydanticCustomError("value_error", "{text}", {"text": text})
                place = ("symbols", key, "base_frame")
                mistakes.append(InitErrorDetails(type=problem, loc=place, input=options.base_frame))
        if mistakes:
            raise ValidationError.from_exception_data("Settings", mistakes)
        return self

    def entries(self, symbol: str) -> tuple[Strategy, ...]:
        """Return the strategy entries of a symbol, the file's sections filled in."""
        return tuple(
            self.resolved(entry)
            for entry in self.strategies
            if entry.symbols is None or symbol in entry.symbols
        )

    def resolved(self, entry: Strategy) -> Strategy:
        """Return an entry with the file's sections filled in, key by key."""
        return entry.model_copy(
            update={name: _merge(getattr(self, name), getattr(entry, name)) for name in _OVERRIDABLE}
        )

    def instrument(self, symbol: str) -> Instrument:
        """Return a symbol's options with every default filled in."""
        return Instrument.of(symbol, self.symbols[symbol], self)


M = TypeVar("M", bound=BaseModel)


def _merge(base: M, override: M) -> M:
    """Return ``base`` with the keys that ``override`` was given explicitly, at every depth."""
    values = dict(base)
    for key in override.model_fields_set:
        given = getattr(override, key)
        both = isinstance(given, BaseModel) and isinstance(values[key], BaseModel)
        values[key] = _merge(values[key], given) if both else given
    return type(base).model_validate(values)


class Instrument(Section):
    """One symbol with nothing left open."""

    key: str
    class_: str
    source: str
    frame: str
    base_frame: str | None
    policy: str
    repairs: tuple[str, ...]
    start: date | None
    provider_symbol: str
    venue: str | None
    calendar: str
    sides: Literal["both", "long"]
    tick: float
    lot: float
    file: FileForm | None
    cost: Cost

    @classmethod
    def of(cls, key: str, options: Symbol, settings: Settings) -> Self:
        """Fill a symbol's open options from its class and the file."""
        stock = options.class_ == "stock"
        cost: Cost = getattr(settings.costs, options.class_)
        own = {name: getattr(options, name) for name in Cost.model_fields}
        return cls(
            key=key,
            class_=options.class_,
            source=options.source or settings.prices.source,
            frame=options.frame or settings.prices.frame,
            base_frame=options.base_frame,
            policy=options.policy or settings.prices.policy,
            repairs=settings.prices.repairs if options.repairs is None else options.repairs,
            start=options.start or settings.prices.start,
            provider_symbol=options.provider_symbol or key,
            venue=options.venue,
            calendar=options.calendar or ("observed" if stock else "24/7"),
            sides=options.sides or ("both" if stock else "long"),
            tick=(0.01 if stock else 0.0) if options.tick is None else options.tick,
            lot=options.lot,
            file=options.file,
            cost=cost.model_copy(update={k: v for k, v in own.items() if v is not None}),
        )

    def as_read(self) -> Self:
        """Return the instrument at the frame in which its source is read."""
        return self.model_copy(update={"frame": self.base_frame or self.frame, "base_frame": None})

    def trading(self) -> dict[str, Any]:
        """Return what may change a backtest, as plain JSON values; where prices come from may not."""
        names = {"frame", "calendar", "sides", "tick", "lot", "cost"}
        names |= set() if self.base_frame is None else {"base_frame"}
        return self.model_dump(mode="json", include=names)


def plain(section: BaseModel) -> Any:
    """Return a section as plain JSON values, for records and hashes."""
    return section.model_dump(mode="json", by_alias=True)


def data_path(settings: Settings, settings_file: Path) -> Path:
    """Return the data folder; a relative one lies beside the settings file."""
    return (settings_file.parent / settings.data_dir).resolve()
