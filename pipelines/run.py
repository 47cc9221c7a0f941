"""Run a job to its end with live progress: ``python -m pipelines.run``, what ``make backtest`` calls.

``dagster job launch -j backtest_all`` is the form for a running deployment; it returns at once,
and 0 even when the run fails later. This one exits with the run's outcome: 0 succeeded, 1 a
symbol failed, 2 refused settings and nothing ran, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableJob
    from dagster._core.events import DagsterEvent

    from engine.config_file import SettingsFile

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = "interrupted: nothing is running any more, what was published stays; run again to go on"
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}


def _environment() -> None:
    """Read .env as the dagster command line does: it wins over what is exported.

    Only where other settings are named by ``NIGHTFOLD_SETTINGS`` stays what is exported, for they
    are not what .env was written for.
    """
    os.environ["PWD"] = str(ROOT)
    for name, value in dotenv_values(ROOT / ".env").items():
        if "NIGHTFOLD_SETTINGS" not in os.environ or name not in os.environ:
            os.environ[name] = value or ""


class Follower:
    """Prints what a run says as it says it, and keeps why its steps failed."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self.instance, self.run_id = instance, run_id
        self.failed: dict[str, str] = {}
        self.interrupted = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Print what is left and end."""
        self._done.set()
        self._thread.join(timeout=10)

    def _follow(self) -> None:
        cursor = None
        while True:
            finished = self._done.is_set()
            page = self.instance.get_records_for_run(self.run_id, cursor=cursor)
            cursor = page.cursor
            for record in page.records:
                self._print(record.event_log_entry)
            if finished:
                return
            self._done.wait(0.5)

    def _print(self, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:  # a line that a stage said
            print(entry.user_message, flush=True)
        elif event.is_step_failure:
            self._failure(event)

    def _failure(self, event: DagsterEvent) -> None:
        from pipelines.ops import failure_message
        from pipelines.symbols import KEYS, op_name

        error = event.step_failure_data.error
        if error is not None and error.cls_name in _INTERRUPTS:
            self.interrupted = True
            return
        what = {op_name(key): key for key in KEYS}.get(event.step_key or "", event.step_key or "")
        self.failed[what] = failure_message(event)
        print(f"{what} FAILED: {self.failed[what]}", flush=True)


def _new_run(job: ReconstructableJob, instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Record a new run of the job as if the web UI had launched it, so that it can be re-executed there.

    ``dagster.execute_job`` leaves out where the job comes from. Semi-public API of Dagster, a reason
    for pinning its minor version.
    """
    from dagster._core.remote_origin import RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origins_from_yaml_paths

    (location,) = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])
    repository = RemoteRepositoryOrigin(code_location_origin=location, repository_name="__repository__")
    definition = job.get_definition()
    return instance.create_run_for_job(
        job_def=definition,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        job_code_origin=job.get_python_origin(),
        remote_job_origin=repository.get_job_origin(definition.name),
    )


def _ended_by_signal(instance: dg.DagsterInstance, run_id: str) -> bool:
    from dagster._core.events import RunFailureReason
    from dagster._core.storage.tags import RUN_FAILURE_REASON_TAG

    run = instance.get_run_by_id(run_id)
    reason = RunFailureReason.UNEXPECTED_TERMINATION.value
    return run is not None and run.tags.get(RUN_FAILURE_REASON_TAG) == reason


def _run(file: SettingsFile) -> int:
    import dagster as dg
    from dagster._core.execution.api import execute_run

    # a connection that an interrupt closes in another thread is nobody's concern
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

    from pipelines.jobs import make_backtest_all

    print(f"backtest_all: {', '.join(file.settings.symbols)} ({file.path.name}); workers start", flush=True)
    job = dg.reconstructable(make_backtest_all)
    with dg.DagsterInstance.get() as instance:
        run = _new_run(job, instance)
        follower = Follower(instance, run.run_id)
        try:
            result = execute_run(job, run, instance)
        except dg.DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
        finally:
            follower.stop()
        if follower.interrupted or _ended_by_signal(instance, run.run_id):
            instance.report_run_canceled(run, "interrupted in its terminal")
            raise KeyboardInterrupt
    _outcome(file, follower.failed)
    print("run: succeeded" if result.success else "run: FAILED")
    return 0 if result.success else 1


def _outcome(file: SettingsFile, failed: dict[str, str]) -> None:
    from engine.lake.publish import Lake
    from engine.reports import terminal
    from engine.stages.chain import stale_symbols
    from engine.stages.common import procedures

    lake, symbols, console = Lake(file.data_dir), list(file.settings.symbols), terminal.console()
    not_tonight = {**stale_symbols(lake, symbols), **failed}
    now = {symbol: procedures(symbol, file.settings) for symbol in symbols}
    terminal.print_next_orders(console, lake, symbols, not_tonight, procedures=now)
    terminal.print_leaderboard(console, lake, symbols, not_tonight)
    print(f"report: {lake.data_dir / 'reports' / 'index.html'}")
    print("web UI: make ui, then http://127.0.0.1:3000")
    print("beside a running web UI: dagster job launch -j backtest_all")
    for what, message in failed.items():
        print(f"{what} FAILED: {message}")


def _checked_run() -> int:
    from engine.errors import ConfigError
    from pipelines.resources import checked_settings

    try:
        file = checked_settings()
        import pipelines.definitions  # noqa: F401  (refuses a schedule that Dagster does not know)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return _run(file)


def main() -> int:
    """Run ``backtest_all``; return the exit code."""
    _environment()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return _checked_run()
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
