"""Commands that check, run and resume a study."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from optimizer.cli.console import console, say, warn_close_fill
from optimizer.cli.interruption import command_state, resumable
from optimizer.cli.options import (
    Folder,
    JsonLines,
    Quiet,
    StudyFile,
    TopAtTheEnd,
    Trust,
    Workers,
)
from optimizer.cli.results import show_study
from optimizer.errors import StudyError
from optimizer.text import counted

if TYPE_CHECKING:
    from optimizer.search.preflight import Estimate
    from optimizer.search.result import StudyResult
    from optimizer.selection.power import Power
    from optimizer.study_file.study import Study
    from optimizer.types import Bars


def check(
    study: StudyFile,
    look_ahead: Annotated[
        bool,
        typer.Option(
            "--look-ahead", help="Also test for look-ahead bias; exit with 1 if there is any."
        ),
    ] = False,
) -> None:
    """Validate a study and its bars; estimate parameter sets, memory, disk and time."""
    from optimizer.search.account_checks import (
        check_account,
        warn_of_idle_symbols,
        warn_of_slower_bars,
    )
    from optimizer.search.preflight import estimate, refuse_what_cannot_fit
    from optimizer.search.warm_start import warm_points
    from optimizer.selection.power import power_of
    from optimizer.study_file.bars import load_study_bars
    from optimizer.study_file.load import load_study
    from optimizer.study_file.space import build_space
    from optimizer.study_file.spans import in_bars
    from optimizer.study_file.tables import CLUSTERS
    from optimizer.sweep.inputs import holdout_bar, prepare, require_warm_up, study_warm_up
    from optimizer.sweep.rules import study_rules
    from optimizer.sweep.try_signals import try_classifiers, try_signals

    loaded = load_study(study)
    bars = load_study_bars(loaded)
    loaded = in_bars(loaded, bars)
    check_account(loaded, bars)
    space = build_space(loaded)
    rules = study_rules(loaded, space, bars)
    warm_up = study_warm_up(space, rules, bars)
    require_warm_up(bars, warm_up)
    warn_of_idle_symbols(loaded, bars, warm_up, rules)
    warn_of_slower_bars(loaded, space, bars, rules)
    needs = estimate(loaded, space, bars, rules, loaded.workers.count)
    split = holdout_bar(bars, rules, warm_up, loaded.validation.holdout)
    holdout_time = str(bars.timestamps[split]) if split < bars.n_bars else None
    n_warm = len(warm_points(loaded, space, holdout_time))
    if look_ahead:
        _check_look_ahead(loaded, bars)
    try_classifiers(bars, space)
    if space.user_strategies:
        try_signals(prepare(bars, space, rules, loaded.validation.holdout), space)
    say(f"{study}: valid", "green")
    say(
        f"bars: {bars.n_bars:,} x {counted(bars.n_symbols, 'symbol')}, {str(bars.timestamps[0])[:16]} to"
        f" {str(bars.timestamps[-1])[:16]}, {bars.bars_per_year:g} a year; warm-up {warm_up}"
    )
    if n_warm:
        say(f"warm start: {counted(n_warm, 'point')} of {loaded.search.warm_start}")
    _print_estimate(needs)
    if loaded.workers.backend in CLUSTERS and not loaded.workers.count:
        say(
            f"that is with 1 worker; `run` takes as many as the {loaded.workers.backend} cluster has"
        )
    _print_power(power_of(loaded, bars, rules, warm_up, needs.n_sets))
    if rules.close_fill:
        warn_close_fill()
    refuse_what_cannot_fit(needs, Path("out"))


def _check_look_ahead(study: Study, bars: Bars) -> None:
    from optimizer.flow.look_ahead import look_ahead_check

    found = look_ahead_check(study, bars)
    for one in found:
        say(f"look-ahead: {one}", "red")
    if found:
        raise typer.Exit(1)
    say("look-ahead: none; features, signals and regimes never change when bars are added", "green")


def _print_estimate(needs: Estimate) -> None:
    say(
        f"estimate: {counted(needs.n_trials, 'trial')}, up to {counted(needs.n_sets, 'parameter set')}"
        f" ({needs.lanes_per_tile:,} a trial), {needs.memory_bytes / 1e6:,.0f} MB memory,"
        f" {needs.disk_bytes / 1e6:,.0f} MB disk, about {needs.seconds:,.0f} s with"
        f" {counted(needs.workers, 'worker')}{_compiling(needs)}"
    )
    if needs.n_windows:
        say(
            f"walk-forward: one more search for each of {counted(needs.n_windows, 'window')}:"
            f" {counted(needs.n_windows * needs.n_trials, 'trial')}, up to"
            f" {counted(needs.n_windows * needs.n_sets, 'parameter set')}; memory, disk and time"
            " include them"
        )


def _compiling(needs: Estimate) -> str:
    if not needs.compile_seconds:
        return ""
    return f", {needs.compile_seconds:.0f} s of it to compile kernels, once on this machine"


def _print_power(power: Power) -> None:
    """Print what the bars can show, and say so where that is too little."""
    from optimizer.selection.power import HARDLY_ANY

    if power.search is None:
        say(
            f"power: {power.years:.2g} years in-sample are too short for the test over all sets; give"
            " more bars",
            "yellow",
        )
        return
    holdout = "; no holdout shows any"
    if power.holdout is not None:
        holdout = (
            f"; the holdout of {power.holdout_years:.1f} years shows {power.holdout:.1f} or more"
        )
        if power.n_looks > 1:
            holdout += f" after {power.n_looks:,} looks at its bars"
    say(
        f"power: {power.years:.1f} years in-sample find a Sharpe ratio beyond the benchmark of"
        f" {power.search:.1f} or more in 4 of 5 cases, less if the sets trade alike{holdout}"
    )
    if not power.decides:
        say(
            f"these bars cannot decide: a search like this misses even a Sharpe ratio of {HARDLY_ANY:g}"
            " more often than 1 time in 5; give more years, or try fewer sets",
            "yellow",
        )


def run(
    study: StudyFile,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder for the results [default: out/<study name>].")
    ] = None,
    workers: Workers = None,
    trials: Annotated[Optional[int], typer.Option(help="Override [search] trials.")] = None,
    seed: Annotated[Optional[int], typer.Option(help="Override [study] seed.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the study in --out.")] = False,
    top: TopAtTheEnd = 5,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
) -> None:
    """Run a study, write its results and show the best sets."""
    from optimizer.search.run import run_study
    from optimizer.study_file.load import load_study

    shown = ShownStudy(quiet, json_lines)
    loaded = load_study(study)
    if trials is not None and loaded.search.sampler == "grid":
        raise StudyError(f"{study}: --trials: the sampler grid tries every point; leave it out")
    loaded = loaded.override(seed=seed, trials=trials)
    folder = Path("out") / loaded.name if out is None else out
    with resumable(folder), shown.progress() as on_progress:
        result = run_study(
            loaded,
            out=folder,
            workers=workers,
            overwrite=overwrite,
            on_start=shown.start,
            on_progress=on_progress,
        )
    shown.end(result, top)


def resume(
    folder: Folder,
    workers: Workers = None,
    trust: Trust = False,
    top: TopAtTheEnd = 5,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
) -> None:
    """Resume a study that was stopped or killed; the results are as if it had never stopped."""
    from optimizer.search.resume import resume_study

    shown = ShownStudy(quiet, json_lines)
    with resumable(folder), shown.progress() as on_progress:
        result = resume_study(
            folder,
            workers=workers,
            trust=trust,
            on_start=shown.start,
            on_progress=on_progress,
        )
    shown.end(result, top)


def merge(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of the coordinators.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the whole.")],
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the study in --out.")] = False,
    trust: Trust = False,
    top: TopAtTheEnd = 5,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
) -> None:
    """Merge the folders of several coordinators of one study, and judge the winner of all."""
    from optimizer.search.merge import merge_studies

    shown = ShownStudy(quiet, json_lines)
    with resumable(out), shown.progress() as on_progress:
        result = merge_studies(
            folders,
            out=out,
            workers=workers,
            overwrite=overwrite,
            trust=trust,
            on_progress=on_progress,
        )
    shown.end(result, top)


class ShownStudy:
    """How a study is shown while it runs and at its end.

    Args:
        quiet: print only what ``show`` prints.
        json_lines: print JSON objects for machines, and nothing else, to standard output.

    Raises:
        StudyError: both are asked for.
    """

    def __init__(self, quiet: bool, json_lines: bool) -> None:
        if quiet and json_lines:
            raise StudyError("--quiet and --json-lines: give one of them")
        self._quiet, self._json = quiet, json_lines
        self._waiting = "first batch"
        command_state.quiet = quiet or json_lines

    def start(self, needs: Estimate) -> None:
        """Show what the study is estimated to take.

        Args:
            needs: the estimate.
        """
        if self._quiet or self._json:
            return
        _print_estimate(needs)
        if needs.compile_seconds:
            self._waiting = "compiling kernels, once on this machine, then the first batch"
            if not console.is_terminal:
                say("compiling kernels, once on this machine")

    def progress(self) -> contextlib.AbstractContextManager[Any]:
        """A context that gives the callback for every batch."""
        from optimizer.views import live

        if self._json:
            return contextlib.nullcontext(lambda now: live.print_event(live.batch_event(now)))
        if self._quiet:
            return contextlib.nullcontext()
        if not console.is_terminal:
            return contextlib.nullcontext(lambda now: say(live.plain_line(now)))
        return live.live_view(console, lambda: self._waiting)

    def end(self, result: StudyResult, top: int) -> None:
        """Show what has come out.

        Args:
            result: the complete study.
            top: how many of the best sets to show.
        """
        if self._json:
            from optimizer.review.records import judged
            from optimizer.views.live import done_event, print_event

            print_event(done_event(result, judged(result.folder).verdict))
            return
        if not result.seconds and not self._quiet:
            say(f"{result.folder.path}: complete, nothing to resume", "green")
            return
        if not self._quiet:
            total = sum(result.seconds.values())
            parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items())
            say(f"time: {total:.1f} s ({parts})")
        show_study(result.folder.path, top)
