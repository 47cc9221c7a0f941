"""Optimizers of other packages on the levels objective: scipy, nevergrad, optuna, evox, botorch.

Each is used as its users would: its own defaults, bounds given per axis, seeded, and the best
point it looked at is the answer. Packages are imported at first use; evox (GPL) and botorch are
extras.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.errors import ConfigError, closest, require
from engine.search.levels.de import torch_version
from engine.search.levels.objective import Found, Objective, Recorder, Solver, Task, one_by_one
from engine.simulation.levels_torch import values_of

SCIPY_MEMBERS = 20  # popsize 10 times 2 offsets
SCIPY_GENERATIONS = 50
NEVERGRAD = ("TwoPointsDE", "PortfolioDiscreteOnePlusOne")
EVOX = ("JaDE", "DE", "PSO", "SHADE", "CSO")
EVOX_MEMBERS, EVOX_GENERATIONS = 20, 30
SOBOL_POINTS = 10  # of botorch, before the first fit
BOTORCH_POINTS = 30
UCB_BETA = 4.0  # two standard deviations of optimism


def _scipy_version(objective: Objective) -> str:
    import scipy

    return f"scipy {scipy.__version__}"


def _scipy_de(task: Task) -> list[Found]:
    from scipy.optimize import differential_evolution

    generations = task.budget // SCIPY_MEMBERS - 1  # the first generation is not counted by scipy

    def search(score: Recorder, seed: int) -> None:
        differential_evolution(
            lambda x: -score(float(x[0]), float(x[1])), task.bounds, maxiter=generations, popsize=10,
            atol=1e-5, polish=True, rng=np.random.default_rng(seed),
        )  # fmt: skip

    return one_by_one(task, search)


def _scipy_direct(task: Task) -> list[Found]:
    from scipy.optimize import direct

    def search(score: Recorder, seed: int) -> None:
        direct(
            lambda x: -score(float(x[0]), float(x[1])), task.bounds, maxfun=task.budget, maxiter=task.budget
        )

    return one_by_one(task, search)


def _nevergrad_version(objective: Objective) -> str:
    import nevergrad

    return f"nevergrad {nevergrad.__version__}"


def nevergrad_solver(algorithm: str) -> Solver:
    """Return the solver that runs one of nevergrad's algorithms, by ask and tell.

    Parameters
    ----------
    algorithm : str
        `TwoPointsDE` or `PortfolioDiscreteOnePlusOne`.

    Raises
    ------
    ConfigError
        Another name. NGOpt and MetaModel are refused with the reason.
    """
    if algorithm.startswith(("NGOpt", "MetaModel")):
        raise ConfigError(
            f"levels.solver was nevergrad:{algorithm}, which fails on numpy 2.4 (nevergrad 1.0.12 turns "
            "0-dimensional arrays into numbers: TypeError). Use nevergrad (TwoPointsDE) or "
            "nevergrad:PortfolioDiscreteOnePlusOne"
        )
    if algorithm not in NEVERGRAD:
        raise ConfigError(f"levels.solver was nevergrad:{algorithm}. {closest(algorithm, NEVERGRAD)}")

    def run(task: Task) -> list[Found]:
        import nevergrad

        lower, upper = (np.array([pair[k] for pair in task.bounds]) for k in (0, 1))

        def search(score: Recorder, seed: int) -> None:
            space = nevergrad.p.Array(shape=(2,), lower=lower, upper=upper)
            space.random_state.seed(seed)  # before the optimizer is built: it splits its own off here
            optimizer = nevergrad.optimizers.registry[algorithm](parametrization=space, budget=task.budget)
            for _ in range(task.budget):
                candidate = optimizer.ask()
                u, v = np.clip(candidate.value, lower, upper).tolist()  # the map to the bounds rounds
                optimizer.tell(candidate, -score(u, v))

        return one_by_one(task, search)

    name = "nevergrad" if algorithm == NEVERGRAD[0] else f"nevergrad:{algorithm}"
    return Solver(name, run, _nevergrad_version, 300, least=2, stochastic=True)


def _optuna_version(objective: Objective) -> str:
    import optuna

    return f"optuna {optuna.__version__}"


def _optuna(task: Task) -> list[Found]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def search(score: Recorder, seed: int) -> None:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        for _ in range(task.budget):
            trial = study.ask()
            u, v = (trial.suggest_float(name, *pair) for name, pair in zip("uv", task.bounds, strict=True))
            study.tell(trial, score(u, v))

    return one_by_one(task, search)


def _evox_version(objective: Objective) -> str:
    require("evox", needed_by="levels.solver evox", extra="evox")
    from importlib.metadata import version

    return f"evox {version('evox')}, {torch_version(objective)}"


def _workflow(
    evox: Any, algorithm: str, task: Task, count: Callable[[int], None],
    rows: Any, fees: Any, touch: Any, width: Any,
) -> Any:  # fmt: skip
    """Return evox's workflow of one problem, its data held as buffers so that they can be stacked."""
    import torch

    live = task.exit == "target"

    class Earnings(evox.core.Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            best = torch.full((3,), -torch.inf, **like)  # value, u, v
            held = {"rows": rows, "fees": fees, "touch": touch, "width": width, "best": best}
            for name, data in held.items():
                self.register_buffer(name, data)

        def evaluate(self, members: Any) -> Any:
            count(len(members))  # runs once a step for all problems of the batch
            members = members.clamp(lower, upper)
            u, v = members[:, 0], members[:, 1]
            values = values_of(self.rows, self.fees, self.touch, u, v, live, self.width)
            at = values.argmax(0, keepdim=True)
            seen = torch.cat([values[at], members[at][0]])
            best = self.get_buffer("best")
            self.best = torch.where(seen[:1] > best[:1], seen, best)
            return -values

    like = {"dtype": rows.dtype, "device": rows.device}
    lower, upper = (torch.tensor([pair[k] for pair in task.bounds], **like) for k in (0, 1))
    options = {"base_vector": "best"} if algorithm == "DE" else {}
    searcher = getattr(evox.algorithms, algorithm)(
        pop_size=EVOX_MEMBERS, lb=lower, ub=upper, device=rows.device, **options
    )
    return evox.workflows.StdWorkflow(searcher, Earnings(), device=rows.device)


def evox_solver(algorithm: str) -> Solver:
    """Return the solver that runs one of evox's algorithms on all problems in one batched step.

    The batch shares one stream of random numbers. Problems are put in the order of their own
    seeds first, so that their order in the batch does not matter; which others are in it does.

    Parameters
    ----------
    algorithm : str
        `JaDE`, `DE`, `PSO`, `SHADE` or `CSO`.

    Raises
    ------
    ConfigError
        Another name.
    """
    if algorithm not in EVOX:
        raise ConfigError(f"levels.solver was evox:{algorithm}. {closest(algorithm, EVOX)}")

    def run(task: Task) -> list[Found]:
        evox = require("evox", needed_by="levels.solver evox", extra="evox")
        import torch

        order = np.argsort(task.seeds, kind="stable")
        tensors = task.objective.take(order.tolist()).tensors(task.batch.take(order.tolist()))
        scored: list[int] = []
        default = torch.get_default_dtype()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(min(task.seeds))
            torch.set_default_dtype(torch.float64)  # evox draws its numbers in the default dtype
            try:
                made = []
                for p in range(len(order)):
                    width = None if tensors.widths is None else tensors.widths[p]
                    made.append(
                        _workflow(
                            evox,
                            algorithm,
                            task,
                            scored.append,
                            tensors.rows[:, p],
                            tensors.fees[p],
                            tensors.touch[p],
                            width,
                        )  # fmt: skip
                    )
                parameters, buffers = torch.func.stack_module_state(made)
                state = {**parameters, **buffers}
                method = made[0].init_step
                while sum(scored) + sum(scored[-1:]) <= task.budget:  # the next step scores what the last did
                    state = evox.vmap(evox.use_state(method), randomness="different")(state)
                    method = made[0].step
            finally:
                torch.set_default_dtype(default)
        best = state["problem.best"].cpu().numpy()
        found: list[Found] = [(0.0, 0.0, 0)] * len(order)
        for at, p in enumerate(order.tolist()):
            found[p] = (float(best[at, 1]), float(best[at, 2]), sum(scored))
        return found

    name = "evox" if algorithm == EVOX[0] else f"evox:{algorithm}"
    members = EVOX_MEMBERS * EVOX_GENERATIONS
    return Solver(name, run, _evox_version, members, least=EVOX_MEMBERS, stochastic=True, finer=False)


def _botorch_version(objective: Objective) -> str:
    botorch = require("botorch", needed_by="levels.solver botorch", extra="botorch")
    return f"botorch {botorch.__version__}"


def _botorch(task: Task) -> list[Found]:
    import torch

    names = ("acquisition", "fit", "models", "models.transforms", "optim")
    acquisition, fit, models, transforms, optim = (
        require(f"botorch.{name}", needed_by="levels.solver botorch", extra="botorch") for name in names
    )
    mlls = require("gpytorch.mlls", needed_by="levels.solver botorch", extra="botorch")
    bounds = torch.tensor(task.bounds, dtype=torch.float64).T  # (2, 2): lower, upper
    unit = torch.stack([torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)])

    def search(score: Recorder, seed: int) -> None:
        def measure(points: Any) -> Any:
            offsets = torch.minimum(
                torch.maximum(bounds[0] + points * (bounds[1] - bounds[0]), bounds[0]), bounds[1]
            )
            return torch.tensor([[score(u, v)] for u, v in offsets.tolist()], dtype=torch.float64)

        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit on few points may not converge; the next one starts anew
            torch.manual_seed(seed)
            sobol = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
            points = sobol.draw(min(SOBOL_POINTS, task.budget), dtype=torch.float64)
            values = measure(points)
            while len(points) < task.budget:
                model = models.SingleTaskGP(points, values, outcome_transform=transforms.Standardize(1))
                fit.fit_gpytorch_mll(mlls.ExactMarginalLogLikelihood(model.likelihood, model))
                optimism = acquisition.UpperConfidenceBound(model, beta=UCB_BETA)
                point, _ = optim.optimize_acqf(optimism, unit, q=1, num_restarts=4, raw_samples=64)
                points, values = torch.cat([points, point]), torch.cat([values, measure(point)])

    return one_by_one(task, search)


SOLVERS = (
    Solver("scipy-de", _scipy_de, _scipy_version, SCIPY_MEMBERS * (SCIPY_GENERATIONS + 1),
           least=2 * SCIPY_MEMBERS, stochastic=True),
    Solver("scipy-direct", _scipy_direct, _scipy_version, 500, least=10),
    *(nevergrad_solver(name) for name in NEVERGRAD),
    Solver("optuna", _optuna, _optuna_version, 100, stochastic=True),
    *(evox_solver(name) for name in EVOX),
    Solver("botorch", _botorch, _botorch_version, BOTORCH_POINTS,
           least=2, most=BOTORCH_POINTS, stochastic=True),
)  # fmt: skip
