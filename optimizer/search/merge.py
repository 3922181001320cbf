"""One folder of the results of several coordinators of one study, judged as a whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.errors import StudyError
from optimizer.files import exclusive_use
from optimizer.search.preflight import Estimate
from optimizer.search.prepare import prepare_study
from optimizer.search.progress import Progress
from optimizer.search.result import StudyResult
from optimizer.search.resume import refuse_changed_bars, refuse_changed_files, refuse_other_software
from optimizer.search.run import carry_out
from optimizer.store.batch_files import holdout_path, moments_path
from optimizer.store.batches import read_batch
from optimizer.store.columns import NAMES
from optimizer.store.folder import StudyFolder
from optimizer.store.trial_records import point_key
from optimizer.study_file.study import recorded_study
from optimizer.study_file.tables import WorkersTable
from optimizer.types import Float32Array, FloatArray

_ALIKE = ("study_hash", "data_hash", "files_hash", "kernels", "schema_version", "versions")
"""Keys of manifests in which the parts of one study are the same."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of one of the folders.

    Attributes:
        path: its result file.
        trials: its trials, as they are recorded.
        points: where each of them was, see ``point_key``.
        maxima: largest draws of the max-test over its sets.
    """

    path: Path
    trials: Sequence[Mapping[str, Any]]
    points: Sequence[str]
    maxima: Float32Array


def merge_studies(
    folders: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    workers: int | None = None,
    overwrite: bool = False,
    trust: bool = False,
    on_start: Callable[[Estimate], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Put the results of several coordinators into one folder, and judge the winner of all.

    Nothing is simulated again but what the verdict needs. The result depends neither on the order of the
    folders nor on which of them are given twice. A point that a coordinator did before it died, and
    another one after it, counts once.

    Args:
        folders: the folders of the coordinators, see ``[search] storage``; they stay as they are.
        out: folder for the whole, new or empty.
        workers: number of processes, 0 for one per core; None takes 0. Never changes a result.
        overwrite: whether to replace a study that ``out`` holds.
        trust: approve the strategy files that the folders name, for good.
        on_start: called with the estimate of the whole study.
        on_progress: called after every batch.

    Returns:
        The study and its folder, complete.

    Raises:
        DataError: the bars cannot be used.
        UntrustedCodeError: you have neither run nor approved what the folders name.
        StudyError: a folder holds no study, one that is no part of it, or one that is damaged or being
            written; the bars or the software have changed; ``out`` cannot be used.
    """
    paths = list(dict.fromkeys(Path(os.path.realpath(one)) for one in folders))
    whole = Path(out)
    if os.path.realpath(whole) in map(str, paths):
        raise StudyError(f"{whole}: is one of the folders to merge; give another --out")
    with contextlib.ExitStack() as opened:
        for path in sorted(paths):  # in one order, so that two merges cannot wait for each other
            StudyFolder.open(path).refuse_window("merge")
            opened.enter_context(exclusive_use(path))
        parts = [StudyFolder.open(path) for path in paths]
        manifests = [part.manifest() for part in parts]
        _refuse_strangers(parts, manifests)
        manifest = manifests[0]
        refuse_other_software(paths[0], manifest)
        study = recorded_study(manifest["study"], manifest["study_folder"])
        study = study.model_copy(update={"workers": WorkersTable()})
        for one in study.user_code:
            if trust:
                one.approve()
            one.require_approval()
        batches = _in_order(parts)
        prepared = prepare_study(
            study,
            whole,
            workers,
            on_start,
            lambda bars: refuse_changed_bars(paths[0], manifest, bars),
        )
        refuse_changed_files(paths[0], manifest, prepared.inputs.rules)
        content = {
            **manifest,
            "coordinated": False,
            "merged": sorted(map(str, paths)),
            "complete": False,
            "n_batches": len(batches),
            "winner": None,
        }
        with exclusive_use(whole):
            folder = StudyFolder.create(whole, content, overwrite=overwrite)
            _write(folder, batches, prepared.space.parameter_names)
            return carry_out(prepared, folder, on_progress)


def _refuse_strangers(parts: Sequence[StudyFolder], manifests: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is not a part of one study.

    Raises:
        StudyError: names the folder and what differs.
    """
    if len(parts) < 2:
        raise StudyError(
            f"{parts[0].path}: one folder is nothing to merge; name those of all coordinators"
        )
    for part, manifest in zip(parts, manifests, strict=True):
        if not manifest.get("coordinated"):
            raise StudyError(
                f"{part.path}: no part of a study that several coordinators share: its study has no"
                " [search] storage; `barsweep compare` sets such studies side by side"
            )
        for key in _ALIKE:
            if manifest[key] != manifests[0][key]:
                what = {"study_hash": "study", "data_hash": "bars", "files_hash": "other files"}
                raise StudyError(
                    f"{part.path}: its {what.get(key, key)} differ from those of {parts[0].path};"
                    " merge the folders of one study alone"
                )


def _in_order(parts: Sequence[StudyFolder]) -> list[_Batch]:
    """The batches of all folders, in an order that depends on their points alone, each point once.

    Raises:
        StudyError: a batch is damaged, or there is none.
    """
    found = []
    for part in parts:
        names = part.names()
        for path in part.batch_paths():
            try:
                read = read_batch(path, names)
            except ValueError as error:
                raise StudyError(
                    f"{path}: {error}; run the study file again with another --out, which does what"
                    " is missing, and merge that folder too"
                ) from None
            points = [point_key(one["params"]) for one in read.trials]
            found.append(_Batch(path, read.trials, points, read.maxima))
    if not found:
        raise StudyError(f"{parts[0].path}: no batch is whole, here or in the other folders")
    found.sort(key=lambda one: (one.points, [str(trial) for trial in one.trials]))
    # A trial with values stands for its point, rather than one that failed.
    chosen: dict[str, tuple[bool, int, int]] = {}
    for number, batch in enumerate(found):
        for place, (point, trial) in enumerate(zip(batch.points, batch.trials, strict=True)):
            rank = (trial["values"] is None, number, place)
            chosen[point] = min(chosen.get(point, rank), rank)
    kept = {(number, place) for _, number, place in chosen.values()}
    return [
        _Batch(
            batch.path,
            [one for place, one in enumerate(batch.trials) if (number, place) in kept],
            [one for place, one in enumerate(batch.points) if (number, place) in kept],
            batch.maxima,
        )
        for number, batch in enumerate(found)
        if any((number, place) in kept for place in range(len(batch.trials)))
    ]


def _write(folder: StudyFolder, batches: Sequence[_Batch], parameter_names: Sequence[str]) -> None:
    """Write the batches with the trials and sets numbered anew."""
    first_trial = first_set = 0
    for number, batch in enumerate(batches):
        rows, moments = [], []
        trials = [{**one, "number": first_trial + i} for i, one in enumerate(batch.trials)]
        tiles = dict(_tiles(batch.path))
        for record, old in zip(trials, batch.trials, strict=True):
            if old["number"] not in tiles:
                continue  # it failed
            columns, sums = tiles[old["number"]]
            n_sets = len(sums)
            columns["set"] = np.arange(first_set, first_set + n_sets)
            columns["trial"] = np.full(n_sets, record["number"])
            first_set += n_sets
            rows.append(columns)
            moments.append(sums)
        sums = np.concatenate(moments) if moments else np.load(moments_path(batch.path))[:0]
        folder.write_batch(number, rows, parameter_names, trials, sums, batch.maxima)
        first_trial += len(trials)


def _tiles(path: Path) -> Iterator[tuple[int, tuple[dict[str, Any], FloatArray]]]:
    """The number of each trial of a batch that has sets, with their columns and return moments."""
    moments = np.load(moments_path(path))
    frame = pd.read_parquet(path)
    for name, values in pd.read_parquet(holdout_path(path)).items():
        frame[name] = values
    trials = frame["trial"].to_numpy(np.int64)
    for trial in dict.fromkeys(trials.tolist()):
        places = np.flatnonzero(trials == trial)
        part = frame.iloc[places]
        columns: dict[str, Any] = {
            name: part[name].to_numpy(np.float64, na_value=np.nan)
            for name in part.columns
            if name not in NAMES
        }
        columns |= {name: str(part[name].iloc[0]) for name in NAMES}
        yield trial, (columns, moments[places])
