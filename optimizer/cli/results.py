"""Commands that list studies and show their results."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.text import Text

from optimizer.cli.console import (
    console,
    format_cell,
    new_table,
    positions_text,
    say,
    warn_close_fill,
)
from optimizer.cli.options import Folder
from optimizer.errors import BarsweepError, StudyError
from optimizer.text import counted, probability

if TYPE_CHECKING:
    import pandas as pd

    from optimizer.selection.record import Selection
    from optimizer.selection.verdict import Verdict
    from optimizer.store.folder import StudyFolder
    from optimizer.study_file.study import Study
    from optimizer.types import IntArray


def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder that holds studies.")
    ] = Path("out"),
) -> None:
    """List the studies in a folder and its subfolders, oldest first."""
    from optimizer.review.records import list_studies

    found = list_studies(folder)
    if not found:
        say(f"{folder}: no studies; `barsweep run` writes one")
        return
    table = new_table()
    numbers = ("sets", "Sharpe to expect", "best in / out")
    for name in ("folder", "study", "state", *numbers, "verdict", "written, UTC"):
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for one in found:
        best = "-"
        if one.best is not None:
            best = (
                f"{one.objective} {format_cell(one.best)} / {format_cell(one.best_out_of_sample)}"
            )
        table.add_row(
            Text(str(one.path)), Text(one.name), one.state, f"{one.n_sets:,}",
            format_cell(one.sharpe_to_expect), best, one.verdict or "-",
            f"{one.when:%Y-%m-%d %H:%M}" if one.when is not None else "-",
        )  # fmt: skip
    console.print(table)
    for one in found:
        if one.problem:
            say(one.problem, "yellow")


def show(
    folder: Folder,
    number: Annotated[
        Optional[int], typer.Argument(metavar="[SET]", help="Number of one set, to show in full.")
    ] = None,
    where: Annotated[
        Optional[str],
        typer.Option(help='Condition, such as "n_trades >= 50 and max_drawdown < 0.2".'),
    ] = None,
    sort: Annotated[
        Optional[str], typer.Option(help="Column to sort by [default: the study's order].")
    ] = None,
    ascending: Annotated[
        Optional[bool],
        typer.Option("--ascending/--descending", help="[default: better first]"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best sets.")] = 10,
    infeasible: Annotated[
        bool, typer.Option("--infeasible", help="Include sets that break the study's constraints.")
    ] = False,
    survivors: Annotated[
        bool, typer.Option("--survivors", help="Only sets with alpha beyond luck at 5% (StepM).")
    ] = False,
    contenders: Annotated[
        bool,
        typer.Option(
            "--contenders", help="Only sets that the bars cannot tell from the winner at 5%."
        ),
    ] = False,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", help="Only sets that no other beats at no cost in an objective."),
    ] = False,
) -> None:
    """Show the best parameter sets of a study and the verdict, or one set in full."""
    if where is not None and not where.strip():
        raise StudyError(
            'show: --where is empty; give a condition such as "n_trades >= 50", or leave it out'
        )
    lists = {"survivors": survivors, "contenders": contenders, "pareto": pareto}
    listed = [name for name, asked in lists.items() if asked]
    if len(listed) > 1:
        raise StudyError(f"show: give --{listed[0]} or --{listed[1]}, not both")
    chosen = where is not None or sort is not None or infeasible or bool(listed)
    if ascending is not None and sort is None:
        raise StudyError("show: --ascending and --descending need a --sort")
    if number is not None:
        if chosen:
            raise StudyError("show: give a SET, or options that choose among all sets, not both")
        _show_set(folder, number)
    elif chosen:
        _show_found(folder, where or "", sort, ascending, top, infeasible, *listed)
    else:
        show_study(folder, top)


def _show_set(path: Path, number: int) -> None:
    from optimizer.review.records import set_record
    from optimizer.review.tables import ODDS_LEGEND
    from optimizer.store.folder import StudyFolder
    from optimizer.store.seal import may_show, seal_note

    one = set_record(path, number)
    say(
        f"set {one.number}, trial {one.trial}: {one.strategy}, classifier {one.classifier},"
        f" {'feasible' if one.feasible else 'not feasible'}, score {format_cell(one.score)}"
    )
    say("parameters", "bold")
    width = max(map(len, one.parameters))
    for name, value in one.parameters.items():
        say(f"  {name:<{width}}  {value}")
    if one.sharpe_to_expect is not None:
        say(f"Sharpe ratio to expect: {format_cell(one.sharpe_to_expect)}", "bold")
    table = new_table()
    table.add_column("metric")
    for name in ("in-sample", "out-of-sample"):
        table.add_column(name, justify="right")
    for name, value in one.in_sample.items():
        table.add_row(name, format_cell(value), format_cell((one.out_of_sample or {}).get(name)))
    console.print(table)
    folder = StudyFolder.open(path)
    last = "the last bar" if may_show(folder, number) else "the last bar in-sample"
    say(f"open after {last}: {_open_positions(path, number)}")
    if not may_show(folder, number):
        say(seal_note(folder), "dim")
    if one.odds is None:
        say("odds: unknown until the study is complete and has a winner")
        return
    say(
        f"odds: p {probability(one.odds.own_p)} over this study's sets, {probability(one.odds.p)} over"
        f" all tried on these bars; DSR {probability(one.odds.dsr)}, PSR {probability(one.odds.psr)}"
        f" in-sample, PSR {probability(one.odds.oos_psr)} out-of-sample"
    )
    say(ODDS_LEGEND, "dim")


def _open_positions(path: Path, number: int) -> str:
    from optimizer.review.rerun import open_positions

    try:
        return positions_text(open_positions(path, number))
    except BarsweepError as error:
        return f"unknown: {error}"


def _listed(path: Path, kind: str) -> IntArray:
    """The sets of a list, once it is said what the list is."""
    import numpy as np

    from optimizer.review.lists import contenders, parameter_ranges, survivors
    from optimizer.store.folder import StudyFolder
    from optimizer.store.pareto import pareto_sets
    from optimizer.study_file.study import recorded_study

    folder = StudyFolder.open(path)
    n_sets = folder.n_sets()
    if kind == "pareto":
        front = pareto_sets(path)
        objectives = recorded_study(folder.manifest()["study"]).search.objective
        say(
            f"{counted(len(front), 'set')} of {n_sets:,} on the Pareto front of"
            f" {' and '.join(objectives)}: no other set is better in one and worse in none"
        )
        return front["set"].to_numpy(np.int64)
    if kind == "survivors":
        numbers = survivors(path)
        if not len(numbers):
            say(f"none of {counted(n_sets, 'set')} survives: no alpha is beyond luck at 5%")
            return numbers
        say(
            f"{counted(len(numbers), 'set')} of {n_sets:,} survive: they have alpha, with a probability"
            " of at most 5% that one of them has none"
        )
        return numbers
    numbers = contenders(path)
    say(
        f"{counted(len(numbers), 'set')} of {n_sets:,} contend: these bars cannot tell them from the"
        " winner at 5%; their parameters:"
    )
    table = new_table()
    for name in ("parameter", "winner", "lowest", "median", "highest", "share of values"):
        table.add_column(name, justify="left" if name == "parameter" else "right")
    for row in parameter_ranges(path, numbers).reset_index(names="name").to_dict("records"):
        cells = [format_cell(row[key]) for key in ("winner", "lowest", "median", "highest")]
        table.add_row(row["name"], *cells, f"{row['share']:.0%}")
    console.print(table)
    return numbers


def _show_found(
    path: Path,
    where: str,
    sort: str | None,
    ascending: bool | None,
    top: int,
    infeasible: bool,
    listed: str | None = None,
) -> None:
    from optimizer.catalogue import METRICS
    from optimizer.review.records import judged
    from optimizer.store.folder import StudyFolder
    from optimizer.store.query import find_sets
    from optimizer.study_file.constraints import read_condition
    from optimizer.study_file.study import recorded_study

    among = None if listed is None else _listed(path, listed)
    folder = StudyFolder.open(path)
    study = recorded_study(folder.manifest()["study"])
    if listed == "pareto" and sort is None:
        sort = study.search.objective[0]
    frame = find_sets(
        path,
        where=where,
        sort=sort,
        ascending=ascending,
        top=top,
        infeasible=infeasible,
        among=among,
    )
    if among is not None and not len(among):  # only now, so that no wrong option goes unsaid
        return
    if study.costs.fill == "close":
        warn_close_fill()
    named = [name for one in read_condition(where) for name in one.names] if where.strip() else []
    named += [sort] if sort is not None else []
    if any(name.startswith("oos_") for name in named):
        say("chosen by the holdout, which is no longer out-of-sample for such a choice",
             "yellow")  # fmt: skip
    if frame.empty:
        say("no set meets the condition", "yellow")
        return
    more = [name for name in (one.removeprefix("oos_") for one in named) if name in METRICS]
    found = judged(folder)
    _print_sets(frame, folder, study, found.selection, found.verdict, more)
    if len(frame) < top:
        say("no other set meets the condition, apart from those that trade like one of these")


def show_study(path: Path, top: int) -> None:
    """Print a study's best sets and its verdict.

    Args:
        path: folder of the study.
        top: how many of the best sets.

    Raises:
        StudyError: the study cannot be read.
    """
    from optimizer.review.records import judged
    from optimizer.review.refusals import why_nothing_traded
    from optimizer.store.columns import KEPT
    from optimizer.store.completeness import count_trials
    from optimizer.store.folder import StudyFolder
    from optimizer.store.query import best_sets, no_best
    from optimizer.study_file.space import build_space
    from optimizer.study_file.study import recorded_study

    folder = StudyFolder.open(path)
    manifest = folder.manifest()
    study = recorded_study(manifest["study"])
    frame = best_sets(folder, study.search, top)
    feasible = folder.column("feasible")
    selection, verdict, problem = judged(folder)
    state = (
        "" if manifest["complete"] else f" (not complete; resume it with `barsweep resume {path}`)"
    )
    first, last = manifest["first_time"][:10], manifest["span"][1][:10]
    holdout = (manifest["holdout_time"] or "")[:10]
    samples = f"in-sample {first} to {holdout}, out-of-sample from there to {last}"
    if not holdout:
        samples = f"in-sample {first} to {last}, no out-of-sample: [validation] holdout is 0"
    trials = folder.trials()
    told = len(trials)
    n_repeats = sum("repeats" in trial["user_attrs"] for trial in trials)
    again = f" ({n_repeats:,} at points tried before)" if n_repeats else ""
    say("")
    say(
        f"{study.name}{state}: {counted(len(feasible), 'parameter set')} ({folder.n_distinct():,}"
        f" distinct) in {counted(told, 'trial')}{again}, {int(feasible.sum()):,} feasible"
    )
    if (kept := folder.kept()) is not None:
        n_kept = int(folder.column(KEPT).sum())
        say(
            f"all metrics are kept of {n_kept:,} sets, the best {kept:,} among them ([search] store)"
        )
    n_trials = count_trials(study, build_space(study))
    if manifest["complete"] and not manifest.get("coordinated") and told < n_trials:
        say(f"the search ended early, after {told:,} of {counted(n_trials, 'trial')}")
    say(samples)
    if study.costs.fill == "close":
        warn_close_fill()
    if frame.empty:
        say(no_best(folder, study.search), "yellow")
    else:
        _print_sets(frame, folder, study, selection, verdict)
        n_feasible = int(feasible.sum())
        if len(frame) < min(top, n_feasible):
            alike = counted(n_feasible - len(frame), "more feasible set")
            say(f"{alike} left out: each has the same metrics as one of these")
    if len(feasible) and (idle := why_nothing_traded(folder)):
        say(idle, "yellow")
    reasons = Counter(trial["user_attrs"].get("reason") for trial in trials)
    del reasons[None]
    for reason, count in reasons.most_common(5):
        say(f"{counted(count, 'trial')} failed: {reason}", "yellow")
    if problem:
        say(problem, "yellow")
    if selection is not None and verdict is not None:
        _show_verdict(selection, verdict, study)
    say(f"results: {folder.path}/results/*.parquet")
    if not frame.empty:
        name = shlex.quote(str(folder.path))
        best = shlex.quote(str(folder.path / "best.json"))
        say(f"next:    barsweep export {name} && barsweep replay {best}, or barsweep report {name}")


COLORS = ("green", "yellow", "red")
SIGNS = {1: "+", 0: "~", -1: "-"}


def _show_verdict(selection: Selection, verdict: Verdict, study: Study) -> None:
    """Print the verdict on the winner and the reasons for it."""
    from optimizer.selection.verdict import diagnosis, expectation, remarks

    show_verdict(verdict, f"set {selection.sets[0].number}", expectation(selection))
    for line in remarks(selection, study, verdict.tried):
        say(line)
    say("the verdict does not rest on:")
    for line in diagnosis(selection, verdict.tried):
        say(f"  {line}")
    if verdict.tried.place:
        say(f"ledger:  {verdict.tried.place}")


def show_verdict(verdict: Verdict, what: str, *lines: str) -> None:
    """Print a verdict and the reasons for it.

    Args:
        verdict: the verdict.
        what: what was judged.
        lines: what comes between the verdict and its reasons.
    """
    from optimizer.selection.verdict import VERDICTS

    color = dict(zip(VERDICTS, COLORS, strict=True))[verdict.words]
    say(f"{what}: {verdict.headline}", color)
    for line in lines:
        say(line)
    for reason in verdict.reasons:
        say(f"  {SIGNS[reason.weight]} {reason.text}")


def _print_sets(
    frame: pd.DataFrame,
    folder: StudyFolder,
    study: Study,
    selection: Selection | None,
    verdict: Verdict | None,
    more: Sequence[str] = (),
) -> None:
    """Print one row per set: each metric as in-sample / out-of-sample, its odds, what differs."""
    from optimizer.review.tables import LEGEND, set_table
    from optimizer.store.seal import seal_note, with_open_holdout

    found = set_table(with_open_holdout(folder, frame), study, selection, verdict, more)
    table = new_table()
    for title in found.titles[:-1]:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(found.titles[-1], overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
    if found.has_odds:
        say(LEGEND, "dim")
    if note := seal_note(folder):
        say(note, "dim")
