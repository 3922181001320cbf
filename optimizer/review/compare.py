"""Compare two studies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.errors import BarsweepError, StudyError
from optimizer.review.records import StudySummary, summarize
from optimizer.review.rerun import Terms, parameters_of, rerun_built_in
from optimizer.store.columns import NAMES, parameter_columns
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets, ranked
from optimizer.store.seal import is_sealed, with_open_holdout
from optimizer.study_file.costs import fixed_costs
from optimizer.study_file.differences import differences
from optimizer.study_file.study import recorded_study
from optimizer.text import quoted


@dataclass(frozen=True)
class Crossed:
    """The best set of one study under the rules of another on the same bars.

    Attributes:
        number: the number of the set in the study whose best set it is.
        found: its number in the other study; None if that did not try it.
        rank: its rank in the other study, 1 being the best feasible set; None if it is not feasible
            or was not tried.
        in_sample, out_of_sample: metrics under the costs and the holdout of the other study:
            recorded if it was tried, else simulated now; None if neither is possible. Out-of-sample
            as far as the other study's holdout is open.
        problem: why there are no metrics.
    """

    number: int
    found: int | None = None
    rank: int | None = None
    in_sample: Mapping[str, Any] | None = None
    out_of_sample: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """What two studies have in common and where they differ.

    Attributes:
        first, second: their summaries.
        study_differences: (key of the study file, value in the first, value in the second) each.
        data_differences: the same of the bars; empty if the bars are the same.
        first_in_second, second_in_first: the best set of one in the other; None if the bars differ
            or there is no best set.
    """

    first: StudySummary
    second: StudySummary
    study_differences: tuple[tuple[str, Any, Any], ...]
    data_differences: tuple[tuple[str, Any, Any], ...]
    first_in_second: Crossed | None
    second_in_first: Crossed | None


_OF_BARS = ("data_hash", "data_path", "symbols", "n_bars", "span", "first_time", "holdout_time")


def compare_studies(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Comparison:
    """Compare two studies; on the same bars also the best set of each in the other.

    >>> import optimizer
    >>> found = optimizer.compare_studies("out", "out")
    >>> found.first.best == found.second.best
    True

    Args:
        first, second: folders of the studies.

    Returns:
        Their summaries and differences.

    Raises:
        StudyError: one of them is not a study or cannot be read.
    """
    folders = [StudyFolder.open(Path(path)) for path in (first, second)]
    manifests = [folder.manifest() for folder in folders]
    one, other = manifests
    try:
        in_files = tuple(
            (f"[{place[0]}] {' '.join(place[1:])}".rstrip(), before, now)
            for place, before, now in differences(one["study"], other["study"])
            if "declared" not in place  # follows from the strategy file, whose hash is compared
        )
        in_data = tuple(
            (name.replace("_", " "), one[name], other[name])
            for name in _OF_BARS
            if one[name] != other[name]
        )
        same = one["data_hash"] == other["data_hash"]
        crossed = [
            _cross(folders[i], folders[1 - i], manifests[1 - i]) if same else None for i in (0, 1)
        ]
    except KeyError as error:
        raise StudyError(
            f"{folders[0].path}, {folders[1].path}: study.json: {error} is missing"
        ) from None
    summaries = [summarize(folder.path) for folder in folders]
    for summary in summaries:
        if summary.problem:
            raise StudyError(summary.problem)
    return Comparison(summaries[0], summaries[1], in_files, in_data, *crossed)


def _cross(folder: StudyFolder, other: StudyFolder, manifest: Mapping[str, Any]) -> Crossed | None:
    """The best set of ``folder`` in ``other``, which ``manifest`` belongs to."""
    own = folder.manifest()["study"]
    best = best_sets(folder, recorded_study(own).search, 1) if folder.batch_paths() else None
    if best is None or best.empty:
        return None
    document = set_document(best.to_dict("records")[0], own)
    number = int(document["set"])
    held = fixed_costs(manifest["study"]["costs"])
    found = _number_of(parameters_of(document), other, held) if other.batch_paths() else None
    if found is not None:
        search = recorded_study(manifest["study"]).search
        frame = other.results(["set", "feasible", "score", *search.objective])
        order = ranked(frame[frame["feasible"]], search)
        row = with_open_holdout(other, other.sets([found], whole=False)).to_dict("records")[0]
        there = set_document(row, manifest["study"])
        rank = order.index(found) + 1 if found in order else None
        return Crossed(number, found, rank, there["in_sample"], there["out_of_sample"])
    try:
        first_bar = folder.manifest()["first_bar"]
        result = rerun_built_in(
            document, Terms.of_study(manifest), first_bar, sealed=is_sealed(other)
        )
    except BarsweepError as error:
        return Crossed(number, problem=str(error))
    return Crossed(number, in_sample=result.in_sample, out_of_sample=result.out_of_sample)


def _number_of(
    parameters: Mapping[str, Any], folder: StudyFolder, held: frozenset[str]
) -> int | None:
    """The first set of a study with exactly these parameters, whatever it holds for all its sets."""
    names = [n for n in (*NAMES, *parameter_columns(folder.columns())) if n not in held]
    if not parameters.keys() - held <= set(names):
        return None
    frame = folder.results(["set", *names])
    for name in names:
        value = parameters.get(name)
        column = frame[name]
        frame = frame[column.isna() if value is None else column == value]
    return None if frame.empty else int(frame["set"].iloc[0])


def difference_text(value: Any) -> str:
    """A value of a difference as a study file would state it.

    Args:
        value: any value of a study file.

    Returns:
        At most 40 characters.
    """
    return quoted(value, 40)
