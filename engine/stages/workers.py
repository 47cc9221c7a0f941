"""Symbols one after the other in this process, or several at a time in processes of their own."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from engine.config_file import SettingsFile
from engine.errors import AlreadyRunning, DataError, NightfoldError
from engine.lake.publish import Lake
from engine.stages.chain import holding, run_chain, run_stage
from engine.stages.common import Progress
from engine.stages.verify import refuse_failed

Outcome = str | None
"""What failed; "" where nothing did; None where another live run has the work."""


def attempt(name: str, work: Callable[[], None], progress: Progress) -> Outcome:
    """Do one piece of work, so that its failure costs the others nothing.

    Parameters
    ----------
    name : str
        Symbol, or stage over all symbols.
    work : callable
        Raises where it fails.
    progress : callable
        Told that it failed, with the traceback where the error is none that nightfold raises on purpose.
    """
    try:
        work()
    except AlreadyRunning as running:
        progress(str(running))
        return None
    except NightfoldError as error:
        rule = f": {error.rule}" if isinstance(error, DataError) else ""
        progress(f"{name} failed{rule} (reason below)")  # whoever called shows the message, once
        return str(error)
    except Exception as error:
        progress(f"{name} failed\n{traceback.format_exc()}")
        return f"{type(error).__name__}: {error} (a defect of nightfold; its traceback is above)"
    return ""


def run_symbol(
    file: SettingsFile, symbol: str, stage: str | None, asof: int, cpus: int, progress: Progress
) -> Outcome:
    """Run one symbol's chain with its checks, or one stage of it."""

    def work() -> None:
        lake = Lake(file.data_dir, file.settings.prices.keep_generations)
        with holding(lake, symbol, file.settings, cpus, progress):
            if stage is None:
                results = run_chain(lake, symbol, file.settings, progress, asof=asof)
            else:
                results = iter([run_stage(stage, lake, symbol, file.settings, progress, asof=asof)])
            for result in results:
                refuse_failed(result, lake, file.settings)

    return attempt(symbol, work, progress)


def run_symbols(
    file: SettingsFile,
    symbols: Sequence[str],
    workers: int,
    stage: str | None,
    asof: int,
    cpus: int,
    progress: Progress,
) -> dict[str, Outcome]:
    """Run symbols, ``workers`` at a time; one that fails, or whose process dies, costs the others nothing.

    Parameters
    ----------
    file : SettingsFile
        The settings, names resolved.
    symbols : sequence of str
        In the order wanted, each once.
    workers : int, >= 1
        1 = in this process; else one process per symbol.
    stage : str or None
        Only this stage; None = all of a symbol.
    asof : int
        Clock of the run, microseconds UTC.
    cpus : int
        CPU slots of the machine where the settings name none.
    progress : callable
        Told each line of progress; called in the processes, so it must be picklable.

    Returns
    -------
    dict of str to Outcome
        By symbol, in their order.

    Raises
    ------
    KeyboardInterrupt
        Interrupted: the processes were ended, what they had published stays.
    """
    if workers == 1:
        return {symbol: run_symbol(file, symbol, stage, asof, cpus, progress) for symbol in symbols}
    method = file.settings.workers.start_method
    context: Any = get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    todo, outcomes = list(symbols), dict[str, Outcome]()
    running: dict[Any, tuple[str, BaseProcess]] = {}  # by the end of the pipe that the outcome comes through
    try:
        while todo or running:
            while todo and len(running) < workers:
                receiver, sender = context.Pipe(duplex=False)
                arguments = (sender, file, todo[0], stage, asof, cpus, progress)
                process = context.Process(target=_in_process, args=arguments)
                process.start()
                sender.close()  # else the receiver would not see that the process died
                running[receiver] = todo.pop(0), process
            for receiver in wait(list(running)):
                symbol, process = running.pop(receiver)
                outcomes[symbol] = _received(receiver, process)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
    return {symbol: outcomes[symbol] for symbol in symbols}


def _in_process(sender: Connection, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its own
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that files are tidied up
    sender.send(run_symbol(*arguments))


def _received(receiver: Any, process: BaseProcess) -> Outcome:
    try:
        outcome: Outcome = receiver.recv()
    except EOFError:
        process.join()
        return (
            f"its process ended with exit code {process.exitcode} before it was done "
            "(-9: killed, as the system does when memory runs out; then use fewer workers)"
        )
    process.join()
    return outcome
