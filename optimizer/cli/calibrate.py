"""The command that runs a study's search on copies of its bars."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from optimizer.cli.console import say, say_error
from optimizer.cli.interruption import resumable
from optimizer.cli.options import StudyFile, Workers
from optimizer.text import counted

if TYPE_CHECKING:
    from optimizer.search.calibrate import CalibrationPlan, Standing


def calibrate(
    study: StudyFile,
    copies: Annotated[int, typer.Option(min=1, help="Number of copies of the bars.")] = 100,
    block: Annotated[
        Optional[float],
        typer.Option(
            min=1.0,
            help="Mean length of a block of bars [default: half of the shortest lookback, 1 to 20].",
        ),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="Folder for the results [default: out/<study name>-calibration]."),
    ] = None,
    workers: Workers = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result alone.")] = False,
) -> None:
    """Run the whole search on edge-free copies of the bars; say how often luck looks as good."""
    from optimizer.search.calibrate import calibrate as calibrate_study
    from optimizer.study_file.load import load_study

    loaded = load_study(study)
    folder = Path("out") / f"{loaded.name}-calibration" if out is None else out
    shown = _Shown(quiet)
    with resumable(folder):
        found = calibrate_study(
            loaded,
            copies=copies,
            mean_block=block,
            out=folder,
            workers=workers,
            on_start=shown.start,
            on_search=shown.searched,
        )
    own = found.own
    alpha = "no test of alpha: the bars are too short"
    if own.alpha is not None and own.alpha_t is not None:
        alpha = f"alpha {own.alpha:.1%} a year, t {own.alpha_t:.2f}"
    say(
        f"in-sample winner of {counted(own.n_sets, 'set')}: set {own.number}, {found.objective}"
        f" {own.objective:.4g}, {alpha}"
    )
    _say_standing(found.objective, found.by_objective)
    _say_standing("t of alpha", found.by_alpha)
    say(f"winners: {folder}/winner-*.json")


def _say_standing(name: str, found: Standing | None) -> None:
    if found is not None:
        copies = "1 copy" if found.n_copies == 1 else f"{found.n_copies:,} copies"
        say(
            f"by {name}: on {found.k:,} of {copies} the winner looked at least this good,"
            f" p {found.p:.3g}"
        )


class _Shown:
    """Progress on standard error, at most a line in two seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._total, self._began, self._last = 0, time.perf_counter(), 0.0

    def start(self, plan: CalibrationPlan) -> None:
        self._total, self._began = plan.n_searches, time.perf_counter()
        if not self._quiet:
            say(
                f"estimate: {plan.n_searches:,} searches of up to"
                f" {counted(plan.needs.n_sets, 'parameter set')},"
                f" {plan.needs.memory_bytes / 1e6:,.0f} MB memory, {plan.needs.disk_bytes / 1e6:,.0f} MB"
                f" disk, about {plan.seconds:,.0f} s with {counted(plan.needs.workers, 'worker')};"
                f" blocks of {plan.mean_block:g} bars on average"
            )

    def searched(self, left: int) -> None:
        now = time.perf_counter()
        if self._quiet or (left and now - self._last < 2.0):
            return
        self._last, done = now, self._total - left
        seconds = (now - self._began) / done * left
        say_error(f"{done:,} of {self._total:,} searches, about {seconds:,.0f} s left", style=None)
