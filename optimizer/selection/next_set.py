"""The set that the window after the last in-sample bar would trade."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.errors import ExportError
from optimizer.selection.record import NextSet, load_selection
from optimizer.selection.steering import by_sharpe_alone
from optimizer.store.columns import OUT_OF_SAMPLE, parameter_columns
from optimizer.store.export import Format, export_rows
from optimizer.store.folder import StudyFolder
from optimizer.study_file.study import recorded_study


def next_set(rows: pd.DataFrame, train_start: int, stop: int, *, own_search: bool) -> NextSet:
    """What a study records of the set for its next window.

    Args:
        rows: one row of results, whose metrics are those of all in-sample bars.
        train_start, stop: the bars [train_start, stop) on which it was chosen.
        own_search: whether the window had a search of its own.
    """
    row = dict(zip(rows.columns, rows.iloc[0].tolist(), strict=True))
    parameters = {name: float(row[name]) for name in parameter_columns(row)}
    metrics = {name: float(row[name]) for name in METRICS}
    return NextSet(
        number=int(row["set"]),
        trial=int(row["trial"]),
        strategy=str(row["strategy"]),
        classifier=str(row["classifier"]),
        parameters={name: value for name, value in parameters.items() if not np.isnan(value)},
        in_sample={n: value if np.isfinite(value) else None for n, value in metrics.items()},
        train_start=train_start,
        stop=stop,
        own_search=own_search,
    )


def export_next(
    folder: str | os.PathLike[str], *, format: Format = "json", out: str | Path | None = None
) -> Path:
    """Write the set that the walk-forward's next window would trade to a file.

    It was chosen, by the study's own objective, on the training window that ends with the last in-sample
    bar; the holdout has no part in it. The file has no figure out-of-sample.

    >>> import optimizer
    >>> file = optimizer.export_next("out", out="next.json")
    >>> file.name
    'next.json'

    Args:
        folder: the folder of the study.
        format: the format of the file.
        out: path of the file; None takes ``next.<format>`` in the folder.

    Returns:
        The file written.

    Raises:
        StudyError: there is no study in the folder, or the file must not be replaced or has no folder.
        ExportError: the study has no such set, and why; or the file cannot be written.
    """
    study_folder = StudyFolder.open(Path(folder))
    selection = load_selection(study_folder)
    if selection is None:
        raise ExportError(
            f"{study_folder.path}: no next set: the study is not complete, or found no feasible set;"
            f" `barsweep resume {study_folder.path}` continues it"
        )
    found = selection.next_set
    if found is None:
        raise ExportError(f"{study_folder.path}: no next set: {_why_none(study_folder)}")
    row: dict[str, Any] = {
        "set": found.number,
        "trial": found.trial,
        "strategy": found.strategy,
        "classifier": found.classifier,
        **found.parameters,
        **{name: found.in_sample.get(name) for name in METRICS},
        **dict.fromkeys(OUT_OF_SAMPLE),
    }
    path = Path(out) if out is not None else study_folder.path / f"next.{format}"
    return export_rows(study_folder, pd.DataFrame([row]), format, path)


def _why_none(folder: StudyFolder) -> str:
    if folder.n_distinct() == 1:
        return (
            "a study of one set has no windows, since there is nothing to choose;"
            f" `barsweep export {folder.path}` writes that set"
        )
    study = recorded_study(folder.manifest()["study"])
    if study.validation.method == "walk_forward":
        return "no set is feasible over the last training window; relax [search] constraints"
    if by_sharpe_alone(study):
        return "there are too few in-sample bars for a training window; give more bars"
    return (
        "its choice by the study's own objective takes a search over the last training window; run the"
        ' study with [validation] method = "walk_forward"'
    )
