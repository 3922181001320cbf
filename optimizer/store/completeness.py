"""How much of a study there has to be: its trials, its batches, and whether one of them is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optimizer.store.folder import StudyFolder
from optimizer.store.names import MISSING
from optimizer.study_file.space import Space, build_space
from optimizer.study_file.study import Study


def count_trials(study: Study, space: Space) -> int:
    """The number of trials of a study; a grid has one for each of its points.

    Args:
        study: the study to run.
        space: the parameter space of the study.
    """
    if study.search.sampler == "grid" or space.n_points == 1:
        return int(space.n_points or 1)
    return study.search.trials


def count_batches(study: Study, manifest: Mapping[str, Any]) -> int | None:
    """The number of batches of the complete study; None where it shares them with other processes.

    Args:
        study: the study as its folder records it.
        manifest: the manifest of its folder.
    """
    if manifest.get("coordinated"):
        return None
    if manifest.get("n_batches") is not None:  # the search may have ended early
        return int(manifest["n_batches"])
    return math.ceil(count_trials(study, build_space(study)) / study.search.batch)


def missing_batch(folder: StudyFolder, study: Study, manifest: Mapping[str, Any]) -> str:
    """What a complete study lacks, and how to get it back; empty if every batch has its file.

    Only the names of the files are looked at. Damage to one shows where it is read.

    Args:
        folder: the folder of the study.
        study: the study as its folder records it.
        manifest: the manifest of the folder.
    """
    n_batches = count_batches(study, manifest) if manifest["complete"] else None
    there = set(folder.batch_paths())
    for number in range(n_batches or 0):
        path = folder.batch_path(number)
        if path not in there:
            return (
                f"{path}: {MISSING}, so there is no verdict; `barsweep resume {folder.path}`"
                " computes it again"
            )
    return ""
