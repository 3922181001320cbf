"""How a running study is shown: live on a terminal, in plain lines, as JSON for machines."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optimizer.text import counted

if TYPE_CHECKING:
    from optimizer.search.progress import Progress
    from optimizer.search.result import StudyResult
    from optimizer.selection.verdict import Verdict

OnProgress = Callable[["Progress"], None]


def plain_line(now: Progress) -> str:
    """One batch in one line, for output that is not a terminal.

    Args:
        now: the batch.

    Returns:
        Trials, sets, pace, the best set, time left.
    """
    done = f"{now.trials:,}/{counted(now.n_trials, 'trial')}, {counted(now.sets, 'set')}"
    if now.trials == now.trials_before:  # no pace is known yet
        return f"{done} on disk, {_best(now)}"
    pace, left = f"{now.sets_per_second:,.0f}/s", f"{now.seconds_left:.0f} s left"
    return f"{done}, {pace}, {_best(now)}, {left}"


def batch_event(now: Progress) -> dict[str, Any]:
    """One batch as an object of ``--json-lines``.

    Args:
        now: the batch.

    Returns:
        Values by the keys that the documentation lists; None where unknown.
    """
    known = now.trials > now.trials_before
    return {
        "event": "batch",
        "trials": now.trials,
        "n_trials": now.n_trials,
        "sets": now.sets,
        "sets_per_second": round(now.sets_per_second, 1) if known else None,
        "best": now.best,
        "seconds_left": round(now.seconds_left, 1) if known else None,
        "worker_use": round(now.worker_use, 3) if known else None,
        "memory_mb": round(now.memory_bytes / 1e6, 1),
    }


def done_event(result: StudyResult, verdict: Verdict | None) -> dict[str, Any]:
    """The end of a study as the last object of ``--json-lines``.

    Args:
        result: the result of the study.
        verdict: the verdict on its winner; None if no set is best.

    Returns:
        Values by the keys that the documentation lists; times in seconds.
    """
    return {
        "event": "done",
        "folder": str(result.folder.path),
        "verdict": verdict.words if verdict is not None else None,
        "seconds": {name: round(seconds, 3) for name, seconds in result.seconds.items()},
    }


def print_event(event: Mapping[str, Any]) -> None:
    """Print one line of JSON to standard output, unbuffered.

    Args:
        event: values that JSON knows; no NaN.
    """
    print(json.dumps(event, allow_nan=False), flush=True)


@contextlib.contextmanager
def live_view(
    console: Console, waiting: Callable[[], str] = lambda: "first batch"
) -> Iterator[OnProgress]:
    """Show a study on a terminal, redrawn four times a second.

    Args:
        console: the console of the terminal.
        waiting: says what is waited for before the first batch is told.

    Yields:
        The function to call after each batch.
    """
    view = _View(waiting)
    with Live(view, console=console, refresh_per_second=4) as live:

        def told(now: Progress) -> None:
            view.tell(now)
            live.refresh()

        yield told


class _View:
    """Draws the last batch; the time left counts down between two batches."""

    def __init__(self, waiting: Callable[[], str]) -> None:
        self._waiting = waiting
        self._now: Progress | None = None
        self._told = self._start = time.monotonic()

    def tell(self, now: Progress) -> None:
        self._now, self._told = now, time.monotonic()

    def __rich__(self) -> Group:
        now = self._now
        line = Table.grid(padding=(0, 2))
        if now is None:
            waited = time.monotonic() - self._start
            line.add_row(ProgressBar(width=30, pulse=True), f"{self._waiting()}, {waited:.0f} s")
            return Group(line)
        bar = ProgressBar(total=now.n_trials, completed=now.trials, width=30)
        line.add_row(bar, f"{now.trials:,}/{counted(now.n_trials, 'trial')}", self._left(now))
        second = f"{counted(now.sets, 'set')} on disk"
        if now.trials > now.trials_before:
            second = (
                f"{counted(now.sets, 'set')}, {now.sets_per_second:,.0f} sets/s,"
                f" {now.trials_per_second:.3g} trials/s"
            )
        third = f"workers {now.worker_use:.0%} in kernels, {now.memory_bytes / 1e6:,.0f} MB memory"
        return Group(line, Text(_best(now)), Text(second), Text(third))

    def _left(self, now: Progress) -> str:
        if now.trials == now.n_trials:
            return "judging the winner"
        if now.trials == now.trials_before:
            return ""
        return f"{max(now.seconds_left - (time.monotonic() - self._told), 0.0):.0f} s left"


def _best(now: Progress) -> str:
    if now.best is None:
        return "none feasible yet"
    number = "" if now.best_set is None else f", set {now.best_set}"
    return f"best {now.objective} {now.best:.3g} in-sample{number}"
