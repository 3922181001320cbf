"""Open the holdout of a study for all of its sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import StudyError
from optimizer.selection.looks import unsealing
from optimizer.selection.p_values import corrected_for_looks
from optimizer.selection.record import Selection, load_selection
from optimizer.selection.tried import everything_tried
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger import note_look
from optimizer.store.links import refuse_links
from optimizer.store.seal import mark_unsealed, unsealed_at


@dataclass(frozen=True)
class Unsealing:
    """What it cost to open the holdout of a study.

    Attributes:
        time: when it was opened, UTC.
        entry: the number of the ledger's entry that notes it.
        already: whether that was before.
        n_looks: looks at these bars, this one and that of the verdict included; None where there is no
            verdict.
        p_before, p: p-value of the winner over the holdout, before this look and now; None where it has
            none.
    """

    time: str
    entry: int
    already: bool = False
    n_looks: int | None = None
    p_before: float | None = None
    p: float | None = None


def unseal_study(folder: str | os.PathLike[str]) -> Unsealing:
    """Open the holdout of a study for all of its sets, for good.

    The look is noted in the ledger, and the holdout's p-value is corrected for it. A study that is
    unsealed already is left as it is.

    >>> import optimizer
    >>> optimizer.unseal_study("out").already
    False
    >>> optimizer.find_sets("out", sort="oos_sharpe")["oos_sharpe"].notna().all()
    np.True_

    Args:
        folder: the folder of the study.

    Returns:
        What it cost.

    Raises:
        StudyError: there is no study, it has no holdout or is a window of another one, or the ledger or
            the folder cannot be written.
    """
    opened = StudyFolder.open(Path(folder))
    opened.refuse_window("unseal")
    refuse_links(opened.path)
    look = unsealing(opened.manifest())
    if look is None:
        raise StudyError(
            f"{opened.path}: nothing to unseal: the study has no holdout ([validation] holdout is 0)"
        )
    if before := unsealed_at(opened):
        return Unsealing(*before, already=True)
    selection = load_selection(opened)
    _, p_before = _looks_and_p(selection)
    entry = note_look(look)
    mark_unsealed(opened, entry.time, entry.number)
    n_looks, p = _looks_and_p(selection)
    return Unsealing(entry.time, entry.number, False, n_looks, p_before, p)


def _looks_and_p(selection: Selection | None) -> tuple[int | None, float | None]:
    if selection is None:
        return None, None
    n_looks = everything_tried(selection).n_looks
    holdout = selection.holdout
    return n_looks, None if holdout is None else corrected_for_looks(holdout.p, n_looks)
