"""Compile the kernels of a study before its tiles are evaluated."""

from __future__ import annotations

from optimizer.market.regimes import compile_classifier
from optimizer.study_file.space import Space
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, MarketRegime
from optimizer.sweep.max_test import compile_max_test
from optimizer.sweep.tiles import Tile


def compile_kernels(inputs: Inputs, space: Space) -> None:
    """Compile every kernel that the tiles of a study call.

    Kernels that numba has in its cache are read from there. A cache that several processes write at
    once can break, so this is called once on each machine, before any tile is evaluated there.

    Args:
        inputs: the inputs of the study.
        space: the space of the study.

    Raises:
        SignalError: a user's signal raised.
    """
    neutral = MarketRegime.neutral(inputs.bars.n_bars)
    for branch in {one.strategy.simulation: one for one in space.branches}.values():
        tile = Tile.of(branch, branch.first_set())
        evaluate(inputs.shortened(), [tile], dict.fromkeys(tile.regime_keys()[0], neutral))
    compile_max_test(inputs)
    for classifier in dict.fromkeys(one.own_classifier or one.classifier for one in space.branches):
        compile_classifier(classifier, joint=inputs.bars.present is not None)
