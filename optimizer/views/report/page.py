"""The report as one HTML page that requests nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from optimizer.review.html import render
from optimizer.text import counted
from optimizer.types import FloatArray
from optimizer.views.report import study_sections, winner_sections
from optimizer.views.report.content import Content
from optimizer.views.report.drawn import Drawn, Values
from optimizer.views.report.search_figures import heatmap
from optimizer.views.report.study_terms import terms
from optimizer.views.report.style import DARK, LIGHT, TEMPLATE

_PACKAGE = "optimizer.views.report"


def page(content: Content, stress: str = "") -> str:
    """The whole page.

    Args:
        content: the content of the report.
        stress: the address of the page of `barsweep stress`, seen from this one; empty without one.

    Returns:
        HTML; names and other texts of the study are escaped.
    """
    drawn = Drawn()
    found: dict[str, tuple[str, Values | None]] = {
        "verdict": ("Verdict", study_sections.verdict(content, drawn)),
        "returns": ("Returns", winner_sections.returns(content, drawn)),
        "symbols": ("Symbols", winner_sections.symbols(content, drawn)),
        "sets": ("Best sets", study_sections.sets(content)),
        "selection": ("Good or lucky", study_sections.selection(content, drawn)),
        "parameters": ("Parameters", study_sections.parameters(content, drawn)),
        "search": ("Search", study_sections.search(content, drawn)),
        "regimes": ("Regimes", winner_sections.regimes(content, drawn)),
        "trades": ("Trades", winner_sections.trades(content)),
        "costs": ("Costs", winner_sections.costs(content, drawn)),
        "refusals": ("Refusals", winner_sections.refusals(content, drawn)),
        "study": ("Study", terms(content)),
    }
    bodies = {
        key: render(_PACKAGE, f"{key}.html", **values).strip()
        for key, (_, values) in found.items()
        if values is not None
    }
    return render(
        _PACKAGE,
        "page.html",
        name=content.study.name,
        facts=_facts(content),
        stress=stress,
        sections=[
            {"key": key, "title": found[key][0], "body": body}
            for key, body in bodies.items()
            if body
        ],
        footer=f"barsweep {version('barsweep')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Study"
        f" {str(content.manifest['study_hash'])[:12]}, bars"
        f" {str(content.manifest['data_hash'])[:12]}.",
        spec=_spec(content, drawn),
        palette=palette(),
        css=page_css(),
        js=_file("page.js"),
        plotly=get_plotlyjs(),
    )


def _file(name: str) -> str:
    return (files(_PACKAGE) / name).read_text(encoding="utf-8")


def figures_page(template: str, kind: str, **values: Any) -> str:
    """A page of its own in the style of the report, without scripts.

    Args:
        template: name of its file, which fills the blocks of ``figures_page.html``.
        kind: what it is, in a word.
        values: what the template names; ``name`` and ``facts`` among them.

    Returns:
        HTML; names and other texts are escaped.
    """
    return render(
        "optimizer.views.report",
        template,
        kind=kind,
        footer=f"barsweep {version('barsweep')}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        palette=palette(),
        css=page_css(),
        **values,
    )


def page_css() -> str:
    """The style sheet of the report's page."""
    return _file("page.css")


def palette() -> str:
    """The colours of the report's page as CSS, light and dark."""

    def rules(colors: Mapping[str, str]) -> str:
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    light = f"{rules(LIGHT)}:root{{color-scheme:light dark}}"
    return f"{light}@media screen and (prefers-color-scheme:dark){{{rules(DARK)}}}"


def _spec(content: Content, drawn: Drawn) -> str:
    """Figures, heatmaps of every pair and colours, as JSON that is safe in a script element."""
    heatmaps: dict[str, Any] = {}
    places = {axis.name: place for place, axis in enumerate(content.axes)}
    ends = {
        "median": _color_ends(content, [grid.median for grid in content.grids]),
        "best": _color_ends(content, [grid.best for grid in content.grids]),
    }
    for grid in content.grids:
        heatmaps[f"{places[grid.x.name]}-{places[grid.y.name]}"] = {
            "median": _plain(heatmap(content, grid, "median", ends["median"])),
            "best": _plain(heatmap(content, grid, "best", ends["best"])),
        }
    spec = {
        "figures": {name: _plain(figure) for name, figure in drawn.figures.items()},
        "heatmaps": heatmaps,
        "prices": [_plain(figure) for figure in drawn.prices],
        "template": TEMPLATE.to_plotly_json(),
        "dark": {LIGHT[name]: DARK[name] for name in LIGHT},
    }
    text: str = to_json_plotly(spec)
    return text.replace("<", "\\u003c")


def _color_ends(content: Content, cells: Sequence[FloatArray]) -> tuple[float, float]:
    """The span of the colours over all pairs: one outlier must not take them all."""
    known = [one[np.isfinite(one)] for one in cells]
    if not sum(len(one) for one in known):
        return 0.0, 1.0
    shares = [0.02, 1.0] if content.maximize else [0.0, 0.98]
    low, high = np.quantile(np.concatenate(known), shares)
    return float(low), float(high)


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Data and layout of a figure; all share one template."""
    plain: dict[str, Any] = figure.to_dict()
    plain["layout"].pop("template", None)
    return {"data": plain["data"], "layout": plain["layout"]}


def _facts(content: Content) -> str:
    """The study in a line; its last section says more."""
    manifest = content.manifest
    symbols = manifest["symbols"]
    shown = ", ".join(symbols[:6]) + (", ..." if len(symbols) > 6 else "")
    first, last = str(manifest["first_time"])[:10], str(manifest["span"][1])[:10]
    return (
        f"{counted(len(content.sets), 'parameter set')} on {counted(len(symbols), 'symbol')} ({shown}),"
        f" {first} to {last}"
    )
