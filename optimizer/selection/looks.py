"""Looks at the holdout of a study, as the ledger has them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optimizer.errors import StudyError
from optimizer.store.export import set_document
from optimizer.store.ledger import read_ledger
from optimizer.store.ledger_entries import Look, Why, nanoseconds, on_bars
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, recorded_study
from optimizer.types import Bars


def verdict_look(manifest: Mapping[str, Any], winner: Mapping[Any, Any]) -> Look | None:
    """The look of a verdict, which sees the winner alone.

    Args:
        manifest: the manifest of the study's folder.
        winner: the row of the winner.

    Returns:
        None where the study has no holdout.
    """
    document = set_document(winner, manifest["study"])
    seen = [document[name] for name in ("strategy", "classifier", "parameters")]
    text = json.dumps(seen, sort_keys=True)
    return _look(manifest, "verdict", hashlib.sha256(text.encode()).hexdigest())


def combination_look(manifest: Mapping[str, Any], name: str, digest: str) -> Look | None:
    """The look of the verdict on a combination of sets, which sees the book alone.

    Args:
        manifest: the manifest of one of the studies.
        name: the name of the combination.
        digest: the hash of its members and their shares.

    Returns:
        None where the studies have no holdout.
    """
    look = _look(manifest, "verdict", digest)
    return None if look is None else replace(look, study_hash=digest, study=name)


def unsealing(manifest: Mapping[str, Any]) -> Look | None:
    """The look of whoever opens the holdout for all sets.

    Args:
        manifest: the manifest of the study's folder.

    Returns:
        None where the study has no holdout.
    """
    return _look(manifest, "unsealed", "")


def look_over(study: Study, bars: Bars, split: int, why: Why = "unsealed") -> Look:
    """A look at the holdout of a study that has not run.

    Args:
        study: the study.
        bars: the bars of the study.
        split: first bar of the holdout.
        why: the reason of the look, see ``Look``.
    """
    # A study is recorded with the numbers that its bars settle.
    return Look(**on_bars(in_bars(study, bars), bars, split, bars.n_bars - 1), why=why)


def sealed_look(study: Study, bars: Bars, split: int, number: int) -> Look:
    """A look at the holdout of one set that was exported while it was sealed; one a set is counted.

    Args:
        study: the study of this one set, see ``optimizer.review.rerun.set_study``.
        bars: the bars that the study had.
        split: first bar of the holdout.
        number: the number of the set.
    """
    seen = hashlib.sha256(f"{study.content_hash} {number}".encode()).hexdigest()
    return replace(look_over(study, bars, split, "verdict"), seen=seen)


def looks_with(study: Study, bars: Bars, split: int) -> int:
    """The number of looks at bars of a study's holdout once it has run, that of its verdict included.

    The study is taken to find a winner again on which it has had a verdict, if it has had any. A ledger
    that cannot be read has no looks.

    Args:
        study: the study to be run.
        bars: the bars of the study.
        split: first bar of the holdout; n_bars without a holdout.
    """
    if split >= bars.n_bars:
        return 1
    own = look_over(study, bars, split, "verdict")
    try:
        found = [what for _, what in read_ledger().other_looks(own)]
    except StudyError:
        return 1
    again = any(
        isinstance(one, Look) and one.why == "verdict" and one.study_hash == own.study_hash
        for one in found
    )
    return len(found) + (not again)


def _look(manifest: Mapping[str, Any], why: Why, seen: str) -> Look | None:
    if manifest["holdout_time"] is None:
        return None
    study = recorded_study(manifest["study"], manifest["study_folder"])
    return Look(
        study_hash=study.space_hash,
        data_hash=manifest["data_hash"],
        study=study.name,
        data=manifest["data_path"],
        symbols=tuple(manifest["symbols"]),
        bar_ns=manifest["bar_ns"],
        start_ns=nanoseconds(manifest["holdout_time"]),
        stop_ns=nanoseconds(manifest["span"][1]),
        why=why,
        seen=seen,
    )
