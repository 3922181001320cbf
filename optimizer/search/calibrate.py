"""The whole search of a study once more on copies of its bars that have no edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import StudyError
from optimizer.files import exclusive_use
from optimizer.search.calibration_files import CalibrationFiles, Winner
from optimizer.search.copies import CopySearches
from optimizer.search.preflight import Estimate, refuse_what_cannot_fit
from optimizer.study_file.study import Study

MOST_COPIES = 1_000_000

SECONDS_PER_COPY = 0.5
"""Time that a search takes besides its parameter sets: features, files, workers."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What a calibration will take.

    Attributes:
        needs: what one search takes.
        n_searches: searches that are left: that of the study and one for each copy.
        seconds: wall time, roughly.
        mean_block: mean length of a block of bars.
    """

    needs: Estimate
    n_searches: int
    seconds: float
    mean_block: float


@dataclass(frozen=True)
class Standing:
    """How often luck looks as good as the winner.

    Attributes:
        n_copies: number of copies.
        k: copies whose winner looked at least as good.
        p: (k + 1) / (n_copies + 1).
    """

    n_copies: int
    k: int
    p: float


@dataclass(frozen=True)
class Calibration:
    """A study's winner among those of the same search on copies of its bars without an edge.

    >>> import optimizer
    >>> study = optimizer.load_study("study.toml")
    >>> found = optimizer.calibrate(study, copies=2, out="copies", workers=1)
    >>> found.by_objective.n_copies, len(found.copies)
    (2, 2)

    Attributes:
        study: name of the study.
        objective: its first objective.
        maximize: whether more of it is better.
        mean_block: mean length of a block of bars.
        own: the winner on the study's in-sample bars.
        copies: the winner on each copy.
        folder: where all of it is kept.
    """

    study: str
    objective: str
    maximize: bool
    mean_block: float
    own: Winner
    copies: tuple[Winner, ...]
    folder: Path

    @property
    def by_objective(self) -> Standing | None:
        """By the winner's in-sample objective; None where no set is feasible."""
        sign = 1.0 if self.maximize else -1.0
        return standing(
            None if self.own.objective is None else sign * self.own.objective,
            [None if one.objective is None else sign * one.objective for one in self.copies],
        )

    @property
    def by_alpha(self) -> Standing | None:
        """By the statistic of the winner's alpha; None where it has none."""
        return standing(self.own.alpha_t, [one.alpha_t for one in self.copies])


def standing(own: float | None, copies: list[float | None]) -> Standing | None:
    """How often copies reach a value.

    >>> standing(2.0, [1.0, 2.0, None])
    Standing(n_copies=3, k=1, p=0.5)

    Args:
        own: the value; None where there is none.
        copies: the values of the copies; None is lower than any.
    """
    if own is None:
        return None
    k = sum(one is not None and one >= own for one in copies)
    return Standing(len(copies), k, (k + 1) / (len(copies) + 1))


def calibrate(
    study: Study,
    *,
    copies: int = 100,
    mean_block: float | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    on_start: Callable[[CalibrationPlan], None] | None = None,
    on_search: Callable[[int], None] | None = None,
) -> Calibration:
    """Run the search of a study on its in-sample bars, and on copies of them that have no edge.

    A copy consists of blocks of the same bars that are drawn at random, and no symbol has alpha in
    them, see ``optimizer.search.edge_free``. What remains is what comes from holding. The holdout is
    not read. Copies are not noted in the ledger; the search on the study's own bars is. Started again
    with the same folder, it goes on, and ends with the results of one that was never stopped.

    >>> import optimizer
    >>> study = optimizer.load_study("study.toml")
    >>> found = optimizer.calibrate(study, copies=2, out="copies", workers=1)
    >>> 0 < found.by_objective.p <= 1  # the share of searches that found a set as good
    True

    Args:
        study: the study as `load_study` gives it.
        copies: number of copies.
        mean_block: mean length of a block of bars, 1 or more; None takes half of the shortest lookback,
            from 1 to 20.
        out: folder for the results; None takes ``out/<study name>-calibration``.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a
            result.
        on_start: called with the estimate before anything is computed.
        on_search: called with the number of searches that are left after each.

    Returns:
        The winners, and how the study's own stands among them.

    Raises:
        DataError: the bars cannot be used.
        StudyFileError: the study has a file of members or of finer bars.
        StudyError: the folder cannot be used, or the study needs more than the machine has.
    """
    if not 1 <= copies <= MOST_COPIES:
        raise StudyError(f"copies = {copies}; expected 1 to {MOST_COPIES:,}")
    if mean_block is not None and not 1.0 <= mean_block < float("inf"):
        raise StudyError(f"block = {mean_block:g}; expected bars, 1 or more")
    path = Path("out") / f"{study.name}-calibration" if out is None else Path(out)
    searches = CopySearches(study, mean_block, workers)
    with exclusive_use(path):
        files = CalibrationFiles.open(path, searches.terms())
        left = [number for number in range(copies + 1) if files.winner(number) is None]
        needs = searches.needs()
        refuse_what_cannot_fit(needs, path)
        if on_start is not None:
            each = max(needs.seconds - 5.0, 0.0) + SECONDS_PER_COPY
            seconds = 5.0 + each * len(left) if left else 0.0
            on_start(CalibrationPlan(needs, len(left), seconds, searches.mean_block))
        for done, number in enumerate(left, 1):
            winner = searches.run(number, files.search_path(number))
            if not number and winner.objective is None:
                raise StudyError(
                    f"{study.source}: no parameter set is feasible in-sample, so there is no winner;"
                    " relax [search] constraints, or try other values"
                )
            files.keep(number, winner)
            if on_search is not None:
                on_search(len(left) - done)
        own, *others = _all(files, copies + 1)
    search = study.search
    return Calibration(
        study=study.name,
        objective=search.objective[0],
        maximize=search.direction[0] == "maximize",
        mean_block=searches.mean_block,
        own=own,
        copies=tuple(others),
        folder=path,
    )


def _all(files: CalibrationFiles, count: int) -> Iterator[Winner]:
    for number in range(count):
        winner = files.winner(number)
        assert winner is not None
        yield winner
