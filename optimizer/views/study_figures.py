"""Figures of one study, as its report has them, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from optimizer.errors import StudyError
from optimizer.text import quoted, suggest

if TYPE_CHECKING:
    import plotly.graph_objects as go

StudyFigure = Literal["equity", "search", "density", "parameters", "pareto"]
STUDY_FIGURES: tuple[StudyFigure, ...] = get_args(StudyFigure)

_MISSING = {
    "equity": "no set is feasible, or the winner cannot be simulated again; the report says why",
    "search": "no trial has a value",
    "density": "the holdout is sealed or empty: in-sample alone there is nothing to compare",
    "parameters": "no parameter varies, or no set has a value",
    "pareto": "the study has one objective, or no feasible set has a value; the front of other metrics"
    ' is StudyResult.pareto("sharpe", "max_drawdown")',
}


def plot_study(folder: str | os.PathLike[str], figure: StudyFigure) -> go.Figure:
    """Draw a figure of a study's report.

    >>> import optimizer
    >>> optimizer.plot_study("out", "equity").write_html("equity.html")

    Args:
        folder: the folder of the study.
        figure: ``equity``, of the winner, the median set and the benchmark; ``search``, the value of each
            trial; ``density``, all sets in-sample and out-of-sample, once the holdout is unsealed;
            ``parameters``, which of them matter; ``pareto``, the front of several objectives.

    Returns:
        A plotly figure.

    Raises:
        StudyError: there is no study, it has nothing to draw there, or no figure has such a name.
    """
    # Here and not above: plotly and what it draws take a second to import.
    from optimizer.views.report import search_figures, selection_figures
    from optimizer.views.report.content import Content, gather
    from optimizer.views.report.pareto_figure import pareto
    from optimizer.views.report.winner_figures import equity

    def of_winner(content: Content) -> go.Figure | None:
        if content.winner is None or content.median is None:
            return None
        return equity(content.winner, content.median, content.benchmark, content.stitched)

    draw: dict[str, Callable[[Content], go.Figure | None]] = {
        "equity": of_winner,
        "search": search_figures.history,
        "density": selection_figures.in_and_out,
        "parameters": search_figures.importance,
        "pareto": pareto,
    }
    if figure not in draw:
        raise StudyError(f"figure: no figure {quoted(figure)}; {suggest(figure, STUDY_FIGURES)}")
    drawn = draw[figure](gather(Path(folder), simulate=figure == "equity"))
    if drawn is None or not drawn.data:
        raise StudyError(f"{os.fspath(folder)}: no figure {figure}: {_MISSING[figure]}")
    return drawn
