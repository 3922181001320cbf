"""Shares of the capital for the members of a book, from their in-sample block returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from optimizer.extras import optional_module
from optimizer.types import FloatArray

Method = Literal["equal", "inverse_volatility", "hrp", "min_variance"]
METHODS: tuple[Method, ...] = get_args(Method)

PLACES = 6
"""Decimal places of a share: what a solver leaves behind them is no information."""


def shares_by(method: Method, returns: FloatArray) -> FloatArray:
    """Shares of the capital.

    Args:
        method: ``equal``; ``inverse_volatility``, by the inverse standard deviation of the returns;
            ``hrp``, hierarchical risk parity (López de Prado 2016); ``min_variance``, the least variance
            of the whole (Markowitz 1952). The last two are those of skfolio.
        returns: in-sample returns of each member over each block of bars, fractions, none of them still,
            shape (n_members, n_blocks).

    Returns:
        (n_members,) fractions, 0 or more, that add up to 1; those below half a millionth are 0.

    Raises:
        DataError: skfolio is not installed.
    """
    shares = np.round(_METHODS[method](returns), PLACES)
    found: FloatArray = shares / shares.sum()
    return found


def _equal(returns: FloatArray) -> FloatArray:
    return np.full(len(returns), 1.0 / len(returns))


def _inverse_volatility(returns: FloatArray) -> FloatArray:
    inverse = 1.0 / returns.std(axis=1, ddof=1)
    shares: FloatArray = inverse / inverse.sum()
    return shares


def _hrp(returns: FloatArray) -> FloatArray:
    optimization, cluster, seriation = _skfolio("optimization", "cluster", "seriation")
    single = cluster.HierarchicalClustering(linkage_method=cluster.LinkageMethod.SINGLE)
    order = seriation.HierarchicalSeriation(hierarchical_clustering_estimator=single)
    return _fitted(optimization.HierarchicalRiskParity(seriation_estimator=order), returns)


def _min_variance(returns: FloatArray) -> FloatArray:
    (optimization,) = _skfolio("optimization")
    return _fitted(optimization.MeanRisk(), returns)


def _skfolio(*names: str) -> list[Any]:
    optional_module("skfolio", "combine")  # whose own name the error should have
    return [optional_module(f"skfolio.{name}", "combine") for name in names]


def _fitted(model: Any, returns: FloatArray) -> FloatArray:
    # Without a scale, tolerances of a solver would depend on the size of the bars.
    scaled = returns.T / returns.std()
    return np.asarray(model.fit(scaled).weights_, np.float64)


_METHODS: Mapping[Method, Callable[[FloatArray], FloatArray]] = {
    "equal": _equal,
    "inverse_volatility": _inverse_volatility,
    "hrp": _hrp,
    "min_variance": _min_variance,
}
