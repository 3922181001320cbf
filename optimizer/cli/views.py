"""Commands that draw: a figure, the dashboard, a report, a tearsheet."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.console import say, say_error, warn_close_fill
from optimizer.cli.options import ChosenSet, ExportFile, Folder, MovedBars, Trust, folder_of
from optimizer.text import counted


def plot(
    folder: Folder,
    heatmap: Annotated[
        tuple[str, str],
        typer.Option(metavar="X Y", help="Two parameters, such as lookback threshold."),
    ],
    metric: Annotated[str, typer.Option(help="Metric that the colours show.")] = "sharpe",
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: DIR/heatmap-X-Y.html].")
    ] = None,
) -> None:
    """Draw a metric over two parameters: an HTML file that opens offline."""
    from optimizer.views.heatmap import heatmap as draw
    from optimizer.views.heatmap import write_figure

    figure = draw(folder, *heatmap, metric)
    path = out if out is not None else folder / f"heatmap-{heatmap[0]}-{heatmap[1]}.html"
    say(f"figure: {write_figure(figure, path)}")


def dashboard(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
) -> None:
    """Serve optuna-dashboard for a study, read-only, even while it runs (extra `dashboard`)."""
    from optimizer.views.dashboard import HOST, dashboard_server

    with dashboard_server(folder, port) as server:
        say(f"dashboard: http://{HOST}:{server.server_port}/ (stop with Ctrl-C)")
        server.serve_forever()


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder that `barsweep run` wrote, or the file of `barsweep combine`.",
        ),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="The file [default: DIR/report.html, or report-SET.html, or next to that file]."
        ),
    ] = None,
    number: Annotated[
        Optional[int],
        typer.Option(
            "--set", min=0, help="Number of the set that it is about [default: the best]."
        ),
    ] = None,
    data: Annotated[
        Optional[Path], typer.Option(help="The bars of a combination, if they have moved.")
    ] = None,
    trust: Trust = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Do not say that the work has started.")
    ] = False,
) -> None:
    """Write the report of a study or a combination: one HTML file that opens offline."""
    from optimizer.views.report import write_report

    def start() -> None:
        if not quiet:
            say_error(f"{folder}: writing the report, which may take a minute", style=None)

    path = write_report(folder, out, number=number, data=data, trust=trust, on_start=start)
    say(f"report: {path}")


def tearsheet(
    file: ExportFile,
    number: ChosenSet = None,
    data: MovedBars = None,
    benchmark: Annotated[
        Optional[str], typer.Option(help="Symbol of the bars to compare with, or universe.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="HTML file [default: tearsheet.html next to BEST.json].")
    ] = None,
    trust: Trust = False,
) -> None:
    """Write the quantstats tearsheet of an exported set (extra `tearsheet`)."""
    from optimizer.review.replay import replay as replay_set
    from optimizer.views.tearsheet import write_tearsheet

    replayed = replay_set(file, number=number, data=data, trust=trust)
    if replayed.costs.get("fill") == "close":
        warn_close_fill()
    if replayed.differences:
        say(
            f"not as recorded: {counted(len(replayed.differences), 'metric')}; `barsweep replay"
            f" {shlex.quote(str(file))}` lists them",
            "yellow",
        )
    path = out if out is not None else folder_of(file) / "tearsheet.html"
    say(f"tearsheet: {write_tearsheet(replayed, path, benchmark)}")
