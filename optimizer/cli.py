"""The command line: a thin shell over the Python API."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import shlex
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from optimizer.errors import BarsweepError, ExportError, StudyError, counted

if TYPE_CHECKING:
    import pandas as pd

    from optimizer.config import Study
    from optimizer.preflight import Estimate
    from optimizer.selection import Selection, Verdict
    from optimizer.study import StudyResult
    from optimizer.types import Bars

app = typer.Typer(
    help="Sweep trading-strategy parameters over real bars and export the best sets.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
if not console.is_terminal:
    console.width = 120  # a pipe has no width of its own
errors = Console(stderr=True)


def _say(text: str, style: str | None = None) -> None:
    """Print one line as it is; a terminal wraps it, a pipe gets it whole."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (TOML).")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `barsweep run` wrote.")]


Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print nothing but what `barsweep show` prints at the end.")
]
JsonLines = Annotated[
    bool, typer.Option("--json-lines", help="Print a line of JSON a batch and nothing else.")
]


class Replayed(StrEnum):
    """How a set is replayed."""

    VECTORIZED = "vectorized"
    EVENTS = "events"


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        _say(f"barsweep {version('barsweep')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


class _Stopped(BaseException):
    """SIGINT or SIGTERM came. Not a KeyboardInterrupt, for which click has an ending of its own."""


@dataclass
class _State:
    """The signal that came, the study that it stopped, whether stdout is for results alone."""

    signal: int = 0
    folder: Path | None = None
    quiet: bool = False


_state = _State()


_end_at_once = os._exit  # which is another thing while a user's code runs

GRACE_SECONDS = 3.0
"""After which a signal ends the program that did not come to hear of it."""


def _stop(number: int, _: object) -> None:
    """End in order at the first signal, at once at the second: what is written is whole anyway."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda number, _: _end_at_once(128 + number))
    _state.signal = number
    raise _Stopped


def _not_raised(ignored: sys.UnraisableHookArgs) -> None:
    """A signal came within a finalizer, whose errors Python reports and drops: let it come again."""
    if ignored.exc_type is not _Stopped:
        sys.__unraisablehook__(ignored)
        return
    number, thread = _state.signal, threading.main_thread().ident
    signal.signal(number, _stop)
    if thread is not None:
        threading.Timer(0.02, signal.pthread_kill, (thread, number)).start()


@contextlib.contextmanager
def _signals_watched() -> Iterator[None]:
    """End the program at a signal though it is in compiled code, as a user's loop without an end.

    Python calls ``_stop`` between two of its own instructions alone. The number of the signal comes
    through a socket meanwhile, and so to a thread.
    """
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        with ours:
            number = 0
            while number not in (signal.SIGINT, signal.SIGTERM):
                came = ours.recv(1)
                if not came:
                    return
                number = came[0]
            ours.settimeout(GRACE_SECONDS)
            with contextlib.suppress(TimeoutError):
                if not ours.recv(1):
                    return
            if not _state.signal:
                _state.signal = number
                _complain(_farewell())
                _end_at_once(128 + number)

    threading.Thread(target=watch, name="signal watch", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        pythons.close()


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot spell is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    code = logging.getLogger("barsweep.code")
    code.setLevel(logging.INFO)
    code.propagate = False
    says = _Code()
    code.addHandler(says)
    _state.quiet = False
    before = {one: signal.signal(one, _stop) for one in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = _not_raised
    try:
        with _signals_watched():
            done = app(prog_name="barsweep", standalone_mode=False) or 0
        sys.exit(done)
    except SystemExit:
        raise
    except BaseException as error:
        # A signal may come out as the error of what it cut short.
        if _state.signal:
            _complain(_farewell())
            sys.exit(128 + _state.signal)
        if isinstance(error, MemoryError):
            _complain("error: out of memory; lower [search] batch, or sweep fewer values in a tile")
            sys.exit(2)
        if isinstance(error, BarsweepError):
            _complain(f"error: {error}")
            sys.exit(2)
        if isinstance(error, UsageError):
            _complain_of_use(error)
            sys.exit(2)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            # What waits to be printed would fail again at the end of the interpreter.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            where = error.filename or "standard output"
            _complain(f"error: {where}: cannot be written: {error.strerror}")
            sys.exit(2)
        raise
    finally:
        code.removeHandler(says)
        sys.unraisablehook = sys.__unraisablehook__
        if not _state.signal:
            for one, handler in before.items():
                signal.signal(one, handler)


UsageError = typer.BadParameter.__mro__[1]
"""What typer raises for wrong options and arguments: click's, or that of its own copy of click."""


def _complain_of_use(error: Any) -> None:
    """One line for a wrong option or argument; the help, where it was asked for by giving nothing."""
    context = error.ctx
    if context is not None and error.message == context.get_help():
        typer.echo(error.message, err=True)
        return
    command = context.command_path if context is not None else "barsweep"
    # Messages of several sentences, some of them pydantic's.
    text = re.sub(r": (Value error, |Input )", ": ", error.format_message().rstrip("."))
    text = text[0].lower() + text[1:].replace(". Did", "; did")
    text += " " if text.endswith("?") else "; "
    _complain(f"error: {StudyError(f'{command}: {text}see `{command} --help`')}")


def _farewell() -> str:
    word = "interrupted" if _state.signal == signal.SIGINT else "terminated"
    folder = _state.folder
    if folder is None:
        return word
    if (folder / "flow.json").is_file():
        return (
            f"{word}; the bars traced so far stay in {folder}, and a flow cannot go on from there:"
            " `barsweep flow --overwrite` begins it anew, or remove the folder"
        )
    if not (folder / "study.json").is_file():
        return word
    return (
        f"{word}; what was written so far is kept in {folder}: `barsweep resume {folder}` goes on"
        " with it"
    )


def _complain(text: str) -> None:
    errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Where a study or a flow is, as long as it runs; see ``_farewell``."""
    _state.folder = folder
    yield
    _state.folder = None


class _Code(logging.Handler):
    """Says whose code is run, before it is; on stderr where stdout is for something else."""

    def emit(self, record: logging.LogRecord) -> None:
        if _state.quiet:
            errors.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)
        else:
            _say(record.getMessage())


@app.command()
def check(
    study: StudyFile,
    look_ahead: Annotated[
        bool,
        typer.Option(
            "--look-ahead", help="Also look for what reads ahead, on cut bars; exit 1 if any does."
        ),
    ] = False,
) -> None:
    """Validate a study and its bars, and estimate parameter sets, memory, disk and time."""
    from optimizer.backtest import prepare, study_rules, study_warm_up, try_signals
    from optimizer.bars import require_bars
    from optimizer.config import load_study
    from optimizer.preflight import estimate, refuse_what_cannot_fit
    from optimizer.space import build_space
    from optimizer.study import load_study_bars

    loaded = load_study(study)
    bars = load_study_bars(loaded)
    space = build_space(loaded)
    rules = study_rules(loaded, space, bars.n_symbols)
    warm_up = study_warm_up(space, rules)
    require_bars(bars, warm_up + 10, f"the longest lookback needs {warm_up} for warm-up")
    needs = estimate(loaded, space, bars, rules, loaded.workers.count)
    if look_ahead:
        _check_look_ahead(loaded, bars)
    if any(branch.custom for branch in space.branches):
        try_signals(prepare(bars, space, rules, loaded.validation.holdout), space)
    _say(f"{study}: valid", "green")
    _say(
        f"bars: {bars.n_bars:,} x {counted(bars.n_symbols, 'symbol')}, {str(bars.timestamps[0])[:16]} to"
        f" {str(bars.timestamps[-1])[:16]}, {bars.bars_per_year:g} a year; warm-up {warm_up}"
    )
    _print_estimate(needs)
    if rules.close_fill:
        _warn_close_fill()
    refuse_what_cannot_fit(needs, Path("out"))


def _check_look_ahead(study: Study, bars: Bars) -> None:
    from optimizer.look_ahead import look_ahead_check

    found = look_ahead_check(study, bars)
    for one in found:
        _say(f"look-ahead: {one}", "red")
    if found:
        raise typer.Exit(1)
    _say("look-ahead: none; features, signals and regimes are the same whatever follows", "green")


def _print_estimate(needs: Estimate) -> None:
    _say(
        f"estimate: {counted(needs.n_trials, 'trial')}, up to {counted(needs.n_sets, 'parameter set')}"
        f" ({needs.lanes_per_tile:,} a trial), {needs.memory_bytes / 1e6:,.0f} MB memory,"
        f" {needs.disk_bytes / 1e6:,.0f} MB disk, about {needs.seconds:,.0f} s with"
        f" {counted(needs.workers, 'worker')}"
    )
    if needs.n_windows:
        _say(
            f"walk-forward: one search more for each of {counted(needs.n_windows, 'window')}:"
            f" {counted(needs.n_windows * needs.n_trials, 'trial')}, up to"
            f" {counted(needs.n_windows * needs.n_sets, 'parameter set')}; memory, disk and time"
            " include them"
        )


def _warn_close_fill() -> None:
    _say(
        'fill = "close": orders fill at the close that decides them, which is optimistic', "yellow"
    )


@app.command()
def run(
    study: StudyFile,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder for the results [default: out/<study name>].")
    ] = None,
    workers: Annotated[
        Optional[int], typer.Option(min=0, help="Processes; 0 is one per core.")
    ] = None,
    trials: Annotated[Optional[int], typer.Option(help="Replaces [search] trials.")] = None,
    seed: Annotated[Optional[int], typer.Option(help="Replaces [study] seed.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a study that --out holds.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Best sets to show at the end.")] = 5,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
) -> None:
    """Run a study: search, evaluate every tile, write results, show the best sets."""
    from optimizer.config import load_study
    from optimizer.study import run_study

    shown = _Shown(quiet, json_lines)
    loaded = load_study(study)
    if trials is not None and loaded.search.sampler == "grid":
        raise StudyError(f"{study}: --trials: the sampler grid tries every point; leave it out")
    loaded = loaded.override(seed=seed, trials=trials)
    folder = Path("out") / loaded.name if out is None else out
    with _resumable(folder), shown.progress() as on_progress:
        result = run_study(
            loaded,
            out=folder,
            workers=workers,
            overwrite=overwrite,
            on_start=shown.start,
            on_progress=on_progress,
        )
    shown.end(result, top)


@app.command()
def resume(
    folder: Folder,
    workers: Annotated[
        Optional[int], typer.Option(min=0, help="Processes; 0 is one per core.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Best sets to show at the end.")] = 5,
    quiet: Quiet = False,
    json_lines: JsonLines = False,
) -> None:
    """Go on with a study that was stopped or killed; the results are as if it had not been."""
    from optimizer.resume import resume_study

    shown = _Shown(quiet, json_lines)
    with _resumable(folder), shown.progress() as on_progress:
        result = resume_study(
            folder, workers=workers, on_start=shown.start, on_progress=on_progress
        )
    shown.end(result, top)


class _Shown:
    """How a study that runs is shown, and its end.

    Args:
        quiet: nothing but what ``show`` prints.
        json_lines: objects for machines, and nothing else on standard output.
    """

    def __init__(self, quiet: bool, json_lines: bool) -> None:
        if quiet and json_lines:
            raise StudyError("--quiet and --json-lines: give one of them")
        self._quiet, self._json = quiet, json_lines
        _state.quiet = quiet or json_lines

    def start(self, needs: Estimate) -> None:
        if not self._quiet and not self._json:
            _print_estimate(needs)

    def progress(self) -> contextlib.AbstractContextManager[Any]:
        """What to call after every batch."""
        from optimizer import live_view

        if self._json:
            return contextlib.nullcontext(
                lambda now: live_view.print_event(live_view.batch_event(now))
            )
        if self._quiet:
            return contextlib.nullcontext()
        if not console.is_terminal:
            return contextlib.nullcontext(lambda now: _say(live_view.plain_line(now)))
        return live_view.live_view(console)

    def end(self, result: StudyResult, top: int) -> None:
        if self._json:
            from optimizer.live_view import done_event, print_event
            from optimizer.overview import judged

            print_event(done_event(result, judged(result.folder).verdict))
            return
        if not result.seconds and not self._quiet:
            _say(f"{result.folder.path}: complete, nothing to resume", "green")
            return
        if not self._quiet:
            total = sum(result.seconds.values())
            parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result.seconds.items())
            _say(f"time: {total:.1f} s ({parts})")
        _show(result.folder.path, top)


@app.command("list")
def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder that holds studies.")
    ] = Path("out"),
) -> None:
    """List the studies in a folder and below it, by time."""
    from optimizer.overview import list_studies

    found = list_studies(folder)
    if not found:
        _say(f"{folder}: no studies; `barsweep run` writes one")
        return
    table = _table()
    for name in ("folder", "study", "state", "sets", "best in / out", "verdict", "written, UTC"):
        table.add_column(name, justify="right" if name in ("sets", "best in / out") else "left",
                         overflow="fold")  # fmt: skip
    for one in found:
        best = "-"
        if one.best is not None:
            best = f"{one.objective} {_cell(one.best)} / {_cell(one.best_out_of_sample)}"
        table.add_row(
            Text(str(one.path)), Text(one.name), one.state, f"{one.n_sets:,}", best, one.verdict or "-",
            f"{one.when:%Y-%m-%d %H:%M}" if one.when is not None else "-",
        )  # fmt: skip
    console.print(table)
    for one in found:
        if one.problem:
            _say(one.problem, "yellow")


@app.command()
def show(
    folder: Folder,
    number: Annotated[
        Optional[int], typer.Argument(metavar="[SET]", help="One set, to show in full.")
    ] = None,
    where: Annotated[
        Optional[str],
        typer.Option(help='Sets to show, as "n_trades >= 50 and max_drawdown < 0.2".'),
    ] = None,
    sort: Annotated[
        Optional[str], typer.Option(help="Column to sort by [default: the study's order].")
    ] = None,
    ascending: Annotated[
        Optional[bool],
        typer.Option("--ascending/--descending", help="[default: the better first]"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best sets.")] = 10,
    infeasible: Annotated[
        bool, typer.Option("--infeasible", help="Sets that break the study's constraints too.")
    ] = False,
) -> None:
    """Show a study's best parameter sets, in-sample beside out-of-sample, or one set in full."""
    if where is not None and not where.strip():
        raise StudyError(
            'show: --where is empty; give a condition, as "n_trades >= 50", or leave it out'
        )
    chosen = where is not None or sort is not None or infeasible
    if ascending is not None and sort is None:
        raise StudyError("show: --ascending and --descending need a --sort")
    if number is not None:
        if chosen:
            raise StudyError("show: give a SET, or --where, --sort and --infeasible, not both")
        _show_set(folder, number)
    elif chosen:
        _show_found(folder, where or "", sort, ascending, top, infeasible)
    else:
        _show(folder, top)


def _show_set(path: Path, number: int) -> None:
    from optimizer.overview import set_record

    one = set_record(path, number)
    _say(
        f"set {one.number}, trial {one.trial}: {one.strategy}, classifier {one.classifier},"
        f" {'feasible' if one.feasible else 'not feasible'}, score {_cell(one.score)}"
    )
    _say("parameters", "bold")
    width = max(map(len, one.parameters))
    for name, value in one.parameters.items():
        _say(f"  {name:<{width}}  {value}")
    table = _table()
    table.add_column("metric")
    for name in ("in-sample", "out-of-sample"):
        table.add_column(name, justify="right")
    for name, value in one.in_sample.items():
        table.add_row(name, _cell(value), _cell((one.out_of_sample or {}).get(name)))
    console.print(table)
    _say(f"open after the last bar: {_open_positions(path, number)}")
    if one.odds is None:
        _say("odds: unknown until the study is complete and has a winner")
        return
    _say(
        f"odds: not luck (DSR) {_cell(one.odds.dsr)}; gain is real (PSR) {_cell(one.odds.psr)}"
        f" in-sample, {_cell(one.odds.oos_psr)} out-of-sample"
    )


def _open_positions(path: Path, number: int) -> str:
    from optimizer.overview import open_positions

    try:
        return _positions(open_positions(path, number))
    except BarsweepError as error:
        return f"unknown: {error}"


def _positions(found: Mapping[str, float]) -> str:
    """Positions as text; what is open is no trade yet."""
    if not found:
        return "no position"
    held = ", ".join(f"{symbol} {units:,.12g}" for symbol, units in found.items())
    return (
        f"{counted(len(found), 'position')} ({held}), marked at the last close; n_trades, win_rate"
        " and profit_factor count closed trades alone"
    )


def _show_found(
    path: Path, where: str, sort: str | None, ascending: bool | None, top: int, infeasible: bool
) -> None:
    from optimizer.catalogue import METRICS
    from optimizer.config import study_from_dict
    from optimizer.constraints import read_condition
    from optimizer.overview import judged
    from optimizer.results import find_sets
    from optimizer.store import StudyFolder

    frame = find_sets(
        path, where=where, sort=sort, ascending=ascending, top=top, infeasible=infeasible
    )
    folder = StudyFolder.open(path)
    study = study_from_dict(folder.manifest()["study"])
    if study.costs.fill == "close":
        _warn_close_fill()
    named = [name for one in read_condition(where) for name in one.names] if where.strip() else []
    named += [sort] if sort is not None else []
    if any(name.startswith("oos_") for name in named):
        _say("chosen by the holdout, which is not out-of-sample any more for such a choice",
             "yellow")  # fmt: skip
    if frame.empty:
        _say("no set meets the condition", "yellow")
        return
    more = [name for name in (one.removeprefix("oos_") for one in named) if name in METRICS]
    console.print(_best_table(frame, study, judged(folder).selection, more))


def _show(path: Path, top: int) -> None:
    from optimizer.config import study_from_dict
    from optimizer.overview import judged
    from optimizer.results import best_sets, no_best
    from optimizer.store import StudyFolder

    folder = StudyFolder.open(path)
    manifest = folder.manifest()
    study = study_from_dict(manifest["study"])
    frame = best_sets(folder, study.search, top)
    counts = folder.results(["trial", "feasible"])
    selection, verdict, problem = judged(folder)
    state = "" if manifest["complete"] else f" (not complete; `barsweep resume {path}` goes on)"
    first, last = manifest["first_time"][:10], manifest["span"][1][:10]
    holdout = (manifest["holdout_time"] or "")[:10]
    samples = f"in-sample {first} to {holdout}, out-of-sample from there to {last}"
    if not holdout:
        samples = f"in-sample {first} to {last}, no out-of-sample: [validation] holdout is 0"
    _say("")
    _say(
        f"{study.name}{state}: {counted(len(counts), 'parameter set')} ({folder.n_distinct():,}"
        f" distinct) in {counted(counts['trial'].nunique(), 'trial')},"
        f" {int(counts['feasible'].sum()):,} feasible"
    )
    _say(samples)
    if study.costs.fill == "close":
        _warn_close_fill()
    if frame.empty:
        _say(no_best(folder, study.search), "yellow")
    else:
        console.print(_best_table(frame, study, selection))
    reasons = Counter(trial["user_attrs"].get("reason") for trial in folder.trials())
    del reasons[None]
    for reason, count in reasons.most_common(5):
        _say(f"{counted(count, 'trial')} failed: {reason}", "yellow")
    if problem:
        _say(problem, "yellow")
    if selection is not None and verdict is not None:
        _show_verdict(selection, verdict, study)
    _say(f"results: {folder.path}/results/*.parquet")
    if not frame.empty:
        name = shlex.quote(str(folder.path))
        best = shlex.quote(str(folder.path / "best.json"))
        _say(
            f"next:    barsweep export {name} && barsweep replay {best}, or barsweep report {name}"
        )


VERDICTS = {"holds up": "green", "fragile": "yellow", "likely luck": "red"}
SIGNS = {1: "+", 0: "~", -1: "-"}


def _show_verdict(selection: Selection, verdict: Verdict, study: Study) -> None:
    """The verdict on the winner and what it rests on."""
    from optimizer.selection import remarks

    _say(f"set {selection.sets[0].number}: {verdict.words}", VERDICTS[verdict.words])
    for reason in verdict.reasons:
        _say(f"  {SIGNS[reason.weight]} {reason.text}")
    for line in remarks(selection, study):
        _say(line)


def _best_table(
    frame: pd.DataFrame, study: Study, selection: Selection | None, more: Sequence[str] = ()
) -> Table:
    """One row a set: each metric as in-sample / out-of-sample, its odds, what varies."""
    from optimizer.overview import set_rows

    titles, rows = set_rows(frame, study, selection, more)
    table = _table()
    for title in titles[:-1]:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(titles[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _table() -> Table:
    return Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))


def _cell(value: Any) -> str:
    from optimizer.results import cell

    return cell(value)


@app.command()
def compare(
    first: Folder,
    second: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of another study.")],
) -> None:
    """Compare two studies: best sets, verdicts, what differs in study files and bars."""
    from optimizer.overview import compare_studies, difference_text

    found = compare_studies(first, second)
    pair = (found.first, found.second)
    table = _table()
    table.add_column("")
    for one in pair:
        table.add_column(str(one.path), overflow="fold")
    for name, cells in (
        ("study", [Text(one.name) for one in pair]),
        ("state", [one.state for one in pair]),
        ("parameter sets", [f"{one.n_sets:,}" for one in pair]),
        ("objective", [one.objective for one in pair]),
        ("best in / out", [f"{_cell(o.best)} / {_cell(o.best_out_of_sample)}" for o in pair]),
        ("verdict", [one.verdict or "-" for one in pair]),
    ):
        table.add_row(name, *cells)
    for title, rows in (
        ("study files differ in", found.study_differences),
        ("bars differ in", found.data_differences),
    ):
        if rows:
            table.add_row(f"[bold]{title}")
        for name, before, now in rows:
            table.add_row(Text(name), Text(difference_text(before)), Text(difference_text(now)))
    console.print(table)
    for title, rows in (("study files", found.study_differences), ("bars", found.data_differences)):
        if not rows:
            _say(f"{title}: the same")
    for crossed, own, other in (
        (found.first_in_second, first, second),
        (found.second_in_first, second, first),
    ):
        if crossed is None:
            continue
        if crossed.in_sample is None:
            _say(f"best set of {own} cannot be tried in {other}: {crossed.problem}", "yellow")
            continue
        where = "not tried there, simulated now by its costs and holdout"
        if crossed.found is not None:
            rank = "not feasible" if crossed.rank is None else f"rank {crossed.rank:,}"
            where = f"set {crossed.found} there, {rank}"
        beside = (crossed.out_of_sample or {}).get("sharpe")
        _say(
            f"best set of {own}, {crossed.number}, in {other}: Sharpe ratio"
            f" {_cell(crossed.in_sample['sharpe'])} / {_cell(beside)} ({where})"
        )


@app.command()
def plot(
    folder: Folder,
    heatmap: Annotated[
        tuple[str, str], typer.Option(metavar="X Y", help="Two parameters, as lookback threshold.")
    ],
    metric: Annotated[str, typer.Option(help="What the colours show.")] = "sharpe",
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: DIR/heatmap-X-Y.html].")
    ] = None,
) -> None:
    """Draw a metric over two parameters into an HTML file that opens offline."""
    from optimizer import figures

    figure = figures.heatmap(folder, *heatmap, metric)
    path = out if out is not None else folder / f"heatmap-{heatmap[0]}-{heatmap[1]}.html"
    _say(f"figure: {figures.write_figure(figure, path)}")


@app.command()
def dashboard(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
) -> None:
    """Open optuna-dashboard on a study, also while it runs (extra `dashboard`); read-only."""
    from optimizer.dashboard import HOST, dashboard_server

    with dashboard_server(folder, port) as server:
        _say(f"dashboard: http://{HOST}:{server.server_port}/ (Ctrl-C ends it)")
        server.serve_forever()


@app.command()
def report(
    folder: Folder,
    out: Annotated[
        Optional[Path], typer.Option(help="The file [default: DIR/report.html].")
    ] = None,
) -> None:
    """Write a study's report: one HTML file with figures and tables that opens offline."""
    from optimizer.report import write_report

    _say(f"report: {write_report(folder, out)}")


@app.command()
def ledger() -> None:
    """Show how many parameter sets were ever tried on which bars; each weighs on every winner."""
    from optimizer.ledger import entries, ledger_path

    table = _table()
    for name in ("bars", "study", "sets", "last run", "file of bars"):
        table.add_column(name, justify="right" if name == "sets" else "left", overflow="fold")
    found = entries()
    totals: dict[str, int] = {}
    for one in found:
        totals[one.data_hash] = totals.get(one.data_hash, 0) + one.n_sets
        table.add_row(
            one.data_hash[:12], f"{one.study} {one.study_hash[:8]}", f"{one.n_sets:,}",
            one.last_run[:16].replace("T", " "), one.data,
        )  # fmt: skip
    if not found:
        _say("nothing tried yet")
    else:
        console.print(table)
        for data_hash, total in totals.items():
            _say(f"bars {data_hash[:12]}: {counted(total, 'set')} in all")
    _say(f"ledger: {ledger_path()}")


@app.command()
def export(
    folder: Folder,
    top: Annotated[int, typer.Option(min=1, help="How many of the best sets.")] = 1,
    format: Annotated[
        Optional[str],
        typer.Option(help="json, toml, csv or parquet [default: that of --out, else json]."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="The file [default: DIR/best.<format>].")
    ] = None,
) -> None:
    """Write the best parameter sets to a file."""
    from optimizer.export import FORMATS, export_sets

    if format is None:
        format = out.suffix.removeprefix(".").lower() if out is not None else "json"
        if format not in FORMATS:
            endings = ", ".join(f".{one}" for one in FORMATS)
            raise ExportError(
                f"{out}: an export is written to a file that ends in one of {endings}"
            )
    for known in FORMATS:
        if format == known:
            path = export_sets(folder, top=top, format=known, out=out)
            _say(f"exported: {path}")
            return
    raise ExportError(f"--format: got {format!r}; valid: {', '.join(FORMATS)}")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="BEST.json", help="Export, JSON or TOML.")],
    number: Annotated[int, typer.Option("--set", min=1, help="Its place in the file, from 1.")] = 1,
    data: Annotated[Optional[Path], typer.Option(help="The bars, if they have moved.")] = None,
    flow: Annotated[
        Replayed, typer.Option(help="Also one bar at a time through the containers: events.")
    ] = Replayed.VECTORIZED,
    returns: Annotated[
        Optional[Path],
        typer.Option(metavar="FILE", help="Write its daily returns, .csv or .parquet."),
    ] = None,
) -> None:
    """Run an exported set again from its file and compare; exit 1 where a metric differs."""
    from optimizer.export import replay as replay_set

    if returns is not None:
        from optimizer.tearsheet import check_returns_file

        check_returns_file(returns)
    result = replay_set(file, number=number, data=data, events=flow is Replayed.EVENTS)
    if result.costs.get("fill") == "close":
        _warn_close_fill()
    final = float(result.result.equity.iloc[-1])
    _say(
        f"replayed set {result.recorded['set']} of {result.study}:"
        f" {counted(len(result.result.fills), 'fill')}, final equity {final:,.2f}"
    )
    _say(f"open after the last bar: {_positions(result.result.open_positions)}")
    for one in result.differences:
        _say(
            f"differs: {one.sample} {one.metric}: recorded {one.recorded}, replayed {one.replayed}",
            "red",
        )
    unlike = result.parity.differences if result.parity is not None else ()
    for line in unlike:
        _say(f"differs: {line}", "red")
    if result.differences or unlike:
        raise typer.Exit(1)
    if returns is not None:
        from optimizer.tearsheet import write_returns

        _say(f"returns: {write_returns(result, returns)}")
    if result.parity is not None:
        _say(
            f"event flow: equity of {counted(result.parity.n_bars, 'bar')} and"
            f" {counted(result.parity.n_fills, 'fill')} agree bit for bit with the vectorized result"
        )
    _say("identical: every recorded metric is reproduced bit for bit", "green")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
) -> None:
    """Write a project with a strategy of your own: study, strategy, test, bars."""
    from optimizer.new_project import write_project

    for file in write_project(folder):
        _say(f"wrote {file}")
    _say(f"next:  barsweep run {folder / 'study.toml'} --out {folder / 'out'}")


@app.command()
def tearsheet(
    file: Annotated[Path, typer.Argument(metavar="BEST.json", help="Export, JSON or TOML.")],
    number: Annotated[int, typer.Option("--set", min=1, help="Its place in the file, from 1.")] = 1,
    data: Annotated[Optional[Path], typer.Option(help="The bars, if they have moved.")] = None,
    benchmark: Annotated[
        Optional[str], typer.Option(help="Symbol of the bars to hold it against.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: tearsheet.html beside BEST.json].")
    ] = None,
) -> None:
    """Write a tearsheet of an exported set, made by quantstats (extra `tearsheet`)."""
    from optimizer.export import replay as replay_set
    from optimizer.tearsheet import write_tearsheet

    replayed = replay_set(file, number=number, data=data)
    if replayed.costs.get("fill") == "close":
        _warn_close_fill()
    if replayed.differences:
        _say(
            f"not as recorded: {counted(len(replayed.differences), 'metric')}; `barsweep replay"
            f" {shlex.quote(str(file))}` lists them",
            "yellow",
        )
    path = out if out is not None else file.parent / "tearsheet.html"
    _say(f"tearsheet: {write_tearsheet(replayed, path, benchmark)}")


class Risks(StrEnum):
    """Which risk configurations a flow runs."""

    FIRST = "first"
    ALL = "all"


STEPS_PER_SECOND = 25_000
"""Pace of a traced flow, for the estimate before it starts."""


@app.command()
def flow(
    study: StudyFile,
    out: Annotated[
        Optional[Path], typer.Option(help="Folder [default: out/<study name>-flow].")
    ] = None,
    risk: Annotated[
        Risks, typer.Option(help="The first swept value of each risk parameter, or all.")
    ] = Risks.FIRST,
    overwrite: Annotated[bool, typer.Option(help="Replace a flow that --out holds.")] = False,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Write no database.")] = False,
    max_seconds: Annotated[
        float, typer.Option(min=0, help="Refuse a flow that is estimated to take longer.")
    ] = 120.0,
) -> None:
    """Run every combination of a study's grid one bar at a time, traced to a database."""
    import math
    import time

    from optimizer.analytics_database import PASSWORD_MEND, parse_url
    from optimizer.config import load_study
    from optimizer.event_flow import prepare_flow
    from optimizer.flow_folder import FlowFolder
    from optimizer.study import load_study_bars

    loaded = load_study(study)
    bars = load_study_bars(loaded)
    prepared = prepare_flow(loaded, bars, risk=risk.value)
    estimated = prepared.n_steps / STEPS_PER_SECOND
    if estimated > max_seconds:
        raise StudyError(
            f"{study}: {counted(len(prepared.specs), 'portfolio')} one bar at a time take about"
            f" {estimated:,.0f} s, more than --max-seconds {max_seconds:g}; list fewer values in the"
            f" study, or go on with --max-seconds {math.ceil(estimated)}"
        )
    url = loaded.analytics.url
    has_password = not no_trace and url is not None and bool(parse_url(url).secrets)
    folder = out if out is not None else Path("out") / f"{loaded.name}-flow"
    _say(
        f"{counted(len(prepared.specs), 'portfolio')} x"
        f" {counted(bars.n_bars - prepared.first, 'bar')} (after {prepared.first} for warm-up) x"
        f" {counted(bars.n_symbols, 'symbol')}: {counted(prepared.n_steps, 'step')}, about"
        f" {estimated:,.0f} s"
    )
    start = time.perf_counter()
    if no_trace:
        result = prepared.run()
    else:
        with (
            _resumable(folder),
            FlowFolder(folder).tracing(prepared, url, overwrite=overwrite) as trace,
        ):
            result = prepared.run(trace)
    seconds = time.perf_counter() - start
    table = _table()
    for name in ("portfolio", "strategy", "classifier", "sharpe in / out", "fills", "final equity"):
        table.add_column(name, justify="left" if name in ("portfolio", "strategy") else "right")
    for number, (spec, view) in enumerate(zip(result.specs, result.views, strict=True)):
        beside = result.out_of_sample[number]["sharpe"] if result.out_of_sample else None
        features = " ".join(spec.strategy.features)
        lookback = dict(spec.regime[2]).get("lookback", "")
        table.add_row(
            spec.id,
            f"{spec.strategy_name} {features}",
            f"{spec.classifier_name} {lookback}",
            f"{_cell(result.in_sample[number]['sharpe'])} / {_cell(beside)}",
            str(len(view.transactions)),
            f"{view.equity:,.2f}",
        )
    console.print(table)
    rejects = sorted(result.rejects.items(), key=lambda item: -item[1])
    _say(f"no order: {', '.join(f'{name} {count:,}' for name, count in rejects)}")
    _say(
        f"{counted(len(result.specs), 'portfolio')}, {counted(result.n_steps, 'step')} of bar x"
        f" symbol x portfolio in {seconds:.1f} s, {result.n_steps / seconds:,.0f} a second"
    )
    if loaded.costs.fill == "close":
        _warn_close_fill()
    if not no_trace:
        fills = [fill for view in result.views for fill in view.transactions]
        _say(f"trace: {folder}")
        if has_password:
            _say(f"to read it, start barsweep {PASSWORD_MEND}", "yellow")
        if fills:
            _say(f"next:  barsweep trace {shlex.join([str(folder), fills[-1].id])}")


@app.command()
def trace(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a flow.")],
    fill: Annotated[Optional[str], typer.Argument(metavar="[FILL_ID]", help="A fill.")] = None,
    rejects: Annotated[
        bool, typer.Option("--rejects", help="Count why signals became no order, orders no fill.")
    ] = False,
    database: Annotated[
        Optional[str],
        typer.Option(help="URL, where the flow's has a password that PGPASSWORD does not give."),
    ] = None,
) -> None:
    """Show the chain behind a fill: bar, features, signal, regime, sizes, order, fill, portfolio."""
    from optimizer.analytics import open_reader
    from optimizer.flow_folder import FlowFolder

    if (fill is None) == (not rejects):
        raise StudyError("trace: give a FILL_ID, or --rejects")
    flow_folder = FlowFolder(folder)
    record = flow_folder.record()
    with open_reader(database or flow_folder.database()) as reader:
        if fill is None:
            for reason, count in reader.reject_counts(record.portfolios):
                _say(f"{count:>12,}  {reason}")
            return
        chain = reader.chain(fill)
    for part, title in CHAIN.items():
        if chain.get(part):
            _say(title, "bold")
            for name, value in chain[part].items():
                if value is not None:
                    _say(f"  {name.replace('_', ' '):<16} {value}")


CHAIN = {
    "portfolio": "portfolio",
    "decision_bar": "bar of the decision",
    "signal": "signal",
    "regime": "regime (-1 bear, 0 neutral, 1 bull)",
    "order": "order: an entry goes to the smallest of the three values, in whole lots; an exit to 0",
    "opening_order": "order that opened the position which this fill closed",
    "bar": "bar of the fill",
    "fill": "fill",
    "equity": "portfolio at the close of that bar",
}
"""Parts of the chain behind a fill, in the order in which they came about."""


@app.command()
def bench(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    compare: Annotated[
        Optional[Path], typer.Option(metavar="OLD.json", help="What --json printed before.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="Turns; the least time of them counts.")] = 30,
) -> None:
    """Measure every kernel on this machine, beside the machine's limits."""
    import json

    from optimizer.bench import NOISE, compare_times, load_times, run_bench, same_machine

    old = load_times(compare) if compare is not None else None
    result = run_bench(turns)
    if old is not None and not same_machine(old[0], result.machine):
        errors.print(
            f"warning: {compare}: measured on another machine ({old[0].processor},"
            f" {old[0].cores} cores); the ratios say little",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    changes = {c.kernel: c for c in compare_times(result, old[1])} if old is not None else {}
    if as_json:
        content = result.to_dict()
        if old is not None:
            content["compared"] = [
                {"kernel": c.kernel, "old_ns": c.old_ns, "ratio": c.ratio, "slower": c.slower}
                for c in changes.values()
            ]
        typer.echo(json.dumps(content, indent=1))
        return
    _say(f"{result.machine.processor}, numba {result.machine.numba}, one core")
    limits = result.limits
    _say(
        f"limits, ns for 8 doubles: divide {limits.divide_ns:.2f}, arithmetic"
        f" {limits.arithmetic_ns:.2f}, load {limits.load_ns:.2f}, store {limits.store_ns:.2f};"
        f" memory {limits.read_gb_s:.1f} GB/s"
    )
    table = _table()
    for name in ("kernel", "element"):
        table.add_column(name)
    for name in ("ns", "GB/s", "of the limit", "lanes", "registers"):
        table.add_column(name, justify="right")
    if old is not None:
        table.add_column("new / old", justify="right")
    for row in result.rows:
        cells = [
            row.kernel,
            row.element,
            f"{row.ns:.3f}",
            _cell(row.gb_s),
            "-" if row.share is None else f"{row.share:.0%}",
            str(row.lanes),
            row.instruction_set,
        ]
        change = changes.get(row.kernel)
        if change is not None:
            cells.append(f"{change.ratio:.2f}{' slower' if change.slower else ''}")
        table.add_row(*cells, style="red" if change is not None and change.slower else None)
    console.print(table)
    if old is not None:
        slower = sum(change.slower for change in changes.values())
        _say(f"slower by more than {NOISE:.0%}: {slower} of {counted(len(changes), 'kernel')}")


analytics = typer.Typer(help="The database that flows write to.", no_args_is_help=True)
app.add_typer(analytics, name="analytics")


@analytics.command("import")
def import_(
    spill: Annotated[Path, typer.Argument(metavar="SPILL", help="Spill file of a flow.")],
    database: Annotated[
        Optional[str], typer.Option(help="URL [default: the database that failed].")
    ] = None,
) -> None:
    """Load what a flow could not write to its database."""
    from optimizer.analytics import import_spill

    _say(f"imported {counted(import_spill(spill, database), 'row')}")


# --- Bars from elsewhere --------------------------------------------------------------------------

data = typer.Typer(help="Bars from other programs and from the net.", no_args_is_help=True)
app.add_typer(data, name="data")

OutFile = Annotated[Path, typer.Option("--out", help="The Parquet file to write.")]
Calendar = Annotated[
    Optional[str],
    typer.Option(help="Exchange whose sessions the days are compared with, as XNYS."),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace --out.")]
DropBadRows = Annotated[
    bool, typer.Option("--drop-bad-rows", help="Leave out rows that are no bars.")
]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Of rows with one time keep the first.")
]
Adjust = Annotated[
    bool, typer.Option("--adjust", help="Scale prices to adjusted closes, where a file has them.")
]


@data.command("import")
def import_data(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Exports to read.")],
    out: OutFile,
    symbol: Annotated[
        Optional[str], typer.Option(help="Name of the symbol, where the file has none.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Of times that carry none.")] = "UTC",
    calendar: Calendar = None,
    drop_bad_rows: DropBadRows = False,
    drop_duplicates: DropDuplicates = False,
    sort: Annotated[bool, typer.Option("--sort", help="Order rows by symbol and time.")] = False,
    adjust: Adjust = False,
    zero_volume: Annotated[
        bool, typer.Option("--zero-volume", help="Write 0 where a file has no volume.")
    ] = False,
    overwrite: Replace = False,
) -> None:
    """Read exports of Yahoo, Stooq, Binance, freqtrade, MetaTrader or Alpaca; write tidy bars."""
    from optimizer.data_import import Mending, import_bars

    mending = Mending(drop_bad_rows, drop_duplicates, sort, adjust, zero_volume)
    with _import_report() as show_report:
        show_report(
            import_bars(
                files,
                out,
                symbol=symbol,
                timezone=timezone,
                calendar=calendar,
                mending=mending,
                overwrite=overwrite,
            )
        )


@data.command("fetch")
def fetch_data(
    source: Annotated[str, typer.Argument(help="yahoo, or an exchange of ccxt, as binance.")],
    symbols: Annotated[list[str], typer.Argument(metavar="SYMBOLS...", help="As SPY, BTC/USDT.")],
    start: Annotated[str, typer.Option(help="First day, as 2015-01-31.")],
    out: OutFile,
    end: Annotated[Optional[str], typer.Option(help="Last day [default: until now].")] = None,
    bar: Annotated[str, typer.Option(help="Size of a bar, as 1d, 1h, 5m.")] = "1d",
    calendar: Calendar = None,
    drop_bad_rows: DropBadRows = False,
    drop_duplicates: DropDuplicates = False,
    adjust: Adjust = False,
    overwrite: Replace = False,
) -> None:
    """Download bars from Yahoo (extra `yahoo`) or a crypto exchange (extra `crypto`)."""
    from optimizer.data_fetch import fetch_bars
    from optimizer.data_import import Mending

    mending = Mending(drop_bad_rows, drop_duplicates, adjust=adjust)
    with _import_report() as show_report:
        show_report(
            fetch_bars(
                source,
                symbols,
                out,
                start=start,
                end=end,
                bar=bar,
                calendar=calendar,
                mending=mending,
                overwrite=overwrite,
            )
        )


@contextlib.contextmanager
def _import_report() -> Iterator[Any]:
    """Prints an import's report, also where the bars are refused in the end."""
    from optimizer.data_import import ImportRefusedError, ImportReport

    def show_report(report: ImportReport) -> None:
        for line in report.lines():
            _say(line)

    try:
        yield show_report
    except ImportRefusedError as error:
        show_report(error.report)
        raise
