"""A metric over two parameters as a figure, and its file, which opens offline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from optimizer.catalogue import CLASSIFIERS, COSTS, METRICS, RISK, column
from optimizer.errors import StudyError
from optimizer.store.columns import parameter_columns
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import HTML, check_output, write_output
from optimizer.store.query import best_sets, column_of, owners_of
from optimizer.store.seal import is_sealed, require_unsealed, with_holdout
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.space import build_space
from optimizer.study_file.study import recorded_study
from optimizer.text import quoted, suggest
from optimizer.views.binning import axis_of, log_parameters
from optimizer.views.report.cells import SCALE, axis_layout, heat_traces
from optimizer.views.report.formats import tick_format
from optimizer.views.report.style import TEMPLATE
from optimizer.views.report.sweep import grids

_SUMMARIES = {
    column(owner, one.name): one.summary
    for owner, group in (
        *((name, strategy.parameters) for name, strategy in BUILT_IN.items()),
        *CLASSIFIERS.items(),
        ("risk", RISK),
        ("costs", COSTS),
    )
    for one in group
}


def heatmap(folder: str | os.PathLike[str], x: str, y: str, metric: str = "sharpe") -> go.Figure:
    """Draw a metric over two parameters: in each cell the median over all others.

    The median, since the best of many sets in a cell shows luck. Only feasible sets count. A study
    whose holdout is unsealed has two panels, in-sample and out-of-sample, with one colour scale. A
    star marks the best set of the study, a line the plateau around the best cell. The report draws the
    same cells, see ``heat_traces``.

    >>> import optimizer
    >>> figure = optimizer.heatmap("out", "momentum_lookback", "momentum_threshold")
    >>> figure.write_html("heatmap.html")

    Args:
        folder: the folder of the study.
        x, y: parameters; the name of the strategy in front may be left out.
        metric: one of the metrics, or ``oos_`` and one of them, which has one panel.

    Returns:
        A plotly figure.

    Raises:
        StudyError: there is no study or no feasible set, a name is not one of its parameters or
            metrics, a parameter has only one value, or the metric is of the holdout, which is sealed.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    recorded = manifest["study"]
    study = recorded_study(recorded, manifest["study_folder"])
    parameters = parameter_columns(opened.columns())
    x, y = (column_of(name, parameters, owners_of(recorded), "heatmap") for name in (x, y))
    if x == y:
        raise StudyError(f"heatmap: {quoted(x)} twice; name two parameters")
    metrics, sealed = (*METRICS, *opened.expressions()), opened.out_of_sample_columns()
    if metric not in (*metrics, *sealed):
        raise StudyError(f"metric: no metric {quoted(metric)}; {suggest(metric, metrics)}")
    shown = [metric] if metric in sealed or is_sealed(opened) else [metric, f"oos_{metric}"]
    if opened.kept() is not None:  # of the best sets alone there is more than the metric in-sample
        opened.refuse_unkept([metric])
        shown = [metric]
    outside = [name for name in shown if name in sealed]
    inside = [name for name in shown if name in metrics]
    every = opened.results(["set", x, y, "feasible", *inside])
    if outside:
        require_unsealed(opened, outside[0])
        every = with_holdout(opened, every, outside)
    log = log_parameters(build_space(study))
    across, up = (axis_of(every[name], name in log) for name in (x, y))
    frame = every[every["feasible"]].dropna(subset=[x, y])
    if frame.empty:
        raise StudyError(f"{opened.path}: no feasible set has both {x} and {y}")
    shown = [name for name in shown if name == metric or frame[name].notna().any()]
    for name in (x, y):
        if frame[name].nunique() < 2:
            value = frame[name].iloc[0]
            raise StudyError(
                f"heatmap: {name} is {value:g} in every set of {opened.path}; name one that varies"
            )
    best = int(best_sets(opened, study.search, 1)["set"].iloc[0])
    (row,) = np.flatnonzero(every["set"] == best)
    star = (int(across.codes[row]), int(up.codes[row]))
    figure = make_subplots(
        cols=len(shown),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=["out-of-sample" if name in sealed else "in-sample" for name in shown],
    )
    base = metric.removeprefix("oos_")
    maximize = study.search.directions[base] == "maximize"
    for place, name in enumerate(shown, 1):
        values = pd.to_numeric(every[name]).where(every["feasible"])
        (grid,) = grids((across, up), values.to_numpy(np.float64, na_value=np.nan), maximize)
        starred = star if min(star) >= 0 else None
        for trace in heat_traces(grid, base, maximize, star=starred, coloraxis="coloraxis"):
            figure.add_trace(trace, row=1, col=place)
    label = base.replace("_", " ")
    figure.update_xaxes(title=_SUMMARIES.get(x, x), **axis_layout(across))
    figure.update_yaxes(**axis_layout(up))
    figure.update_yaxes(title=_SUMMARIES.get(y, y), col=1)
    figure.update_layout(
        template=TEMPLATE,
        title=f"{study.name}: {label} over {x} and {y}, median of the sets in each cell",
        margin={"t": 80},
        coloraxis={
            "colorscale": SCALE,
            "reversescale": not maximize,
            "colorbar": {"title": {"text": label}, "tickformat": tick_format(base)},
        },
    )
    return figure


def write_figure(figure: go.Figure, out: str | Path) -> Path:
    """Write a figure as one HTML file that opens offline.

    Args:
        figure: a plotly figure.
        out: the file, which ends in .html or .htm.

    Returns:
        The file written.

    Raises:
        StudyError: the file cannot be written.
    """
    path = Path(out)
    check_output(path, HTML, "a figure")
    text = figure.to_html(
        include_plotlyjs=True, full_html=True, config={"displaylogo": False}, default_height="95vh"
    )
    write_output(path, text)
    return path
