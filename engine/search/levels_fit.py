"""Fit a levels strategy: the two offsets of a training window, by the settings' solver and objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.bars.inside import inside
from engine.bars.model import Bars, Floats
from engine.config import Instrument, Strategy, plain
from engine.forecasts.devices import choose_device
from engine.lake.records import arrays_sha, code_id, digest
from engine.search.fit import Clock, Config, Fit, Progress, bars_sha
from engine.search.levels.api import optimize_levels, uses_torch
from engine.search.study import Save
from engine.simulation.levels import problem
from engine.simulation.levels_problem import MAX_DROPPED_SHARE, LevelsProblem
from engine.strategies.registry import StrategyClass, code_of


class LevelsFitter:
    """Fits one levels strategy of one symbol.

    Parameters
    ----------
    bars : Bars
        The symbol's whole series.
    high, low : float64 array, shape (T,)
        Forecast log returns of the next bar, issued at each close; NaN where there is none.
    model_key : str
        Of the forecaster that issued them.
    strategy : StrategyClass
        Registered strategy of kind ``levels``.
    entry : Strategy
        Its entry in the settings, resolved.
    instrument : Instrument
        Gives sides, tick and costs.
    seed : int
        Of the searching solvers.
    device : str
        The setting ``devices.device``, for the solvers that compute on torch.
    base : Bars or None
        The symbol in a finer frame, on the same price basis, which exit `path` reads.
    """

    def __init__(
        self, bars: Bars, high: Floats, low: Floats, model_key: str, strategy: StrategyClass,
        entry: Strategy, instrument: Instrument, seed: int = 0, device: str = "cpu",
        base: Bars | None = None,
    ) -> None:  # fmt: skip
        self.bars, self.high, self.low, self.entry, self.base = bars, high, low, entry, base
        self.strategy, self.instrument, self.seed = strategy, instrument, seed
        self.device = choose_device(device).name if uses_torch(entry.levels.solver) else "cpu"
        levels = plain(entry.levels)
        levels.pop("num_simulations")  # of the named functions only
        self.config: Config = {
            "strategy": entry.strategy,
            "levels": levels,
            "sides": instrument.sides,
            "tick": instrument.tick,
            "cost": plain(instrument.cost),
            "fill_on_zero_volume": entry.execution.fill_on_zero_volume,
            "model_key": model_key,
            "device": self.device.split(":")[0],
            "seed": seed if entry.levels.solver != "exact" else None,  # the exact solver draws nothing
            "code": [code_id("engine.search.levels_fit")[0], code_of(strategy)],
        }

    def data_id(self, train_to: int) -> str:
        """Return the hash of all bars, finer bars and forecasts up to the end of the window."""
        forecasts = {"high": self.high[: train_to - 1], "low": self.low[: train_to - 1]}
        held = [bars_sha(self.bars, train_to), arrays_sha(forecasts)]
        if self.base is not None:
            stop = int(inside(self.bars, self.base)[1][train_to - 1])
            held += [self.base.frame, bars_sha(self.base, stop)]
        return digest(held)

    def study_id(self, train_from: int, train_to: int) -> str:
        """Return the id of the fit on [train_from, train_to)."""
        spans = [int(self.bars.ts[train_from]), int(self.bars.ts[train_to - 1])]
        return digest(
            {"symbol": self.bars.symbol, "name": self.entry.label, "spans": spans,
             "config": self.config, "data": self.data_id(train_to)}, 16
        )  # fmt: skip

    def problem(self, start: int, stop: int, max_dropped_share: float = MAX_DROPPED_SHARE) -> LevelsProblem:
        """Return the problem whose rows are the outcome bars [start, stop).

        Raises
        ------
        LevelsInputError
            More than ``max_dropped_share`` of the bars have no forecast.
        """
        levels, cost = self.entry.levels, self.instrument.cost
        assert self.strategy.objective is not None  # noqa: S101  (checked at registration)
        return problem(
            self.bars, self.high, self.low, start, stop,
            objective=self.strategy.objective, side=levels.side, sides=self.instrument.sides,
            fee_bps=cost.fee_bps, slippage_bps=cost.slippage_bps, fee_mode=levels.fee_mode,
            fill=levels.fill, tick=self.instrument.tick,
            fill_on_zero_volume=self.entry.execution.fill_on_zero_volume,
            max_dropped_share=max_dropped_share, finer=self.base,
        )  # fmt: skip

    def fit(
        self,
        train_from: int,
        train_to: int,
        progress: Progress,
        *,
        told: Sequence[Mapping[str, Any]] = (),
        save: Save | None = None,
        clock: Clock | None = None,
    ) -> list[Fit]:
        """Solve every exit policy; the one that earned most on the window is selected."""
        rows = self.problem(train_from, train_to)
        levels = self.entry.levels
        found = optimize_levels(
            [rows] * len(levels.policies),
            solver=levels.solver,
            objective=levels.objective,
            smoothing=plain(levels)["smoothing"],
            exit=levels.policies,
            bounds=(levels.bounds.high, levels.bounds.low),
            budget=levels.budget,
            seed=self.seed,
            shrink=levels.shrink,
            abstain=levels.abstain,
            device=self.device,
        )
        scale = 1e4 / (train_to - train_from)
        earned = [
            float(found.profit[i]) * scale if status == "ok" else 0.0  # else nothing is traded
            for i, status in enumerate(found.status)
        ]
        best = max(range(len(earned)), key=lambda i: (earned[i], -i))  # ties: first named
        return [
            Fit(
                policy=policy,
                params={"u": float(found.offsets[i, 0]), "v": float(found.offsets[i, 1])},
                trial_number=None,
                solver=found.backend,
                objective=found.objective,
                in_sample=earned[i],
                in_sample_untuned=float(found.profit_zero[i]) * scale,
                n_trials=int(found.evaluations[i]),
                n_pruned=0,
                status=found.status[i],
                selected=i == best,
                regret=float(found.regret[i]) * scale,
            )
            for i, policy in enumerate(levels.policies)
        ]
