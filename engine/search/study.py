"""One study in two phases: a quasi-random screen with a look around its best, then a sampler's own choice.

A batch is evaluated in lockstep over the inner folds, cut by the pruner, and kept in trial order.
What a batch does follows from the trials before it alone, so a study that was killed goes on from
its finished batches to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.config_sections import Search
from engine.errors import SearchError, SimulationError
from engine.search import sampling
from engine.search.by_bars import run_by_bars
from engine.search.pruning import (
    MIN_BATCH,
    OptunaJudge,
    fold_order,
    known_scores,
    loses_race,
    probe_count,
    rungs,
    share_kept,
    survivors,
)
from engine.search.rerun import error_of
from engine.search.tally import Tally
from engine.search.task import Task
from engine.search.trial import Trial, best_of, blocked_by, classify, doomed

__all__ = ["HOW", "Save", "Task", "ended", "run_study"]

Save = Callable[[Sequence[Trial]], None]
Cut = Callable[[int, Sequence[Trial]], Sequence[int]]  # (inner folds done, running) -> numbers to stop

HOW = ("mode", "max_concurrent")  # settings of a search that change no trial
SAVE_BARS = 2_000_000_000  # bars evaluated between two saves: some ten seconds of work
MOST_DUPLICATES = 200  # in a row: the space is exhausted
MOST_ERRORS = 5  # in a row: a broken strategy
SILENT_TRIALS = 25  # trials without any trade that end a study
NEAR_BATCHES, NEAR_PART = 4, 16  # after the screen: so many batches of its 16th near its best
CENTRES = 8  # the best points that they look around


def run_study(
    task: Task,
    *,
    told: Sequence[Trial] = (),
    save: Save | None = None,
    save_bars: int = SAVE_BARS,
    progress: Callable[[str], None] = lambda text: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> list[Trial]:
    """Search one training part.

    Parameters
    ----------
    task : Task
        What to search.
    told : sequence of Trial
        Whole batches that an earlier run finished, in trial order; the study goes on after them.
    save : callable, optional
        Given the trials since its last call, at the end of a batch.
    save_bars : int
        Bars that must have been evaluated between two saves.
    progress : callable
        Told a line where `save` is due, and why a study ended early.
    out_of_time : callable
        Asked before every batch but the first; true ends the study there.

    Returns
    -------
    list of Trial
        In trial order, those told included; deterministic for the same arguments.

    Raises
    ------
    SearchError
        The best trial, run again alone, does not give the same scores; or the strategy raised in five
        trials in a row.
    """
    trials = list(told)
    unsaved, bars = len(trials), 0
    while True:
        why = ended(task, trials)
        if why:
            progress(f"study {task.study_id} ended after {len(trials)} trials: {why}")
        chosen = [] if why else _next_batch(task, trials)
        if not chosen or (trials and out_of_time()):
            break
        batch_no = trials[-1].batch + 1 if trials else 0
        batch = [
            Trial(len(trials) + i, batch_no, params, task.space.config(params))
            for i, params in enumerate(chosen)
        ]
        batch = _run_batch(task, batch, trials)
        trials += batch
        bars += sum(trial.bars_done for trial in batch)
        if bars >= save_bars:
            if save is not None:
                save(trials[unsaved:])
            progress(f"study {task.study_id}: {len(trials)} trials so far")
            unsaved, bars = len(trials), 0
    _assert_reproducible(task, best_of(trials))
    return trials


def ended(task: Task, trials: Sequence[Trial]) -> str:
    """Return why a study ends before its trials are used up, or an empty text."""
    ran = [trial for trial in trials if trial.ran]
    if len(ran) >= SILENT_TRIALS and not any(trial.trades for trial in ran):
        signals = sum(trial.signals for trial in ran)
        gates = ", ".join(f"{name} {count}" for name, count in blocked_by(ran).items())
        return f"no trade in any trial ({signals} entry signals; stopped by: {gates})"
    if len(trials) >= MOST_DUPLICATES and all(t.duplicate_of is not None for t in trials[-MOST_DUPLICATES:]):
        return "space exhausted: the last 200 trials were duplicates"
    return ""


def _next_batch(task: Task, trials: Sequence[Trial]) -> list[sampling.Chosen]:
    """Return the parameters of the next batch; none when the study is complete."""
    space, search = task.space, task.search
    if not space.searched:
        return [] if trials else [{}]
    if search.sampler == "grid":
        return sampling.grid(space)[len(trials) : len(trials) + search.batch]
    batch_no = trials[-1].batch + 1 if trials else 0
    seed = sampling.batch_seed(task.seeded_by, batch_no)
    if search.screen > 0 and not trials:
        return sampling.screen(space, task.valid, search.screen, seed) or sampling.ask(
            space, search, [], search.batch, seed
        )
    near = near_batches(search, trials)
    if 1 <= batch_no <= near:
        best = sorted((t for t in trials if t.feasible), key=lambda t: (-t.value, t.number))
        centres = [trial.chosen for trial in best[:CENTRES]]
        return sampling.near(space, task.valid, centres, search.screen // NEAR_PART, seed) or centres[:1]
    told = [trial for trial in trials if search.screen == 0 or trial.batch > near]
    left = search.max_trials - sum(trial.duplicate_of is None for trial in told)
    return sampling.ask(space, search, trials, min(search.batch, left), seed) if left > 0 else []


def _run_batch(task: Task, batch: list[Trial], earlier: list[Trial]) -> list[Trial]:
    """Run a batch; where the strategy raises, run the others again without the trials that it raised in.

    Raises
    ------
    SearchError
        It raised in five trials in a row: the strategy is broken, not a choice of parameters.
    """
    try:
        _evaluate_batch(task, batch, earlier)
        return batch
    except SimulationError:
        again = [Trial(t.number, t.batch, t.chosen, t.config) for t in batch]
        for trial in again:
            trial.error = error_of(task, trial)
            if trial.error is not None:
                trial.state, trial.outcome = "FAIL", "ERROR"
        if not any(trial.error for trial in again):
            raise  # no trial raises alone: a result that depends on the batch
    _evaluate_batch(task, again, earlier)
    in_a_row = 0
    for trial in [*earlier, *again]:
        if trial.duplicate_of is None and trial.outcome != "INVALID_PARAMS":
            in_a_row = in_a_row + 1 if trial.outcome == "ERROR" else 0
        if in_a_row == MOST_ERRORS:
            raise SearchError(
                f"study {task.study_id}: {MOST_ERRORS} trials in a row failed, trial {trial.number} the last "
                f"of them: {trial.error}"
            )
    return again


def near_batches(search: Search, trials: Sequence[Trial]) -> int:
    """Return how many batches after the screen look around the best points so far.

    They cost as little as the screen and find what it lies too far apart for. None without TPE, where
    nothing in the screen was feasible, or where a batch would be too small to be halved.
    """
    guided = search.sampler == "tpe" and search.screen // NEAR_PART >= MIN_BATCH
    return NEAR_BATCHES if guided and any(t.feasible for t in trials if t.batch == 0) else 0


def _evaluate_batch(task: Task, batch: list[Trial], earlier: list[Trial]) -> None:
    first = {trial.key: trial for trial in reversed(earlier) if trial.duplicate_of is None}
    live: list[Trial] = []
    copies: list[Trial] = []
    for trial in batch:
        if trial.outcome == "ERROR":
            if trial.key in first:
                copies.append(trial)
            else:
                first[trial.key] = trial
            continue
        if not task.valid(trial.config):
            trial.state, trial.outcome = "FAIL", "INVALID_PARAMS"
        elif trial.key in first:
            copies.append(trial)
        else:
            first[trial.key] = trial
            live.append(trial)
    if task.search.report_bars is not None:
        run_by_bars(task, live, len(batch), earlier)
    else:
        _run_by_folds(task, live, len(batch), earlier)
    for trial in live:
        classify(trial, task.constraints)
    for trial in copies:
        trial.copy_of(first[trial.key])


def _run_by_folds(task: Task, live: list[Trial], batch: int, earlier: Sequence[Trial]) -> None:
    """Run trials over the inner folds, cut between two of them."""
    tally = Tally(live, [stop - start for start, stop in task.spans])
    folds = list(range(len(task.spans)))
    if task.search.pruner == "halving" and rungs(len(folds), _fold_bars(task), batch):
        known = known_scores(earlier)
        probes = [] if known else live[: probe_count(batch)]
        _run(task, tally, probes, folds, lambda step, running: [])
        tally.score(probes)
        known += [trial.scores for trial in probes]
        order = fold_order(known) if known else folds
        _run(task, tally, live[len(probes) :], order, _halving(task, tally, batch))
    else:
        _run(task, tally, live, folds, _pruner(task, tally, earlier))
    tally.close(live)


def _run(task: Task, tally: Tally, running: list[Trial], order: Sequence[int], cut: Cut) -> None:
    """Run trials on the inner folds in the order given; who is cut stops there."""
    for step, fold in enumerate(order, 1):
        if not running:
            return
        tally.add(fold, running, task.evaluate([trial.config for trial in running], *task.spans[fold]))
        stopped = set() if step == len(order) else set(cut(step, running))
        for trial in running:
            if trial.number in stopped:
                trial.state, trial.outcome, trial.pruned_step = "PRUNED", "PRUNED", step
        running = [trial for trial in running if trial.number not in stopped]


def _fold_bars(task: Task) -> int:
    return min(stop - start for start, stop in task.spans)


def _halving(task: Task, tally: Tally, batch: int) -> Cut:
    """Return the function that names the trials that halving stops after so many inner folds."""
    cuts = rungs(len(task.spans), _fold_bars(task), batch)

    def halve(step: int, running: Sequence[Trial]) -> Sequence[int]:
        if step not in cuts:
            return []
        tally.score(running)
        means = [-float("inf") if doomed(t, task.constraints) else t.value for t in running]
        numbers = [trial.number for trial in running]
        kept = survivors(numbers, means, share_kept(cuts.index(step), batch))
        return sorted(set(numbers) - set(kept))

    return halve


def _pruner(task: Task, tally: Tally, earlier: Sequence[Trial]) -> Cut:
    """Return the function that names the trials that another pruner stops after an inner fold."""
    name = task.search.pruner
    if name == "race":
        incumbent = best_of(earlier)

        def race(step: int, running: Sequence[Trial]) -> Sequence[int]:
            if incumbent is None:
                return []
            tally.score(running)
            return [t.number for t in running if loses_race(t.scores, incumbent.scores)]

        return race
    if name.startswith("optuna:"):
        seed = sampling.batch_seed(task.seeded_by, earlier[-1].batch + 1 if earlier else 0)
        judge = OptunaJudge(name.removeprefix("optuna:"), task.space, earlier, len(task.spans), seed)

        def ask_optuna(step: int, running: Sequence[Trial]) -> Sequence[int]:
            tally.score(running)
            return [trial.number for trial in running if judge.prunes(trial)]

        return ask_optuna
    return lambda step, running: []


def _assert_reproducible(task: Task, best: Trial | None) -> None:
    """Run the best trial once more, alone and unpruned: its scores must be the same bits."""
    if best is None:
        return
    again = [float(task.evaluate([best.config], start, stop).score[0]) for start, stop in task.spans]
    if again != best.fold_scores:
        raise SearchError(
            f"study {task.study_id}: trial {best.number} run alone gives {again}, in its batch "
            f"{best.fold_scores}. Results must not depend on the batch; report this as a defect"
        )
