"""The result of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from optimizer.review.notebook import study_html
from optimizer.review.records import judged
from optimizer.selection.verdict import Verdict
from optimizer.store.folder import StudyFolder
from optimizer.store.pareto import pareto_sets
from optimizer.store.query import best_sets
from optimizer.store.seal import with_holdout
from optimizer.study_file.study import Study
from optimizer.text import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from optimizer.views.study_figures import StudyFigure


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult:
    """A study that has run. Wherever a function takes the folder of a study, it takes this too.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet")
    >>> result = optimizer.sweep(bars, "momentum", lookback=[20, 60], workers=1)
    >>> result.best(1)["momentum_lookback"].tolist() in ([20.0], [60.0])
    True
    >>> optimizer.find_sets(result).shape[0], result.verdict.words
    (2, 'not distinguishable from luck')

    Attributes:
        study: the study, with the settings that it ran with.
        folder: its folder.
        seconds: wall time by part: load, features, compile, regimes, kernels, dispatch, sampler,
            scores, storage, selection, other. ``kernels`` is what the workers spent on parameter
            sets, divided by their number; ``dispatch`` is the rest of the time of evaluation. Empty
            for a study that was complete already.
    """

    study: Study
    folder: StudyFolder
    seconds: Mapping[str, float] = field(default_factory=dict)

    def results(self) -> pd.DataFrame:
        """Every parameter set tried, in order: parameters and in-sample metrics.

        Raises:
            StudyError: there are no results, or a file cannot be read.
        """
        return self.folder.results()

    def out_of_sample(self) -> pd.DataFrame:
        """Every row of ``results`` with its ``oos_`` metrics, once the holdout is unsealed.

        Raises:
            StudyError: the holdout is sealed, there are no results, or a file cannot be read.
        """
        return with_holdout(self.folder, self.folder.results())

    def best(self, top: int = 10) -> pd.DataFrame:
        """The best feasible parameter sets, best first, see ``best_sets``.

        Args:
            top: number of sets, at most.

        Raises:
            StudyError: there are no results, or a file cannot be read.
        """
        return best_sets(self.folder, self.study.search, top)

    def pareto(self, *objectives: str) -> pd.DataFrame:
        """The feasible sets that no other beats at no cost in an objective, see ``pareto_sets``.

        Args:
            *objectives: metrics, or expressions over them, such as ``"sharpe", "max_drawdown"``; none
                takes those of the study.

        Raises:
            StudyError: there are no results, a file cannot be read, or an objective is none.
        """
        return pareto_sets(self.folder.path, objectives or None)

    def plot_heatmap(self, x: str, y: str, metric: str = "sharpe") -> go.Figure:
        """A metric over two parameters as a figure, see ``heatmap``.

        Args:
            x, y: parameters; the name of the strategy in front may be left out.
            metric: one of the metrics, or ``oos_`` and one of them.
        """
        # Through the door of the package, here and below: this layer is above that of the figures.
        import optimizer

        return optimizer.heatmap(self, x, y, metric)

    def plot_equity(self) -> go.Figure:
        """The equity of the winner, the median set and the benchmark, see ``plot_study``."""
        return self._plot("equity")

    def plot_search(self) -> go.Figure:
        """The value of each trial and the best so far, see ``plot_study``."""
        return self._plot("search")

    def plot_parameters(self) -> go.Figure:
        """How much each parameter explains of the objective, see ``plot_study``."""
        return self._plot("parameters")

    def plot_density(self) -> go.Figure:
        """All sets in-sample and out-of-sample, once the holdout is unsealed, see ``plot_study``."""
        return self._plot("density")

    def plot_pareto(self) -> go.Figure:
        """The sets by several objectives, the Pareto front marked, see ``plot_study``."""
        return self._plot("pareto")

    def _plot(self, figure: StudyFigure) -> go.Figure:
        import optimizer

        return optimizer.plot_study(self, figure)

    @property
    def verdict(self) -> Verdict | None:
        """Luck or skill, given every set ever tried on these bars; None if no set is best.

        Raises:
            StudyError: a file of the study cannot be read.
        """
        return judged(self.folder).verdict

    def __fspath__(self) -> str:
        """The folder as a path, for all that takes one."""
        return str(self.folder.path)

    def __repr__(self) -> str:
        """The result in a line: study, number of sets and folder."""
        n_sets = counted(self.folder.n_sets(), "parameter set")
        return f"<StudyResult of {self.study.name}: {n_sets} in {self.folder.path}>"

    def _repr_html_(self) -> str:
        """The best sets and the verdict as HTML, for notebooks."""
        return study_html(self.folder)
