"""One Optuna study in two phases: a quasi-random screen, then batches of a sampler's own choice.

A batch is evaluated in lockstep over the inner folds, cut by the pruner, and kept in trial order.
What a batch does follows from the trials before it alone, so a study that was killed goes on from
its finished batches to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engine.config_sections import Constraints, Search
from engine.errors import SearchError
from engine.search import sampling
from engine.search.pruning import OptunaJudge, loses_race, rungs, survivors
from engine.search.space import Space, Value
from engine.search.trial import SpanResult, Trial, best_of, blocked_by, classify, doomed

Evaluate = Callable[[Sequence[Mapping[str, Value]], int, int], SpanResult]
Save = Callable[[Sequence[Trial]], None]

HOW = ("mode", "max_concurrent")  # settings of a search that change no trial
SAVE_BARS = 2_000_000_000  # bars evaluated between two saves: some ten seconds of work
MOST_DUPLICATES = 200  # in a row: the space is exhausted
SILENT_TRIALS = 25  # trials without any trade that end a study


@dataclass(frozen=True)
class Task:
    """What a study is about; nothing in it changes while it runs.

    Parameters
    ----------
    evaluate : callable
        ``(configs, start, stop) -> SpanResult`` over the bars [start, stop).
    space : Space
        What is searched; with nothing to search one trial is run.
    valid : callable
        Whether a configuration meets the strategy's declared relations.
    spans : sequence of (int, int)
        Inner folds, bar indices; each starts flat.
    search, constraints : Search, Constraints
        Settings of the study.
    study_id : str
        Names the study in messages.
    seeded_by : str
        With the batch's number it seeds every draw.
    """

    evaluate: Evaluate
    space: Space
    valid: sampling.Valid
    spans: Sequence[tuple[int, int]]
    search: Search
    constraints: Constraints
    study_id: str
    seeded_by: str


def run_study(
    task: Task,
    *,
    told: Sequence[Trial] = (),
    save: Save | None = None,
    save_bars: int = SAVE_BARS,
    progress: Callable[[str], None] = lambda text: None,
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

    Returns
    -------
    list of Trial
        In trial order, those told included; deterministic for the same arguments.

    Raises
    ------
    SearchError
        The best trial, run again alone, does not give the same scores.
    """
    trials = list(told)
    unsaved, bars = len(trials), 0
    while True:
        why = ended(task, trials)
        if why:
            progress(f"study {task.study_id} ended after {len(trials)} trials: {why}")
        chosen = [] if why else _next_batch(task, trials)
        if not chosen:
            break
        batch_no = trials[-1].batch + 1 if trials else 0
        batch = [
            Trial(len(trials) + i, batch_no, params, task.space.config(params))
            for i, params in enumerate(chosen)
        ]
        _evaluate_batch(task, batch, trials)
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
    ran = [trial for trial in trials if trial.fold_scores and trial.duplicate_of is None]
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
    screened = search.screen > 0
    seed = sampling.batch_seed(task.seeded_by, trials[-1].batch + 1 if trials else 0)
    if screened and not trials:
        return sampling.screen(space, task.valid, search.screen, seed) or sampling.ask(
            space, search, [], search.batch, seed
        )
    told = [trial for trial in trials if not (screened and trial.batch == 0)]
    left = search.max_trials - sum(trial.duplicate_of is None for trial in told)
    return sampling.ask(space, search, trials, min(search.batch, left), seed) if left > 0 else []


def _evaluate_batch(task: Task, batch: list[Trial], earlier: list[Trial]) -> None:
    first = {trial.key: trial for trial in reversed(earlier) if trial.duplicate_of is None}
    live: dict[int, Trial] = {}
    copies: list[Trial] = []
    for trial in batch:
        if not task.valid(trial.config):
            trial.state, trial.outcome = "FAIL", "INVALID_PARAMS"
        elif trial.key in first:
            copies.append(trial)
        else:
            first[trial.key] = live[trial.number] = trial
    cut = _pruner(task, len(batch), earlier)
    for step, (start, stop) in enumerate(task.spans, 1):
        running = list(live.values())
        if not running:
            break
        result = task.evaluate([trial.config for trial in running], start, stop)
        for index, trial in enumerate(running):
            trial.add(result, index, stop - start)
        if step == len(task.spans):
            break
        for number in cut(step, running):
            trial = live.pop(number)
            trial.state, trial.outcome, trial.pruned_step = "PRUNED", "PRUNED", step
    for trial in batch:
        if trial.fold_scores:
            classify(trial, task.constraints)
    for trial in copies:
        trial.copy_of(first[trial.key])


def _pruner(
    task: Task, batch: int, earlier: Sequence[Trial]
) -> Callable[[int, Sequence[Trial]], Sequence[int]]:
    """Return the function that names the trials to stop after an inner fold."""
    name, folds = task.search.pruner, len(task.spans)
    if name == "halving":
        cuts = rungs(folds, min(stop - start for start, stop in task.spans), batch)

        def halve(step: int, running: Sequence[Trial]) -> Sequence[int]:
            if step not in cuts:
                return []
            means = [-float("inf") if doomed(t, task.constraints) else t.value for t in running]
            numbers = [trial.number for trial in running]
            return sorted(set(numbers) - set(survivors(numbers, means, batch)))

        return halve
    if name == "race":
        incumbent = best_of(earlier)

        def race(step: int, running: Sequence[Trial]) -> Sequence[int]:
            if incumbent is None:
                return []
            return [t.number for t in running if loses_race(t.fold_scores, incumbent.fold_scores)]

        return race
    if name.startswith("optuna:"):
        seed = sampling.batch_seed(task.seeded_by, earlier[-1].batch + 1 if earlier else 0)
        judge = OptunaJudge(name.removeprefix("optuna:"), task.space, earlier, folds, seed)

        def ask_optuna(step: int, running: Sequence[Trial]) -> Sequence[int]:
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
