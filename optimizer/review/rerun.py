"""Simulate a recorded parameter set again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.errors import StudyError
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.single_set import BacktestResult, backtest


def open_positions(folder: str | Path, number: int) -> dict[str, float]:
    """Positions that one parameter set of a study holds after the last bar, simulated anew.

    Returns:
        Signed units by symbol.

    Raises:
        StudyError: there is no study, no such set in it, the simulation differs from what is
            recorded, or its strategy is a user's, whose code is not run to show a set.
        DataError: the bars cannot be used.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    document = set_document(opened.sets([number]).to_dict("records")[0], manifest["study"])
    result = rerun_set(document, opened)
    if result.in_sample["final_equity"] != document["in_sample"]["final_equity"]:
        raise StudyError("a simulation now differs from what is recorded")
    return result.open_positions


def rerun_set(
    document: Mapping[str, Any], folder: StudyFolder, first_bar: int = 0
) -> BacktestResult:
    """A set, as an export holds it, simulated on the bars of a study and by its rules.

    Args:
        document: the set.
        folder: of the study.
        first_bar: of the first decision, at the earliest.

    Raises:
        StudyError: its strategy is a user's, whose code is not run to show a set, or the bars have
            changed.
    """
    from optimizer.study_file.bars import load_study_bars

    if document["strategy"] not in BUILT_IN:
        raise StudyError("its strategy is your own, whose code `barsweep replay` alone runs")

    manifest = folder.manifest()
    study = study_from_dict(manifest["study"], manifest["study_folder"])
    bars = load_study_bars(study)
    if bars.content_hash != manifest["data_hash"]:
        raise StudyError(f"{study.data_path}: holds other bars than the study had")
    return backtest(
        bars,
        parameters_of(document),
        costs=manifest["study"]["costs"],
        allow_short=study.risk.allow_short,
        market=document["market"],
        holdout=study.validation.holdout,
        first_bar=max(manifest["first_bar"], first_bar),
    )


def parameters_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a set as an export holds it, by column name."""
    names = ("strategy", "classifier")
    return {**{name: document[name] for name in names}, **document["parameters"]}
