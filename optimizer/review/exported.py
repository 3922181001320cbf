"""A set of an export with the terms and the bars under which it is simulated again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.errors import BarsweepError, DataError, ExportError, StudyError, StudyFileError
from optimizer.review.rerun import Terms, missing_parameter
from optimizer.store.combination import (
    Combination,
    checked_combination,
    is_combination,
    member_content,
)
from optimizer.store.export import checked_export, export_content, read_content
from optimizer.strategies.approvals import approve, require_approval
from optimizer.strategies.combined import named_parts
from optimizer.strategies.user_source import source_hash
from optimizer.text import path_text
from optimizer.types import Bars

_LEAST_BARS = 10
"""Bars that every study has from its first decision on."""


@dataclass(frozen=True, eq=False)
class ExportedSet:
    """A set of an export, which may be simulated: its strategy is built in or approved.

    Attributes:
        study: name of the study that it came from.
        document: the set as the export holds it, see ``set_document``.
        terms: the terms of its study.
        bars: the bars of its study.
    """

    study: str
    document: Mapping[str, Any]
    terms: Terms
    bars: Bars


@contextlib.contextmanager
def naming_export(file: Path) -> Iterator[None]:
    """Turn what a value of an export leads to into an error that names the file.

    Args:
        file: the export.

    Raises:
        ExportError: a value is missing or of the wrong kind.
    """
    try:
        yield
    except KeyError as error:
        raise ExportError(f"{file}: {error.args[0]}: missing; export the study again") from None
    except StudyFileError as error:
        raise ExportError(f"{file}: {str(error).removeprefix('<study>: ')}") from None
    except BarsweepError:
        raise
    except (TypeError, AttributeError, ValueError, OSError) as error:
        raise ExportError(f"{file}: a value of the wrong kind: {error}") from None


def read_export(file: Path, number: int | None) -> tuple[dict[str, Any], int, Path]:
    """Read an export, or make one of a set of a study.

    Args:
        file: a JSON or TOML export, the file of a combination, or the folder of a study.
        number: the rank of the set in an export or a combination, from 1, or its number in a study; None
            takes the best, but in a combination a set must be named.

    Returns:
        The content, see ``load_export``, the rank of the set in it, and the folder from which its paths
        count.

    Raises:
        ExportError: the file cannot be used, or there is no such set in the study.
        StudyError: the folder holds no study.
    """
    if file.is_dir():
        return export_content(file, number), 1, file.resolve()
    content, base = read_content(file), file.resolve().parent
    if is_combination(content):
        return member_content(file, content, number), 1, base
    return checked_export(content, file), 1 if number is None else number, base


def whole_book(file: Path, number: int | None) -> Combination | None:
    """The combination that a file holds, where the whole of it is asked for; None for any other file.

    Args:
        file: what ``read_export`` takes.
        number: the place of a member, from 1, which then is asked for alone.

    Raises:
        ExportError: the file cannot be used.
    """
    if number is None and not file.is_dir() and is_combination(content := read_content(file)):
        return checked_combination(content, file)
    return None


def open_export(file: Path, number: int | None, data: Path | None, trust: bool) -> ExportedSet:
    """Open a set of an export or of a study. The caller is within ``naming_export``.

    Args:
        file: a JSON or TOML export, or the folder of a study.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best.
        data: the bars, where they are no longer at the path that the file names.
        trust: approve the strategy file that the export names, for good.

    Returns:
        The set.

    Raises:
        ExportError: the file cannot be used, or the bars or the strategy are not those of the study.
        StudyError: the folder holds no study.
        UntrustedCodeError: the user has neither run nor approved the strategy file.
        DataError: the bars cannot be used.
    """
    content, place, base = read_export(file, number)
    chosen_set(file, content, place)  # before the bars are loaded
    terms = Terms.of_export(content, base, data)
    return exported_set(file, content, place, terms, bars_of_terms(file, terms), trust)


def bars_of_terms(file: Path, terms: Terms) -> Bars:
    """The bars of the study of an export.

    Args:
        file: the export, for messages.
        terms: the terms of the export.

    Raises:
        ExportError: the bars are not those of the study.
        DataError: the bars cannot be used.
    """
    if not terms.data_path.exists():
        raise DataError(f"{terms.data_path}: no such file; name the bars with --data FILE")
    try:
        return terms.bars()
    except StudyError as error:
        raise ExportError(f"{file}: data: {error}; give the study's bars with --data") from None


def exported_set(
    file: Path, content: Mapping[str, Any], number: int, terms: Terms, bars: Bars, trust: bool
) -> ExportedSet:
    """A set of an export on the bars of its study. The caller is within ``naming_export``.

    Args:
        file: the export, or what stands for it in messages.
        content: the content of the export, see ``load_export``.
        number: the rank of the set in it, from 1.
        terms: the terms of the export.
        bars: the bars of the study.
        trust: approve the strategy file that the export names, for good.

    Raises:
        ExportError: there is no such set, it cannot be used, or the strategy is not that of the study.
        UntrustedCodeError: the user has neither run nor approved the strategy file.
    """
    chosen = chosen_set(file, content, number)
    for name in named_parts(chosen["strategy"])[1]:
        _check_file(file, content, "strategies", name, terms.own_strategies.get(name), trust)
    name = chosen["classifier"]
    _check_file(file, content, "classifiers", name, terms.own_classifiers.get(name), trust)
    if not isinstance(terms.costs, dict) or not isinstance(chosen["set"], int):
        raise ExportError(f"{file}: costs and set: expected a table and a whole number")
    if missing := missing_parameter(chosen, terms):
        raise lacks(file, number, f"parameters: {missing}")
    if terms.first_bar > bars.n_bars - _LEAST_BARS:
        raise ExportError(
            f"{file}: first_bar = {terms.first_bar}: the bars have only {bars.n_bars}, and"
            f" {_LEAST_BARS} must follow it; put the file back as it was, or export the study again"
        )
    return ExportedSet(str(content["study"]["name"]), chosen, terms, bars)


def chosen_set(file: Path, content: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A set of an export as it holds it, see ``set_document``.

    Args:
        file: the export, or what stands for it in messages.
        content: the content of the export, see ``load_export``.
        number: the rank of the set in it, from 1.

    Raises:
        ExportError: there is no such set.
    """
    sets = content["sets"]
    if not 1 <= number <= len(sets):
        raise ExportError(
            f"{file}: sets: has {len(sets)}, asked for number {number}; --set counts from 1, the best"
        )
    chosen: dict[str, Any] = sets[number - 1]
    return chosen


def lacks(file: Path, number: int, what: str) -> ExportError:
    """The error for an export that lacks a value of a set.

    Args:
        file: the export.
        number: the rank of the set in it, from 1.
        what: the value.
    """
    return ExportError(
        f"{file}: sets #{number} {what} is missing; put the file back as it was, or export the study"
        " again"
    )


def _check_file(
    file: Path,
    content: Mapping[str, Any],
    what: str,
    name: str,
    own: Mapping[str, Any] | None,
    trust: bool,
) -> None:
    """Refuse a user's file that has changed since the study ran, or is not approved."""
    if own is None:
        return
    path, recorded = Path(own["path"]), content[what][name]["hash"]
    found = source_hash(path)
    if found != recorded:
        raise ExportError(
            f"{file}: {what} {name}: {path_text(path.resolve())} has changed since the study"
            f" ran (hash {found[:12]}, recorded {str(recorded)[:12]}); restore the file, or run the"
            " study again"
        )
    if trust:
        approve(path.resolve(), found)
    require_approval(path.resolve(), found)
