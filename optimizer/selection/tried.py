"""What p-values are corrected for: the sets of a study, and all that the ledger has on its bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.errors import StudyError
from optimizer.files import ledger_path
from optimizer.selection.record import Selection
from optimizer.store.ledger import read_ledger
from optimizer.store.ledger_entries import Search, on_bars
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.max_test import larger_draws
from optimizer.types import Float32Array


@dataclass(frozen=True, eq=False)
class Tried:
    """Everything tried on the bars of a study.

    Attributes:
        n_sets: distinct sets, over all studies whose bars overlap.
        n_studies: these studies, the study itself included.
        maxima: (n_draws,), largest draws over all these sets; empty without a max-test.
        others: (n_draws,), those over the sets of other studies alone; empty without any.
        place: path of the ledger; empty where only the study itself counts.
        problem: what is wrong with the ledger; empty if nothing.
        n_looks: looks at bars of its holdout, that of its own verdict included.
    """

    n_sets: int
    n_studies: int
    maxima: Float32Array
    others: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))
    place: str = ""
    problem: str = ""
    n_looks: int = 1

    @classmethod
    def alone(cls, selection: Selection, problem: str = "") -> Tried:
        """What the study itself has tried.

        Args:
            selection: what the study recorded about its choice.
            problem: why nothing else is known.
        """
        return cls(selection.n_tried, 1, own_draws(selection), problem=problem)


def own_draws(selection: Selection) -> Float32Array:
    """The largest draws of a study itself, shape (n_draws,).

    Args:
        selection: what the study recorded about its choice.
    """
    return np.array(selection.maxima, np.float32)


def everything_tried(selection: Selection, parts: Sequence[tuple[str, str]] = ()) -> Tried:
    """What the ledger has on the bars of a study, together with what the study itself has tried.

    Args:
        selection: what the study recorded about its choice.
        parts: the keys of the searches of the studies whose sets it combines, see ``Search``; what they
            have tried is among its own.
    """
    if selection.search is None:
        return Tried.alone(selection)
    try:
        ledger, place = read_ledger(), str(ledger_path())
    except StudyError as error:
        return Tried.alone(selection, f"{error}; only the sets of this study are counted")
    keys = {selection.search.key, *parts}
    own = [pair for pair in ledger.searches() if pair[1].key in keys]
    others = [pair for pair in ledger.overlapping(selection.search) if pair[1].key not in keys]
    problem = ""
    if ledger.broken is not None:
        problem = (
            f"{place}: entry {ledger.broken} is not as it was written, or the one before it was"
            " removed: the ledger has been changed by hand"
        )
    elsewhere = larger_draws([one.maxima for one, _ in others])
    n_own = max(selection.n_tried, sum(search.n_sets for _, search in own))
    return Tried(
        n_sets=n_own + sum(search.n_sets for _, search in others),
        n_studies=max(len(parts), 1) + len(others),
        maxima=larger_draws([own_draws(selection), *(one.maxima for one, _ in own), elsewhere]),
        others=elsewhere,
        place=place,
        problem=problem,
        n_looks=1 + (0 if selection.look is None else len(ledger.other_looks(selection.look))),
    )


def search_of(study: Study, inputs: Inputs, n_sets: int) -> Search:
    """What a study has tried, as the ledger has it.

    Args:
        study: the study.
        inputs: the prepared inputs of the study.
        n_sets: distinct sets tried.
    """
    bars = on_bars(study, inputs.bars, inputs.first, inputs.split - 1)
    return Search(**bars, n_sets=n_sets)


def known_draws(maxima: Float32Array) -> Float32Array:
    """Largest draws over all sets, as they are kept: empty where no set has any.

    Args:
        maxima: those of ``no_draws``, -inf where no set has been tested; empty without a batch.

    Returns:
        (n_draws,) or (0,).
    """
    largest = maxima.max(axis=0) if maxima.size else maxima
    return largest if np.isfinite(largest).all() else np.zeros(0, np.float32)
