"""The application: every command, in the order in which ``--help`` lists them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from optimizer.cli.analytics import analytics
from optimizer.cli.bench import bench
from optimizer.cli.calibrate import calibrate
from optimizer.cli.combine import combine
from optimizer.cli.compare import compare
from optimizer.cli.console import say
from optimizer.cli.data import data
from optimizer.cli.drift import drift
from optimizer.cli.export import export, replay
from optimizer.cli.flow import flow, trace
from optimizer.cli.ledger import ledger, unseal
from optimizer.cli.new import new
from optimizer.cli.reoptimize import reoptimize
from optimizer.cli.results import list_, show
from optimizer.cli.stress import stress
from optimizer.cli.study import check, merge, resume, run
from optimizer.cli.trading import orders, trade
from optimizer.cli.views import dashboard, plot, report, tearsheet

COMMANDS: dict[str, Callable[..., None]] = {
    "new": new,
    "check": check,
    "run": run,
    "resume": resume,
    "merge": merge,
    "calibrate": calibrate,
    "list": list_,
    "show": show,
    "compare": compare,
    "plot": plot,
    "dashboard": dashboard,
    "report": report,
    "unseal": unseal,
    "ledger": ledger,
    "export": export,
    "replay": replay,
    "stress": stress,
    "tearsheet": tearsheet,
    "orders": orders,
    "trade": trade,
    "drift": drift,
    "reoptimize": reoptimize,
    "combine": combine,
    "flow": flow,
    "trace": trace,
    "bench": bench,
}
GROUPS: dict[str, typer.Typer] = {"data": data, "analytics": analytics}

app = typer.Typer(
    help="Sweep trading-strategy parameters over real bars and export the best sets.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"barsweep {version('barsweep')}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
