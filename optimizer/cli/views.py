"""Commands that draw: plot, dashboard, report, tearsheet."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Optional

import typer

from optimizer.cli.app import Folder, app, say, warn_close_fill
from optimizer.text import counted


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
    from optimizer.views.heatmap import heatmap as draw
    from optimizer.views.heatmap import write_figure

    figure = draw(folder, *heatmap, metric)
    path = out if out is not None else folder / f"heatmap-{heatmap[0]}-{heatmap[1]}.html"
    say(f"figure: {write_figure(figure, path)}")


@app.command()
def dashboard(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
) -> None:
    """Open optuna-dashboard on a study, also while it runs (extra `dashboard`); read-only."""
    from optimizer.views.dashboard import HOST, dashboard_server

    with dashboard_server(folder, port) as server:
        say(f"dashboard: http://{HOST}:{server.server_port}/ (Ctrl-C ends it)")
        server.serve_forever()


@app.command()
def report(
    folder: Folder,
    out: Annotated[
        Optional[Path], typer.Option(help="The file [default: DIR/report.html].")
    ] = None,
) -> None:
    """Write a study's report: one HTML file with figures and tables that opens offline."""
    from optimizer.views.report import write_report

    say(f"report: {write_report(folder, out)}")


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
    from optimizer.review.replay import replay as replay_set
    from optimizer.views.tearsheet import write_tearsheet

    replayed = replay_set(file, number=number, data=data)
    if replayed.costs.get("fill") == "close":
        warn_close_fill()
    if replayed.differences:
        say(
            f"not as recorded: {counted(len(replayed.differences), 'metric')}; `barsweep replay"
            f" {shlex.quote(str(file))}` lists them",
            "yellow",
        )
    path = out if out is not None else file.parent / "tearsheet.html"
    say(f"tearsheet: {write_tearsheet(replayed, path, benchmark)}")
