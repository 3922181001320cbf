"""Notes in the ledger what a study has tried."""

from __future__ import annotations

import logging
from collections.abc import Callable

from optimizer.errors import StudyError
from optimizer.search.progress import Progress, Tally
from optimizer.selection.tried import known_draws, search_of
from optimizer.store import ledger
from optimizer.store.ledger_entries import Look
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs

GROWTH = 1.1
"""How many times the sets of the last note there are at the next: a killed study loses a tenth."""


class LedgerNotes:
    """A callback that notes what a study has tried, and calls another one.

    It notes the first batch, then whenever there are a tenth more sets, and the end. A ledger that cannot
    be used is warned of once and does not stop the study.

    Args:
        study: the study that is run.
        inputs: the prepared inputs of the study.
        tally: counts its sets.
        on_progress: the other callback, or None.
    """

    def __init__(
        self,
        study: Study,
        inputs: Inputs,
        tally: Tally,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._study = study
        self._inputs = inputs
        self._tally = tally
        self._on_progress = on_progress
        self._noted = 0
        self._usable = True

    def __call__(self, progress: Progress) -> None:
        """Take note of a batch.

        Args:
            progress: how far the study has come.
        """
        if progress.distinct >= GROWTH * self._noted:
            self._note(progress.distinct)
        if self._on_progress is not None:
            self._on_progress(progress)

    def finish(self) -> None:
        """Note what has been tried until now."""
        if self._tally.distinct > 0:
            self._note(self._tally.distinct)

    def look(self, look: Look | None) -> None:
        """Note that the verdict looks at the holdout.

        Args:
            look: the look as the ledger has it; None without a holdout.
        """
        if look is not None:
            self._try(lambda: ledger.note_look(look))

    def _note(self, n_sets: int) -> None:
        if n_sets == 0:
            return
        search = search_of(self._study, self._inputs, n_sets)
        self._try(lambda: ledger.note(search, known_draws(self._tally.maxima)))
        self._noted = n_sets

    def _try(self, note: Callable[[], object]) -> None:
        if not self._usable:
            return
        try:
            note()
        except StudyError as error:
            self._usable = False
            logging.getLogger("barsweep").warning("%s; this study is not in it", error)
