"""The result of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.study import Study


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A study that has run.

    Attributes:
        study: as run.
        folder: where everything is.
        seconds: wall time by part: load, features, compile, regimes, kernels, dispatch, sampler,
            scores, storage, selection, other. Kernels: what the workers spent on parameter sets, over
            their number; dispatch: what they waited.
    """

    study: Study
    folder: StudyFolder
    seconds: Mapping[str, float] = field(default_factory=dict)

    def results(self) -> pd.DataFrame:
        """Every parameter set tried: parameters, in-sample metrics, ``oos_`` metrics."""
        return self.folder.results()

    def best(self, top: int = 10) -> pd.DataFrame:
        """The best feasible parameter sets, best first."""
        return best_sets(self.folder, self.study.search, top)

    def _repr_html_(self) -> str:
        """The best sets and the verdict, for notebooks."""
        from optimizer.review.notebook import study_html

        return study_html(self.folder)
