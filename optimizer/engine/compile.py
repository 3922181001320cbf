"""Compile the kernels of a study before its tiles are evaluated."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from optimizer.engine.ahead import CLASSIFIERS, DECISIONS, SCORES, Ahead
from optimizer.market.regimes import compile_classifier
from optimizer.strategies.user import UserStrategy
from optimizer.study_file.space import Space
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, MarketRegime
from optimizer.sweep.max_test import compile_max_test
from optimizer.sweep.rules import Rules
from optimizer.sweep.tiles import Tile

FIRST_SECONDS, VARIANT_SECONDS = 40.0, 14.0
"""Time to compile all kernels of a study at the first start on a machine, and those of a study of
another kind after that, on one core."""

TWO_PROCESSES = 0.65
"""Part of that time where a second process compiles too, see ``optimizer.engine.ahead``."""

_NOTE = "compiled-"
"""Prefix of the empty files in the cache folder that say for which studies it has the kernels."""


def seconds_to_compile(space: Space, rules: Rules, workers: int) -> float:
    """About how long it takes to compile what the cache lacks of a study's kernels.

    Args:
        space: the space of the study.
        rules: the rules of the study.
        workers: processes that the study may take.

    Returns:
        Seconds; 0 where a study of its kind has been compiled before.
    """
    folder = _cache_folder()
    if folder is None or _note(folder, space, rules).is_file():
        return 0.0
    known = next(folder.glob(f"{_NOTE}*"), None) is not None
    seconds = VARIANT_SECONDS if known else FIRST_SECONDS
    return seconds * TWO_PROCESSES if workers > 1 else seconds


def _cache_folder() -> Path | None:
    folder = os.environ.get("NUMBA_CACHE_DIR")
    return None if folder is None else Path(folder)


def _note(folder: Path, space: Space, rules: Rules) -> Path:
    """The file that says that kernels for such a study are in the cache."""
    switches = (
        "allow_short",
        "close_fill",
        "stops",
        "ranges",
        "fees",
        "limited",
        "extended",
        "margin",
    )
    flags = [getattr(rules, name) for name in (*switches, "correlated", "entry")]
    flags.append(rules.finer is not None)
    names = {
        f"{part.name} {part.to_dict()['source_hash']}"
        if isinstance(part, UserStrategy)
        else one.simulation
        for one in {branch.strategy for branch in space.branches}
        for part in one.members
    }
    text = repr((flags, sorted(names), sorted(space.classifiers)))
    return folder / f"{_NOTE}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _note_compiled(space: Space, rules: Rules) -> None:
    folder = _cache_folder()
    if folder is not None:
        try:
            _note(folder, space, rules).touch()
        except OSError:  # the estimate of the next start is too long, and no more
            return


def compile_kernels(inputs: Inputs, space: Space, ahead: Ahead | None = None) -> None:
    """Compile every kernel that the tiles of a study call.

    Kernels that numba has in its cache are read from there. A cache that several processes write at
    once can break, so this is called once on each machine, before any tile is evaluated there.

    Args:
        inputs: the inputs of the study.
        space: the space of the study.
        ahead: a process that compiles a part of them, which is closed; None where there is none.

    Raises:
        SignalError: a user's signal raised.
    """
    if ahead is not None and ahead.job.fits(inputs):
        ahead.job.compile_others()
        ahead.wait(DECISIONS)
    neutral = MarketRegime.neutral(inputs.bars.n_bars)
    for branch in {one.strategy.simulation: one for one in space.branches}.values():
        tile = Tile.of(branch, branch.first_set())
        evaluate(inputs.shortened(), [tile], dict.fromkeys(tile.regime_keys()[0], neutral))
    if ahead is not None:
        ahead.wait(SCORES)
    compile_max_test(inputs)
    if ahead is not None:
        ahead.wait(CLASSIFIERS)
        ahead.close()
    for classifier in dict.fromkeys(one.own_classifier or one.classifier for one in space.branches):
        compile_classifier(classifier, joint=inputs.bars.present is not None)
    _note_compiled(space, inputs.rules)
