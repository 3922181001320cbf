"""Tiles: parameter sets of one strategy under one classifier, and their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.catalogue import column
from optimizer.market.regimes import parameters_of
from optimizer.strategies.strategy import Strategy
from optimizer.strategies.user_classifier import UserClassifier
from optimizer.study_file.space import Branch
from optimizer.sweep.inputs import NO_REGIME, RegimeKey
from optimizer.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Tile:
    """Parameter sets of one branch.

    Attributes:
        strategy: the strategy of all sets.
        classifier: name of the regime classifier.
        market: symbol whose regime it is; None for the index of all symbols.
        columns: every numeric parameter by its column name, each of shape (n_lanes,).
        own_classifier: the classifier, where it is the user's own; else None.
    """

    strategy: Strategy
    classifier: str
    market: str | None
    columns: Mapping[str, FloatArray]
    own_classifier: UserClassifier | None = None

    @classmethod
    def of(cls, branch: Branch, lanes: Mapping[str, FloatArray]) -> Tile:
        """A tile of parameter sets of a branch.

        Args:
            branch: the branch of the study's space.
            lanes: every column of the branch, each of shape (n_lanes,); see ``Branch.lanes``.
        """
        return cls(branch.strategy, branch.classifier, branch.market, lanes, branch.own_classifier)

    @property
    def n_lanes(self) -> int:
        """Number of parameter sets."""
        return len(self.columns["kelly_fraction"])

    def slice(self, start: int, stop: int) -> Tile:
        """The tile of parameter sets ``start`` to ``stop - 1``.

        Args:
            start: first parameter set.
            stop: the one after the last.
        """
        return replace(self, columns={n: c[start:stop] for n, c in self.columns.items()})

    def regime_keys(self) -> tuple[list[RegimeKey], IntArray]:
        """The distinct regime models of the parameter sets.

        Returns:
            The models, and for each parameter set the index of its model, shape (n_lanes,).
        """
        classifier = self.own_classifier or self.classifier
        kinds = {parameter.name: parameter.kind for parameter in parameters_of(classifier)}
        if not kinds:
            return [NO_REGIME], np.zeros(self.n_lanes, dtype=np.int64)
        table = np.stack([self.columns[column(self.classifier, n)] for n in kinds], axis=1)
        if (table == table[0]).all():  # the usual case, which needs no sorting
            distinct, which = table[:1], np.zeros(self.n_lanes, dtype=np.int64)
        else:
            distinct, which = np.unique(table, axis=0, return_inverse=True)
        keys: list[RegimeKey] = [
            (
                classifier,
                self.market,
                tuple((n, kinds[n](v)) for n, v in zip(kinds, row, strict=True)),
            )
            for row in distinct
        ]
        return keys, which.ravel().astype(np.int64)


@dataclass(frozen=True, eq=False)
class TileResult:
    """Metrics of a tile's parameter sets.

    Attributes:
        in_sample: (n_lanes, n_metrics), in the order of ``catalogue.METRICS``.
        out_of_sample: the same over the holdout; all NaN without a holdout.
        moments: (n_lanes, 2, n_blocks), sums of the returns and of their squares over each
            block of ``Inputs.bounds``.
        alphas: (n_lanes, 2), alpha per year against the benchmark in-sample, and its statistic; NaN where
            undefined or without a max-test.
    """

    in_sample: FloatArray
    out_of_sample: FloatArray
    moments: FloatArray
    alphas: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[TileResult]) -> TileResult:
        """One result of the parameter sets of several, in order.

        Args:
            parts: one or more results.
        """
        return cls(
            np.concatenate([part.in_sample for part in parts]),
            np.concatenate([part.out_of_sample for part in parts]),
            np.concatenate([part.moments for part in parts]),
            np.concatenate([part.alphas for part in parts]),
        )

    def lanes(self, places: IntArray) -> TileResult:
        """The result of the parameter sets at ``places``, shape (n,).

        Args:
            places: shape (n,).
        """
        return TileResult(
            self.in_sample[places],
            self.out_of_sample[places],
            self.moments[places],
            self.alphas[places],
        )
