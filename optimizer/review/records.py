"""Studies and parameter sets as they are recorded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from optimizer.errors import BarsweepError, StudyError
from optimizer.files import is_in_use
from optimizer.selection.odds import deflated, known, odds_of, sharpe_to_expect
from optimizer.selection.record import Selection, SetStatistics, load_selection
from optimizer.selection.tried import everything_tried
from optimizer.selection.verdict import Verdict, judge
from optimizer.store.completeness import missing_batch
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.names import MANIFEST, SELECTION
from optimizer.store.query import best_sets
from optimizer.store.seal import with_open_holdout
from optimizer.study_file.study import recorded_study

StudyState = Literal["complete", "running", "stopped", "window", "unreadable"]


@dataclass(frozen=True)
class StudySummary:
    """One study in a line.

    Attributes:
        path: its folder.
        name: its name.
        state: ``running`` if a process works in the folder, ``stopped`` if ``barsweep resume`` can
            continue it or compute again what it lost, ``window`` if it is the search of a window of a
            walk-forward, ``unreadable`` if ``problem`` says why.
        n_sets: parameter sets evaluated.
        objective: the first metric that it searches by.
        sharpe_to_expect: the Sharpe ratio to expect of the best set; None before the end, or if unknown.
        best, best_out_of_sample: the value of that metric for the best set; None if no set is best, the
            latter also while the holdout is sealed for it.
        verdict: the verdict in words; None before the end, or if no set is best.
        when: time of the last change to its files, UTC.
        problem: why it cannot be read, or what is missing of it; empty if all is there.
    """

    path: Path
    name: str
    state: StudyState
    n_sets: int = 0
    objective: str = ""
    sharpe_to_expect: float | None = None
    best: float | None = None
    best_out_of_sample: float | None = None
    verdict: str | None = None
    when: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class SetRecord:
    """One parameter set in full.

    Attributes:
        number, trial: the numbers of the set and of its trial.
        strategy, classifier: their names.
        feasible: whether the set keeps the constraints of the study.
        score: the score by which sets are ranked; None if undefined.
        parameters: all its parameters by column.
        in_sample, out_of_sample: metrics by name, None if undefined; the latter is None without a
            holdout, or while it is sealed for the set.
        sharpe_to_expect: the Sharpe ratio to expect of it; None until the study is complete.
        odds: None until the study is complete.
    """

    number: int
    trial: int
    strategy: str
    classifier: str
    feasible: bool
    score: float | None
    parameters: Mapping[str, Any]
    in_sample: Mapping[str, Any]
    out_of_sample: Mapping[str, Any] | None
    sharpe_to_expect: float | None
    odds: SetStatistics | None


class Judged(NamedTuple):
    """What can be said of a study's best sets, given every set ever tried on its bars.

    Attributes:
        selection: its odds deflated by all those sets; None before the end, or if no set is best.
        verdict: the verdict on the winner; None where ``selection`` is.
        problem: why there is none of a complete study, or why only the sets of this study count;
            empty if all do.
    """

    selection: Selection | None
    verdict: Verdict | None
    problem: str = ""


def judged(folder: StudyFolder) -> Judged:
    """A study's best sets and the verdict, deflated by every set in the ledger for its bars.

    Args:
        folder: the folder of the study.

    Returns:
        The selection and the verdict.

    Raises:
        StudyError: the folder cannot be read.
    """
    selection = load_selection(folder)
    if selection is None:
        return Judged(None, None)
    manifest = folder.manifest()
    study = recorded_study(manifest["study"], manifest.get("study_folder", "."))
    if problem := missing_batch(folder, study, manifest):
        return Judged(None, None, problem)
    tried = everything_tried(selection)
    try:
        return Judged(deflated(selection, tried), judge(selection, tried), tried.problem)
    except (ArithmeticError, ValueError) as error:
        raise StudyError(
            f"{folder.path / SELECTION}: it holds numbers that no study has: {error};"
            f" `barsweep resume {folder.path}` judges the study again once the file is removed"
        ) from None


def list_studies(folder: str | os.PathLike[str] = "out") -> list[StudySummary]:
    """List the studies in a folder and its subfolders.

    >>> import optimizer
    >>> [(one.name, one.n_sets) for one in optimizer.list_studies("out")]
    [('study', 4)]

    Args:
        folder: the folder that holds studies.

    Returns:
        One summary per study, oldest first.

    Raises:
        StudyError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; name the one that holds studies")
    found = [summarize(path) for path in _study_folders(root)]
    return sorted(found, key=lambda one: (one.when or datetime.min.replace(tzinfo=UTC), one.path))


def _study_folders(root: Path) -> Iterator[Path]:
    for path, below, files in os.walk(root):
        if MANIFEST in files:
            below.clear()  # a study may hold studies of its own, one per window
            yield Path(path)
        below.sort()


def summarize(folder: str | os.PathLike[str]) -> StudySummary:
    """Summarize one study.

    Args:
        folder: the folder of the study.

    Returns:
        The summary; that of a study that cannot be read says why in ``problem``.
    """
    path = Path(folder)
    try:
        opened = StudyFolder.open(path)
        manifest = opened.manifest()
        study = recorded_study(manifest["study"])
        objective = study.search.objective[0]
        complete, written = manifest["complete"], opened.batch_paths()
        best = best_sets(opened, study.search, 1) if written else pd.DataFrame()
        row = {} if best.empty else with_open_holdout(opened, best).to_dict("records")[0]
        selection, verdict, _ = judged(opened)
        missing = missing_batch(opened, study, manifest)
        state: StudyState = "stopped"
        if opened.whole():
            state = "window"
        elif complete and not missing:
            state = "complete"
        elif is_in_use(path):
            state = "running"
        latest = max(one.stat().st_mtime for one in (opened.manifest_path, *written))
        return StudySummary(
            path,
            study.name,
            state,
            opened.n_sets(),
            objective,
            None if selection is None else selection.sharpe_to_expect,
            known(row.get(objective)),
            known(row.get(f"oos_{objective}")),
            verdict.words if verdict is not None else None,
            datetime.fromtimestamp(latest, UTC),
            missing,
        )
    except (BarsweepError, KeyError, TypeError, OSError) as error:
        problem = f"{path}: {error!r} is missing" if isinstance(error, KeyError) else str(error)
        return StudySummary(path, path.name, "unreadable", problem=problem)


def set_record(folder: str | os.PathLike[str], number: int) -> SetRecord:
    """One parameter set of a study in full.

    >>> import optimizer
    >>> record = optimizer.set_record("out", 0)
    >>> record.parameters["momentum_lookback"]
    20

    Args:
        folder: the folder of the study.
        number: the number of the set.

    Returns:
        Its parameters, metrics and odds.

    Raises:
        StudyError: there is no study, or no such set in it.
    """
    opened = StudyFolder.open(Path(folder))
    if not opened.batch_paths():
        raise opened.no_results()
    manifest = opened.manifest()
    recorded_study(manifest["study"])  # refuses what it cannot be
    n_sets = opened.n_sets()
    if not 0 <= number < n_sets:
        raise StudyError(f"{opened.path}: no parameter set {number}; it has 0 to {n_sets - 1}")
    row = with_open_holdout(opened, opened.sets([number])).to_dict("records")[0]
    document = set_document(row, manifest["study"])
    selection, verdict, _ = judged(opened)
    odds = None
    if selection is not None and verdict is not None:
        odds = odds_of(selection, row, verdict.tried)
    return SetRecord(
        number,
        document["trial"],
        document["strategy"],
        document["classifier"],
        bool(row["feasible"]),
        known(row["score"]),
        document["parameters"],
        document["in_sample"],
        document["out_of_sample"],
        sharpe_to_expect(selection, known(row["sharpe"])),
        odds,
    )
